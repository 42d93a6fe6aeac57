"""One training in this process (under Ray Train: trainer), and what any is finished with: the best network."""

if __name__ == "__main__":  # first: help and a refusal do not wait for what the work needs
    from oneshot.cli import main

    main(["train"])

from typing import Any

import torch

from oneshot import artifact, checkpoint, formats, modelcard
from oneshot.checkpoint import Progress
from oneshot.environment import HARDWARE, environment
from oneshot.errors import RunFailed
from oneshot.history import Watch
from oneshot.loop import fit
from oneshot.parts import load_parts
from oneshot.settings import Settings
from oneshot.storage import Folder
from oneshot.worker import Worker


def train_here(
    settings: Settings, data: Folder, run: Folder, *, device: torch.device, watch: Watch | None = None
) -> Progress:
    """Train in this process: one worker, no Ray, every core. Raises UserError."""
    worker = Worker(device, precision=settings.train.precision)
    return fit(worker, settings, load_parts(data, settings.data), run, watch=watch)


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
    training = trial or run
    found = checkpoint.best(training / "checkpoints")
    if found is None:
        raise RunFailed(f"no epoch of {training} was finished: there is no network to keep")
    best_trial = best_trial or {"id": None, "settings": {}}
    where = {"hardware": formats.read(formats.Hardware, training, HARDWARE)} if training.has(HARDWARE) else {}
    provenance = {
        "best_trial": best_trial | {"epoch": found.progress.epoch, "val_loss": found.progress.best_loss},
        "settings": found.settings,
        "environment": environment() | where,
    }
    taught_only = {"extra_alphabets": 0, "composed_alphabets": 0}
    given = settings.data.model_copy(update=taught_only)
    validation = load_parts(data, given).validation if data else None
    artifact.save(run / "best", data=found, provenance=provenance, validation=validation)
    modelcard.write(run)
