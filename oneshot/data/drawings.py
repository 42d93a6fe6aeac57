"""Drawings in memory: one to be written to a file, many to be shown to a network, and the description of a set."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from oneshot.base.errors import UserError

MARK = 8  # how many hexadecimal digits of a set's digest name a making (version) of it
LEAST_MARK = 4  # fewest of these digits by which a person may name a making


@dataclass(frozen=True, eq=False)
class Row:
    """One drawing to be written to a file."""

    png: bytes
    ink: np.ndarray  # (height, width) uint8, 0 = paper, 255 = ink
    alphabet: str
    character: str
    drawer: int  # 1..127; for own images any number: that of the image in its class
    origin: str  # background | evaluation | own


@dataclass(frozen=True)
class Own:
    """Further facts about a set of the user's own images: how they became drawings, and their only split."""

    polarity: str  # one of `clean.POLARITIES`
    flat: bool  # the classes have no groups and form one alphabet
    by: str  # how the split was made: group | class | file
    split: dict[str, tuple[str, ...]]  # train, validation, test: characters as `Drawings.characters` names them


@dataclass(frozen=True)
class Description:
    """What a data set holds, known without reading a pixel. Mappings are keyed by alphabet."""

    name: str  # as shown to people: "omniglot", "glyphs (generated)"
    source: str
    digests: dict[str, str]  # hex digests of what it was made from
    height: int
    width: int
    bits: int  # per pixel: 1 or 8
    trial_alphabets: tuple[str, ...]  # those that carry the fixed trials
    characters: dict[str, tuple[str, ...]]
    drawings: dict[str, int]
    drawers: dict[str, tuple[int, ...]]
    origin: dict[str, str]
    own: Own | None = None

    @property
    def alphabets(self) -> tuple[str, ...]:
        """The alphabets, in the order of the file."""
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
        """For own images, the digits that follow "@" in the name of this making of the set; else empty."""
        return self.digests["images"][:MARK] if self.own and "images" in self.digests else ""

    def require(self, dataset: str) -> None:
        """Raise UserError if `dataset` is NAME@DIGEST and this is another making of it.

        The first LEAST_MARK digits of the digest, or more, are enough."""
        name, at, mark = dataset.partition("@")
        if not at:
            return
        if len(mark) < LEAST_MARK:
            raise UserError(
                f"'{dataset}' has fewer than {LEAST_MARK} digits after '@', too few to identify a version of '{name}':"
                f" name {name} for the current one, or {name}@{self.making}"
            )
        if not (self.making and self.digests["images"].startswith(mark)):
            raise UserError(
                f"the data set '{name}' was remade: it is {name}@{self.making} now, and not the {dataset} that was"
                f" asked for; begin another run, or name {name} for the current one"
            )


@dataclass(frozen=True, eq=False)
class Drawings:
    """N drawings in memory, bit-packed (bits=1) or as bytes (bits=8), of C characters in A alphabets."""

    packed: np.ndarray  # (N, bytes) uint8
    height: int
    width: int
    bits: int
    row: np.ndarray  # (N,) int64: each drawing's row in drawings.parquet
    character: np.ndarray  # (N,) int64: index into `characters`
    drawer: np.ndarray  # (N,) int64
    characters: tuple[str, ...]  # "Alphabet/character01", sorted within an alphabet
    alphabet_of: np.ndarray  # (C,) int64: index into `alphabets`
    alphabets: tuple[str, ...]
    own: bool = False  # the user's own images: `drawer` is not a person but numbers a character's images
    polarity: str = "dark"  # of the source images, one of `clean.POLARITIES`

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
        """The arguments of `clean.prepare` that made these from own images; None for other drawings."""
        return {"side": self.height, "polarity": self.polarity} if self.own else None

    def where(self, keep: np.ndarray) -> "Drawings":
        """The drawings for which `keep` (N,) is true; characters and alphabets with none left are dropped."""
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
    """Blur a coarse picture (H, W) and scale it to mean 0 and norm 1: (H * W,). Dot products are correlations."""
    cells = np.pad(cells, 1)
    cells = cells[:-2] + 2 * cells[1:-1] + cells[2:]
    cells = cells[:, :-2] + 2 * cells[:, 1:-1] + cells[:, 2:]
    cells -= cells.mean()
    return (cells / (np.linalg.norm(cells) or 1)).ravel()


def joined(one: Drawings, other: Drawings) -> Drawings:
    """The drawings of both. Row numbers of `other` follow those of `one`, whose `cleaning` stands for all.

    Raises UserError if their pictures differ in size or bits, or if they share an alphabet's name.
    """
    if (one.height, one.width, one.bits) != (other.height, other.width, other.bits):
        kinds = (f"{each.width} x {each.height} pixels of {each.bits} bit" for each in (one, other))
        raise UserError(f"drawings of {' and of '.join(kinds)} cannot be combined; leave one of them out")
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
