"""What a training leaves behind: its history, a row for each epoch, its notes, and why it failed. Free of torch."""

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from oneshot.base.errors import UserError
from oneshot.base.settings import Train
from oneshot.base.storage import Folder
from oneshot.run import checkpoint, formats

HISTORY, NOTES, FAILURE = "history.jsonl", "notes.jsonl", "error.json"
STARTED = "started.json"  # the mark of its last start under Ray
T = TypeVar("T", bound=Mapping[str, Any])
DIVERGED = "diverged in epoch {epoch}: the loss or its gradient is not finite; try a lower learning rate"


def write_history(folder: Folder, rows: list[dict[str, Any]]) -> None:
    """Write a training's history, a row an epoch, unless the file holds it already."""
    data = "".join(f"{json.dumps(row)}\n" for row in rows).encode()
    if not folder.has(HISTORY) or folder.read(HISTORY) != data:
        folder.write(HISTORY, data)


def measured(rows: Iterable[T]) -> list[T]:
    """The rows that have a validation loss. In a history these are the validated epochs, not one in which the training
    diverged; in a study, the trials that finished such an epoch."""
    return [row for row in rows if row["val_loss"] is not None]


def reached(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The outcome of a history: how many epochs were validated, and the number and loss of the one whose network is
    kept, None if there is none."""
    epochs = measured(rows)
    best = best_row(epochs) or {"epoch": None, "val_loss": None}
    return {"epochs": len(epochs), "best_epoch": best["epoch"], "val_loss": best["val_loss"]}


def best_row(rows: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The epoch whose network a training with these rows keeps: the newest that was the best when it ended."""
    return next((row for row in reversed(list(rows)) if row["best"]), None)


def better(train: Train, row: Mapping[str, Any], before: Mapping[str, Any] | None) -> bool:
    """Whether the network of a new epoch replaces the one kept `before`, according to `train.keep`."""
    if train.keep == "last" or before is None:
        return True
    if train.keep == "oneshot" and row["val_oneshot"] != before["val_oneshot"]:
        return row["val_oneshot"] > before["val_oneshot"]
    return row["val_loss"] < before["val_loss"]


def commits(rows: Iterable[Mapping[str, Any]]) -> str | None:
    """The commits whose source trained these epochs, in order: a training may go on under another commit. None if an
    epoch does not say."""
    found = dict.fromkeys(row.get("commit") for row in measured(rows))
    return None if None in found else ", ".join(map(str, found)) or None


def why_over(train: Train, *, epoch: int, best_epoch: int) -> formats.Ended:
    """Why a training after so many epochs is over: patience | epochs; empty if it is not."""
    if train.patience and epoch - best_epoch >= train.patience:
        return "patience"
    return "epochs" if epoch >= train.epochs else ""


def leads(train: Train, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the last row is shown as the best so far: its network is kept or, if `train.keep` keeps each epoch's in
    turn, it has a lower validation loss than all before it."""
    if train.keep != "last":
        return bool(rows[-1]["best"])
    return all(rows[-1]["val_loss"] < row["val_loss"] for row in measured(rows[:-1]))


def read_history(run: Folder) -> list[dict[str, Any]]:
    """The rows of a training's history, one for each epoch; empty if it has finished none. Raises UserError if the file
    is damaged."""
    if not run.has(HISTORY):
        return []
    try:
        rows = run.read_lines(HISTORY)
        for row in rows:
            formats.check(formats.Row, row)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{run.file(HISTORY)} is damaged ({error}); restore it, or remove it: the checkpoints contain it too"
        ) from None
    return rows


def restore_history(run: Folder, *, write: bool = True) -> list[dict[str, Any]]:
    """The rows of a lost history from the newest whole checkpoint, which holds them too; none without one. They are
    written again, unless `write` is false."""
    found, _ = checkpoint.newest(run / "checkpoints")
    if found is None:
        return []
    if write:
        write_history(run, found.progress.history)
    return found.progress.history


def write_note(run: Folder, sentence: str) -> None:
    """Add a sentence to the notes on what happened to a training."""
    run.append_json(NOTES, {"note": sentence})


def read_notes(run: Folder) -> list[str]:
    """What happened to a training, a sentence each. Raises UserError if the file is damaged."""
    if not run.has(NOTES):
        return []
    try:
        return [str(line["note"]) for line in run.read_lines(NOTES)]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{run.file(NOTES)} is damaged ({error!r}); restore it or remove it") from None


def start(run: Folder) -> str:
    """Mark a training that is about to start under Ray. Returns the mark, by which its workers recognise the folder."""
    mark = uuid.uuid4().hex
    run.write_json(STARTED, {"mark": mark})
    return mark


def is_started(run: Folder, mark: str) -> bool:
    """Whether this, as this node sees it, is the folder of the training with this mark."""
    found = run.read_json(STARTED) if run.has(STARTED) else None
    return isinstance(found, dict) and found.get("mark") == mark


def read_failure(run: Folder) -> str | None:
    """Why a training under Ray ended without a result, as recorded; None if nothing is."""
    failure = run.read_json(FAILURE) if run.has(FAILURE) else None
    return str(failure.get("error")) if isinstance(failure, dict) else None
