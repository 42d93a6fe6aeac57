"""Checkpoints: each is a folder, `epoch-0007/`, with the network, the optimizer and the state, under their digests.

`model.safetensors` holds the network. `training.safetensors` holds the other tensors that a training needs to go on:
what the optimizer gathered, `optimizer.<index of the parameter>.<name>`, and, if the network is an average of weights,
the trained ones, `weights.<name>`. An optimizer's settings are not kept: they are the run's.

A checkpoint taken inside an epoch is named by what is done: `epoch-0007-step-00040/` is seven epochs and 40 steps.

`state.json` is written last and holds the sha256 of the others: a checkpoint without it, or whose digests do not match,
does not count, and the one before it is used.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import re
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from oneshot.base.errors import Damaged, RunFailed, UserError, shown
from oneshot.base.storage import Folder
from oneshot.run import formats

if TYPE_CHECKING:  # torch is imported when a checkpoint is read or written: listing them does not need it
    import torch

WEIGHTS, TRAINING, STATE = "model.safetensors", "training.safetensors", "state.json"
ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, None)  # no file is there; pyarrow gives no number for a folder
OLDER = "training.pt"  # a pickle that older versions wrote instead of TRAINING; it is not read any more


@dataclass
class Progress:
    """How far a training has come. `history`: a row for each epoch. `ended`: epochs | patience | diverged, or empty."""

    epoch: int = 0  # finished epochs
    step: int = 0  # finished steps of the next one
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])  # of those steps: losses, accuracies, seconds
    best_epoch: int = 0
    best_loss: float = math.inf  # validation loss of the best epoch, not always the lowest (see `train.keep`)
    ended: str = ""
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint, read and verified. `trained` holds the weights being trained if `weights` are an average."""

    name: str
    progress: Progress
    settings: dict[str, Any]
    weights: dict[str, torch.Tensor]
    optimizer: dict[str, torch.Tensor]
    trained: dict[str, torch.Tensor]
    sha256: str  # of the file of `weights`, which a network's folder holds too
    cleaning: dict[str, Any] | None = None  # `Drawings.cleaning` of the training drawings
    start: list[dict[str, Any]] = field(default_factory=list)  # `cards.origins` of the network it started from


def save(
    folder: Folder, progress: Progress, *, settings: dict[str, Any], net: torch.nn.Module,
    optimizer: torch.optim.Optimizer, trained: torch.nn.Module | None = None, cleaning: dict[str, Any] | None = None,
    start: list[dict[str, Any]] | None = None,
) -> None:  # fmt: skip
    """Write the checkpoint of this progress and remove those that nothing can need again.

    `net` is the network that is validated and handed on. If it is an average of weights, `trained` is the one that the
    optimizer trains and part of the training's state. `cleaning` says how the images it is trained on became drawings,
    if they are one's own. `start` is `cards.origins` of the network that the training started from. Kept are the last
    two checkpoints and the best epoch of each, so that falling back by one loses neither the state nor the best.
    """
    from oneshot.run import tensors
    from oneshot.run.restore import pack_optimizer

    here = (progress.epoch, progress.step)
    place = folder / _name(*here)
    place.remove()  # one that did not count would be in the way
    training = {f"optimizer.{name}": value for name, value in pack_optimizer(optimizer).items()}
    training |= {f"weights.{name}": value for name, value in trained.state_dict().items()} if trained else {}
    files = {WEIGHTS: tensors.pack(net.state_dict()), TRAINING: tensors.pack(training)}
    for name, data in files.items():
        place.write(name, data)
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    state = asdict(progress) | {"settings": settings, "sha256": digests}
    state |= {key: value for key, value in (("cleaning", cleaning), ("start", start)) if value}
    state["best_loss"] = progress.best_loss if math.isfinite(progress.best_loss) else None
    place.write_json(STATE, state)
    best_before = max((row["epoch"] for row in progress.history[:-1] if row["best"]), default=0)
    found = dict(_places(folder))
    last_two = sorted(each for each in found if each <= here)[-2:]
    for each in found.keys() - {*last_two, (progress.best_epoch, 0), (best_before, 0)}:
        (folder / found[each]).remove()


def newest(folder: Folder) -> tuple[Checkpoint | None, list[str]]:
    """The newest whole checkpoint, and a sentence for each damaged one that was passed over.

    A checkpoint also does not count if the one of its best epoch is damaged: the network that a training is for would
    be lost. Raises UserError if one is of an older version, and RunFailed if the disk or store does not answer: then
    nobody knows which are damaged.
    """
    passed: list[str] = []
    for _, name in sorted(_places(folder), reverse=True):
        try:
            found = read(folder / name)
            best_epoch = found.progress.best_epoch
            if best_epoch and name != _name(best_epoch, 0):
                read(folder / _name(best_epoch, 0))
            return found, passed
        except Damaged as error:
            if error.why not in passed:
                passed.append(error.why)
    return None, passed


def best(folder: Folder) -> Checkpoint | None:
    """The checkpoint of the best epoch, by the newest whole checkpoint; None if no epoch is recorded."""
    last, _ = newest(folder)
    if last is None or not last.progress.best_epoch:
        return None
    name = _name(last.progress.best_epoch, 0)
    return last if last.name == name else read(folder / name)


