"""Alphabets composed of halves: further characters for a small data set, in the hands of its own drawers.

A composed character joins the half of one character on one side of a line with the half of another character of the
same alphabet on the other side, both by the same drawer. So it has the pens, the strokes and the habits of real people,
which generated glyphs (`glyphs`) only resemble. Other characters of its alphabet share a half with it, so telling them
apart takes a look at the whole. For the user's own images the drawers are unknown: the k-th image of each class, by
name, counts as drawer k's, and the two halves are by one hand only if the files are numbered that way.
"""

from collections.abc import Callable, Iterator

import numpy as np

from oneshot.base.errors import UserError
from oneshot.data.drawings import Drawings, look

_SEED = 2**33  # not the seed of any data set, nor that of the generated extra alphabets
_SHARE = 0.2  # the least share of its character's ink that a half has
_ASIDE = 0.15  # the greatest distance of the line from the middle, as a share of the sides
_ATTEMPTS = 50  # attempts at one character before more likeness and emptier halves are accepted
_CELLS = 21  # side of the blurred picture by which characters are compared


def extra(own: Drawings, count: int, *, pixels: bool = True, moved: Callable[[], object] = lambda: None) -> Drawings:
    """Compose `count` alphabets from those of `own`, in turn; alphabet k is a function of `own` and k alone.

    Each has as many characters as its source alphabet. Its characters are no more alike, to each other or to the source
    characters, than the two most alike source characters; this limit rises if it leaves too few. Without `pixels`
    nothing is composed, and `packed` is empty. `moved` is called after each alphabet. Raises UserError for an alphabet
    of one character, or whose characters have too few drawers in common, and for photos, which have neither strokes nor
    paper to cut between them.
    """
    if own.own and own.polarity == "photo":
        raise UserError(
            f"data.composed_alphabets = {count}: these images are photos, and half of one beside half of another shows"
            " nothing; set it to 0"
        )
    made: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in range(count)]
    for first in range(min(count, len(own.alphabets))):  # one at a time: a source holds unpacked pictures
        source = _Source(own, first, pixels=pixels)
        for number in range(first, count, len(own.alphabets)):
            made[number] = list(source.composed(np.random.default_rng([_SEED, number])) if pixels else source.counted())
            moved()
    drawers = [by for alphabet in made for _, by in alphabet]
    alphabet_of = np.repeat(np.arange(count), [len(alphabet) for alphabet in made])
    names = [f"Composed_{number + 1:02d}" for number in range(count)]
    return Drawings(
        packed=np.concatenate([packed for alphabet in made for packed, _ in alphabet]),
        height=own.height, width=own.width, bits=own.bits,
        row=np.arange(sum(map(len, drawers))),
        character=np.repeat(np.arange(len(drawers)), [len(by) for by in drawers]),
        drawer=np.concatenate(drawers),
        characters=tuple(
            f"{name}/character{nth:02d}"
            for name, alphabet in zip(names, made, strict=True)
            for nth in range(1, len(alphabet) + 1)
        ),
        alphabet_of=alphabet_of,
        alphabets=tuple(names),
        own=own.own, polarity=own.polarity,
    )  # fmt: skip


