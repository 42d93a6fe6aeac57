"""A study while it runs, shown by a screen that redraws itself on a terminal or by one line an event in a log."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.segment import Segment, Segments
from rich.table import Table
from rich.text import Text

from oneshot.base.errors import some
from oneshot.screen.console import count, duration, fitted, loss, percent, print_line
from oneshot.screen.progress import SILENCE, epoch_text
from oneshot.screen.tables import (
    LIVE_COLUMNS,
    STATUS,
    TrialRow,
    counts_text,
    measured_epochs,
    row_style,
    settings_text,
    status_text,
    trial_rows,
)

_REFRESH = 2  # screens a second: drawing 30 trials takes 20 ms of a core that has training to do
_FIXED_LINES = 12  # of the screen: 7 above the table, its 3 of heading, the line on what is left out, the cursor's line
_NAMED = 4  # running trials that a sign of life names
_LEAST_WIDTH = 78  # of the header, if the table below it is narrower


class StudyView:
    """A study while it runs: a screen that redraws itself on a terminal, one line an event anywhere else.

    `with StudyView(console) as view: view.update(study)`, with `study` as in study.json. When the block ends, the
    screen disappears (the final table takes its place); when an exception ends it, the last screen stays.
    """

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.console = console
        self._clock = clock
        self._live: Live | None = None
        self._study: dict[str, Any] | None = None
        self._rows: list[TrialRow] = []
        self._drawn: _Drawn | None = None
        self._updated = self._told = clock()
        self._printed: dict[str, tuple[int, str]] = {}  # trial -> (the last epoch told, its state then)
        self._noted: dict[str, int] = {}  # trial -> notes told

    def __enter__(self) -> Self:
        if self.console.is_interactive:
            # What others print stays where it was sent: Ray's messages must not appear above the screen.
            self._live = Live(
                self, console=self.console, refresh_per_second=_REFRESH, transient=True,
                redirect_stdout=False, redirect_stderr=False,
            )  # fmt: skip
            self._live.start(refresh=True)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.transient = kind is None
            live.stop()

    def update(self, study: Mapping[str, Any]) -> None:
        """Shows the study as it is now. Nothing of `study` is kept, so the caller may go on changing it."""
        first = self._study is None
        rows = trial_rows(study)
        self._updated = self._clock()
        self._rows = rows
        self._study = {key: value for key, value in study.items() if key != "trials"}
        histories = {str(trial["id"]): measured_epochs(trial) for trial in study["trials"]}
        notes, lines = self._notes(first=first), self._events(histories, first=first)
        if not lines and self._updated - self._told >= SILENCE:
            lines = [_sign_of_life(study, rows)] * any(row.status == "running" for row in rows)
        for line in notes if self._live else lines + notes:  # above a live screen only notes are printed
            self.say(line)
        if lines:
            self._told = self._updated

    def say(self, text: str) -> None:
        """Prints a line, in the log or above the screen, on something that is not due to a trial."""
        known = self._study["seconds"] if self._study else 0.0
        print_line(self.console, f"{duration(known + self._clock() - self._updated):>7}  {text}")

    # On a terminal

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        study, rows = self._study, self._rows
        if study is None:
            yield Text("waiting for the first trial", "dim")
            return
        drawn = self._drawn  # by the thread that redraws the screen, while another may update the study
        if drawn is None or drawn.rows is not rows or drawn.size != (options.max_width, console.size.height):
            self._drawn = drawn = self._draw(console, options, study, rows)
        yield self._header(study, drawn)
        yield drawn.below

    def _draw(
        self, console: Console, options: ConsoleOptions, study: Mapping[str, Any], rows: Sequence[TrialRow]
    ) -> "_Drawn":
        """Draws all that only an update changes. Going through ten thousand trials twice a second would take a core."""
        size = options.max_width, console.size.height
        room = max(1, size[1] - _FIXED_LINES)
        table = fitted(LIVE_COLUMNS, rows[:room], options.max_width, row_style=row_style)
        width = min(options.max_width, max(_LEAST_WIDTH, console.measure(table).maximum))
        leader = next((row for row in rows if row.leads), None)
        broken = [row for row in rows if row.error]
        parts = [
            _how(study, len(rows)),
            _share_bar(rows, width),
            counts_text(rows),
            _best_text(leader) if leader else Text("no validation loss yet", "dim"),
            _broken_text(max(broken, key=lambda row: int(row.id))) if broken else Text(),
            Text(),
            table,
        ]
        if len(rows) > room:
            parts.append(Text.assemble(("  and ", "dim"), counts_text(rows[room:]), (" below", "dim")))
        lines = console.render_lines(Group(*parts), options.update(height=None), pad=False)
        below = Segments([segment for line in lines for segment in (*line, Segment.line())])
        return _Drawn(rows, size, width, _remaining(study, rows), below)

    def _header(self, study: Mapping[str, Any], drawn: "_Drawn") -> Table:
        since = self._clock() - self._updated
        clock = Text.assemble((duration(study["seconds"] + since), "bold"))
        if drawn.left is not None:
            clock.append(f"  about {duration(drawn.left - since)} left", "dim")
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.width = drawn.width
        grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        grid.add_column(no_wrap=True, justify="right")
        grid.add_row(Text.assemble((study["job"], "bold"), f"  {study['dataset']} · split {study['split']}"), clock)
        return grid

    # In a log

    def _notes(self, *, first: bool) -> list[str]:
        """The notes of trials that have not been printed yet. Those of earlier sessions have been."""
        lines = []
        for row in sorted(self._rows, key=lambda row: int(row.id)):
            told = self._noted.get(row.id, len(row.notes) if first else 0)
            self._noted[row.id] = len(row.notes)
            lines += [f"trial {row.id}: {note}" for note in row.notes[told:]]
        return lines

    def _events(self, histories: Mapping[str, list], *, first: bool) -> list[str]:
        """The lines that have not been printed yet. They are recorded as printed."""
        lines = [_opening(self._study, self._rows)] if first else []
        for row in sorted(self._rows, key=lambda row: int(row.id)):
            seen, phase = self._printed.get(row.id, (row.epochs if first else 0, ""))
            now = row.status if row.status in ("pending", "running") else "ended"
            self._printed[row.id] = (max(seen, row.epochs), now)
            if now == "pending" or (first and now == "ended"):  # the opening line says enough of those that had ended
                continue
            if phase in ("", "pending") or (phase == "ended" and now == "running"):
                goes_on = f"goes on after epoch {seen}" if seen else "started"
                lines.append(f"trial {row.id} {goes_on}: {settings_text(row.settings)}")
            lines += _epoch_lines(row, histories[row.id], after=seen, keep=self._study.get("keep"))
            if now == "ended" and phase != "ended":
                lines.append(_end_line(row))
        return lines


@dataclass(frozen=True)
class _Drawn:
    """A study below its header as it was last drawn from these rows, for a terminal of this size (columns, lines).
    `width` is the header's. `left` is how many seconds the study would still take at that moment, if known."""

    rows: Sequence[TrialRow]
    size: tuple[int, int]
    width: int
    left: float | None
    below: Segments