def names(folder: Folder) -> list[str]:
    """The names of the checkpoints in a folder, whole or not, the oldest first."""
    return [name for _, name in sorted(_places(folder))]


def needed(folder: Folder, *, best_epoch: int) -> set[str]:
    """The names of the checkpoints that a training which is over still needs: the newest whole one, and that of its
    best epoch. `best_epoch` is that epoch as far as is known, 0 if there is none yet; if no checkpoint is whole then,
    all are needed.

    Raises UserError if the network of the best epoch is lost, and otherwise as `newest` does."""
    last, _ = newest(folder)
    if last is None and not best_epoch:
        return set(names(folder))
    if last is None or last.progress.best_epoch < best_epoch:
        raise UserError(
            f"the checkpoint of the best epoch, {best_epoch}, in {folder} is missing or damaged: restore it, or"
            " continue the run, which makes it again"
        )
    best_epoch = last.progress.best_epoch
    return {last.name, *([_name(best_epoch, 0)] if best_epoch else [])}


def settings_of(folder: Folder) -> dict[str, Any] | None:
    """The settings of the newest checkpoint whose state can be read, whatever its tensors; None if there is none."""
    for _, name in sorted(_places(folder), reverse=True):
        with contextlib.suppress(Damaged):
            return _state(folder / name)["settings"]
    return None


def refuse_older(folder: Folder) -> None:
    """Raise UserError if the newest checkpoint in a folder is of an older version, whose files are no longer read."""
    for _, name in sorted(_places(folder))[-1:]:
        _refuse_older(folder / name)


def _refuse_older(place: Folder) -> None:
    names = place.names()
    if OLDER in names and TRAINING not in names:
        raise UserError(
            f"checkpoint {place} is of an older version: its {OLDER} is a pickle, which can contain code, and is not"
            " read; start the training again in another --run, or go on with the version that wrote it"
        )


def read(place: Folder) -> Checkpoint:
    """Read and verify one checkpoint. Raises Damaged naming the file that is missing or damaged, UserError if it is of
    an older version, RunFailed if its disk or store does not answer."""
    from oneshot.run import tensors

    state = _state(place)
    files = {}
    for name in (WEIGHTS, TRAINING):
        found = _read(place, name)
        if found is None:
            _refuse_older(place)
            raise Damaged(f"checkpoint {place} is damaged: {name} is missing or unreadable")
        files[name] = found
        if hashlib.sha256(files[name]).hexdigest() != state["sha256"].get(name):
            raise Damaged(f"checkpoint {place} is damaged: {name} does not match its digest")
    training = _parts(tensors.unpack(files[TRAINING], place.file(TRAINING)), place.file(TRAINING))
    return Checkpoint(
        name=place.name,
        progress=_progress(state),
        settings=state["settings"],
        weights=tensors.unpack(files[WEIGHTS], place.file(WEIGHTS)),
        optimizer=training["optimizer"],
        trained=training["weights"],
        sha256=state["sha256"][WEIGHTS],
        cleaning=state.get("cleaning"),
        start=state.get("start", []),
    )


def _parts(tensors: dict[str, torch.Tensor], where: str) -> dict[str, dict[str, torch.Tensor]]:
    """The tensors of training.safetensors, grouped by the first word of their names."""
    parts: dict[str, dict[str, torch.Tensor]] = {"optimizer": {}, "weights": {}}
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        if part not in parts:
            raise Damaged(f"{where} is not the training state of a checkpoint (it holds {shown(name)})")
        parts[part][rest] = value
    return parts


def _read(place: Folder, name: str) -> bytes | None:
    """A checkpoint's file; None if there is no such file. Raises RunFailed if its disk does not give it. A file server
    that is away for a moment must not count as damage: the training would start again and remove what it had."""
    try:
        return place.read(name)
    except OSError as error:
        if error.errno in ABSENT:
            return None
        why = os.strerror(error.errno)
        raise RunFailed(
            f"{place.file(name)} cannot be read ({why}): check its disk and go on; if the file is lost for good,"
            f" remove {place}"
        ) from error


def _state(place: Folder) -> dict[str, Any]:
    data = _read(place, STATE)
    if data is None:
        raise Damaged(f"checkpoint {place} is unfinished: {STATE} is missing or unreadable")
    try:
        state = json.loads(data)
        formats.check(formats.State, state)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"checkpoint {place} is damaged: {STATE} cannot be read ({error})") from None
    return state


def _progress(state: dict[str, Any]) -> Progress:
    loss = state["best_loss"]
    return Progress(
        epoch=int(state["epoch"]),
        step=int(state["step"]),
        sums=[float(state["sums"][index]) for index in range(3)],
        best_epoch=int(state["best_epoch"]),
        best_loss=math.inf if loss is None else float(loss),
        ended=str(state["ended"]),
        history=[dict(row) for row in state["history"]],
    )


def _name(epoch: int, step: int) -> str:
    return f"epoch-{epoch:04d}" + (f"-step-{step:05d}" if step else "")


def _places(folder: Folder) -> list[tuple[tuple[int, int], str]]:
    """Where the checkpoints in a folder were taken, (epochs, steps), and their names. Anything else in the folder is
    ignored."""
    found = ((re.fullmatch(r"epoch-(\d{4,})(?:-step-(\d{5,}))?", name), name) for name in folder.names())
    return [((int(match[1]), int(match[2] or 0)), name) for match, name in found if match]
