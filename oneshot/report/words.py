"""What the page and its figures call the things that they are about."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Words:
    """Of Omniglot and of what is made like it."""

    one: str = "character"
    many: str = "characters"
    groups: str = "alphabets"
    test: str = "test alphabets"  # those that judge
    numbered: str = "drawer"  # what tells the drawings of a character apart


OF_OWN = Words("class", "classes", "groups", "test classes", "image")  # of images of one's own


def times(number: int) -> str:
    """How often, from 1 time."""
    return f"{number:,} time{'' if number == 1 else 's'}"
