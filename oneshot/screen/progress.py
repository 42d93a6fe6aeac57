"""Long work on the screen: a training, images on their way, data in preparation. Bars on a terminal, else lines."""

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from oneshot.screen.console import count, duration, loss, percent, print_line, print_warning

SILENCE = 60.0  # seconds after which a log says how far the work is if no epoch has ended
_HEAD = "  epoch   train loss  accuracy   val loss  accuracy  one-shot  images/s"


def epoch_text(epoch: Mapping[str, Any], most: int) -> str:
    """One epoch of a history as a line that explains itself in a log, under 100 columns."""
    return (
        f"epoch {epoch['epoch']:>{len(str(most))}}/{most}  train {loss(epoch.get('train_loss'))} "
        f"{percent(epoch.get('train_accuracy')):>7}  val {loss(epoch.get('val_loss'))} "
        f"{percent(epoch.get('val_accuracy')):>7}  one-shot {percent(epoch.get('val_oneshot')):>7}  "
        f"{count(epoch.get('images_per_second')):>6} img/s"
    )


def _bars(console: Console, *, described: bool = True, wide: bool = True, prints: bool = True) -> Progress:
    """Bars that disappear when their block ends. `described`: words stand before each; `prints`: what the process
    prints appears above them."""
    return Progress(
        *[TextColumn("{task.description}")] * described,
        BarColumn(bar_width=None if wide else 40, complete_style="cyan", finished_style="cyan"),
        TextColumn("{task.fields[state]}"),
        console=console, transient=True, expand=wide, refresh_per_second=4,
        redirect_stdout=prints, redirect_stderr=prints,
    )  # fmt: skip


class TrainView:
    """One training while it runs; it has the methods of `run.watch.Watch`.

    `with TrainView(console) as view:` then `start` once, `step` after each step, `epoch` after each epoch. The bar
    disappears when the block ends, also by an exception; the lines stay. `prints`: what the process prints appears
    above the bar.
    """

    def __init__(self, console: Console, *, prints: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        self.console = console
        self._prints = prints
        self._clock = clock
        self._progress: Progress | None = None
        self._epochs = self._steps = self._epoch = 1
        self._done = 0
        self._began = self._told = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        progress, self._progress = self._progress, None
        if progress is not None:
            progress.stop()

    def start(self, epochs: int, steps_per_epoch: int, *, done: int = 0) -> None:
        """Begins a training of `epochs` epochs, `done` of which were done before it was taken up again."""
        self._epochs, self._steps, self._done = epochs, steps_per_epoch, done
        self._epoch = done + 1
        self._began = self._told = self._clock()
        if not self.console.is_interactive:
            return
        print_line(self.console, Text(_HEAD, "dim"))
        self._progress = _bars(self.console, prints=self._prints)
        self._progress.add_task("", total=epochs * steps_per_epoch, state="")
        self._show(0, None, None)
        self._progress.start()

    def step(self, done: int, loss: float, images_per_second: float) -> None:
        """Shows step `done` (1 to `steps_per_epoch`) of the present epoch, with that step's loss."""
        self._show(done, loss, images_per_second)

    def moved(self) -> None:
        """A part of the validation is done: nothing to show."""

    def epoch(self, history_row: Mapping[str, Any], is_best: bool) -> None:
        """Shows a finished epoch by its row of the history; `is_best`: it is the best so far, see `history.leads`."""
        if self.console.is_interactive:
            print_line(self.console, _aligned(history_row, self._epochs, is_best))
        else:
            print_line(self.console, epoch_text(history_row, self._epochs) + "  best" * is_best)
            self._told = self._clock()
        self._epoch = history_row["epoch"] + 1
        if self._epoch <= self._epochs:
            self._show(0, history_row["train_loss"], history_row["images_per_second"])

    def note(self, sentence: str) -> None:
        """Prints a sentence about the training, above the bar."""
        print_warning(self.console, sentence)

    def _show(self, done: int, loss_now: float | None, speed: float | None) -> None:
        now = self._clock()
        if self._progress is None and now - self._told < SILENCE:
            return
        passed = (self._epoch - 1 - self._done) * self._steps + done
        to_come = (self._epochs - self._epoch + 1) * self._steps - done
        left = (now - self._began) / passed * to_come if passed else None
        step = f"{done:>{len(str(self._steps))}}/{self._steps}"
        epoch = f"epoch {self._epoch}/{self._epochs}"
        state = f"{step}  loss {loss(loss_now)}  {count(speed)} images/s  {duration(left)} left"
        if self._progress is None:
            print_line(self.console, f"{epoch}  step {state}")
            self._told = now
            return
        self._progress.update(
            self._progress.task_ids[0], description=epoch, completed=(self._epoch - 1) * self._steps + done, state=state
        )


class Counting:
    """Progress over `total` images: a bar with rate and time left on a terminal, otherwise a line now and then.

    `with Counting(console, total) as counting:`, then `advance` after each batch. The bar disappears when the block
    ends.
    """

    def __init__(
        self, console: Console, total: int, *, clock: Callable[[], float] = time.monotonic, seconds: float = 10.0
    ) -> None:
        self.console, self.total, self.done = console, total, 0
        self._clock, self._seconds, self._began = clock, seconds, clock()
        self._said = self._began
        self._progress: Progress | None = None

    def __enter__(self) -> Self:
        if self.console.is_interactive:
            self._progress = _bars(self.console, described=False)
            self._progress.add_task("", total=self.total, state=self._state())
            self._progress.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._progress is not None:
            self._progress.stop()

    @property
    def seconds(self) -> float:
        return self._clock() - self._began

    def advance(self, count: int) -> None:
        """Counts so many more images as done."""
        self.done += count
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], completed=self.done, state=self._state())
        elif self._clock() - self._said >= self._seconds:
            self._said = self._clock()
            print_line(self.console, self._state())

    def _state(self) -> str:
        rate = self.done / self.seconds if self.done and self.seconds else None
        left = (self.total - self.done) / rate if rate else None
        return f"{count(self.done)}/{count(self.total)}  {count(rate)} images/s  {duration(left)} left"


