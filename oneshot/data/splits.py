"""Splits: which drawings train, which choose the settings, and which test. The parts share no character."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np

from oneshot.base.errors import UserError, nearest, some
from oneshot.base.settings import OWN_SPLITS, SplitName
from oneshot.base.storage import Folder
from oneshot.data.drawings import Description, Drawings, Own
from oneshot.data.store import load

SPLITS = tuple(name for name in get_args(SplitName) if name not in OWN_SPLITS)
ALL = "-all"  # suffix of a split that also trains on the validation part: for a last fit, when everything is chosen
OWN = OWN_SPLITS[0]  # the split that a set of own images carries; the other is OWN + ALL

# Background alphabets of at least 20 characters, so that a 20-way trial within one of them is possible.
_LAKE_VALIDATION = (
    "Balinese",
    "Braille",
    "Burmese_(Myanmar)",
    "Futurama",
    "Korean",
    "Malay_(Jawi_-_Arabic)",
    "N_Ko",
    "Sanskrit",
)
# The alphabets of images_background_small1 and images_background_small2 (Lake et al. 2015: one-shot with 5 alphabets).
_MINIMAL = {
    "minimal1": ("Balinese", "Early_Aramaic", "Greek", "Korean", "Latin"),
    "minimal2": ("Greek", "Japanese_(katakana)", "Latin", "Sanskrit", "Tagalog"),
}


def teaches_all(name: str) -> bool:
    """Whether a split of this name also trains on its validation part."""
    return name.endswith(ALL)


def is_own(name: str) -> bool:
    """Whether a split of this name belongs to a set of the user's own images."""
    return name in OWN_SPLITS


@dataclass(frozen=True)
class Part:
    """Some drawings of a data set: all of some alphabets, or only those by some drawers or of some characters."""

    alphabets: tuple[str, ...]
    drawers: frozenset[int] | None = None
    characters: frozenset[str] | None = None  # as `Drawings.characters` names them: "Alphabet/character01"


@dataclass(frozen=True)
class Split:
    """Three parts, no two of which share a character or a drawing (but see `validation_seen`)."""

    name: str
    train: Part
    validation: Part
    test: Part
    validation_seen: bool = False  # the validation part is trained on too (ALL), so its figures flatter

    def __post_init__(self) -> None:
        """Raise UserError if two parts share what they must not, or a part has no alphabets."""
        pairs = [("train", "test"), ("validation", "test")]
        if not self.validation_seen:
            pairs.append(("train", "validation"))
        for left, right in pairs:
            both = shared(getattr(self, left), getattr(self, right))
            if both:
                raise UserError(f"the split '{self.name}' is not valid: {left} and {right} share {some(both, 5)}")
        for name in ("train", "validation", "test"):
            if not getattr(self, name).alphabets:
                raise UserError(
                    f"the split '{self.name}' has no {name} alphabets here; take a data set with more alphabets"
                )


def shared(one: Part, other: Part) -> list[str]:
    """What two parts share: characters if both name them, else alphabets."""
    if one.characters is None or other.characters is None:
        return sorted(set(one.alphabets) & set(other.alphabets))
    return sorted(one.characters & other.characters)


def fitting(name: str, description: Description) -> str:
    """The split of this data set to take if `name` is asked for. The user's own images allow only their own split.

    For them "lake", the default of a job, becomes "own". Raises UserError for any other name that does not fit.
    """
    if description.own is None:
        if is_own(name):
            raise UserError(
                f"the split '{name}' is for your own images, which {description.name} are not: {nearest('', SPLITS)}"
            )
        return name
    if is_own(name):
        return name
    if name != SPLITS[0]:
        theirs = OWN + ALL * teaches_all(name)
        raise UserError(f"{description.name} have a split of their own: write data.split = '{theirs}', not '{name}'")
    return OWN


def of_own(own: Own) -> Split:
    """The split of a set of own images. Raises UserError if two parts share a class or one is empty."""

    def part(names: Sequence[str]) -> Part:
        return Part(tuple(dict.fromkeys(name.partition("/")[0] for name in names)), characters=frozenset(names))

    return Split(OWN, *(part(own.split[name]) for name in ("train", "validation", "test")))


def split(name: str, description: Description) -> Split:
    """The split of this name (one of SPLITS or OWN_SPLITS) of the described data set.

    For Omniglot the alphabets are fixed by name; for other data sets they go by position, in the same proportions.
    Raises UserError for an unknown name, for a data set too small, or if two parts share a character.
    """
    if name not in (*SPLITS, *OWN_SPLITS):
        raise UserError(f"there is no split '{name}': {nearest(name, (*SPLITS, *OWN_SPLITS))}")
    name = fitting(name, description)
    if description.own:
        made = of_own(description.own)
        return made if name == OWN else _all(made, name)
    background = [one for one in description.alphabets if description.origin[one] == "background"]
    evaluation = tuple(one for one in description.alphabets if description.origin[one] == "evaluation")
    if len(background) < 2 or len(evaluation) < 2:
        raise UserError(
            f"a split needs 2 background and 2 evaluation alphabets, and {description.name} has {len(background)} and "
            f"{len(evaluation)}; take a data set with more alphabets"
        )
    if name == "koch":
        return _koch(description, background, evaluation)
    kind = name.removesuffix(ALL)
    if kind == "lake":
        made = _lake(description, background, evaluation)
    else:
        made = _minimal(kind, description, background, evaluation)
    return made if name == kind else _all(made, name)


