"""Other processes see how far a training or a judgement is; files that cannot be written or read do no harm."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from terminals import Clock
from tiny import settings, train

from oneshot.base.errors import RunFailed, UserError
from oneshot.base.settings import Train
from oneshot.base.storage import Folder
from oneshot.run import watch as watching
from oneshot.run.history import write_note
from oneshot.run.watch import PULSE, STAGE, Beating, Relay, Watch, following, pulsing, read_pulse, staged, staging
from oneshot.screen.progress import TrainView

GOOD = {"epoch": 2, "step": 3, "steps": 8, "loss": 0.5, "images_per_second": 100.0, "epoch_seconds": 4.0}


class Heard(Watch):
    def __init__(self) -> None:
        self.said: list[tuple[Any, ...]] = []

    def start(self, **given: Any) -> None:
        self.said.append(("start", given))

    def step(self, done: int, loss: float, images_per_second: float) -> None:
        self.said.append(("step", done, loss, images_per_second))

    def epoch(self, row: dict[str, Any], is_best: bool) -> None:
        self.said.append(("epoch", row["epoch"], is_best))

    def note(self, sentence: str) -> None:
        self.said.append(("note", sentence))


@pytest.mark.parametrize("kind", [TrainView, Relay])
def test_who_watches_a_training_hears_all_that_there_is_to_hear(kind: type) -> None:
    assert [name for name in vars(Watch) if not name.startswith("_") and name not in vars(kind)] == []


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "LOCAL", 0.01)


def wait_for(found: Any, *, seconds: float = 30.0) -> Any:
    """Wait until `found` returns something true, and return it."""
    end = time.monotonic() + seconds
    while not (value := found()) and time.monotonic() < end:
        time.sleep(0.01)
    return value


def test_a_pulse_knows_the_newest_step_and_tells_all_it_hears() -> None:
    clock, heard = Clock(), Heard()
    pulse = Beating(heard, clock=clock)
    pulse.start(epochs=9, steps_per_epoch=8, done=2)
    assert pulse.newest is None
    pulse.step(5, 0.9, 10.0)  # resumed inside the epoch; the time before its first step is not known
    assert pulse.newest["epoch_seconds"] is None
    clock.now = 3.0
    pulse.step(7, 0.8, 11.0)
    assert pulse.newest == {
        "epoch": 3, "step": 7, "steps": 8, "loss": 0.8, "images_per_second": 11.0, "epoch_seconds": 12.0,
    }  # fmt: skip
    pulse.epoch({"epoch": 3}, True)
    clock.now = 9.0
    pulse.step(1, 0.7, 12.0)
    assert (pulse.newest["epoch"], pulse.newest["step"], pulse.newest["epoch_seconds"]) == (4, 1, None)
    pulse.note("odd")
    assert heard.said == [
        ("start", {"epochs": 9, "steps_per_epoch": 8, "done": 2}), ("step", 5, 0.9, 10.0), ("step", 7, 0.8, 11.0),
        ("epoch", 3, True), ("step", 1, 0.7, 12.0), ("note", "odd"),
    ]  # fmt: skip


@pytest.mark.usefixtures("quick")
def test_a_training_leaves_a_pulse_while_it_runs_and_none_after(tmp_path: Path) -> None:
    folder, seen = Folder.of(tmp_path / "run"), []

    def at(pulse: dict[str, Any] | None, place: tuple[int, int]) -> dict[str, Any] | None:
        return pulse if pulse and (pulse["epoch"], pulse["step"]) == place else None

    class Looking(Watch):
        def step(self, done: int, loss: float, images_per_second: float) -> None:
            if done == 2 and len(seen) < 2:
                place = (len(seen) + 1, 2)
                seen.append(wait_for(lambda: at(read_pulse(folder), place)))

    train(folder, settings(epochs=2), watch=Looking())
    assert [(pulse["epoch"], pulse["step"], pulse["steps"]) for pulse in seen] == [(1, 2, 3), (2, 2, 3)]
    assert not folder.has(PULSE)


@pytest.mark.usefixtures("quick")
def test_only_the_rank_that_leads_leaves_one(tmp_path: Path) -> None:
    given = Watch()
    with pulsing(Folder.of(tmp_path), given, leads=False) as watch:
        assert watch is given


@pytest.mark.usefixtures("quick")
def test_a_folder_that_cannot_be_written_does_not_disturb_the_training(tmp_path: Path) -> None:
    tried = threading.Event()

    class Refusing(Folder):
        def write_json(self, name: str, value: Any) -> None:
            tried.set()
            raise OSError("no")

        def remove(self, name: str = "") -> None:
            raise OSError("no")

    folder = Refusing(Folder.of(tmp_path).filesystem, str(tmp_path))
    with pulsing(folder, Watch()) as watch:
        watch.step(1, 0.5, 10.0)
        assert tried.wait(30)


def test_what_a_killed_session_left_is_not_taken_for_this_ones(tmp_path: Path) -> None:
    folder = Folder.of(tmp_path)
    for name, block in (
        (PULSE, pulsing(folder, Watch())),
        (STAGE, staging(folder)),
        (PULSE, following(folder, Watch(), Train())),
    ):
        folder.write_json(name, GOOD)
        with block:
            assert not folder.has(name)


@pytest.mark.usefixtures("quick")
def test_a_write_that_nobody_waited_for_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "PATIENCE", 0.01)
    begun, go_on = threading.Event(), threading.Event()

    class Slow(Folder):
        def write_json(self, name: str, value: Any) -> None:
            begun.set()
            assert go_on.wait(30)
            super().write_json(name, value)

    folder = Slow(Folder.of(tmp_path).filesystem, str(tmp_path))
    before = set(threading.enumerate())
    with staging(folder) as progress:
        progress("judging", 1, 2)
        assert begun.wait(30)
        (thread,) = set(threading.enumerate()) - before
    go_on.set()
    thread.join(30)
    assert not thread.is_alive() and not folder.has(STAGE)


@pytest.mark.parametrize(
    "change",
    [
        {"step": 9}, {"step": -1}, {"steps": 0}, {"epoch": 0}, {"epoch": "2"}, {"loss": None}, {"epoch_seconds": -1.0},
        {"images_per_second": -1.0},
    ],
)  # fmt: skip
def test_a_pulse_that_makes_no_sense_is_none(tmp_path: Path, change: dict[str, Any]) -> None:
    folder = Folder.of(tmp_path)
    folder.write_json(PULSE, GOOD)
    assert read_pulse(folder) == GOOD
    folder.write_json(PULSE, GOOD | change)
    assert read_pulse(folder) is None


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"epoch": NaN}', b"\xff"])
def test_a_damaged_pulse_is_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / PULSE).write_bytes(data)
    assert read_pulse(Folder.of(tmp_path)) is None


def test_who_follows_a_training_hears_of_steps_between_its_epochs(tmp_path: Path) -> None:
    folder, heard = Folder.of(tmp_path), Heard()
    row = {"epoch": 1, "val_loss": 0.5, "best": True}
    with following(folder, heard, Train()):
        folder.write("history.jsonl", json.dumps(row).encode())
        folder.write_json(PULSE, GOOD | {"epoch": 1})  # an old pulse, from before the epoch's end
        assert wait_for(lambda: heard.said)
        folder.write_json(PULSE, GOOD)
        assert wait_for(lambda: len(heard.said) > 1)
    assert heard.said[0] == ("epoch", 1, True)
    assert set(heard.said[1:]) == {("step", 3, 0.5, 100.0)}


@pytest.mark.parametrize("error", [OSError(116, "Stale file handle"), UserError("no"), RunFailed("no")])
def test_who_follows_hears_on_after_the_folder_could_not_be_read(tmp_path: Path, error: Exception) -> None:
    failed = threading.Event()

    class Failing(Folder):
        def read_lines(self, name: str) -> list[Any]:
            if name == "history.jsonl" and not failed.is_set():
                failed.set()
                raise error
            return super().read_lines(name)

    folder, heard = Failing(Folder.of(tmp_path).filesystem, str(tmp_path)), Heard()
    with following(folder, heard, Train()):
        write_note(folder, "odd")
        folder.write("history.jsonl", json.dumps({"epoch": 1, "val_loss": 0.5, "best": True}).encode())
        assert failed.wait(30) and wait_for(lambda: ("epoch", 1, True) in heard.said)
    assert heard.said == [("note", "odd"), ("epoch", 1, True)]


def test_a_folder_that_cannot_be_read_in_the_end_replaces_no_other_error(tmp_path: Path) -> None:
    folder, heard = Folder.of(tmp_path), Heard()
    with pytest.raises(KeyboardInterrupt), following(folder, heard, Train()):
        write_note(folder, "odd")
        (tmp_path / "history.jsonl").write_bytes(b"{")
        raise KeyboardInterrupt
    assert heard.said == [("note", "odd")]


@pytest.mark.usefixtures("quick")
def test_work_in_another_process_is_shown_as_far_as_it_is(tmp_path: Path) -> None:
    folder, shown = Folder.of(tmp_path), []
    with staged(folder, lambda *stage: shown.append(stage)):
        with staging(folder) as progress:
            for stage in (("embedding", 48, 96), ("embedding", 96, 96)):
                progress(*stage)
                assert wait_for(lambda stage=stage: stage in shown)
        assert not folder.has(STAGE)
    assert list(dict.fromkeys(shown)) == [("embedding", 48, 96), ("embedding", 96, 96)]


@pytest.mark.usefixtures("quick")
def test_work_that_is_no_further_says_that_its_process_is_there(tmp_path: Path) -> None:
    folder, found = Folder.of(tmp_path), set()
    with staging(folder):
        assert wait_for(lambda: found.add(folder.read(STAGE) if folder.has(STAGE) else b"") or len(found) > 3)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "left", [b"{", b'{"what": 1, "done": 2, "total": 3}', b'{"what": "x", "done": -1, "total": 3}']
)
def test_a_damaged_stage_is_not_shown(tmp_path: Path, left: bytes) -> None:
    folder, shown = Folder.of(tmp_path), []
    folder.write(STAGE, left)
    with staged(folder, lambda *stage: shown.append(stage)):
        time.sleep(0.1)
        assert shown == []
        folder.write_json(STAGE, {"what": "x", "done": 1, "total": 3})
        assert wait_for(lambda: shown)
    assert set(shown) == {("x", 1, 3)}
