"""A full disk: a clear error, the existing files stay intact, and with more space the same command continues."""

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tiny
from command import run, settings
from driver import checkpoints
from outcome import differences, history, outcome, weights

import oneshot
from oneshot.base.errors import DiskFull, UserError
from oneshot.base.storage import Folder
from oneshot.run import checkpoint, owner, pruning
from oneshot.search.study import Study
from oneshot.training.train import finish


class Disk:
    """A separate file system in memory, whose size can grow."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def mount(self, size: str) -> None:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", self.path], capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")

    def grow(self, size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", self.path], check=True)

    def fill(self) -> None:
        with (self.path / "filler").open("wb", buffering=0) as stream:
            try:
                while True:
                    stream.write(bytes(4096))
            except OSError:
                pass


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Disk]]:
    """A new disk of a given size."""
    made = Disk(tmp_path / "disk")
    made.path.mkdir()

    def make(size: str) -> Disk:
        made.mount(size)
        return made

    yield make
    subprocess.run(["umount", "--lazy", made.path], capture_output=True)


def refused_for_room(text: str, what: str) -> bool:
    last = text.strip().splitlines()[-1]
    return (
        last.startswith("error: no space left on the disk for ") and what in last
        and last.endswith("free some and go on")
        and "Traceback" not in text
    )  # fmt: skip


def partials(folder: Path) -> list[Path]:
    return list(folder.rglob(".partial-*"))


def test_a_data_set_is_written_whole_or_not_at_all(disk: Callable[[str], Disk]) -> None:
    small = disk("400k")
    arguments = ["data", "--dataset", "glyphs-10", "--data", str(small.path)]
    text = run(*arguments, code=1)
    assert refused_for_room(text, "drawings.parquet"), text
    assert not list(small.path.rglob("drawings.parquet")) and not partials(small.path)
    small.grow("64m")
    assert "is ready in" in run(*arguments)


def test_a_training_stops_at_its_last_whole_checkpoint_and_goes_on_where_there_is_room(
    disk: Callable[[str], Disk], tmp_path: Path, data_root: Path
) -> None:
    changes = settings(train__epochs="3")
    run("train", "quick", "--local", "--run", str(tmp_path / "whole"), *changes, ONESHOT_DATA=str(data_root))
    small = disk("2m")  # room for two checkpoints of 0.9 MB
    folder = small.path / "run"
    arguments = ["train", "quick", "--local", "--run", str(folder), *changes]
    text = run(*arguments, code=1, ONESHOT_DATA=str(data_root))
    assert refused_for_room(text, "epoch-0003"), text
    assert not partials(folder)
    assert not (checkpoints(folder)[-1] / "state.json").exists()
    found, _ = checkpoint.newest(Folder.of(folder / "checkpoints"))
    assert found is not None and found.name == "epoch-0002"
    small.grow("64m")
    text = run(*arguments, ONESHOT_DATA=str(data_root))
    assert "epoch 3/3" in text and "epoch 2/3" not in text
    assert history(folder) == history(tmp_path / "whole")
    assert weights(folder) == weights(tmp_path / "whole")


def test_records_and_the_best_network_stay_as_they_were(disk: Callable[[str], Disk]) -> None:
    place = disk("2m")
    folder = Folder.of(place.path / "run")
    study = Study(folder, trials=100, header={"job": "quick", "epochs": 2, "started": 1.0})
    study.save()
    given = tiny.settings(epochs=1, examples=16)
    tiny.train(folder, given)
    finish(given, folder)
    digest = oneshot.load(place.path / "run").card["sha256"]
    before = (place.path / "run/study.json").read_bytes()
    place.fill()
    for write in (study.save, lambda: finish(given, folder), lambda: folder.append_json("evaluations.jsonl", {})):
        with pytest.raises(DiskFull, match=r"no space left on the disk for .*: free some and go on"):
            write()
    assert not partials(place.path)
    assert (place.path / "run/study.json").read_bytes() == before
    assert oneshot.load(place.path / "run").card["sha256"] == digest


def test_a_full_disk_is_freed_of_the_checkpoints_of_a_study(disk: Callable[[str], Disk]) -> None:
    place = disk("8m")
    run = Folder.of(place.path / "run")
    for trial in ("000", "001"):
        tiny.train(run / "trials" / trial, tiny.settings(epochs=4))
    (run / "trials/001/checkpoints/epoch-0005").write(checkpoint.WEIGHTS, bytes(40_000))  # there was no room for more
    found = pruning.look(run, ["000", "001"], keep={})
    place.fill()
    with owner.sole(run):
        with pytest.raises(UserError, match=f"{run} is in use by"), owner.sole(run):
            pass
        with pytest.raises(DiskFull):
            run.write("else.json", bytes(4096))
        pruning.remove(run, found)
    assert pruning.noted(run) == {"000", "001"}
    assert pruning.look(run, ["000", "001"], keep={}) == [] and not partials(place.path)


@pytest.mark.ray
@pytest.mark.long
def test_a_study_stops_whole_and_goes_on_where_there_is_room(
    disk: Callable[[str], Disk], tmp_path: Path, data_root: Path
) -> None:
    """Otherwise all its trials would fail one after the other, and the best of what is left would be judged."""
    changes = settings(
        search__trials="3", search__grace="0", search__batch="[64]", train__epochs="3", scale__max_failures="0"
    )
    command = ["tune", "quick", *changes, "--run"]
    run(*command, str(tmp_path / "whole"), ONESHOT_DATA=str(data_root))
    small = disk("3200k")  # room for two or three checkpoints, of 0.9 or 1.4 MB
    folder = small.path / "run"
    for again in ([*command, str(folder)], ["tune", "--resume", str(folder)]):
        text = run(*again, code=1, ONESHOT_DATA=str(data_root))
        assert refused_for_room(text, "/checkpoints/epoch-"), text
        assert f"to go on: python -m oneshot.tune --resume {folder}" in text
        assert not partials(folder) and not (folder / "best").exists()
    small.grow("64m")
    run("tune", "--resume", str(folder), ONESHOT_DATA=str(data_root))
    assert differences(outcome(folder), outcome(tmp_path / "whole")) == []


@pytest.fixture
def short_disk() -> Iterator[Disk]:
    """A disk whose path is short enough for Ray's sockets."""
    with tempfile.TemporaryDirectory(prefix="os-", dir="/tmp") as folder:
        made = Disk(Path(folder))
        made.mount("1M")
        yield made
        subprocess.run(["umount", "--lazy", made.path], capture_output=True)


@pytest.mark.ray
@pytest.mark.long
def test_where_ray_has_no_room_for_its_own_files_that_is_said(
    short_disk: Disk, data_root: Path, tmp_path: Path
) -> None:  # fmt: skip
    """Ray itself would wait half a minute for a file that it could not write."""
    short_disk.fill()
    short_disk.grow("1028K")  # without a free byte, Python uses another folder for temporary files
    text = run(
        "train", "quick", "--run", str(tmp_path / "run"), *settings(), code=1,
        ONESHOT_DATA=str(data_root), TMPDIR=str(short_disk.path),
    )  # fmt: skip
    assert refused_for_room(text, str(short_disk.path))
    assert f"to go on: the same command with --run {tmp_path / 'run'}" in text
