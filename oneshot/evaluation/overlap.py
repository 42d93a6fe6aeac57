"""Whether what judges a network is new to it, by what its card says of its training. Free of torch."""

from collections.abc import Mapping
from typing import Any

from oneshot.base.errors import UserError
from oneshot.data import glyphs, splits
from oneshot.data.store import Description


def overlap(data: Mapping[str, Any], about: Description, *, dataset: str, split: str) -> str | None:
    """Why the figures on the test part of a split flatter a network, or may: how many of its alphabets the network was
    trained or validated on; None where all are new to it.

    `data`: that section of the network's own settings; `about` describes `dataset`, which judges it. Raises UserError
    where that has no such split.
    """
    test = splits.split(split, about).test
    what = "classes" if about.own else "alphabets"
    nobody = f"nobody can tell which test {what} are new to this network"
    theirs, how = str(data.get("dataset", "auto")), str(data.get("split", "lake"))
    if theirs == "auto":
        return f"{nobody}: its card does not say what it was trained on"
    if _another_making(theirs, about, dataset):
        return f"{nobody}: it was trained on {theirs}, another making of these images"
    try:
        known = _described(theirs, about, dataset)
        taught = splits.split(how, known) if known else None
    except UserError as error:  # a card may come from anybody
        return f"{nobody}: its card says {theirs}, split {how} ({error})"
    if taught is None:
        return None
    shared = {name for part in (taught.train, taught.validation) for name in splits.shared(part, test)}
    if not shared:
        return None
    count = len(test.characters or test.alphabets)
    return (
        f"{len(shared)} of the {count} test {what} are not new to this network, which was trained or validated on them"
        f" ({theirs}, split {how})"
    )


def _another_making(theirs: str, about: Description, dataset: str) -> bool:
    """Whether a network was trained on images of one's own that are called as these, and are others."""
    name, _, mark = theirs.partition("@")
    return bool(about.making) and name == dataset.partition("@")[0] and mark != about.making


def _described(theirs: str, about: Description, dataset: str) -> Description | None:
    """What the data set holds that a network was trained on; None where that has nothing in common with `dataset`.

    Generated alphabets depend on the seed and their number alone: those of fewer are among those of more. A making of
    one's own images is the same under any name.
    """
    ours, trained = glyphs.numbers_of(dataset), glyphs.numbers_of(theirs)
    if ours and trained:
        return glyphs.described(*trained) if trained[1] == ours[1] else None
    if theirs == dataset or (about.making and theirs.partition("@")[2] == about.making):
        return about
    return None