def _remaining(study: Mapping[str, Any], rows: Sequence[TrialRow]) -> float | None:
    return remaining(
        rows, concurrent=study["concurrent"], rungs=study.get("rungs", ()), reduction=study.get("reduction", 1)
    )


def remaining(
    rows: Sequence[TrialRow], *, concurrent: int, rungs: Sequence[int] = (), reduction: int = 1
) -> float | None:  # fmt: skip
    """Seconds a study will still take, or None before the first epoch.

    The epochs are those that halving plans: all trials run to the first of the `rungs`, one in `reduction` to the next
    and so on; more if more have begun. An epoch is taken to last as long as those of the ended trials did on average,
    starting included, or, before any ended, as long as an epoch alone.
    """
    paces = [row.epoch_seconds for row in rows if row.epoch_seconds is not None]
    if not paces:
        return None
    pace = sum(paces) / len(paces)
    ended = [row for row in rows if row.status in ("finished", "stopped") and row.epochs]
    each = sum(row.seconds for row in ended) / sum(row.epochs for row in ended) if ended else pace

    to_come = _epochs_to_come(rows, (*rungs, rows[0].most), reduction) - sum(row.part for row in rows)
    # Trials may share the epochs to come, but not what each has to do itself.
    alone = [pace * row.until if row.left is None else row.left for row in rows if row.status == "running"]
    if to_come > 0 and not any(row.status == "finished" for row in rows):
        alone.append(
            pace * min(row.most - row.epochs - row.part for row in rows if row.status not in ("diverged", "failed"))
        )
    return max([*alone, to_come * each / max(1, concurrent)])


