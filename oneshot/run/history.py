"""What a training tells while it runs and leaves behind: its history, a row an epoch, and its notes. Free of torch."""

import contextlib
import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from oneshot.base.beside import beside
from oneshot.base.errors import RunFailed, UserError
from oneshot.base.storage import Folder
from oneshot.run import checkpoint, formats

HISTORY, NOTES = "history.jsonl", "notes.jsonl"
DIVERGED = "diverged in epoch {epoch}: the loss or its gradient is not finite; try a lower learning rate"


class Watch:
    """What a person may see of a training while it runs. Here: nothing."""

    def start(self, *, epochs: int, steps_per_epoch: int, done: int = 0) -> None: ...

    def step(self, done: int, loss: float, images_per_second: float) -> None: ...

    def epoch(self, row: dict[str, Any], is_best: bool) -> None: ...

    def note(self, sentence: str) -> None: ...


def write_history(folder: Folder, rows: list[dict[str, Any]]) -> None:
    """Write a training's history, a row an epoch, unless it stands there already."""
    data = "".join(f"{json.dumps(row)}\n" for row in rows).encode()
    if not folder.has(HISTORY) or folder.read(HISTORY) != data:
        folder.write(HISTORY, data)


def kept(rows: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The epoch whose network a training of these rows keeps: the newest that was the best when it came."""
    return next((row for row in reversed(list(rows)) if row["best"]), None)


def lowest(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the last row has a lower validation loss than all before it."""
    return all(rows[-1]["val_loss"] < row["val_loss"] for row in rows[:-1] if row["val_loss"] is not None)


@contextlib.contextmanager
def following(run: Folder, watch: Watch) -> Iterator[None]:
    """Show a training that runs in other processes, for the time of the block: each new note and row of its history."""
    seconds = 0.5 if run.is_local else 5.0  # to look costs requests
    shown, heard = len(read_history(run)), len(read_notes(run))

    def show() -> None:
        nonlocal shown, heard
        notes, rows = read_notes(run), read_history(run)
        for note in notes[heard:]:
            watch.note(note)
        heard = len(notes)
        for number, row in enumerate(rows[shown:], start=shown + 1):
            if row["val_loss"] is None:
                watch.note(DIVERGED.format(epoch=row["epoch"]))
            else:
                watch.epoch(row, lowest(rows[:number]))
        shown = max(shown, len(rows))

    def loop(over: threading.Event) -> None:
        while not over.wait(seconds):
            with contextlib.suppress(RunFailed):  # its store is out of reach for a moment
                show()

    try:
        with beside(loop, name="following"):
            yield
    finally:
        show()


def read_history(run: Folder) -> list[dict[str, Any]]:
    """The rows of a training's history, one an epoch; none where it has not finished one. Raises UserError."""
    if not run.has(HISTORY):
        return []
    try:
        rows = run.read_lines(HISTORY)
        for row in rows:
            formats.check(formats.Row, row)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{run.file(HISTORY)} is damaged ({error}); restore it, or remove it: the checkpoints know it too"
        ) from None
    return rows


def restore_history(run: Folder) -> list[dict[str, Any]]:
    """Write a lost history again from the newest whole checkpoint, which holds it too; its rows, none without one."""
    found, _ = checkpoint.newest(run / "checkpoints")
    if found is None:
        return []
    write_history(run, found.progress.history)
    return found.progress.history


def write_note(run: Folder, sentence: str) -> None:
    """Add a sentence to what befell a training."""
    run.append_json(NOTES, {"note": sentence})


def read_notes(run: Folder) -> list[str]:
    """What befell a training, a sentence each. Raises UserError where the file is damaged."""
    if not run.has(NOTES):
        return []
    try:
        return [str(line["note"]) for line in run.read_lines(NOTES)]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{run.file(NOTES)} is damaged ({error!r}); restore it or remove it") from None
