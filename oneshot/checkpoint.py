"""Checkpoints: a folder each, `epoch-0007/`, with the network, the optimizer and the state, under their digests.

`state.json` is written last and holds the sha256 of the others: a checkpoint without it, or whose digests do not match,
does not count, and the one before it is used.
"""

import hashlib
import io
import json
import math
import pickle
import re
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors

from oneshot import formats
from oneshot.errors import UserError
from oneshot.storage import Folder

WEIGHTS, TRAINING, STATE = "model.safetensors", "training.pt", "state.json"


@dataclass
class Progress:
    """How far a training has come. `history`: a row an epoch. `ended`: epochs | patience | diverged, or empty."""

    epoch: int = 0
    best_epoch: int = 0
    best_loss: float = math.inf
    ended: str = ""
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint, read and verified."""

    name: str
    progress: Progress
    settings: dict[str, Any]
    weights: dict[str, torch.Tensor]
    training: dict[str, Any]


def pack_tensors(tensors: dict[str, torch.Tensor]) -> bytes:
    """Named tensors, as of `module.state_dict()`, as safetensors."""
    return safetensors.save({name: value.detach().cpu().contiguous() for name, value in tensors.items()})


def unpack_weights(data: bytes, where: str) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, all finite. Raises UserError naming `where`."""
    try:
        weights = safetensors.load(data)
    except (SafetensorError, ValueError, KeyError, RuntimeError, OverflowError) as error:
        raise UserError(f"{where} is not a whole safetensors file ({error}); use another checkpoint") from None
    for name, value in weights.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise UserError(f"{where}: '{name}' holds values that are not finite; use another checkpoint")
    return weights


def save(
    folder: Folder, progress: Progress, *, settings: dict[str, Any], net: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
) -> None:  # fmt: skip
    """Write the checkpoint of `progress.epoch` and remove those that nothing can need again.

    Kept: the last two and the best epoch of each, so that falling back by one loses neither the state nor the best.
    """
    place = folder / _name(progress.epoch)
    place.remove()  # one that did not count is in the way
    buffer = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict()}, buffer)
    files = {WEIGHTS: pack_tensors(net.state_dict()), TRAINING: buffer.getvalue()}
    for name, data in files.items():
        place.write(name, data)
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    state = asdict(progress) | {"settings": settings, "sha256": digests}
    state["best_loss"] = progress.best_loss if math.isfinite(progress.best_loss) else None
    place.write_json(STATE, state)
    best_before = max((row["epoch"] for row in progress.history[:-1] if row["best"]), default=0)
    keep = {progress.epoch, progress.epoch - 1, progress.best_epoch, best_before}
    for epoch, name in _epochs(folder):
        if epoch not in keep:
            (folder / name).remove()


def newest(folder: Folder) -> tuple[Checkpoint | None, list[str]]:
    """The newest whole checkpoint, and a sentence for each damaged one that was passed over."""
    passed = []
    for _, name in sorted(_epochs(folder), reverse=True):
        try:
            return read(folder / name), passed
        except UserError as error:
            passed.append(str(error))
    return None, passed


def best(folder: Folder) -> Checkpoint | None:
    """The checkpoint of the best epoch, by the newest whole checkpoint; None where no epoch is recorded."""
    last, _ = newest(folder)
    if last is None or not last.progress.best_epoch:
        return None
    name = _name(last.progress.best_epoch)
    return last if last.name == name else read(folder / name)


def read(place: Folder) -> Checkpoint:
    """Read and verify one checkpoint. Raises UserError naming the file that is missing or damaged."""
    state = _state(place)
    files = {}
    for name in (WEIGHTS, TRAINING):
        try:
            files[name] = place.read(name)
        except OSError:
            raise UserError(f"checkpoint {place} is damaged: {name} is missing or unreadable; use another") from None
        if hashlib.sha256(files[name]).hexdigest() != state["sha256"].get(name):
            raise UserError(f"checkpoint {place} is damaged: {name} does not match its digest; use another")
    return Checkpoint(
        name=place.name,
        progress=_progress(state),
        settings=state["settings"],
        weights=unpack_weights(files[WEIGHTS], place.file(WEIGHTS)),
        training=_unpack_training(files[TRAINING], place.file(TRAINING)),
    )


def _unpack_training(data: bytes, where: str) -> dict[str, Any]:
    """What training.pt holds. Its tensors are read and no code in it is run."""
    try:
        training = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
        if not isinstance(training["optimizer"], dict):
            raise TypeError("no state of an optimizer")
    except Exception as error:  # what the unpickler raises on foreign bytes is any kind of exception
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if isinstance(error, pickle.UnpicklingError):  # torch's own message advises to run the code
            reason = "not whole, or it holds code, which is not run"
        raise UserError(f"{where} is not the training state of a checkpoint ({reason}); use another") from None
    return training


def _state(place: Folder) -> dict[str, Any]:
    try:
        state = json.loads(place.read(STATE))
        formats.check(formats.State, state)
    except OSError:
        raise UserError(f"checkpoint {place} is unfinished: {STATE} is missing or unreadable; use another") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"checkpoint {place} is damaged: {STATE} cannot be read ({error}); use another") from None
    return state


def _progress(state: dict[str, Any]) -> Progress:
    loss = state["best_loss"]
    return Progress(
        epoch=int(state["epoch"]),
        best_epoch=int(state["best_epoch"]),
        best_loss=math.inf if loss is None else float(loss),
        ended=str(state["ended"]),
        history=[dict(row) for row in state["history"]],
    )


def _name(epoch: int) -> str:
    return f"epoch-{epoch:04d}"


def _epochs(folder: Folder) -> list[tuple[int, str]]:
    """The epochs of the checkpoints in a folder, with their names; what else lies there is none of our business."""
    found = ((re.fullmatch(r"epoch-(\d{4,})", name), name) for name in folder.names())
    return [(int(match[1]), name) for match, name in found if match]