def _epochs_to_come(rows: Sequence[TrialRow], levels: Sequence[int], reduction: int) -> int:
    """Epochs that halving plans and that are not over yet. A finished trial has none left, wherever it ended."""
    reached = [
        (levels[-1] if row.status == "finished" else row.epochs, row.status == "running")
        for row in rows
        if row.status in ("running", "pending", "finished") or (row.status == "stopped" and row.epochs >= levels[0])
    ]
    to_come, wanted, below = 0, len(reached), 0
    for level in levels:
        planned = wanted * (level - below) - sum(min(max(epochs, below), level) - below for epochs, _ in reached)
        begun = sum(level - epochs for epochs, running in reached if running and below <= epochs < level)
        to_come += max(planned, begun)
        wanted, below = min(wanted, max(1, wanted // reduction)), level
    return to_come


def _how(study: Mapping[str, Any], trials: int) -> Text:
    at_once = f"{_many(study['concurrent'], 'trial')} at once × {_many(study['workers'], 'worker')}"
    search = f"{_points(study, trials)} · up to {_many(study['epochs'], 'epoch')}"
    return Text(f"{study['device']} · {at_once} · {search}", "dim", overflow="ellipsis", no_wrap=True)


def _points(study: Mapping[str, Any], trials: int) -> str:
    """Where the points of so many trials come from. The `named` points, those that the job names, come first."""
    named = min(study.get("named", 0), trials)
    if not named:
        return f"{study['searcher']} search"
    if named == trials:
        return _many(named, "named point")
    return f"{named} named, then {trials - named} {'by Optuna' if study['searcher'] == 'optuna' else 'random'}"


def _many(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"


def _share_bar(rows: Sequence[TrialRow], width: int) -> Text:
    """One line of `width` columns, divided among the statuses: each that occurs has at least one column."""
    line, done, filled = Text(), 0, 0
    for status, style in STATUS.items():
        number = sum(row.status == status for row in rows)
        if status == "pending" or not number:
            continue
        done += number
        end = min(width, max(filled + 1, round(width * done / len(rows))))
        line.append("━" * (end - filled), style)
        filled = end
    return line.append("─" * (width - filled), "dim")


def _best_text(row: TrialRow) -> Text:
    found = f"trial {row.id}  val loss {loss(row.best_loss)}  one-shot {percent(row.oneshot)}"
    at = f"  at epoch {row.best_epoch}: {settings_text(row.settings)}"
    return Text.assemble(("★ ", "green"), (found, "bold green"), (at, "dim"), overflow="ellipsis", no_wrap=True)


def _broken_text(row: TrialRow) -> Text:
    reason = f" after {_many(row.epochs, 'epoch')}: {row.error}"
    return Text.assemble(f"  trial {row.id} ", status_text(row), reason, overflow="ellipsis", no_wrap=True)


def _opening(study: Mapping[str, Any], rows: Sequence[TrialRow]) -> str:
    had = sum(row.ended for row in rows)
    again = f"; resumed, {had} had ended" if had else ""
    return (
        f"study {study['job']}: {study['dataset']}, split {study['split']}, {_many(len(rows), 'trial')} "
        f"of up to {_many(study['epochs'], 'epoch')}, {_points(study, len(rows))}, {study['concurrent']} at once with "
        f"{_many(study['workers'], study['device'] + ' worker')} each{again}"
    )


def _sign_of_life(study: Mapping[str, Any], rows: Sequence[TrialRow]) -> str:
    """A line that says that the study runs, for a log in which nothing else was printed for a while."""
    running = sorted((row for row in rows if row.status == "running"), key=lambda row: int(row.id))
    places = [f"trial {row.id} epoch {row.epochs + 1}/{row.most}{_step_text(row)}" for row in running]
    left = _remaining(study, rows)
    return f"running: {some(places, _NAMED)}" + (f"; about {duration(left)} left" if left is not None else "")


def _step_text(row: TrialRow) -> str:
    if row.pulse is None:
        return ""
    at = f" step {row.pulse['step']}/{row.pulse['steps']}"
    return f"{at} loss {loss(row.pulse['loss'])} {count(row.speed)} img/s"


def _epoch_lines(
    row: TrialRow, history: Sequence[Mapping[str, Any]], *, after: int, keep: str | None
) -> list[str]:  # fmt: skip
    """A line for each epoch past `after`. `best` marks one that was the trial's best when it came, by the criterion of
    `keep` (the setting `train.keep`)."""
    lines, least = [], math.inf
    for epoch in history:
        if epoch["epoch"] > after:
            leads = row.leads and epoch["epoch"] == row.best_epoch
            best = epoch["best"] if keep == "oneshot" else epoch["val_loss"] < least
            mark = "  best of all" if leads else "  best" if best else ""
            lines.append(f"trial {row.id} {epoch_text(epoch, row.most)}{mark}")
        least = min(least, epoch["val_loss"])
    return lines


def _end_line(row: TrialRow) -> str:
    how = {"stopped": "stopped early", "finished": "finished"}.get(row.status, row.status)
    line = f"trial {row.id} {how} after {row.epochs} of {row.most} epochs"
    if row.error:
        line += f": {row.error}"
    if row.best_loss is not None and row.best_epoch is not None:
        line += f"; best val loss {loss(row.best_loss)} at epoch {row.best_epoch}"
    return line
