"""What pages, their figures and model cards call the things that they are about."""

from dataclasses import dataclass

from oneshot.base.settings import OWN_SPLITS


@dataclass(frozen=True)
class Words:
    """Of Omniglot and of what is made like it."""

    one: str = "character"
    many: str = "characters"
    groups: str = "alphabets"
    group: str = "alphabet"
    test: str = "test alphabets"  # those that judge
    held: str = "validation alphabets"
    images: str = "drawings"
    numbered: str = "drawer"  # what tells the drawings of a character apart


OF_OWN = Words(  # of images of one's own
    "class", "classes", "groups", "group", "test classes", "validation classes", "images", "image"
)  # fmt: skip


def words_of(split: str) -> Words:
    """Of a data set, by its split."""
    return OF_OWN if split in OWN_SPLITS else Words()


def times(number: int) -> str:
    """How often, from 1 time."""
    return f"{number:,} time{'' if number == 1 else 's'}"
