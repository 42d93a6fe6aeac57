"""Progress of work while it runs, shown in its own process, or in another from files in the work's folder.

An epoch of a large network takes minutes, and its row of the history comes at its end. Until then `pulse.json` says how
far the training is; during a judgement `stage.json` does. Nothing depends on these files: they are written beside the
work, now and then, and it does not matter if they cannot be. Free of torch.
"""

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any

from pydantic import Field, model_validator

from oneshot.base.beside import every
from oneshot.base.errors import TROUBLE
from oneshot.base.kinds import Natural, Positive
from oneshot.base.settings import Train
from oneshot.base.storage import Folder
from oneshot.run import formats
from oneshot.run.history import DIVERGED, leads, read_history, read_notes

PULSE, STAGE = "pulse.json", "stage.json"
LOCAL, STORE = 2.0, 15.0  # seconds between two pulses: on an object store each is a request
PATIENCE = 5.0  # seconds to wait for the last pulse if a disk or a store does not answer

Showing = Callable[[str, int, int], None]  # what is being done, how much of it is done, how much there is


class Watch:
    """What a person may see of a training while it runs. This base class shows nothing."""

    def start(self, *, epochs: int, steps_per_epoch: int, done: int = 0) -> None: ...

    def step(self, done: int, loss: float, images_per_second: float) -> None: ...

    def moved(self) -> None:
        """Note progress that is not shown, such as a part of the validation: the training has not come to a stop."""

    def epoch(self, row: dict[str, Any], is_best: bool) -> None: ...

    def note(self, sentence: str) -> None: ...