def _all(made: Split, name: str) -> Split:
    """The split `name`: `made`, with its validation part added to train."""
    train, validation = made.train, made.validation
    every = tuple(dict.fromkeys(train.alphabets + validation.alphabets))
    # A group of own images may hold test classes too. In other data sets, whole alphabets are trained on.
    characters = train.characters | validation.characters if is_own(name) else None
    return replace(made, name=name, train=Part(every, characters=characters), validation_seen=True)


def _named(description: Description, names: Sequence[str]) -> tuple[str, ...]:
    for one in names:
        if one not in description.alphabets:
            raise UserError(
                f"{description.name} lacks the alphabet '{one}'; remove it and run `python -m oneshot.data` again"
            )
    return tuple(names)


def _lake(description: Description, background: list[str], evaluation: tuple[str, ...]) -> Split:
    """8 of the 30 background alphabets validate; in other data sets the last ones, in that proportion."""
    validation = tuple(background[-max(1, round(len(background) * 8 / 30)) :])
    if description.name == "omniglot":
        validation = _named(description, _LAKE_VALIDATION)
    taught = tuple(one for one in background if one not in validation)
    return Split("lake", Part(taught), Part(validation), Part(evaluation))


def _koch(description: Description, background: list[str], evaluation: tuple[str, ...]) -> Split:
    """Koch et al. 2015, section 4.2: 12 drawers train, 4 others validate on evaluation alphabets without fixed trials.

    The paper does not say which drawers. Here they are the first 12 and the next 4 of 20 (the same shares of another
    number). The fixed trials are by any of the 20, so the test part has all drawers.
    """
    drawers = sorted({drawer for all_ in description.drawers.values() for drawer in all_})
    teach, check = len(drawers) * 12 // 20, max(2, len(drawers) * 4 // 20)
    if teach < 2 or teach + check > len(drawers):
        raise UserError(f"the split 'koch' needs at least 4 drawers, and {description.name} has {len(drawers)}")
    return Split(
        "koch",
        train=Part(tuple(background), frozenset(drawers[:teach])),
        validation=Part(
            tuple(one for one in evaluation if one not in description.trial_alphabets),
            frozenset(drawers[teach : teach + check]),
        ),
        test=Part(tuple(one for one in evaluation if one in description.trial_alphabets)),
    )


def _minimal(name: str, description: Description, background: list[str], evaluation: tuple[str, ...]) -> Split:
    """Five background alphabets; some of their characters validate, the rest train.

    Characters are held out, not drawers: the task is to recognise a new character, and a known one by a new hand is
    easier. The largest alphabet gives 20 of them (half, if it has fewer than 40), so that there is a 20-way trial
    within it; each other alphabet gives every fifth. Raises UserError if there are fewer than five.
    """
    if description.name == "omniglot":
        alphabets = _named(description, _MINIMAL[name])
    else:
        if len(background) < 5:
            raise UserError(
                f"the split '{name}' needs 5 background alphabets, and {description.name} has {len(background)}; take a"
                " data set with more alphabets"
            )
        alphabets = tuple(background[:5] if name == "minimal1" else background[5:10])
        if len(alphabets) < 5:  # too few for two splits that differ in all of them
            alphabets = tuple(background[-5:])
    largest = max(alphabets, key=lambda one: len(description.characters[one]))
    every, held = [], []
    for alphabet in alphabets:
        names = [f"{alphabet}/{character}" for character in description.characters[alphabet]]
        every += names
        # Neighbours in an alphabet are often variants of each other, so both sides get every kind.
        held += names[1 : 2 * min(20, len(names) // 2) : 2] if alphabet == largest else names[4::5]
    return Split(
        name,
        train=Part(alphabets, characters=frozenset(every) - frozenset(held)),
        validation=Part(alphabets, characters=frozenset(held)),
        test=Part(evaluation),
    )


def load_part(folder: Folder, part: Part, *, pixels: bool = True) -> Drawings:
    """The drawings of a part, but for their pixels unless `pixels`. No pixel of any other alphabet is read."""
    drawings = load(folder, alphabets=part.alphabets, pixels=pixels)
    keep = np.ones(len(drawings), dtype=bool)
    if part.drawers is not None:
        keep &= np.isin(drawings.drawer, list(part.drawers))
    if part.characters is not None:
        chosen = np.array([name in part.characters for name in drawings.characters])
        keep &= chosen[drawings.character]
    return drawings if keep.all() else drawings.where(keep)
