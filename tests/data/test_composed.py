"""Composed alphabets: each character joins halves of two training characters drawn by the same drawer."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from oneshot.base.errors import UserError
from oneshot.base.settings import Data
from oneshot.base.storage import Folder
from oneshot.data import composed, store
from oneshot.data.drawings import Drawings, joined
from oneshot.training.parts import load_parts

SIDE, DRAWERS = 16, 3


def grey(sizes: list[int], *, drawers: int = DRAWERS) -> Drawings:
    """Alphabets of so many characters in random greys. With ink in all four corners they are already centred."""
    rng = np.random.default_rng(0)
    characters = sum(sizes)
    shape = rng.random((characters, 1, SIDE, SIDE)) < 0.3
    pictures = np.where(shape, rng.integers(1, 255, (characters, drawers, SIDE, SIDE)), 0)
    pictures[:, :, [[0], [-1]], [0, -1]] = 255
    return Drawings(
        packed=pictures.reshape(characters * drawers, -1).astype(np.uint8), height=SIDE, width=SIDE, bits=8,
        row=np.arange(characters * drawers), character=np.repeat(np.arange(characters), drawers),
        drawer=np.tile(np.arange(1, drawers + 1), characters),
        characters=tuple(f"{alphabet}/{n}" for alphabet, size in enumerate(sizes) for n in range(size)),
        alphabet_of=np.repeat(np.arange(len(sizes)), sizes), alphabets=tuple(str(n) for n in range(len(sizes))),
    )  # fmt: skip


def origin(own: Drawings, made: Drawings, character: int) -> tuple[int, int]:
    """The two characters of `own` that a character of `made` joins: in all its drawings, one on each side of a line."""
    rows = np.flatnonzero(made.character == character)
    known = own.pixels().reshape(len(own.characters), -1, SIDE, SIDE)[:, made.drawer[rows] - 1]
    same = (known == made.pixels(rows)).all(axis=1)
    found = [
        (a, b)
        for a, b in itertools.combinations(range(len(same)), 2)
        if (same[a] | same[b]).all() and line_between(same[a] & ~same[b], same[b] & ~same[a])
    ]
    assert len(found) == 1
    return found[0]


def line_between(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether a straight line separates the pixels of the one set from those of the other."""
    angles = np.linspace(0, 2 * np.pi, 7200, endpoint=False)
    direction = np.stack([np.sin(angles), np.cos(angles)])
    return bool(((np.argwhere(one) @ direction).max(axis=0) < (np.argwhere(other) @ direction).min(axis=0)).any())


def test_a_character_is_the_halves_of_two_of_one_alphabet_by_one_drawer() -> None:
    own = grey([6, 4])
    made = composed.extra(own, 5)
    assert np.bincount(made.alphabet_of).tolist() == [6, 4, 6, 4, 6]
    assert made.alphabets[-1] == "Composed_05" and made.characters[-1] == "Composed_05/character06"
    for alphabet in range(5):
        found = [origin(own, made, character) for character in np.flatnonzero(made.alphabet_of == alphabet)]
        assert {int(own.alphabet_of[each]) for pair in found for each in pair} == {alphabet % 2}
    assert np.bincount(made.character).tolist() == [DRAWERS] * len(made.characters)


def test_ink_meets_in_the_middle_and_stays_where_its_first_half_was() -> None:
    """Two vertical bars, one at the top left, one at the bottom right: composed, they are a bar of the same size."""
    own = grey([2], drawers=2)
    pictures = np.zeros((4, SIDE, SIDE), np.uint8)
    pictures[:2, 1:9, 3:5], pictures[2:, 6:14, 12:14] = 255, 255
    own = replace(own, packed=pictures.reshape(4, -1))
    for picture in composed.extra(own, 1).pixels():
        rows, columns = np.nonzero(picture)
        assert (rows.max() - rows.min(), columns.max() - columns.min()) == (7, 1) and len(rows) == 16
        assert (rows.min(), columns.min()) in ((1, 3), (6, 12))


def test_they_are_a_function_of_the_drawings_and_the_number_alone(small_glyphs: Folder) -> None:
    own = store.load(small_glyphs)
    own = own.where(own.alphabet < 3)
    few, many = composed.extra(own, 2), composed.extra(own, 4)
    assert np.array_equal(few.packed, many.packed[: len(few)])
    assert few.characters == many.characters[: len(few.characters)]
    fourth = many.pixels(np.flatnonzero(many.alphabet == 3))
    assert not np.array_equal(fourth, many.pixels(np.flatnonzero(many.alphabet == 0)))  # same source, other pairs
    bare = composed.extra(own, 4, pixels=False)
    assert bare.packed.size == 0 and bare.characters == many.characters and len(bare) == len(many)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda own: own.where(own.character < 1), "'0' has one character, and the halves come from two"),
        (lambda own: replace(own, drawer=np.arange(len(own))), "too few drawers have drawn two characters of '0'"),
    ],
)
def test_an_alphabet_that_gives_no_halves_is_refused(change: Callable[[Drawings], Drawings], reason: str) -> None:
    with pytest.raises(UserError, match=f"^data.composed_alphabets: {reason}"):
        composed.extra(change(grey([4])), 1)


@pytest.mark.parametrize("pixels", [True, False])
def test_photos_are_not_cut_into_halves(pixels: bool) -> None:
    photos = replace(grey([6, 4]), own=True, polarity="photo")
    with pytest.raises(UserError, match=r"^data\.composed_alphabets = 3: these images are photos, .*; set it to 0$"):
        composed.extra(photos, 3, pixels=pixels)
    assert len(composed.extra(replace(photos, polarity="light"), 3, pixels=pixels).alphabets) == 3


def test_a_training_is_taught_them_beside_its_own_and_measured_without(small_glyphs: Folder) -> None:
    how = Data(dataset="glyphs-8", split="minimal1")
    plain = load_parts(small_glyphs, how)
    parts = load_parts(small_glyphs, how.model_copy(update={"composed_alphabets": 2, "extra_alphabets": 1}))
    assert parts.train.alphabets == (*plain.train.alphabets, "Composed_01", "Composed_02", "Extra_01")
    assert parts.validation.characters == plain.validation.characters
    held_out = set(plain.validation.characters)
    assert held_out and not held_out & set(plain.train.characters)
    assert np.array_equal(
        parts.train.where(np.isin(parts.train.alphabet, (5, 6))).packed, composed.extra(plain.train, 2).packed
    )


def test_who_waits_for_them_hears_of_each(small_glyphs: Folder) -> None:
    """A thousand alphabets take minutes; without these calls, a worker of a cluster would seem to hang."""
    heard: list[int] = []
    how = Data(dataset="glyphs-8", split="minimal1", composed_alphabets=2, extra_alphabets=2)
    load_parts(small_glyphs, how, moved=lambda: heard.append(1))
    assert len(heard) > 4


def test_what_is_joined_to_ones_own_images_is_cleaned_as_they_are() -> None:
    own = replace(grey([4]), own=True, polarity="light")
    assert joined(own, composed.extra(own, 1)).cleaning == own.cleaning == {"side": SIDE, "polarity": "light"}
