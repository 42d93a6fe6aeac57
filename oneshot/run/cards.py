"""Where a network lies and what its `model.json` holds, which is checked when read: it may come from anybody.

Free of torch."""

import hashlib
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from oneshot.base.errors import UserError
from oneshot.base.kinds import Depth, Positive, Views, Width
from oneshot.base.storage import Folder
from oneshot.run import checkpoint, formats
from oneshot.run.formats import BestTrial, Cleaning, Environment, Measured, Origin, Record, Share

WEIGHTS, CARD = "model.safetensors", "model.json"  # the files of a network's folder
START = "start"  # in a run's folder: the folder of the network that its trainings start from
_NAMED = re.compile(r"(.*)@([0-9a-f]{8,64})")  # a network to start from, as a run's settings name it

# What is done to an image before the network sees it (`preprocess`), for those who run the network elsewhere.
STEPS = {
    "ink": "1 on paper 0: dark ink on light paper is inverted, and its levels are stretched from the paper's to the"
    " strongest ink's",
    "fit": "letterboxed to a square of paper, averaged over areas",
}


def seen(preprocessing: Mapping[str, Any]) -> dict[str, Any]:
    """What a card says of its preprocessing. Without cleaning, its steps are those of this version."""
    return STEPS | preprocessing if preprocessing.get("cleaning") else {**preprocessing, **STEPS}


Rates = Annotated[list[Annotated[float, Field(gt=0, lt=1)]], Field(min_length=1)]


class Preprocessing(Record):
    size: Annotated[int, Field(ge=1, le=4096)]
    cleaning: Cleaning | None = None


class Provenance(Record):
    best_trial: BestTrial | None = None
    settings: dict[str, dict[str, Any]]
    environment: Environment | None = None
    untaught: str = ""  # a sentence on the alphabets of its split that it was not taught; older cards do not say
    start: Annotated[list[Origin], Field(default_factory=list)]  # as in a checkpoint's state


class Pair(Record):
    slope: Annotated[float, Field(gt=0)]  # otherwise a probability would fall with similarity
    offset: float
    pairs: Positive
    ece_before: Share
    ece_after: Share


class Classes(Record):
    temperature: Annotated[float, Field(ge=1e-4, le=1e4)]
    n_way: Positive
    accuracy: Share
    ece_before: Share
    ece_after: Share


class NoneOfThese(Record):
    n_way: Positive
    limits: list[float]
    false_accept: Share
    refused: Share


class Shots(Record):
    k_shot: Positive
    pair: Pair
    classes: Classes
    none: Annotated[list[NoneOfThese], Field(min_length=1)]


class Match(Record):
    """Thresholds for same or different: for each rate of false matches a score and the error rates measured across
    halves. `pairs` is how many different pairs were measured."""

    rates: Rates
    limits: list[float]
    false_match: list[Share]
    false_non_match: list[Share]
    pairs: Positive

    @model_validator(mode="after")
    def _check(self) -> "Match":
        if {len(each) for each in (self.limits, self.false_match, self.false_non_match)} != {len(self.rates)}:
            raise ValueError("calibration: each list of match needs one number for each of its rates")
        return self


class MeasuredOn(Record):
    protocol: Literal["within", "between"] | None = None  # of the trials; older cards do not say
    alphabets: Positive
    characters: Positive
    drawings: Positive
    trials: Positive
    n_way: Positive
    taught: bool | Literal["perhaps"] = False  # whether it was taught these alphabets too; older cards do not say


class SeenFrom(Record):
    """One-shot accuracy on the validation alphabets, from all positions and from the first alone."""

    positions: Views
    accuracy: Share
    one: Share


class Tuned(Record):
    """One-shot accuracy on the validation alphabets: of the network, and of the one that its training started from."""

    accuracy: Share
    before: Share


