"""Drawings in memory: one on its way into a file, many as a network meets them, and what is known of a whole set."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from oneshot.base.errors import UserError

MARK = 8  # hexadecimal digits of a set's digest: which making of it
LEAST_MARK = 4  # of them, that a person may name it by


@dataclass(frozen=True, eq=False)
class Row:
    """One drawing on its way into a file."""

    png: bytes
    ink: np.ndarray  # (height, width) uint8, 0 = paper, 255 = ink
    alphabet: str
    character: str
    drawer: int  # 1..127; of own images any number: which of its class
    origin: str  # background | evaluation | own


@dataclass(frozen=True)
class Own:
    """What is known besides of a set of images of one's own: how they became drawings, and their one split."""

    polarity: str  # one of `clean.POLARITIES`
    flat: bool  # classes without groups: they are one alphabet
    by: str  # the split: by group | class | file
    split: dict[str, tuple[str, ...]]  # train, validation, test: characters as `Drawings.characters` names them


@dataclass(frozen=True)
class Description:
    """What a data set holds, known without reading a pixel. Mappings go by alphabet."""

    name: str  # as shown to people: "omniglot", "glyphs (generated)"
    source: str
    digests: dict[str, str]  # of what it was made from, hex
    height: int
    width: int
    bits: int  # a pixel: 1 or 8
    trial_alphabets: tuple[str, ...]  # those that carry the fixed trials
    characters: dict[str, tuple[str, ...]]
    drawings: dict[str, int]
    drawers: dict[str, tuple[int, ...]]
    origin: dict[str, str]
    own: Own | None = None

    @property
    def alphabets(self) -> tuple[str, ...]:
        """In the order of the file."""
        return tuple(self.drawings)

    @property
    def rows(self) -> int:
        return sum(self.drawings.values())

    @property
    def classes(self) -> tuple[str, ...]:
        """Every character, as `Drawings.characters` names them."""
        return tuple(f"{alphabet}/{name}" for alphabet, names in self.characters.items() for name in names)

    @property
    def making(self) -> str:
        """Of one's own images: which making of the set this is, as its name has it after "@"; else empty."""
        return self.digests["images"][:MARK] if self.own and "images" in self.digests else ""

    def require(self, dataset: str) -> None:
        """Raises UserError where `dataset` is NAME@DIGEST and this is another making of it.

        Its first few digits are enough of a digest."""
        name, at, mark = dataset.partition("@")
        if not at:
            return
        if len(mark) < LEAST_MARK:
            raise UserError(
                f"'{dataset}' has fewer than {LEAST_MARK} digits after '@', by which a making of '{name}' is known:"
                f" name {name}, which takes it as it is, or {name}@{self.making}"
            )
        if not (self.making and self.digests["images"].startswith(mark)):
            raise UserError(
                f"the data set '{name}' was made anew: it is {name}@{self.making} now, and not the {dataset} that is"
                f" asked for; begin another run, or name {name} to take it as it is"
            )


@dataclass(frozen=True, eq=False)
class Drawings:
    """N drawings in memory, bit-packed (bits=1) or as bytes (bits=8), of C characters in A alphabets."""

    packed: np.ndarray  # (N, bytes) uint8
    height: int
    width: int
    bits: int
    row: np.ndarray  # (N,) int64: the row of drawings.parquet each one is
    character: np.ndarray  # (N,) int64: index into `characters`
    drawer: np.ndarray  # (N,) int64
    characters: tuple[str, ...]  # "Alphabet/character01", sorted within an alphabet
    alphabet_of: np.ndarray  # (C,) int64: index into `alphabets`
    alphabets: tuple[str, ...]
    own: bool = False  # of one's own images: then `drawer` is no person, it only numbers a character's images
    polarity: str = "dark"  # how the images were that these come from, as in `clean.POLARITIES`

    def __len__(self) -> int:
        return len(self.row)

    @cached_property
    def alphabet(self) -> np.ndarray:
        """(N,) int64: index into `alphabets`."""
        return self.alphabet_of[self.character]

    def pixels(self, rows: np.ndarray | Sequence[int] | slice | None = None) -> np.ndarray:
        """uint8 (n, height, width), 0 = paper .. 255 = ink, of all drawings or of those at the positions `rows`."""
        packed = self.packed if rows is None else self.packed[rows]
        if self.bits == 8:
            return packed.reshape(-1, self.height, self.width).copy()
        ink = np.unpackbits(packed, axis=1, count=self.height * self.width)
        return np.negative(ink, out=ink).reshape(-1, self.height, self.width)  # 1 becomes 255

    @property
    def cleaning(self) -> dict[str, Any] | None:
        """How one's own images became these, as `clean.prepare` takes it; None of drawings that are none."""
        return {"side": self.height, "polarity": self.polarity} if self.own else None

    def where(self, keep: np.ndarray) -> "Drawings":
        """The drawings for which `keep` (N,) is true; characters and alphabets with none left leave the lists."""
        used, character = np.unique(self.character[keep], return_inverse=True)
        alphabets, alphabet_of = np.unique(self.alphabet_of[used], return_inverse=True)
        return replace(
            self,
            packed=self.packed[keep],
            row=self.row[keep],
            character=character,
            drawer=self.drawer[keep],
            characters=tuple(self.characters[index] for index in used),
            alphabet_of=alphabet_of,
            alphabets=tuple(self.alphabets[index] for index in alphabets),
        )


def look(cells: np.ndarray) -> np.ndarray:
    """How a picture of few cells (H, W) looks from afar: blurred, mean 0, norm 1. Products are correlations."""
    cells = np.pad(cells, 1)
    cells = cells[:-2] + 2 * cells[1:-1] + cells[2:]
    cells = cells[:, :-2] + 2 * cells[:, 1:-1] + cells[:, 2:]
    cells -= cells.mean()
    return (cells / (np.linalg.norm(cells) or 1)).ravel()


def joined(one: Drawings, other: Drawings) -> Drawings:
    """The drawings of both; rows of the second count on from those of the first, whose cleaning is said to be that of
    all.

    Raises UserError where their pictures are of other sizes or kinds, or where they share an alphabet's name.
    """
    if (one.height, one.width, one.bits) != (other.height, other.width, other.bits):
        kinds = (f"{each.width} x {each.height} pixels of {each.bits} bit" for each in (one, other))
        raise UserError(f"drawings of {' and of '.join(kinds)} do not go together; leave one of them out")
    if shared := set(one.alphabets) & set(other.alphabets):
        raise UserError(f"there are two alphabets '{min(shared)}'; leave one of them out")
    return replace(
        one,
        packed=np.concatenate([one.packed, other.packed]),
        row=np.concatenate([one.row, other.row + int(one.row.max(initial=-1)) + 1]),
        character=np.concatenate([one.character, other.character + len(one.characters)]),
        drawer=np.concatenate([one.drawer, other.drawer]),
        characters=one.characters + other.characters,
        alphabet_of=np.concatenate([one.alphabet_of, other.alphabet_of + len(one.alphabets)]),
        alphabets=one.alphabets + other.alphabets,
    )


@dataclass(frozen=True, eq=False)
class FixedTrials:
    """T trials that never change, as rows of drawings.parquet."""

    run: np.ndarray  # (T,) int64
    query: np.ndarray  # (T,) int64
    support: np.ndarray  # (T, n_way) int64
    target: np.ndarray  # (T,) int64: which of the n_way shows the query's character
