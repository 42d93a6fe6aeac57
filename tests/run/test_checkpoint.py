"""Only an undamaged checkpoint counts: damage is found and named, and the checkpoint before it is used."""

import errno
import hashlib
import json
import math
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from malice import Malice, older
from torch import nn

from oneshot.base.errors import RunFailed, UserError
from oneshot.base.storage import Folder
from oneshot.network.models import build
from oneshot.run import tensors
from oneshot.run.checkpoint import (
    OLDER,
    STATE,
    TRAINING,
    WEIGHTS,
    Checkpoint,
    Progress,
    best,
    newest,
    read,
    refuse_older,
    save,
)

LOSSES = [0.9, 0.5, 0.7, 0.6, 0.4, 0.8]  # of epochs 1 to 6: the best are 1, 2, 2, 2, 5, 5


class Run:
    """A network whose weights are set to the number of the epoch, with a checkpoint after each epoch."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.progress = Folder.of(folder), Progress()
        self.net = nn.Linear(3, 2)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=0.1)

    def epochs(self, count: int) -> "Run":
        for _ in range(count):
            progress = self.progress
            progress.epoch += 1
            loss = LOSSES[progress.epoch - 1]
            is_best = loss < progress.best_loss
            if is_best:
                progress.best_epoch, progress.best_loss = progress.epoch, loss
            progress.history.append({"epoch": progress.epoch, "val_loss": loss, "best": is_best})
            with torch.no_grad():
                self.net.weight.fill_(progress.epoch)
            self.optimizer.zero_grad()
            self.net(torch.ones(1, 3)).sum().backward()
            self.optimizer.step()
            save(self.folder, progress, settings={"train": {"lr": 0.1}}, net=self.net, optimizer=self.optimizer)
        return self

    def file(self, epoch: int, name: str) -> Path:
        return Path(self.folder.path) / f"epoch-{epoch:04d}" / name


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "checkpoints")


# Round trip


def test_a_network_comes_back_bit_for_bit(tmp_path: Path) -> None:
    torch.manual_seed(1)
    net = build(tiny.settings().model, size=28)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        net(torch.rand(4, 1, 28, 28), torch.rand(4, 1, 28, 28)).sum().backward()
        optimizer.step()
    progress = Progress(epoch=1, best_epoch=1, best_loss=0.1, history=[{"epoch": 1, "val_loss": 0.1, "best": True}])
    save(Folder.of(tmp_path), progress, settings={"train": {"lr": 0.1}}, net=net, optimizer=optimizer)
    found = read(Folder.of(tmp_path) / "epoch-0001")
    assert found.progress == progress
    assert found.settings == {"train": {"lr": 0.1}}
    expected = net.state_dict()
    assert found.weights.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found.weights[name], value) and found.weights[name].dtype == value.dtype, name
    for index, state in enumerate(optimizer.state.values()):
        for key, value in state.items():
            read_back = found.optimizer[f"{index}.{key}"]
            assert torch.equal(read_back, value) and read_back.dtype == value.dtype, key
    assert len(found.optimizer) == 3 * len(list(net.parameters())) and not found.trained


def test_the_weights_of_an_average_and_those_that_are_trained_lie_apart(run: Run) -> None:
    trained = nn.Linear(3, 2)
    save(run.folder, Progress(epoch=1), settings={}, net=run.net, optimizer=run.optimizer, trained=trained)
    found = read(run.folder / "epoch-0001")
    assert torch.equal(found.weights["weight"], run.net.weight)
    assert torch.equal(found.trained["weight"], trained.weight)


def test_a_checkpoint_is_safetensors_and_json(run: Run) -> None:
    run.epochs(1)
    assert (run.folder / "epoch-0001").names() == ["model.safetensors", "state.json", "training.safetensors"]
    assert [f"optimizer.{index}.{name}" for index in (0, 1) for name in ("exp_avg", "exp_avg_sq", "step")] == sorted(
        tensors.unpack(run.file(1, TRAINING).read_bytes(), TRAINING)
    )
    json.loads(run.file(1, STATE).read_text())


def test_before_any_measured_epoch_the_best_loss_is_infinite_and_the_file_is_still_plain_json(run: Run) -> None:
    history = [{"epoch": 1, "val_loss": None, "best": False}]
    save(run.folder, Progress(epoch=1, history=history), settings={}, net=run.net,
         optimizer=run.optimizer)  # fmt: skip
    json.loads(run.file(1, STATE).read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert read(run.folder / "epoch-0001").progress.best_loss == math.inf


def test_there_is_no_checkpoint_in_an_empty_or_missing_folder(tmp_path: Path) -> None:
    assert newest(Folder.of(tmp_path)) == (None, [])
    assert newest(Folder.of(tmp_path / "none")) == (None, [])
    assert best(Folder.of(tmp_path)) is None


# What is kept


@pytest.mark.parametrize(
    ("epochs", "kept"), [(1, [1]), (2, [1, 2]), (3, [2, 3]), (4, [2, 3, 4]), (5, [2, 4, 5]), (6, [5, 6])]
)
def test_what_is_kept_is_the_last_two_epochs_and_the_best_of_each(run: Run, epochs: int, kept: list[int]) -> None:
    run.epochs(epochs)
    assert run.folder.names() == [f"epoch-{epoch:04d}" for epoch in kept]


@pytest.mark.parametrize("epochs", range(2, 7))
def test_falling_back_by_one_loses_neither_the_state_nor_the_best(run: Run, epochs: int) -> None:
    run.epochs(epochs)
    run.file(epochs, STATE).unlink()
    found, _ = newest(run.folder)
    assert found is not None and found.progress.epoch == epochs - 1
    champion = best(run.folder)
    assert champion is not None
    assert champion.progress.epoch == 1 + LOSSES[: epochs - 1].index(min(LOSSES[: epochs - 1]))


def test_those_inside_an_epoch_give_way_like_any_other_but_the_best_epochs_stay(run: Run) -> None:
    run.epochs(3)  # the best is 2
    kept = []
    for step in (10, 20, 30):
        run.progress.step = step
        save(run.folder, run.progress, settings={}, net=run.net, optimizer=run.optimizer)
        kept.append([name.removeprefix("epoch-") for name in run.folder.names()])
    assert kept == [
        ["0002", "0003", "0003-step-00010"],
        ["0002", "0003-step-00010", "0003-step-00020"],
        ["0002", "0003-step-00020", "0003-step-00030"],
    ]
    found, champion = newest(run.folder)[0], best(run.folder)
    assert found is not None and (found.progress.epoch, found.progress.step) == (3, 30)
    assert champion is not None and champion.name == "epoch-0002"
    run.progress.step = 0
    run.epochs(1)
    assert run.folder.names() == ["epoch-0002", "epoch-0003-step-00030", "epoch-0004"]


def test_the_best_checkpoint_holds_the_weights_of_the_best_epoch(run: Run) -> None:
    found = best(run.epochs(4).folder)
    assert found is not None and found.progress.best_epoch == found.progress.epoch == 2
    assert (found.weights["weight"] - 2).abs().max() < 0.2  # filled with 2, then a step of 0.1


def test_the_newest_is_the_greatest_epoch_also_beyond_four_digits(run: Run) -> None:
    run.progress.epoch = 9_999
    for _ in range(2):
        save(run.folder, run.progress, settings={}, net=run.net, optimizer=run.optimizer)
        run.progress.epoch += 1
    found, passed = newest(run.folder)
    assert (found and found.name, passed) == ("epoch-10000", [])


def test_files_of_others_in_the_folder_are_neither_read_nor_removed(run: Run) -> None:
    run.epochs(1)
    (Path(run.folder.path) / ".nfs0000001").write_bytes(b"left by the file system")
    (Path(run.folder.path) / "notes").mkdir()
    run.epochs(3)
    found, passed = newest(run.folder)
    assert found is not None and found.progress.epoch == 4 and passed == []
    assert {".nfs0000001", "notes"} <= set(os.listdir(run.folder.path))


# Damage


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("name", [WEIGHTS, TRAINING, STATE])
@pytest.mark.parametrize("damage", [truncate, flip_a_byte, empty, Path.unlink])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(run: Run, damage: Any, name: str) -> None:
    run.epochs(4)
    damage(run.file(4, name))
    found, passed = newest(run.folder)
    assert found is not None and found.progress.epoch == 3
    assert len(passed) == 1
    assert "epoch-0004" in passed[0] and name in passed[0]
    with pytest.raises(UserError, match="epoch-0004"):
        read(run.folder / "epoch-0004")


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.EMFILE, errno.EACCES])
@pytest.mark.parametrize("name", [STATE, WEIGHTS, TRAINING])
def test_a_disk_that_does_not_answer_is_no_damage(
    number: int, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise all checkpoints could seem damaged for a moment, and a training that starts again would remove them."""
    run = Folder.of(tmp_path)
    tiny.train(run, tiny.settings(epochs=2))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    usual = Folder.read

    def fails(folder: Folder, asked: str) -> bytes:
        if asked == name:
            raise OSError(number, os.strerror(number), folder.file(asked))
        return usual(folder, asked)

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "read", fails)
        for use in (lambda: newest(run / "checkpoints"), lambda: tiny.train(run, tiny.settings(epochs=3))):
            with pytest.raises(RunFailed, match=rf"{name} cannot be read \({os.strerror(number)}\): check its disk"):
                use()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_folder_in_a_files_place_is_damage(run: Run) -> None:
    run.epochs(2)
    run.file(2, WEIGHTS).unlink()
    run.file(2, WEIGHTS).mkdir()
    found, passed = newest(run.folder)
    assert found and found.progress.epoch == 1
    assert passed == [f"checkpoint {run.folder / 'epoch-0002'} is damaged: {WEIGHTS} is missing or unreadable"]