class _Source:
    """An alphabet whose characters are halved. Characters are numbered by their place in it."""

    def __init__(self, own: Drawings, alphabet: int, *, pixels: bool) -> None:
        self.own, self.name = own, own.alphabets[alphabet]
        members = np.flatnonzero(own.alphabet_of == alphabet)
        self.rows = [rows[np.argsort(own.drawer[rows], kind="stable")]
                     for rows in (np.flatnonzero(own.character == each) for each in members)]  # fmt: skip
        if len(members) < 2:
            raise UserError(f"data.composed_alphabets: '{self.name}' has one character, and the halves come from two")
        if pixels:
            self.centred = [_centred(own.pixels(rows)) for rows in self.rows]
            self.looks = np.stack([_look(pictures) for pictures, _ in self.centred])
            self.alike = float(np.triu(self.looks @ self.looks.T, 1).max())

    def counted(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Like `composed`, without pictures: as many characters, each with at least as many drawings."""
        for rows in self.rows:
            yield np.zeros((len(rows), 0), np.uint8), self.own.drawer[rows]

    def composed(self, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield each new character's drawings, packed, and their drawers (n,)."""
        looks, alike, share, failed = self.looks, self.alike, _SHARE, 0
        while len(looks) < 2 * len(self.rows):
            if failed and failed % _ATTEMPTS == 0:
                alike, share = (alike + 1.1) / 2, share / 2
            if failed > 40 * _ATTEMPTS:
                raise UserError(
                    f"data.composed_alphabets: too few drawers have drawn two characters of '{self.name}'; leave it out"
                )
            failed += 1
            a, b = rng.choice(len(self.rows), 2, replace=False)
            pictures, by = self._joined(a, b, _side(rng, self.own.height, self.own.width), share)
            if len(by) < 2 or (looks @ (seen := _look(pictures)) > alike).any():
                continue
            looks, failed = np.concatenate([looks, seen[None]]), 0
            yield _packed(pictures, self.own.bits), by

    def _joined(self, a: int, b: int, side: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
        """Join `a` where `side` (height, width) is true with `b` where it is false, at the place of `a`.

        Returns the pictures and their drawers, who drew both; none if a half has less than `share` of its ink."""
        own, rows, others = self.own, self.rows[a], self.rows[b]
        by, of_a, of_b = np.intersect1d(own.drawer[rows], own.drawer[others], return_indices=True)
        (one, shift), (other, _) = self.centred[a], self.centred[b]
        one, shift, other = one[of_a], shift[of_a], other[of_b]
        first, second = one * side, other * ~side
        if not len(by) or min(_share(first, one), _share(second, other)) < share:
            return one[:0], by[:0]
        return _moved(first + second, -shift), by


def _side(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """The pixels on one side of a line in a random direction: bool (height, width)."""
    angle, aside = rng.uniform(0, 2 * np.pi), rng.uniform(-_ASIDE, _ASIDE)
    y, x = ((np.arange(size) + 0.5) / size - 0.5 for size in (height, width))
    return np.sin(angle) * y[:, None] + np.cos(angle) * x < aside


def _centred(pictures_NHW: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The drawings, each moved so that its ink is in the middle, and their shifts (N, 2)."""
    shift_N2 = np.stack([_to_the_middle((pictures_NHW > 0).any(axis=other)) for other in (2, 1)], axis=1)
    return _moved(pictures_NHW, shift_N2), shift_N2


def _to_the_middle(inked_NS: np.ndarray) -> np.ndarray:
    """The shifts that bring the rows or columns with ink to the middle, (N,)."""
    first, last = inked_NS.argmax(axis=1), inked_NS.shape[1] - 1 - inked_NS[:, ::-1].argmax(axis=1)
    return (inked_NS.shape[1] - 1 - first - last) // 2


def _moved(pictures_NHW: np.ndarray, shift_N2: np.ndarray) -> np.ndarray:
    """Move each picture down and right; ink that leaves it is lost."""
    moved = np.zeros_like(pictures_NHW)
    for to, picture, (down, right) in zip(moved, pictures_NHW, shift_N2.tolist(), strict=True):
        kept = picture[max(-down, 0) : len(picture) - max(down, 0), max(-right, 0) : picture.shape[1] - max(right, 0)]
        top, left = max(down, 0), max(right, 0)
        to[top : top + kept.shape[0], left : left + kept.shape[1]] = kept
    return moved


def _share(half: np.ndarray, whole: np.ndarray) -> float:
    """The median share of a drawing's ink that its half has."""
    return float(np.median((half > 0).sum(axis=(1, 2)) / np.maximum((whole > 0).sum(axis=(1, 2)), 1)))


def _look(pictures_NHW: np.ndarray) -> np.ndarray:
    """A coarse picture of a character by `look`: the mean of its drawings, in at most _CELLS x _CELLS cells."""
    mean = (pictures_NHW > 0).mean(axis=0)
    for axis, side in enumerate(mean.shape):
        cells = min(_CELLS, side)
        sizes = np.full(cells, side // cells) + (np.arange(cells) < side % cells)
        total = np.add.reduceat(mean, np.cumsum(sizes) - sizes, axis)
        mean = total / np.expand_dims(sizes, 1 - axis)
    return look(mean)


def _packed(pictures_NHW: np.ndarray, bits: int) -> np.ndarray:
    flat = pictures_NHW.reshape(len(pictures_NHW), -1)
    return flat if bits == 8 else np.packbits(flat > 0, axis=1)