class Stages:
    """Work in stages, each with a bar, rate and time left on a terminal, otherwise a line now and then.

    `with Stages(console) as stages:`, then `stages(what, done, total)`; `total` is None if it is not known.
    """

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic, seconds: float = 10.0) -> None:
        self.console = console
        self._clock, self._seconds = clock, seconds
        self._begun: dict[str, tuple[float, int]] = {}  # stage -> (when, how much was done then)
        self._said: dict[str, float] = {}
        self._tasks: dict[str, TaskID] = {}
        self._progress: Progress | None = None

    def __enter__(self) -> Self:
        if self.console.is_interactive:
            self._progress = _bars(self.console, wide=False)
            self._progress.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._progress is not None:
            self._progress.stop()

    def __call__(self, what: str, done: int, total: int | None) -> None:
        now = self._clock()
        new = what not in self._begun
        began, before = self._begun.setdefault(what, (now, done))
        rate = (done - before) / (now - began) if done > before and now > began else None
        left = (total - done) / rate if rate and total is not None else None
        state = f"{_amount(done)}/{_amount(total)}  {_amount(rate)}/s  {duration(left)} left"
        if self._progress is not None:
            if new:
                self._tasks[what] = self._progress.add_task(what, total=total, state="")
            self._progress.update(self._tasks[what], completed=done, total=total, state=state)
        elif new or now - self._said[what] >= self._seconds:
            self._said[what] = now
            print_line(self.console, what if new else f"{what}: {state}")


def _amount(value: float | None) -> str:
    """A number of anything, bytes too: 12,345 or 3.1 M."""
    return count(value) if value is None or value < 1e6 else f"{value / 1e6:.1f} M"


def _aligned(epoch: Mapping[str, Any], most: int, is_best: bool) -> Text:
    line = (
        f"{epoch['epoch']:>{6 - len(str(most))}}/{most}{loss(epoch.get('train_loss')):>13}"
        f"{percent(epoch.get('train_accuracy')):>10}{loss(epoch.get('val_loss')):>11}"
        f"{percent(epoch.get('val_accuracy')):>10}{percent(epoch.get('val_oneshot')):>10}"
        f"{count(epoch.get('images_per_second')):>10}"
    )
    return Text.assemble(line, ("  ★ best" if is_best else "", "green"))
