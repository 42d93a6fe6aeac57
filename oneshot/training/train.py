"""One training in this process (`trainer` has those under Ray Train), and how any ends: with the best network."""

from typing import Any, Literal

import torch

from oneshot.answers import artifact
from oneshot.base.environment import HARDWARE, environment, this_machine
from oneshot.base.errors import RunFailed, UserError
from oneshot.base.jobs import parse
from oneshot.base.settings import Data, Settings
from oneshot.base.storage import Folder
from oneshot.data import splits, store
from oneshot.data.cache import near
from oneshot.evaluation import modelcard, overlap
from oneshot.evaluation.calibrate import measure
from oneshot.network.models import Siamese
from oneshot.network.worker import Worker
from oneshot.run import cards, checkpoint, formats
from oneshot.run.checkpoint import Progress
from oneshot.run.history import commits
from oneshot.run.watch import Showing, Watch
from oneshot.training.loop import fit
from oneshot.training.parts import check, load_parts, load_validation

CPU = torch.device("cpu")


def train_here(
    settings: Settings, data: Folder, run: Folder, *, device: torch.device, watch: Watch | None = None
) -> Progress:
    """Train in this process: one worker, no Ray, every core. Raises UserError."""
    run.write_json(HARDWARE, this_machine(str(device)))
    worker = Worker(device, precision=settings.train.precision)
    return fit(worker, settings, load_parts(data, settings.data), run, watch=watch)


def finish(
    settings: Settings,
    run: Folder,
    *,
    device: torch.device = CPU,
    data: Folder | None = None,
    trial: Folder | None = None,
    best_trial: dict[str, Any] | None = None,
    progress: Showing | None = None,
) -> None:
    """Write `best/`: the network of the best epoch, where it comes from, and its model card.

    With `data`, its probabilities are calibrated on the validation part, on `device`; without, they are not. The
    hardware and the commits that trained it are taken from the training's folder, if known there. Raises RunFailed if
    no epoch was finished.
    """
    training = trial or run
    found = checkpoint.best(training / "checkpoints")
    if found is None:
        raise RunFailed(f"no epoch of {training} was finished: there is no network to keep")
    best_trial = best_trial or {"id": None, "settings": {}}
    where: dict[str, Any] = {}
    if training.has(HARDWARE):
        where["hardware"] = formats.read(formats.Hardware, training, HARDWARE)
    if told := commits(found.progress.history):
        where["commit"] = told
    provenance = {
        "best_trial": best_trial | {"epoch": found.progress.epoch, "val_loss": found.progress.best_loss},
        "settings": found.settings,
        "environment": environment(str(device)) | where,
        "start": found.start,
    }
    calibration = None
    if data:
        net, views = artifact.of_checkpoint(found, training).to(device), artifact.views(found)
        taught = splits.teaches_all(settings.data.split) or _taught(found.start, data, settings.data)
        calibration = measure(
            net, load_validation(data, settings.data), taught=taught, views=views,
            before=_before(training, found.start[0]["sha256"]) if found.start else None, progress=progress,
        )  # fmt: skip
        provenance["untaught"] = check(parse(found.settings, f"the checkpoint in {training}"), data)
    artifact.save(run / "best", data=found, provenance=provenance, calibration=calibration)
    modelcard.write(run)


def _before(training: Folder, sha256: str) -> Siamese | None:
    """The network that a training started from, as it was; None if the run has lost it."""
    try:
        net, card = artifact.read(cards.started(training))
    except UserError:
        return None
    return net if card["sha256"] == sha256 else None


def _taught(start: list[dict[str, Any]], data: Folder, how: Data) -> bool | Literal["perhaps"]:
    """Whether a network that the training started from was taught the validation drawings."""
    return overlap.taught(start, store.describe(near(data)), dataset=how.dataset, split=how.split) if start else False
