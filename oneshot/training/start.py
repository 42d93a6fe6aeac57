"""The network that a training starts from in place of fresh weights: find it, check it, keep it in the run's folder.

A person names it by `train.start`; the run's settings have it as PATH@DIGEST. Whoever starts the run reads it once.
From then on every worker, trial and retry reads its copy in the run's folder: the original may change or be deleted.
Free of torch until a network is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from oneshot.base.errors import UserError
from oneshot.base.jobs import override
from oneshot.base.reach import reach
from oneshot.base.settings import Model, Settings
from oneshot.base.storage import Folder
from oneshot.run import cards, opened
from oneshot.run.cards import CARD, START, WEIGHTS

if TYPE_CHECKING:
    from oneshot.network.models import Siamese

MARK = 12  # digits of the digest in the run's settings


@dataclass(frozen=True)
class Start:
    """A network to start from: its card, and the bytes of its weights file, which match the card."""

    card: dict[str, Any]
    weights: bytes

    @property
    def mark(self) -> str:
        return self.card["sha256"][:MARK]

    @property
    def origins(self) -> list[dict[str, Any]]:
        """What a training records of this network, see `cards.origins`."""
        return cards.origins(self.card)


def resolve(settings: Settings, *runs: Folder) -> tuple[Settings, Start | None]:
    """The settings with the network to start from named by its digest, and this network; None if none is named.

    A run among `runs` that has begun keeps the network it began with: if that is the one named (`cards.alike`), it is
    read from the run. Nothing is written. Raises UserError if the network is missing, damaged, of another digest than
    is asked for, or of another shape than the settings have.
    """
    if not (asked := settings.train.start):
        return settings, None
    begun = [(opened.read_experiment(run).train.start, run) for run in runs if run.has(opened.EXPERIMENT)]
    if same := [(name, run) for name, run in begun if name and cards.alike(name, asked)]:
        name, run = same[0]
        found = next(filter(None, (_kept(each, name) for _, each in same)), None) or _looked_at_again(run, name)
    else:
        where, found = _looked_at(asked)
        # The same network in another place is the same start.
        name = next((each for each, _ in begun if cards.parts(each)[1] == found.mark), f"{where.uri}@{found.mark}")
    _check_shape(settings, found, name)
    return override(settings, {"train.start": name}, source="train.start"), found


def keep(start: Start | None, run: Folder) -> None:
    """Put the network into the folder of an opened run, unless it is there already and whole."""
    if start is None or _kept(run, f"@{start.mark}"):
        return
    (run / START).write(WEIGHTS, start.weights)
    (run / START).write_json(CARD, start.card)


def load(net: Siamese, place: Folder, name: str) -> list[dict[str, Any]]:
    """Load the weights in the folder `place`, those of the head included, into a network that is about to be trained.

    Returns what to record of where they come from (`cards.origins`). Raises UserError if they do not fit, or are not
    those that `name`, the run's setting PATH@DIGEST, stands for.
    """
    from oneshot.run import tensors
    from oneshot.run.restore import load_weights

    found = Start(*cards.load(place))
    if cards.parts(name)[1] != found.mark:
        raise UserError(f"{place} holds another network than train.start = '{name}': restore it, or start another run")
    load_weights(net, tensors.unpack(found.weights, place.file(WEIGHTS)), f"{place} is of another network")
    return found.origins


def _kept(run: Folder, name: str) -> Start | None:
    """The network in a run's own folder, if it is whole and the one of this name."""
    if not (run / START).has(CARD):
        return None
    try:
        found = Start(*cards.load(run / START))
    except UserError:  # damaged: it is read again from where it was copied
        return None
    return found if found.mark == cards.parts(name)[1] else None


def _looked_at_again(run: Folder, name: str) -> Start:
    """The network that a run has lost, read from where it was copied. Raises UserError."""
    try:
        return _looked_at(name)[1]
    except UserError as error:
        raise UserError(
            f"{run / START}, the network that this run starts from, is missing or damaged, and it can no longer be read"
            f" from where it was copied ({error}): restore one of the two, or start another run"
        ) from None


def _looked_at(asked: str) -> tuple[Folder, Start]:
    """The folder of the network that was named, and the network, checked to be whole. Raises UserError."""
    from oneshot.answers import artifact

    path, mark = cards.parts(asked)
    try:
        where = reach(path)
        found = Start(*artifact.card_and_weights(where))
    except UserError as error:
        raise UserError(f"train.start = '{asked}': {error}") from None
    if not found.card["sha256"].startswith(mark):
        raise UserError(
            f"train.start = '{asked}': the network there has changed and is now {found.mark}: name the one you mean, or"
            f" leave out @{mark} to start from this one"
        )
    return where, found


def _check_shape(settings: Settings, start: Start, name: str) -> None:
    """Raises UserError, saying what to set, unless the network is of the shape that the settings ask for."""
    card = start.card
    shape = {"data.size": card["preprocessing"]["size"], "model.name": card["architecture"]}
    if card["architecture"] == "resnet":
        shape |= {"model.width": card.get("width") or Model().width, "model.depth": card.get("depth", 1)}
    other = {key: value for key, value in shape.items() if attrgetter(key)(settings) != value}
    if other:
        differs = ", ".join(f"{key} = {value!r} and not {attrgetter(key)(settings)!r}" for key, value in other.items())
        changes = " ".join(f"--set {key}={value}" for key, value in other.items())
        raise UserError(f"train.start = '{name}': that network has {differs}; to start from it: {changes}")