class Calibration(Record):
    """What `calibration` reads, and what it was measured on."""

    measured_on: MeasuredOn
    lead: Annotated[float, Field(ge=0)]
    rates: Rates
    shots: Annotated[list[Shots], Field(min_length=1)]
    match: Match | None = None  # older cards have none
    pooling: dict[str, Measured]
    views: SeenFrom | None = None  # none if the network looks in one position
    start: Tuned | None = None  # none if its training started from no network

    @model_validator(mode="after")
    def _check(self) -> "Calibration":
        _rising([shot.k_shot for shot in self.shots], "k_shot")
        for shot in self.shots:
            _rising([cell.n_way for cell in shot.none], "n_way")
            if any(len(cell.limits) != len(self.rates) for cell in shot.none):
                raise ValueError("calibration: each of none.limits needs one number for each of the rates")
        return self


def _rising(values: list[int], key: str) -> None:
    if any(a >= b for a, b in pairwise(values)):
        raise ValueError(f"calibration: {key} = {values}: must increase")


class Card(Record):
    """`model.json` of a network."""

    format: Literal[1]
    architecture: str
    width: Width | None = None
    depth: Depth = 1
    views: Views = 1
    preprocessing: Preprocessing
    sha256: str
    provenance: Provenance
    calibration: Calibration | None = None  # older cards have none


def find(where: Folder) -> Folder:
    """The folder that holds a network: a run's `best/`, or the folder of a network or checkpoint itself.

    Raises UserError if there is none."""
    for folder, name in ((where, CARD), (where / "best", CARD), (where, checkpoint.STATE)):
        if folder.has(name):
            return folder
    if not where.has():
        raise UserError(f"{where}: no such folder; name a run, its best/ or a checkpoint")
    raise UserError(f"{where} holds no network: neither {CARD}, nor best/{CARD}, nor {checkpoint.STATE}")


def read(folder: Folder) -> dict[str, Any]:
    """The card of a network's folder. Raises UserError if it is damaged."""
    return formats.read(Card, folder, CARD, advice="restore it or use another network")


def load(folder: Folder) -> tuple[dict[str, Any], bytes]:
    """The card of a network's folder, and its weights as they lie in their file. Raises UserError, also if the weights
    do not match the card."""
    card = read(folder)
    try:
        weights = folder.read(WEIGHTS)
    except OSError:
        raise UserError(f"{folder.file(WEIGHTS)} is missing or unreadable") from None
    if hashlib.sha256(weights).hexdigest() != card["sha256"]:
        raise UserError(f"{folder.file(WEIGHTS)} is damaged: it does not match the digest in {CARD}")
    return card, weights


def origins(card: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a training keeps of the network it starts from: that network, then those that it started from in turn."""
    own = {"sha256": card["sha256"], "settings": card["provenance"]["settings"]}
    return [own, *card["provenance"].get("start", [])]


def parts(name: str) -> tuple[str, str]:
    """Path and digest of a network to start from, as settings name it. A person may leave out the digest."""
    found = _NAMED.fullmatch(name)
    return (found[1], found[2]) if found else (name, "")


def alike(recorded: str, asked: str) -> bool:
    """Whether a name for a network, given by a person or in another run, means the one recorded in a run's settings:
    the same digest, wherever it lies, or without a digest the same place. No store is asked."""
    if not (recorded and asked):
        return recorded == asked
    (place, digest), (path, mark) = parts(recorded), parts(asked)
    if mark:
        return bool(digest) and (digest.startswith(mark) or mark.startswith(digest))
    on_disk = "://" not in path or path.startswith("file://")
    return place == (Folder.of(path).uri if on_disk else path.replace("/?", "?").rstrip("/"))


def started(training: Folder) -> Folder:
    """The folder of the network that a training starts from. It lies in the run's folder; the run of a trial is its
    study."""
    of_study = training.parent.name == "trials" and not (training / START).has(CARD)
    return (training.parent.parent if of_study else training) / START


def digest(run: Folder) -> str:
    """The sha256 of the weights in a run's `best/`, which identifies the network."""
    return read(run / "best")["sha256"]


def recorded_settings(where: Folder) -> dict[str, Any]:
    """The sections `data`, `model` and `train` that a network was trained with. `where` is the folder of a run, of a
    network or of a checkpoint.

    Raises UserError if there is no network."""
    folder = find(where)
    return read(folder)["provenance"]["settings"] if folder.has(CARD) else checkpoint.read(folder).settings
