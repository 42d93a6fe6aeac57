"""The training loop: an interruption changes nothing, a divergence spoils nothing, and what is kept and recorded."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from tiny import Killed, Killer

from oneshot.base.errors import UserError
from oneshot.base.jobs import override
from oneshot.base.settings import Settings, Train
from oneshot.base.storage import Folder
from oneshot.evaluation.validation import Validation
from oneshot.network.models import build
from oneshot.network.worker import Worker
from oneshot.run import checkpoint
from oneshot.run.checkpoint import Checkpoint
from oneshot.run.history import read_notes
from oneshot.run.watch import Watch, following
from oneshot.run.watchdog import Moves
from oneshot.training.loop import Diverged, Training, fit
from oneshot.training.optimizers import schedule
from oneshot.training.parts import Parts

CPU = torch.device("cpu")
KINDS: dict[str, dict[str, Any]] = {
    "pairs": {"sampling": "pairs", "optimizer": "sgd", "schedule": "step", "rotations": True, "hard_negatives": 0.5},
    "episodes": {"sampling": "episodes", "optimizer": "adam", "objective": "both", "lr": 3e-3, "schedule": "cosine"},
    "averaged": {
        "sampling": "episodes",
        "optimizer": "adam",
        "objective": "both",
        "lr": 3e-3,
        "ema": 0.8,
        "warmup": 2,
        "name": "resnet",
        "width": 4,
        "elastic": 2.0,
        "flips": True,
    },
}
CLOCK = ("seconds", "images_per_second", "resumed_at")


@pytest.fixture(scope="module")
def data() -> Parts:
    return tiny.parts()


def last(folder: Path) -> Checkpoint:
    found, passed = checkpoint.newest(Folder.of(folder) / "checkpoints")
    assert found is not None and not passed
    return found


def digest(folder: Path) -> str:
    """The digest of the newest checkpoint's weights."""
    return hashlib.sha256((folder / "checkpoints" / last(folder).name / "model.safetensors").read_bytes()).hexdigest()


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


def without_clock(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key not in CLOCK} for row in history]


# Resuming


@pytest.fixture(scope="module", params=KINDS)
def whole(
    request: pytest.FixtureRequest, data: Parts, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Settings, Path]:
    """A training of four epochs without an interruption."""
    folder = tmp_path_factory.mktemp("whole")
    settings = tiny.settings(**KINDS[request.param])
    tiny.train(folder, settings, data=data)
    return settings, folder


@pytest.mark.parametrize("how", [{"after": 2}, {"within": 3}, {"within": 1}, {"after": 1}, {"after": 4}], ids=str)
def test_an_interrupted_training_goes_on_as_if_nothing_had_happened(
    whole: tuple[Settings, Path], data: Parts, tmp_path: Path, how: dict[str, int]
) -> None:
    settings, folder = whole
    with pytest.raises(Killed):
        tiny.train(tmp_path, settings, data=data, watch=Killer(**how))
    progress = tiny.train(tmp_path, settings, data=data)
    assert digest(tmp_path) == digest(folder)
    assert [row["epoch"] for row in rows(tmp_path)] == [1, 2, 3, 4]
    assert without_clock(rows(tmp_path)) == without_clock(rows(folder))
    assert (progress.epoch, progress.ended) == (4, "epochs")


def test_interrupted_at_every_epoch_it_still_ends_the_same(
    whole: tuple[Settings, Path], data: Parts, tmp_path: Path
) -> None:
    settings, folder = whole
    for epoch in (1, 2, 3):
        with pytest.raises(Killed):
            tiny.train(tmp_path, settings, data=data, watch=Killer(after=epoch))
    tiny.train(tmp_path, settings, data=data)
    assert [row.get("resumed_at") for row in rows(tmp_path)] == [None, 0, 0, 0]
    assert digest(tmp_path) == digest(folder)
    assert without_clock(rows(tmp_path)) == without_clock(rows(folder))


