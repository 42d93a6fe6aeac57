"""The network that a training starts from in place of fresh weights: found, looked at, kept in the run's folder.

A person names it by `train.start`; the run's settings have it as PATH@DIGEST. Whoever starts the run reads it once.
From then on its copy in the run's folder is what every worker, trial and retry reads: the other run may change, or go.
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
    """A network to start from: its card, and its weights as they lie in a file, which match it."""

    card: dict[str, Any]
    weights: bytes

    @property
    def mark(self) -> str:
        return self.card["sha256"][:MARK]

    @property
    def origins(self) -> list[dict[str, Any]]:
        """What is to be known of what it was taught, see `cards.origins`."""
        return cards.origins(self.card)


def resolve(settings: Settings, *runs: Folder) -> tuple[Settings, Start | None]:
    """The settings with the network to start from named by its digest, and this network; None where none is named.

    Those of `runs` that were begun keep what they were begun with: where that is what is named, by its path, it is read
    from there. Nothing is written. Raises UserError where it is not there, damaged, of another digest than is asked
    for, or of another shape than the settings have.
    """
    if not (asked := settings.train.start):
        return settings, None
    begun = [(opened.read_experiment(run).train.start, run) for run in runs if run.has(opened.EXPERIMENT)]
    if same := [(name, run) for name, run in begun if name and cards.alike(name, asked)]:
        name, run = same[0]
        found = next(filter(None, (_kept(each, name) for _, each in same)), None) or _looked_at_again(run, name)
    else:
        where, found = _looked_at(asked)
        # The same network in another place is no other start.
        name = next((each for each, _ in begun if cards.parts(each)[1] == found.mark), f"{where.uri}@{found.mark}")
    _check_shape(settings, found, name)
    return override(settings, {"train.start": name}, source="train.start"), found


def keep(start: Start | None, run: Folder) -> None:
    """Put the network into the folder of an opened run, where it does not lie there whole."""
    if start is None or _kept(run, f"@{start.mark}"):
        return
    (run / START).write(WEIGHTS, start.weights)
    (run / START).write_json(CARD, start.card)


def load(net: Siamese, place: Folder, name: str) -> list[dict[str, Any]]:
    """Give a network that is about to be trained the weights in a network's folder, its head's among them; what is to
    be kept of where they come from (`cards.origins`). Raises UserError for a misfit, and where they are not those that
    the run's settings name (PATH@DIGEST)."""
    from oneshot.run import tensors
    from oneshot.run.restore import load_weights

    found = Start(*cards.load(place))
    if cards.parts(name)[1] != found.mark:
        raise UserError(f"{place} holds another network than train.start = '{name}': restore it, or start another run")
    load_weights(net, tensors.unpack(found.weights, place.file(WEIGHTS)), f"{place} is of another network")
    return found.origins


def _kept(run: Folder, name: str) -> Start | None:
    """The network in a run's own folder, where it lies there whole and is the one of this name."""
    if not (run / START).has(CARD):
        return None
    try:
        found = Start(*cards.load(run / START))
    except UserError:  # damaged: it is read anew where it was first
        return None
    return found if found.mark == cards.parts(name)[1] else None


def _looked_at_again(run: Folder, name: str) -> Start:
    """The network that a run has lost, where it was first."""
    try:
        return _looked_at(name)[1]
    except UserError as error:
        raise UserError(
            f"{run / START}, the network that this run starts from, is missing or damaged, and where it was copied from"
            f" it is not any more ({error}): restore one of the two, or start another run"
        ) from None


def _looked_at(asked: str) -> tuple[Folder, Start]:
    """Where a network lies, as it was named, and the network, found to be whole. Raises UserError."""
    from oneshot.answers import artifact

    path, mark = cards.parts(asked)
    try:
        where = reach(path)
        found = Start(*artifact.card_and_weights(where))
    except UserError as error:
        raise UserError(f"train.start = '{asked}': {error}") from None
    if not found.card["sha256"].startswith(mark):
        raise UserError(
            f"train.start = '{asked}': the network there is another by now, {found.mark}: name one that is meant, or"
            f" leave @{mark} out to start from this"
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
