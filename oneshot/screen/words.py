"""What pages, their figures and model cards call the things that they are about."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from oneshot.base.settings import OWN_SPLITS


@dataclass(frozen=True)
class Words:
    """The words for Omniglot and for data made like it."""

    one: str = "character"
    many: str = "characters"
    groups: str = "alphabets"
    group: str = "alphabet"
    test: str = "test alphabets"  # those that a network is judged on
    held: str = "validation alphabets"
    images: str = "drawings"
    numbered: str = "drawer"  # what tells the drawings of a character apart


OF_OWN = Words(  # for images of one's own
    "class", "classes", "groups", "group", "test classes", "validation classes", "images", "image"
)  # fmt: skip


def words_of(split: str | None) -> Words:
    """The words for a data set, by its split."""
    return OF_OWN if split in OWN_SPLITS else Words()


def words_for(card: Mapping[str, Any]) -> Words:
    """The words for the data that a network was trained on, by its card, which may not say."""
    return words_of(card["provenance"]["settings"].get("data", {}).get("split"))


def times(number: int) -> str:
    """A number of times in words: `1 time`, `2 times`."""
    return f"{number:,} time{'' if number == 1 else 's'}"