class Mortal(Watch):
    """Ends a training at its third step, in whatever epoch; `seen` has the steps of all attempts."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []
        self.done, self.left = 0, 3

    def start(self, *, epochs: int, steps_per_epoch: int, done: int = 0) -> None:
        self.done, self.left = done, 3

    def step(self, done: int, loss: float, images_per_second: float) -> None:
        self.seen.append((self.done + 1, done))
        self.left -= 1
        if not self.left:
            raise Killed

    def epoch(self, row: dict[str, Any], is_best: bool) -> None:
        self.done = row["epoch"]


def test_with_checkpoints_inside_epochs_it_goes_on_at_the_exact_pair(
    whole: tuple[Settings, Path], data: Parts, tmp_path: Path
) -> None:
    """It is killed at every third step, before that step's checkpoint, so that one of three steps is repeated."""
    settings, folder = whole
    settings = override(settings, {"scale.checkpoint_steps": 1}, source="the test")
    watch, lives = Mortal(), 0
    while True:
        try:
            tiny.train(tmp_path, settings, data=data, watch=watch)
        except Killed:
            lives += 1
        else:
            break
    steps = [(epoch, step) for epoch in (1, 2, 3, 4) for step in (1, 2, 3)]
    assert rows(tmp_path)[0]["resumed_at"] == 2  # killed at the third step, it resumed after the second
    assert sorted(set(watch.seen)) == steps and len(watch.seen) == len(steps) + lives and lives >= 5
    assert digest(tmp_path) == digest(folder)
    assert without_clock(rows(tmp_path)) == without_clock(rows(folder))


def test_a_damaged_checkpoint_inside_an_epoch_costs_steps_only(
    whole: tuple[Settings, Path], data: Parts, tmp_path: Path
) -> None:
    settings, folder = whole
    settings = override(settings, {"scale.checkpoint_steps": 1}, source="the test")
    with pytest.raises(Killed):
        tiny.train(tmp_path, settings, data=data, watch=Mortal())
    assert Folder.of(tmp_path / "checkpoints").names() == ["epoch-0000-step-00001", "epoch-0000-step-00002"]
    (tmp_path / "checkpoints/epoch-0000-step-00002/model.safetensors").write_bytes(b"")
    watch = Killer()
    tiny.train(tmp_path, settings, data=data, watch=watch)
    assert "epoch-0000-step-00002 is damaged" in watch.notes[0] and len(watch.notes) == 1
    assert digest(tmp_path) == digest(folder)


def test_a_damaged_checkpoint_costs_an_epoch_and_changes_nothing(
    whole: tuple[Settings, Path], data: Parts, tmp_path: Path
) -> None:
    settings, folder = whole
    with pytest.raises(Killed):
        tiny.train(tmp_path, settings, data=data, watch=Killer(after=3))
    (tmp_path / "checkpoints" / "epoch-0003" / "training.safetensors").write_bytes(b"damaged")
    watch = Killer()
    tiny.train(tmp_path, settings, data=data, watch=watch)
    assert len(watch.notes) == 1
    assert "epoch-0003 is damaged" in watch.notes[0] and "using the one before it" in watch.notes[0]
    assert [row.get("resumed_at") for row in rows(tmp_path)] == [None, None, 0, None]
    assert digest(tmp_path) == digest(folder)
    assert without_clock(rows(tmp_path)) == without_clock(rows(folder))


def test_a_history_that_was_not_written_any_more_is_made_up_for(
    whole: tuple[Settings, Path], data: Parts, tmp_path: Path
) -> None:
    settings, folder = whole
    with pytest.raises(Killed):
        tiny.train(tmp_path, settings, data=data, watch=Killer(after=2))
    (tmp_path / "history.jsonl").unlink()
    tiny.train(tmp_path, settings, data=data)
    assert without_clock(rows(tmp_path)) == without_clock(rows(folder))