def test_where_all_are_damaged_each_is_named(run: Run) -> None:
    run.epochs(4)
    for epoch in (2, 3, 4):
        truncate(run.file(epoch, WEIGHTS))
    found, passed = newest(run.folder)
    assert found is None
    assert [sentence.split("epoch-")[1][:4] for sentence in passed] == ["0004", "0003", "0002"]


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": None}, {"epoch": "seven"}, {"epoch": math.inf}, {"best_loss": "low"},
        {"history": 3}, {"history": [1]}, {"sha256": []}, {"settings": None},
    ],
)  # fmt: skip
def test_a_state_with_wrong_values_is_damage(run: Run, change: dict[str, Any]) -> None:
    run.epochs(2)
    state = json.loads(run.file(2, STATE).read_text())
    run.file(2, STATE).write_text(json.dumps(state | change))
    found, passed = newest(run.folder)
    assert found is not None and found.progress.epoch == 1
    assert STATE in passed[0]


def test_a_repeated_epoch_replaces_what_an_interrupted_one_left(run: Run) -> None:
    run.epochs(2)
    truncate(run.file(2, TRAINING))
    run.file(2, "stray").write_bytes(b"x")
    run.progress.epoch -= 1
    run.progress.history.pop()
    run.epochs(1)
    assert (run.folder / "epoch-0002").names() == sorted([WEIGHTS, TRAINING, STATE])
    assert newest(run.folder)[1] == []


