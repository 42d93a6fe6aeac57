"""Whether the test alphabets are new to a network, by what its card says of its training. Free of torch."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from oneshot.base.errors import UserError
from oneshot.data import glyphs, splits
from oneshot.data.drawings import Description
from oneshot.data.splits import Part


def overlap(
    data: Mapping[str, Any], about: Description, *, dataset: str, split: str, start: Sequence[Mapping[str, Any]] = ()
) -> str | None:
    """Why the figures on the test part of a split flatter a network, or may: how many of its alphabets the network, or
    one that it started from, was trained or validated on. None if all are new to it.

    `data`: that section of the network's own settings; `start`: what its card has of the networks it started from;
    `about` describes `dataset`, which judges it. Raises UserError if that has no such split.
    """
    test = splits.split(split, about).test
    what = "classes" if about.own else "alphabets"
    names: set[str] = set()
    taught, doubts = [], []
    for each, own in ((data, True), *((section, False) for section in _sections(start))):
        found, doubt = _known(each, about, dataset=dataset, part=test, parts=("train", "validation"), own=own)
        if found - names:
            on = "was trained or validated on them" if own else "started from one that was trained or validated on them"
            taught.append(f"{on} ({_told(each)})")
        names |= found
        doubts += [f"nobody can tell which test {what} are new to this network: {doubt}"] if doubt else []
    said = list(dict.fromkeys(doubts))
    if names:
        count = len(test.characters or test.alphabets)
        which = " and ".join(taught)
        said.insert(0, f"{len(names)} of the {count} test {what} are not new to this network, which {which}")
    return "; ".join(said) or None


def taught(
    start: Sequence[Mapping[str, Any]], about: Description, *, dataset: str, split: str
) -> bool | Literal["perhaps"]:
    """Whether one of the networks that a training started from was taught the validation part of a split; "perhaps" if
    nobody can tell. The arguments are those of `overlap`."""
    part = splits.split(split, about).validation
    known = [
        _known(each, about, dataset=dataset, part=part, parts=("train",), own=False) for each in _sections(start)
    ]  # fmt: skip
    if any(found for found, _ in known):
        return True
    return "perhaps" if any(doubt for _, doubt in known) else False


def _sections(start: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The `data` section of the settings of each."""
    return [each["settings"].get("data", {}) for each in start]


def _told(data: Mapping[str, Any]) -> str:
    return f"{_dataset(data)}, split {_split(data)}"


def _dataset(data: Mapping[str, Any]) -> str:
    return str(data.get("dataset", "auto"))


def _split(data: Mapping[str, Any]) -> str:
    return str(data.get("split", "lake"))


def _known(
    data: Mapping[str, Any], about: Description, *, dataset: str, part: Part, parts: Sequence[str], own: bool
) -> tuple[set[str], str]:
    """The names in `part` of `dataset` that were in these `parts` of the data a network was trained on; and why nobody
    can tell, if so. `own`: `data` is the network's own, not that of one it started from."""
    who, it = ("", "it") if own else ("it started from another, and ", "that")
    theirs = _dataset(data)
    if theirs == "auto":
        return set(), f"{who}its card does not say what it was trained on"
    if _another_making(theirs, about, dataset):
        return set(), f"{who}{it} was trained on {theirs}, another version of these images"
    try:
        known = _described(theirs, about, dataset)
        found = splits.split(_split(data), known) if known else None
    except UserError as error:  # a card may come from anybody
        return set(), f"{who}its card says {_told(data)} ({error})"
    return {name for each in parts if found for name in splits.shared(getattr(found, each), part)}, ""


def _another_making(theirs: str, about: Description, dataset: str) -> bool:
    """Whether a network was trained on images of one's own that have the same name as these but are others."""
    name, _, mark = theirs.partition("@")
    return bool(about.making) and name == dataset.partition("@")[0] and mark != about.making


def _described(theirs: str, about: Description, dataset: str) -> Description | None:
    """A description of the data set that a network was trained on; None if it shares nothing with `dataset`.

    Generated alphabets depend on the seed and their number alone: a smaller set is part of a larger one. A making of
    one's own images is the same under any name.
    """
    ours, trained = glyphs.numbers_of(dataset), glyphs.numbers_of(theirs)
    if ours and trained:
        return glyphs.described(*trained) if trained[1] == ours[1] else None
    if theirs == dataset or (about.making and theirs.partition("@")[2] == about.making):
        return about
    return None