def test_a_training_that_is_over_is_left_as_it_is(whole: tuple[Settings, Path], data: Parts) -> None:
    settings, folder = whole
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    progress = tiny.train(folder, settings, data=data)
    assert (progress.epoch, progress.ended) == (4, "epochs")
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_the_same_seed_is_the_same_training_and_another_is_not(data: Parts, tmp_path: Path) -> None:
    for name, seed in (("one", 3), ("again", 3), ("other", 4)):
        tiny.train(tmp_path / name, tiny.settings(epochs=1, seed=seed), data=data)
    assert digest(tmp_path / "one") == digest(tmp_path / "again")
    assert digest(tmp_path / "one") != digest(tmp_path / "other")


# Resuming with other settings


def test_more_epochs_may_be_asked_for(data: Parts, tmp_path: Path) -> None:
    tiny.train(tmp_path / "first", tiny.settings(epochs=2), data=data)
    progress = tiny.train(tmp_path / "first", tiny.settings(epochs=4), data=data)
    tiny.train(tmp_path / "straight", tiny.settings(epochs=4), data=data)
    assert (progress.epoch, progress.ended) == (4, "epochs")
    assert digest(tmp_path / "first") == digest(tmp_path / "straight")
    assert [row["epoch"] for row in rows(tmp_path / "first")] == [1, 2, 3, 4]


def test_but_not_of_a_cosine_whose_every_step_depends_on_their_number(data: Parts, tmp_path: Path) -> None:
    tiny.train(tmp_path, tiny.settings(epochs=1, schedule="cosine"), data=data)
    with pytest.raises(UserError, match=r"train\.epochs = 1, not 2: name another --run"):
        tiny.train(tmp_path, tiny.settings(epochs=2, schedule="cosine"), data=data)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"lr": 0.1}, r"train\.lr = 0\.05, not 0\.1"),
        ({"optimizer": "adam"}, r"train\.optimizer = 'sgd', not 'adam'"),
        ({"seed": 1}, r"train\.seed = 0, not 1"),
        ({"batch": 8}, r"train\.batch = 16, not 8"),
        ({"distort": 0.0}, r"data\.distort = 0\.5, not 0\.0"),
        ({"head": "plain"}, r"model\.head = 'calibrated', not 'plain'"),
    ],
)
def test_a_folder_of_other_settings_is_refused(
    data: Parts, tmp_path_factory: pytest.TempPathFactory, change: dict[str, Any], sentence: str
) -> None:
    folder = tmp_path_factory.getbasetemp() / "of-one-epoch"
    tiny.train(folder, tiny.settings(epochs=1), data=data)  # only the first time; later the training is over
    with pytest.raises(UserError, match=sentence) as caught:
        tiny.train(folder, tiny.settings(**{"epochs": 1} | change), data=data)
    assert str(folder) in str(caught.value)


# Ending


def test_patience_ends_a_training_so_many_epochs_after_its_best(data: Parts, tmp_path: Path) -> None:
    progress = tiny.train(tmp_path, tiny.settings(epochs=60, patience=2), data=data)
    assert progress.ended == "patience"
    assert progress.epoch == progress.best_epoch + 2 < 60
    losses = [row["val_loss"] for row in rows(tmp_path)]
    assert losses.index(min(losses)) + 1 == progress.best_epoch
    assert progress.best_loss == min(losses)
    assert [row["ended"] for row in rows(tmp_path)] == [""] * (progress.epoch - 1) + ["patience"]


class Marks(Watch):
    """Which epochs are shown as the best so far."""

    def __init__(self) -> None:
        self.best: list[int] = []

    def epoch(self, row: dict[str, Any], is_best: bool) -> None:
        self.best += [row["epoch"]] * is_best