# What only an attacker or another program would write: the digests are right, the content is not


def forge(run: Run, epoch: int, name: str, data: bytes) -> None:
    run.file(epoch, name).write_bytes(data)
    state = json.loads(run.file(epoch, STATE).read_text())
    state["sha256"][name] = hashlib.sha256(data).hexdigest()
    run.file(epoch, STATE).write_text(json.dumps(state))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of all files that are read."""
    names: list[str] = []
    read_file = Folder.read
    monkeypatch.setattr(Folder, "read", lambda self, name: names.append(name) or read_file(self, name))
    return names


def test_a_training_pt_beside_the_others_is_never_opened(run: Run, tmp_path: Path, opened: list[str]) -> None:
    run.epochs(1)
    run.file(1, OLDER).write_bytes(pickle.dumps(Malice(tmp_path / "owned"), protocol=2))
    read(run.folder / "epoch-0001")
    assert sorted(set(opened)) == [WEIGHTS, STATE, TRAINING]
    assert not (tmp_path / "owned").exists()


def test_a_checkpoint_of_an_older_version_is_refused_and_its_training_pt_never_opened(
    run: Run, tmp_path: Path, opened: list[str]
) -> None:
    run.epochs(3)
    for epoch in (2, 3):
        older(Path(run.folder.path) / f"epoch-{epoch:04d}", tmp_path / "owned")
    for use in (refuse_older, newest, best, lambda folder: read(folder / "epoch-0003")):
        with pytest.raises(UserError) as caught:
            use(run.folder)
        assert str(caught.value) == (
            f"checkpoint {run.folder}/epoch-0003 is of an older version: its training.pt is a pickle, which can contain"
            " code, and is not read; start the training again in another --run, or go on with the version that wrote it"
        )
    assert OLDER not in opened and not (tmp_path / "owned").exists()


@pytest.mark.parametrize("missing", [[STATE], [STATE, TRAINING], [STATE, TRAINING, WEIGHTS]])
def test_an_unfinished_checkpoint_is_of_this_version(run: Run, missing: list[str]) -> None:
    run.epochs(2)
    for name in missing:
        run.file(2, name).unlink()
    refuse_older(run.folder)
    found, _ = newest(run.folder)
    assert found is not None and found.name == "epoch-0001"


@pytest.mark.parametrize("data", [b"", b"garbage", pickle.dumps({}), b"PK\x03\x04" + b"\0" * 100])
def test_foreign_bytes_in_a_checkpoint_are_a_sentence(run: Run, data: bytes) -> None:
    run.epochs(1)
    forge(run, 1, TRAINING, data)
    with pytest.raises(UserError, match=r"training\.safetensors is not a whole safetensors file"):
        read(run.folder / "epoch-0001")


@pytest.mark.parametrize("name", ["weight", "exp_avg", "optimizers.0.step", ""])
def test_other_tensors_than_those_of_a_training_are_refused(run: Run, name: str) -> None:
    run.epochs(2)
    forge(run, 2, TRAINING, tensors.pack({name: torch.zeros(1)}))
    with pytest.raises(
        UserError, match=rf"training\.safetensors is not the training state of a checkpoint \(it holds '{name}'\)"
    ):
        read(run.folder / "epoch-0002")
    found, _ = newest(run.folder)
    assert found is not None and found.progress.epoch == 1


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(("file", "name"), [(WEIGHTS, "weight"), (TRAINING, "optimizer.0.exp_avg")])
def test_tensors_that_are_not_finite_are_refused(run: Run, value: float, file: str, name: str) -> None:
    run.epochs(2)
    forge(run, 2, file, tensors.pack({name: torch.tensor([1.0, value])}))
    with pytest.raises(UserError, match=rf"{file}: '{name}' holds values that are not finite"):
        read(run.folder / "epoch-0002")
    found, _ = newest(run.folder)
    assert found is not None and found.progress.epoch == 1


def lying(*, header: dict[str, Any], size: int | None = None, body: bytes = b"\0" * 8) -> bytes:
    """A safetensors file with any header; `size` is the length that it states for its header."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + body


F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 4,
        lying(header={"w": F32}, size=2**63 - 1),
        lying(header={"w": F32}, size=10**6),
        lying(header={"w": F32}, size=5),
        lying(header={"w": F32 | {"shape": [1000]}}),
        lying(header={"w": F32 | {"data_offsets": [0, 8000]}}),
        lying(header={"w": F32 | {"shape": [2**40, 2**40]}}),
        lying(header={"w": F32, "v": F32}),
        lying(header={"w": F32 | {"dtype": "F33"}}),
        lying(header={"w": F32}, body=b""),
        lying(header={"w": F32}, body=b"\0" * 80),
    ],
)
def test_a_safetensors_header_that_lies_is_refused(data: bytes) -> None:
    with pytest.raises(UserError, match=r"w\.bin is not a whole safetensors file"):
        tensors.unpack(data, "w.bin")


def test_an_honest_header_is_read() -> None:
    assert tensors.unpack(lying(header={"w": F32}), "w.bin")["w"].tolist() == [0.0, 0.0]


def test_a_checkpoint_knows_its_name(run: Run) -> None:
    found, _ = newest(run.epochs(1).folder)
    assert isinstance(found, Checkpoint) and found.name == "epoch-0001"