class Relay(Watch):
    """Passes all it hears on to another watch."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def start(self, *, epochs: int, steps_per_epoch: int, done: int = 0) -> None:
        self.watch.start(epochs=epochs, steps_per_epoch=steps_per_epoch, done=done)

    def step(self, done: int, loss: float, images_per_second: float) -> None:
        self.watch.step(done, loss, images_per_second)

    def moved(self) -> None:
        self.watch.moved()

    def epoch(self, row: dict[str, Any], is_best: bool) -> None:
        self.watch.epoch(row, is_best)

    def note(self, sentence: str) -> None:
        self.watch.note(sentence)


class Pulse(formats.Record):
    """`pulse.json` of a running training: where it is in its present epoch."""

    epoch: Positive
    step: Natural  # out of `steps`
    steps: Positive
    loss: float  # of that step, in nats
    images_per_second: Annotated[float, Field(ge=0)]
    epoch_seconds: formats.Seconds | None  # for its steps at this pace, without validation

    @model_validator(mode="after")
    def _check(self) -> "Pulse":
        if self.step > self.steps:
            raise ValueError(f"step: {self.step} of {self.steps}")
        return self


class Stage(formats.Record):
    """`stage.json` of a run whose network is being judged: what is being done, and how much of it is done."""

    what: Annotated[str, Field(max_length=100)]  # empty when it has just begun
    done: Natural
    total: Natural
    beat: Natural = 0  # how often it was written: if that stops rising, the process is gone


class Beating(Relay):
    """A relay that knows the newest step it has heard of."""

    def __init__(self, watch: Watch, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(watch)
        self.clock = clock
        self.newest: dict[str, Any] | None = None  # a `Pulse`
        self._epoch, self._steps = 1, 1
        self._first: tuple[int, float] | None = None  # the first step of this epoch that was heard of, and when

    def start(self, *, epochs: int, steps_per_epoch: int, done: int = 0) -> None:
        self._epoch, self._steps = done + 1, steps_per_epoch
        super().start(epochs=epochs, steps_per_epoch=steps_per_epoch, done=done)

    def step(self, done: int, loss: float, images_per_second: float) -> None:
        now = self.clock()
        first, began = self._first = self._first or (done, now)
        pace = (now - began) / (done - first) if done > first else None
        self.newest = {
            "epoch": self._epoch, "step": done, "steps": self._steps, "loss": loss,
            "images_per_second": images_per_second, "epoch_seconds": pace and pace * self._steps,
        }  # fmt: skip
        super().step(done, loss, images_per_second)

    def epoch(self, row: dict[str, Any], is_best: bool) -> None:
        self._epoch, self._first = row["epoch"] + 1, None
        super().epoch(row, is_best)


def often(folder: Folder) -> float:
    """Seconds between two pulses in a folder; looking more often is of no use."""
    return LOCAL if folder.is_local else STORE


@contextlib.contextmanager
def _left(folder: Folder, name: str, newest: Callable[[], Any]) -> Iterator[None]:
    """Keep the newest value in a file of this name in the folder while the block runs. It is removed before and
    after."""
    written, over = None, threading.Event()

    def write() -> None:
        nonlocal written
        if (value := newest()) is not written:
            with contextlib.suppress(*TROUBLE):
                folder.write_json(name, value)
            written = value
            if over.is_set():  # this write was not waited for and came after the removal
                forget(folder, name)

    forget(folder, name)
    try:
        with every(often(folder), write, name=name, patience=PATIENCE):
            yield
    finally:
        over.set()
        forget(folder, name)


def forget(folder: Folder, name: str) -> None:
    """Remove a progress file from a folder, where a session that was killed leaves it."""
    with contextlib.suppress(*TROUBLE):
        folder.remove(name)


@contextlib.contextmanager
def pulsing(folder: Folder, watch: Watch, *, leads: bool = True) -> Iterator[Watch]:
    """A watch that also leaves a pulse in the folder while the block runs, on the one rank that `leads`."""
    if not leads:
        yield watch
        return
    beating = Beating(watch)
    with _left(folder, PULSE, lambda: beating.newest):
        yield beating


def read_pulse(folder: Folder) -> dict[str, Any] | None:
    """How far a training is inside its epoch, as a `Pulse`; None if it is not known."""
    return _found(Pulse, folder, PULSE)


def _found(kind: type[formats.Record], folder: Folder, name: str) -> dict[str, Any] | None:
    try:
        return formats.read(kind, folder, name)
    except TROUBLE:
        return None


@contextlib.contextmanager
def following(run: Folder, watch: Watch, train: Train) -> Iterator[None]:
    """Show a training that other processes begin or go on with, while the block runs: each new note and row of its
    history, and its pulse in between."""
    seconds = 0.5 if run.is_local else 5.0  # each look costs requests
    shown, heard = len(read_history(run)), len(read_notes(run))

    def read(what: Callable[[Folder], list[Any]]) -> list[Any]:
        try:
            return what(run)
        except TROUBLE:  # its disk or store is out of reach for a moment
            return []

    def show() -> None:
        nonlocal shown, heard
        notes, rows = read(read_notes), read(read_history)
        for note in notes[heard:]:
            watch.note(note)
        heard = max(heard, len(notes))
        for number, row in enumerate(rows[shown:], start=shown + 1):
            if row["val_loss"] is None:
                watch.note(DIVERGED.format(epoch=row["epoch"]))
            else:
                watch.epoch(row, leads(train, rows[:number]))
        shown = max(shown, len(rows))
        pulse = read_pulse(run)
        if pulse and pulse["epoch"] == shown + 1:
            watch.step(pulse["step"], pulse["loss"], pulse["images_per_second"])

    forget(run, PULSE)
    try:
        with every(seconds, show, name="following"):
            yield
    finally:
        show()


@contextlib.contextmanager
def staging(folder: Folder) -> Iterator[Showing]:
    """Yield a function to call with how far some work is. While the block runs, the last call is left in the folder. It
    is written again even without progress, which shows that the process is alive."""
    stage: dict[str, Any] = {"what": "", "done": 0, "total": 0}
    beats = itertools.count()

    def progress(what: str, done: int, total: int) -> None:
        nonlocal stage
        stage = {"what": what, "done": done, "total": total}

    with _left(folder, STAGE, lambda: stage | {"beat": next(beats)}):
        yield progress


@contextlib.contextmanager
def staged(folder: Folder, progress: Showing) -> Iterator[None]:
    """While the block runs, show how far the work is that another process stages in the folder."""

    def show() -> None:
        if (stage := _found(Stage, folder, STAGE)) and stage["what"]:
            progress(stage["what"], stage["done"], stage["total"])

    with every(often(folder), show, name="staged", patience=PATIENCE):
        yield