def test_the_last_epochs_network_is_kept_where_that_is_asked_for(data: Parts, tmp_path: Path) -> None:
    """The training's last two epochs are not its best. The best epochs are shown all the same."""
    epochs = tiny.train(tmp_path / "best", tiny.settings(epochs=60, patience=2), data=data).epoch
    marks = Marks()
    progress = tiny.train(tmp_path / "last", tiny.settings(epochs=epochs, keep="last"), watch=marks, data=data)
    losses = [row["val_loss"] for row in rows(tmp_path / "last")]
    assert losses == [row["val_loss"] for row in rows(tmp_path / "best")]
    assert (progress.best_epoch, progress.best_loss) == (epochs, losses[-1])
    kept = checkpoint.best(Folder.of(tmp_path / "last/checkpoints"))
    assert kept is not None and kept.progress.epoch == epochs
    assert marks.best == [epoch for epoch in range(1, epochs + 1) if losses[epoch - 1] < min([*losses[: epoch - 1], 9])]
    assert marks.best[-1] == epochs - 2


MEASURED = [(0.5, 0.60), (0.4, 0.62), (0.45, 0.62), (0.3, 0.61), (0.35, 0.62), (0.6, 0.62), (0.7, 0.5)]


@pytest.mark.parametrize(
    ("keep", "best", "epochs"), [("best", [1, 2, 4], 7), ("oneshot", [1, 2, 5], 7), ("oneshot", [1, 2], 4)]
)
def test_the_network_of_the_highest_one_shot_accuracy_is_kept_where_that_is_asked_for(
    data: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: str, best: list[int], epochs: int
) -> None:
    """Among equals, the one of the lowest loss; patience counts epochs without a better one by the same measure."""
    left = [
        {"val_loss": loss, "val_accuracy": 0.5, "val_oneshot": right, "val_spread": 1.0} for loss, right in MEASURED
    ]
    monkeypatch.setattr(Validation, "measure", lambda *_, **__: left.pop(0))
    settings = tiny.settings(epochs=7, examples=16, keep=keep, patience=0 if epochs == 7 else epochs - best[-1])
    progress = tiny.train(tmp_path, settings, data=data)
    assert (progress.best_epoch, progress.epoch) == (best[-1], epochs)
    assert [row["epoch"] for row in progress.history if row["best"]] == best
    assert progress.best_loss == MEASURED[best[-1] - 1][0]
    kept = checkpoint.best(Folder.of(tmp_path / "checkpoints"))
    assert kept is not None and kept.progress.epoch == best[-1]


def test_more_patience_lets_a_training_go_on(data: Parts, tmp_path: Path) -> None:
    first = tiny.train(tmp_path, tiny.settings(epochs=60, patience=1), data=data)
    epoch, best = first.epoch, first.best_epoch
    assert epoch == best + 1
    again = tiny.train(tmp_path, tiny.settings(epochs=60, patience=1), data=data)
    assert (again.epoch, again.ended) == (epoch, "patience")
    more = tiny.train(tmp_path, tiny.settings(epochs=60, patience=3), data=data)
    assert more.epoch > epoch and more.epoch == more.best_epoch + 3


class Listener(Worker):
    """A single process whose reports are kept."""

    def __init__(self) -> None:
        super().__init__(CPU, precision="fp32")
        self.rows: list[dict[str, Any]] = []

    def report(self, row: dict[str, Any]) -> None:
        self.rows.append(row)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("sampling", ["pairs", "episodes"])
def test_an_absurd_learning_rate_ends_as_diverged_and_spoils_no_checkpoint(
    data: Parts, tmp_path: Path, sampling: str, optimizer: str
) -> None:
    worker, watch = Listener(), Killer()
    settings = tiny.settings(epochs=10, lr=1e6, sampling=sampling, optimizer=optimizer)
    progress = fit(worker, settings, data, Folder.of(tmp_path), watch=watch)
    assert progress.ended == "diverged"
    assert progress.epoch <= 2
    assert rows(tmp_path)[-1] == {"epoch": progress.epoch + 1, "val_loss": None, "ended": "diverged", "best": False}
    assert worker.rows[-1]["val_loss"] == math.inf and worker.rows[-1]["ended"] == "diverged"
    assert watch.notes == [
        f"diverged in epoch {progress.epoch + 1}: the loss or its gradient is not finite; try a lower learning rate"
    ]
    for name in (Folder.of(tmp_path) / "checkpoints").names():
        found = checkpoint.read(Folder.of(tmp_path) / "checkpoints" / name)  # refuses what is not finite
        assert math.isfinite(found.progress.best_loss)


