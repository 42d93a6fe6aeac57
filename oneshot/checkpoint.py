"""Checkpoints: a folder each, `epoch-0007/`, with the network, the optimizer and the state, under their digests.

One taken inside an epoch is named by what lies behind it: `epoch-0007-step-00040/`, seven epochs and 40 steps.

`state.json` is written last and holds the sha256 of the others: a checkpoint without it, or whose digests do not match,
does not count, and the one before it is used.
"""

import hashlib
import io
import json
import math
import pickle
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors

from oneshot import formats
from oneshot.errors import Unusable, UserError
from oneshot.settings import Settings
from oneshot.storage import Folder

WEIGHTS, TRAINING, STATE = "model.safetensors", "training.pt", "state.json"


@dataclass
class Progress:
    """How far a training has come. `history`: a row an epoch. `ended`: epochs | patience | diverged, or empty."""

    epoch: int = 0  # finished epochs
    step: int = 0  # finished steps of the next one
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])  # theirs: of losses, of accuracies, of seconds
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
    cleaning: dict[str, Any] | None = None  # `Drawings.cleaning` of what it is trained on


def pack_tensors(tensors: dict[str, torch.Tensor]) -> bytes:
    """Named tensors, as of `module.state_dict()`, as safetensors."""
    return safetensors.save({name: value.detach().cpu().contiguous() for name, value in tensors.items()})


def unpack_weights(data: bytes, where: str) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, all finite. Raises Unusable naming `where`."""
    try:
        weights = safetensors.load(data)
    except (SafetensorError, ValueError, KeyError, RuntimeError, OverflowError) as error:
        raise Unusable(f"{where} is not a whole safetensors file ({error})") from None
    for name, value in weights.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise Unusable(f"{where}: '{name}' holds values that are not finite")
    return weights


def save(
    folder: Folder, progress: Progress, *, settings: dict[str, Any], net: torch.nn.Module,
    optimizer: torch.optim.Optimizer, trained: torch.nn.Module | None = None, cleaning: dict[str, Any] | None = None,
) -> None:  # fmt: skip
    """Write the checkpoint of this progress and remove those that nothing can need again.

    `net` is the network that is validated and handed on. Where that is an average of weights, `trained` is the one that
    the optimizer trains: it is part of the training's state. `cleaning`: how the images that it is trained on became
    drawings, where they are one's own. Kept: the last two checkpoints and the best epoch of each, so that falling back
    by one loses neither the state nor the best.
    """
    here = (progress.epoch, progress.step)
    place = folder / _name(*here)
    place.remove()  # one that did not count is in the way
    buffer = io.BytesIO()
    state_of_training = {"optimizer": optimizer.state_dict()} | ({"weights": trained.state_dict()} if trained else {})
    torch.save(state_of_training, buffer)
    files = {WEIGHTS: pack_tensors(net.state_dict()), TRAINING: buffer.getvalue()}
    for name, data in files.items():
        place.write(name, data)
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    state = asdict(progress) | {"settings": settings, "sha256": digests}
    if cleaning:
        state["cleaning"] = cleaning
    state["best_loss"] = progress.best_loss if math.isfinite(progress.best_loss) else None
    place.write_json(STATE, state)
    best_before = max((row["epoch"] for row in progress.history[:-1] if row["best"]), default=0)
    found = dict(_places(folder))
    last_two = sorted(each for each in found if each <= here)[-2:]
    for each in found.keys() - {*last_two, (progress.best_epoch, 0), (best_before, 0)}:
        (folder / found[each]).remove()


def newest(folder: Folder) -> tuple[Checkpoint | None, list[str]]:
    """The newest whole checkpoint, and a sentence for each damaged one that was passed over.

    A checkpoint whose best epoch's is damaged does not count either: the network that a training is for would be lost.
    """
    passed: list[str] = []
    for _, name in sorted(_places(folder), reverse=True):
        try:
            found = read(folder / name)
            best_epoch = found.progress.best_epoch
            if best_epoch and name != _name(best_epoch, 0):
                read(folder / _name(best_epoch, 0))
            return found, passed
        except Unusable as error:
            if error.why not in passed:
                passed.append(error.why)
    return None, passed


def best(folder: Folder) -> Checkpoint | None:
    """The checkpoint of the best epoch, by the newest whole checkpoint; None where no epoch is recorded."""
    last, _ = newest(folder)
    if last is None or not last.progress.best_epoch:
        return None
    name = _name(last.progress.best_epoch, 0)
    return last if last.name == name else read(folder / name)


def read(place: Folder) -> Checkpoint:
    """Read and verify one checkpoint. Raises Unusable naming the file that is missing or damaged."""
    state = _state(place)
    files = {}
    for name in (WEIGHTS, TRAINING):
        try:
            files[name] = place.read(name)
        except OSError:
            raise Unusable(f"checkpoint {place} is damaged: {name} is missing or unreadable") from None
        if hashlib.sha256(files[name]).hexdigest() != state["sha256"].get(name):
            raise Unusable(f"checkpoint {place} is damaged: {name} does not match its digest")
    return Checkpoint(
        name=place.name,
        progress=_progress(state),
        settings=state["settings"],
        weights=unpack_weights(files[WEIGHTS], place.file(WEIGHTS)),
        training=_unpack_training(files[TRAINING], place.file(TRAINING)),
        cleaning=state.get("cleaning"),
    )


def _unpack_training(data: bytes, where: str) -> dict[str, Any]:
    """What training.pt holds. Its tensors are read and no code in it is run."""
    try:
        training = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
        if not isinstance(training["optimizer"], dict):
            raise TypeError("no state of an optimizer")
        if not all(isinstance(value, torch.Tensor) for value in training.get("weights", {}).values()):
            raise TypeError("weights that are no tensors")
    except Exception as error:  # what the unpickler raises on foreign bytes is any kind of exception
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if isinstance(error, pickle.UnpicklingError):  # torch's own message advises to run the code
            reason = "not whole, or it holds code, which is not run"
        raise Unusable(f"{where} is not the training state of a checkpoint ({reason})") from None
    return training


def _state(place: Folder) -> dict[str, Any]:
    try:
        state = json.loads(place.read(STATE))
        formats.check(formats.State, state)
    except OSError:
        raise Unusable(f"checkpoint {place} is unfinished: {STATE} is missing or unreadable") from None
    except (ValueError, RecursionError) as error:
        raise Unusable(f"checkpoint {place} is damaged: {STATE} cannot be read ({error})") from None
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
    """Where the checkpoints in a folder were taken, (epochs, steps), and their names; what else lies there is none of
    our business."""
    found = ((re.fullmatch(r"epoch-(\d{4,})(?:-step-(\d{5,}))?", name), name) for name in folder.names())
    return [((int(match[1]), int(match[2] or 0)), name) for match, name in found if match]


def check_same(
    recorded: Mapping[str, Any], settings: Settings, what: str, *, fixed: Iterable[str], free: Iterable[str] = ()
) -> None:
    """Raises UserError unless the `fixed` sections are as recorded, but for the keys `free`; `what` was recorded so."""
    for section in fixed:
        for key, value in getattr(settings, section).model_dump().items():
            default = Settings.model_fields[section].default.model_dump()[key]  # what a key meant before it existed
            old = recorded.get(section, {}).get(key, default)
            if old != value and key not in free:
                raise UserError(
                    f"{what} with {section}.{key} = {old!r}, not {value!r}: name another --run, or the same settings to"
                    " go on"
                )
