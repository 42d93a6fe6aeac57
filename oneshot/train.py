"""One training in this process (under Ray Train: trainer), and the run folder of any: opened, followed, finished."""

import contextlib
import json
import threading
from collections.abc import Iterator
from typing import Any

import torch

from oneshot import artifact, checkpoint, formats, modelcard, owner, trust
from oneshot.checkpoint import Progress, check_same
from oneshot.environment import environment
from oneshot.errors import RunFailed, UserError
from oneshot.loop import DIVERGED, HISTORY, NOTES, Watch, fit, write_history
from oneshot.parts import load_parts
from oneshot.settings import Settings, parse_toml
from oneshot.storage import Folder
from oneshot.worker import Worker

EXPERIMENT = "experiment.toml"


def train_here(
    settings: Settings, data: Folder, run: Folder, *, device: torch.device, watch: Watch | None = None
) -> Progress:
    """Train in this process: one worker, no Ray, every core. Raises UserError."""
    worker = Worker(device, precision=settings.train.precision)
    return fit(worker, settings, load_parts(data, settings.data), run, watch=watch)


@contextlib.contextmanager
def open_run(settings: Settings, run: Folder, *, fixed: tuple[str, ...]) -> Iterator[None]:
    """Make the run folder and write the resolved settings; for the time of the block no second process may train in it.

    Raises UserError where it holds something else, or a run whose `fixed` sections are others or whose checkpoints are
    of an older version, or is in use, or is another user's.
    """
    trust.check(run)
    if run.has(EXPERIMENT):
        check_same(read_experiment(run).model_dump(), settings, f"{run} holds a run", fixed=fixed)
        trials = run / "trials"
        for training in (run, *(trials / name for name in trials.names() if name.isdigit())):
            checkpoint.refuse_older(training / "checkpoints")
    elif set(run.names()) - {owner.NOTE}:
        raise UserError(f"{run} is not empty and holds no run; name another --run")
    run.make()
    with owner.sole(run):
        run.write(EXPERIMENT, settings.to_toml().encode())
        yield


def read_experiment(run: Folder) -> Settings:
    """The settings as a run resolved them. Raises UserError where the file is damaged."""
    return parse_toml(run.read(EXPERIMENT), run.file(EXPERIMENT))


def finish(
    settings: Settings,
    run: Folder,
    *,
    data: Folder | None = None,
    trial: Folder | None = None,
    best_trial: dict[str, Any] | None = None,
) -> None:
    """Write `best/`: the best epoch's network, where it is from, and its model card. On the validation part of `data`
    its probabilities are calibrated; without, they are not. Raises RunFailed where no epoch was finished."""
    found = checkpoint.best((trial or run) / "checkpoints")
    if found is None:
        raise RunFailed(f"no epoch of {trial or run} was finished: there is no network to keep")
    best_trial = best_trial or {"id": None, "settings": {}}
    provenance = {
        "best_trial": best_trial | {"epoch": found.progress.epoch, "val_loss": found.progress.best_loss},
        "settings": found.settings,
        "environment": environment(),
    }
    given = settings.data.model_copy(update={"extra_alphabets": 0})  # which are taught, not measured
    validation = load_parts(data, given).validation if data else None
    artifact.save(run / "best", data=found, provenance=provenance, validation=validation)
    modelcard.write(run)


@contextlib.contextmanager
def following(run: Folder, watch: Watch) -> Iterator[None]:
    """Show a training that runs in other processes, for the time of the block: each new note and row of its history."""
    seconds = 0.5 if run.is_local else 5.0  # to look costs requests
    over, shown, heard = threading.Event(), len(read_history(run)), len(read_notes(run))

    def show() -> None:
        nonlocal shown, heard
        notes, rows = read_notes(run), read_history(run)
        for note in notes[heard:]:
            watch.note(note)
        heard = len(notes)
        for row in rows[shown:]:
            if row["val_loss"] is None:
                watch.note(DIVERGED.format(epoch=row["epoch"]))
            else:
                watch.epoch(row, row["best"])
        shown = max(shown, len(rows))

    def loop() -> None:
        while not over.wait(seconds):
            with contextlib.suppress(RunFailed):  # its store is out of reach for a moment
                show()

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        show()


def read_history(run: Folder) -> list[dict[str, Any]]:
    """The rows of a training's history, one an epoch; none where it has not finished one. Raises UserError."""
    if not run.has(HISTORY):
        return []
    try:
        rows = [json.loads(line) for line in run.read(HISTORY).splitlines()]
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


def read_notes(run: Folder) -> list[str]:
    """What befell a training, a sentence each. Raises UserError where the file is damaged."""
    if not run.has(NOTES):
        return []
    try:
        return [str(json.loads(line)["note"]) for line in run.read(NOTES).splitlines()]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{run.file(NOTES)} is damaged ({error!r}); restore it or remove it") from None


if __name__ == "__main__":
    from oneshot.cli import main

    main(["train"])