def test_a_diverged_training_goes_on_from_its_last_good_epoch_and_diverges_again(data: Parts, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        tiny.train(tmp_path, tiny.settings(), data=data, watch=Killer(after=2))
    state = tmp_path / "checkpoints" / "epoch-0002" / "state.json"
    tree = json.loads(state.read_text())
    tree["settings"]["train"]["lr"] = 1e6
    state.write_text(json.dumps(tree))
    for _ in range(2):
        progress = tiny.train(tmp_path, tiny.settings(lr=1e6), data=data)
        assert (progress.epoch, progress.ended) == (2, "diverged")
        assert [row["epoch"] for row in rows(tmp_path)] == [1, 2, 3]
    assert last(tmp_path).progress.epoch == 2


def test_the_weights_are_not_touched_by_a_step_that_diverges(data: Parts, tmp_path: Path) -> None:
    training = Training(Worker(CPU, precision="fp32"), tiny.settings(), data, Folder.of(tmp_path), Watch())
    with torch.no_grad():
        training.net.head.bias.fill_(1e5)
    before = {name: value.clone() for name, value in training.net.named_parameters()}
    with pytest.raises(Diverged):
        training.run_epoch(1)
    assert all(torch.equal(value, before[name]) for name, value in training.net.named_parameters())


def test_the_next_batch_is_made_before_a_steps_loss_is_waited_for(
    data: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a GPU has work while the CPU draws the next pairs; waiting for the loss would leave it idle."""
    training = Training(Worker(CPU), tiny.settings(), data, Folder.of(tmp_path), Watch())
    calls: list[str] = []
    for name in ("batch", "launch", "update"):

        def called(*given: Any, name: str = name, usual: Any = getattr(training, name)) -> Any:
            calls.append(f"{name} {given[1]}" if name == "batch" else name)
            return usual(*given)

        monkeypatch.setattr(training, name, called)
    training.run_epoch(1)  # of three steps
    assert calls == ["batch 0", "launch", "batch 1", "update", "launch", "batch 2", "update", "launch", "update"]


# What is recorded


def test_every_epoch_is_reported_once_with_what_was_measured(data: Parts, tmp_path: Path) -> None:
    worker = Listener()
    progress = fit(worker, tiny.settings(epochs=3), data, Folder.of(tmp_path))
    assert [row["epoch"] for row in worker.rows] == [1, 2, 3]
    assert worker.rows == progress.history == rows(tmp_path)
    best = math.inf
    for row in worker.rows:
        assert row["best"] == (row["val_loss"] < best)
        best = min(best, row["val_loss"])
        assert math.isfinite(row["train_loss"]) and row["images_per_second"] > 0 and row["seconds"] > 0
        assert 0 <= row["train_accuracy"] <= 1 and 0 <= row["val_accuracy"] <= 1 and 0 <= row["val_oneshot"] <= 1


def dead(folder: Folder, watch: Watch) -> Training:
    """A training in this folder with a dead network: the weights of its head are zero."""
    training = Training(Worker(CPU, precision="fp32"), tiny.settings(lr=1e-30), tiny.parts(), folder, watch)
    torch.nn.init.zeros_(training.net.head.weight)
    return training


def test_a_network_that_answers_every_pair_alike_is_named_once(data: Parts, tmp_path: Path) -> None:
    """Also for watchers in another process, as under Ray, and not again when the training is resumed."""
    folder, watch = Folder.of(tmp_path), Killer()
    alive = Training(Worker(CPU, precision="fp32"), tiny.settings(lr=1e-30), data, folder, watch)
    alive.finish_epoch(alive.run_epoch(1))
    assert not watch.notes and not read_notes(folder)
    training = dead(folder, watch)
    for epoch in (2, 3):
        training.finish_epoch(training.run_epoch(epoch))
    again = dead(folder, watch)
    again.finish_epoch(again.run_epoch(4))
    assert watch.notes == ["every pair gets the same score: the network is dead; try a lower learning rate"]
    assert read_notes(folder) == watch.notes


def test_of_several_workers_the_first_writes_what_all_of_them_are_told(tmp_path: Path) -> None:
    folder, watch = Folder.of(tmp_path), Killer()
    training = dead(folder, watch)
    row = training.run_epoch(1)
    training.worker.rank = 1
    training.finish_epoch(row)
    assert len(watch.notes) == 1 and not read_notes(folder)


def test_who_follows_a_training_from_another_process_hears_that_its_network_is_dead(tmp_path: Path) -> None:
    folder, there, heard = Folder.of(tmp_path), Moves(), Killer()  # the watch of a Ray worker tells nobody by itself
    with following(folder, heard, Train()):
        training = dead(folder, there)
        training.finish_epoch(training.run_epoch(1))
    assert heard.notes == ["every pair gets the same score: the network is dead; try a lower learning rate"]


def test_reports_that_were_lost_with_the_driver_are_made_again(data: Parts, tmp_path: Path) -> None:
    settings = tiny.settings(epochs=3)
    with pytest.raises(Killed):
        fit(Worker(CPU, precision="fp32"), settings, data, Folder.of(tmp_path), watch=Killer(after=2))
    worker = Listener()
    fit(worker, settings, data, Folder.of(tmp_path), known=1)  # the listener has heard of the first epoch only
    assert worker.rows == rows(tmp_path)[1:]
    over = Listener()
    fit(over, settings, data, Folder.of(tmp_path), known=2)  # nothing is left to train, yet the last epoch is news
    assert over.rows == rows(tmp_path)[2:]


@pytest.mark.parametrize("kind", ["pairs", "episodes"])
def test_a_network_learns_to_tell_characters_it_never_saw(data: Parts, tmp_path: Path, kind: str) -> None:
    changes = KINDS[kind] | {"epochs": 8, "rotations": False, "schedule": "none"}
    tiny.train(tmp_path, tiny.settings(**changes), data=data)
    best = min(rows(tmp_path), key=lambda row: row["val_loss"])
    assert best["val_loss"] < 0.5  # chance: 0.69
    assert best["val_oneshot"] > 0.6  # chance: a fifth or a sixth
    assert best["val_spread"] > 0.5  # not dead


def test_validation_is_the_same_for_every_training_whatever_its_seed(data: Parts) -> None:
    one, other = (Validation(data.validation, tiny.settings(seed=seed).train, size=28, device=CPU) for seed in (0, 1))
    assert one.pairs.left.tolist() == other.pairs.left.tolist()
    assert one.trials.support.tolist() == other.trials.support.tolist()
    assert one.pairs.same.sum() * 2 == len(one.pairs) == 32
    assert one.n_way == 6  # the most characters of an alphabet, where none has 20


def test_measuring_is_repeatable_and_leaves_a_network_training(data: Parts) -> None:
    torch.manual_seed(0)
    net = build(tiny.settings().model, size=28).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    validation = Validation(data.validation, tiny.settings().train, size=28, device=CPU)
    worker = Worker(CPU, precision="fp32")
    assert validation.measure(net, worker) == validation.measure(net, worker)
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_of_an_objective_that_teaches_no_bias_the_pairs_are_measured_on_the_line_that_fits(data: Parts) -> None:
    def measured(objective: str, bias: float, sign: float = -1.0) -> dict[str, float]:
        settings = tiny.settings(objective=objective, sampling="episodes")
        torch.manual_seed(0)
        net = build(settings.model, size=28)
        with torch.no_grad():
            net.head.weight.fill_(sign)
            net.head.bias.fill_(bias)
        return Validation(data.validation, settings.train, size=28, device=CPU).measure(net, Worker(CPU))

    one, other = measured("softmax", 0.0), measured("softmax", 100.0)
    assert one == pytest.approx(other, abs=1e-3)
    assert one["val_loss"] < math.log(2) and one["val_accuracy"] > 0.6
    raw = measured("both", 100.0)
    assert raw["val_loss"] > 10 and raw["val_accuracy"] == 0.5  # all pairs are called the same
    assert other["val_spread"] == raw["val_spread"] and other["val_oneshot"] == raw["val_oneshot"]
    turned = measured("softmax", 0.0, sign=1.0)  # what is far apart is called the same
    assert turned["val_loss"] == pytest.approx(math.log(2)) and turned["val_accuracy"] == 0.5


# The optimizer's settings


def test_the_learning_rate_follows_the_schedule() -> None:
    def at(name: str, epoch: int, step: int = 0) -> float:
        return schedule(Train(schedule=name, epochs=10), epoch=epoch, step=step, steps=5)

    assert [at("none", epoch) for epoch in (1, 10)] == [1, 1]
    assert [at("step", epoch) for epoch in (1, 2, 3)] == pytest.approx([1, 0.99, 0.99**2])
    assert at("step", 2, step=4) == at("step", 2)
    assert at("cosine", 1) == 1 and at("cosine", 6) == pytest.approx(0.5)
    warm = Train(schedule="cosine", epochs=10, warmup=3)
    rising = [schedule(warm, epoch=1, step=step, steps=5) for step in range(5)]
    assert rising[:4] == sorted(rising[:4]) and rising[0] == 0.25 and rising[4] == at("cosine", 1, 4)
    falling = [at("cosine", epoch, step) for epoch in range(1, 11) for step in range(5)]
    assert falling == sorted(falling, reverse=True) and 0 < falling[-1] < 0.01


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_the_head_has_its_own_multiple_of_the_learning_rate(
    data: Parts, tmp_path: Path, optimizer: str, decay: float
) -> None:
    settings = tiny.settings(optimizer=optimizer, lr=1e-3, head_lr=10.0, weight_decay=decay)
    training = Training(Worker(CPU), settings, data, Folder.of(tmp_path), Watch())
    training.set_lr(1, 0)
    *encoder, head = training.optimizer.param_groups
    assert [*(group["lr"] for group in encoder), head["lr"]] == pytest.approx([1e-3] * len(encoder) + [1e-2])
    assert {id(each) for each in head["params"]} == {id(each) for each in training.net.head.parameters()}
    assert type(training.optimizer).__name__.lower() == optimizer


def test_clipping_bounds_how_far_a_step_goes(data: Parts, tmp_path: Path) -> None:
    def moved(clip: float) -> float:
        settings = tiny.settings(epochs=1, examples=16, lr=1.0, momentum=0.0, clip=clip, head="plain")
        torch.manual_seed(settings.train.seed)
        first = dict(build(settings.model, size=28).named_parameters())
        tiny.train(tmp_path / str(clip), settings, data=data)
        weights = last(tmp_path / str(clip)).weights
        return sum(float((weights[name] - value).detach().square().sum()) for name, value in first.items()) ** 0.5

    assert moved(0.01) == pytest.approx(0.01, rel=1e-3)
    assert moved(0.0) > 0.1


def test_bfloat16_trains_as_float32_does_but_for_rounding(data: Parts, tmp_path: Path) -> None:
    worker = Worker(CPU, precision="bf16")
    half = fit(worker, tiny.settings(epochs=2, precision="bf16", lr=0.01), data, Folder.of(tmp_path / "bf16"))
    full = tiny.train(tmp_path / "fp32", tiny.settings(epochs=2, lr=0.01), data=data)
    assert half.history[0]["train_loss"] != full.history[0]["train_loss"]
    assert half.history[0]["train_loss"] == pytest.approx(full.history[0]["train_loss"], abs=0.05)
    assert all(value.dtype != torch.bfloat16 for value in last(tmp_path / "bf16").weights.values())
