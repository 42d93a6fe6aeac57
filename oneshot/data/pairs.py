"""Datasets of pairs and of episodes: which drawings are compared in a batch.

Pair i of epoch e is a pure function of (seed, e, i); rank r of w takes every w-th pair of a batch. So the number of
workers changes the speed but not the pairs, and a resumed run needs no sampler state. Whole batches are made at once.
"""

from dataclasses import dataclass

import numpy as np

from oneshot.base import counter
from oneshot.base.errors import UserError, some
from oneshot.base.settings import Data, Train
from oneshot.data.drawings import Drawings

_NAMED = 5  # most alphabets named in a sentence


@dataclass(frozen=True)
class Pairs:
    """n pairs of drawings, by their positions in a `Drawings`."""

    left: np.ndarray  # (n,) int64
    right: np.ndarray  # (n,) int64
    same: np.ndarray  # (n,) bool: two drawings of one character
    turn: np.ndarray  # (n, 2) int64: position of the left and of the right drawing, see `_position`

    def __len__(self) -> int:
        return len(self.left)


@dataclass(frozen=True)
class Episode:
    """P characters x K drawings, to be encoded once and scored all against all."""

    drawing: np.ndarray  # (P * K,) int64: positions in a `Drawings`
    label: np.ndarray  # (P * K,) int64: which of the P characters
    turn: np.ndarray  # (P * K,) int64: position, see `_position`

    def __len__(self) -> int:
        return len(self.drawing)


def _position(u: np.ndarray, rotations: bool, flips: bool) -> np.ndarray:
    """Positions, int64, from numbers in [0, 1): 0 .. 3 are quarter turns, 4 .. 7 the same of a mirrored drawing."""
    eighth = (u * 8).astype(np.int64)
    return eighth // 4 * 4 * flips + (eighth % 4 if flips else eighth // 2) * rotations


class Characters:
    """Tables of the drawings of each character and the characters of each alphabet, to draw from by arithmetic."""

    def __init__(self, drawings: Drawings) -> None:
        self.alphabets = drawings.alphabets
        self.order = np.argsort(drawings.character, kind="stable")  # drawings, sorted by character
        self.drawings = np.bincount(drawings.character, minlength=len(drawings.characters))
        self.first_drawing = np.cumsum(self.drawings) - self.drawings
        self.alphabet_of = drawings.alphabet_of
        self.members = np.argsort(drawings.alphabet_of, kind="stable")  # characters, sorted by alphabet
        self.place = np.argsort(self.members)  # each character's place in `members`
        self.characters = np.bincount(drawings.alphabet_of, minlength=len(drawings.alphabets))
        self.first_member = np.cumsum(self.characters) - self.characters
        poor = np.flatnonzero(self.drawings < 2)
        if len(poor):
            name = drawings.characters[poor[0]]
            raise UserError(f"character '{name}' has {self.drawings[poor[0]]} drawing(s); a pair needs two")
        if len(self.drawings) < 2:
            raise UserError(f"{len(self.drawings)} character(s) to train on; different pairs need two")

    def __len__(self) -> int:
        return len(self.drawings)


def _tables(drawings: Drawings | Characters) -> Characters:
    return drawings if isinstance(drawings, Characters) else Characters(drawings)


class PairDataset:
    """Pairs of drawings, half of them of one character, half of two (Koch et al. 2015, section 4.2).

    Pairs 2j and 2j + 1 are one of each kind, in random order, so every even batch is exactly half and half, and a
    rank's share nearly so. A same pair is two different drawings of one character.

    `balance` gives alphabets equal weight; without it, characters have equal weight. `hard_negatives` is the share of
    the different pairs whose two characters are drawn from one alphabet. `rotations` turns a pair's characters by
    random quarter turns, `flips` mirrors them at random.
    """

    WIDTH = 12  # random words per pair

    def __init__(
        self,
        drawings: Drawings | Characters,
        *,
        seed: int,
        balance: bool = True,
        hard_negatives: float = 0.0,
        rotations: bool = False,
        flips: bool = False,
    ) -> None:
        self.characters = _tables(drawings)
        self.seed, self.balance, self.hard_negatives = seed, balance, hard_negatives
        self.rotations, self.flips = rotations, flips
        if hard_negatives and self.characters.characters.min() < 2:
            name = self.characters.alphabets[int(self.characters.characters.argmin())]
            raise UserError(f"data.hard_negatives: alphabet '{name}' has one character; pairs inside it need two")

    def untaught(self) -> str:
        """As for episodes, but always empty: every character comes."""
        return ""

    def pairs(self, *, epoch: int, start: int, count: int) -> Pairs:
        """Pairs start .. start + count - 1 of an epoch. Raises ValueError unless both numbers are even."""
        if start % 2 or count % 2:
            raise ValueError(f"pairs come in twos: start {start} and count {count} must be even")
        draw = counter.uniforms(counter.PAIRS, seed=self.seed, epoch=epoch, start=start, count=count, width=self.WIDTH)
        same = draw[0::2, 0] < 0.5
        same = np.stack([same, ~same], axis=1).reshape(-1)
        one = self._character(draw[:, 1], draw[:, 2])
        other = np.where(same, one, self._other(one, draw[:, [3, 4, 5, 10]]))
        left, right = self._drawings(one, other, same, draw[:, 6], draw[:, 7])
        turn = np.zeros((count, 2), dtype=np.int64)
        if self.rotations or self.flips:
            # Two different characters of one alphabet turn together, as neighbours in a turned alphabet.
            alphabet_of = self.characters.alphabet_of
            together = same | (alphabet_of[one] == alphabet_of[other])
            turn[:, 0] = _position(draw[:, 8], self.rotations, self.flips)
            turn[:, 1] = np.where(together, turn[:, 0], _position(draw[:, 9], self.rotations, self.flips))
        return Pairs(left, right, same, turn)

    def _character(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        chars = self.characters
        if not self.balance:
            return (u * len(chars)).astype(np.int64)
        alphabet = (u * len(chars.characters)).astype(np.int64)
        return chars.members[chars.first_member[alphabet] + (v * chars.characters[alphabet]).astype(np.int64)]

    def _other(self, one: np.ndarray, draw: np.ndarray) -> np.ndarray:
        """A character other than `one`: of its alphabet for the share `hard_negatives` of the pairs, else of any."""
        chars = self.characters
        size = chars.characters[chars.alphabet_of[one]]
        first = chars.first_member[chars.alphabet_of[one]]
        # A step of 1 .. size - 1 around the ring of the alphabet's characters reaches each of the others equally.
        step = 1 + (draw[:, 1] * (size - 1)).astype(np.int64)
        inside = chars.members[first + (chars.place[one] - first + step) % size]
        anywhere = self._character(draw[:, 1], draw[:, 2])
        around = (one + 1 + (draw[:, 3] * (len(chars) - 1)).astype(np.int64)) % len(chars)
        anywhere = np.where(anywhere == one, around, anywhere)
        return np.where((draw[:, 0] < self.hard_negatives) & (size > 1), inside, anywhere)

    def _drawings(
        self, one: np.ndarray, other: np.ndarray, same: np.ndarray, u: np.ndarray, v: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        chars = self.characters
        left = (u * chars.drawings[one]).astype(np.int64)
        right = (v * chars.drawings[other]).astype(np.int64)
        # A step around the ring of the character's drawings never pairs a drawing with itself.
        step = 1 + (v * (chars.drawings[one] - 1)).astype(np.int64)
        right = np.where(same, (left + step) % chars.drawings[one], right)
        return chars.order[chars.first_drawing[one] + left], chars.order[chars.first_drawing[other] + right]


class EpisodeDataset:
    """Batches of P characters x K drawings; batch b of epoch e is a pure function of (seed, e, b).

    If `alphabets` is above 0, each of that many alphabets gives P / alphabets characters, so most negatives are hard;
    an alphabet with fewer is never taught (`untaught`). If 0, an episode has any P characters. `balance` gives
    alphabets equal weight; without it, characters have equal weight. `rotations` turns each alphabet's characters
    together, `flips` mirrors them together.
    """

    def __init__(
        self, drawings: Drawings | Characters, *, seed: int, batch: int, drawers: int, alphabets: int,
        balance: bool = True, rotations: bool = False, flips: bool = False,
    ) -> None:  # fmt: skip
        self.characters = _tables(drawings)
        self.seed, self.batch, self.drawers, self.alphabets = seed, batch, drawers, alphabets
        self.balance, self.rotations, self.flips = balance, rotations, flips
        self.each = batch // drawers // max(alphabets, 1)  # characters from each alphabet
        fewest = int(self.characters.drawings.min())
        if fewest < drawers:
            raise UserError(f"data.drawers = {drawers}: a character of the training set has only {fewest} drawings")
        rich = int((self.characters.characters >= self.each).sum())
        if alphabets and rich < alphabets:
            enough = alphabets <= len(self.characters.alphabets)
            remedy = "make the batch smaller or data.alphabets larger" if enough else "make data.alphabets smaller"
            raise UserError(
                f"train.batch = {batch}: an episode needs {alphabets} alphabets of {self.each} characters;"
                f" the training set has {rich}; {remedy}"
            )
        if not alphabets and len(self.characters) < self.each:
            raise UserError(f"train.batch = {batch}: needs {self.each} characters; there are {len(self.characters)}")

    def untaught(self) -> str:
        """A sentence on the alphabets that have too few characters for an episode and so never come; or empty."""
        chars = self.characters
        small = [chars.alphabets[each] for each in np.flatnonzero(chars.characters < self.each)]
        if not self.alphabets or not small:
            return ""
        have, are = ("have", "are") if len(small) > 1 else ("has", "is")
        return (
            f"episodes of {self.each} characters an alphabet: {len(small)} of {len(chars.alphabets)} alphabets {have}"
            f" fewer and {are} not trained on: {some(small, _NAMED)}"
        )

    def episode(self, *, epoch: int, step: int) -> Episode:
        """Batch number `step` of an epoch."""
        chars = self.characters
        width = len(chars.characters) * 2 + len(chars) + self.batch // self.drawers * int(chars.drawings.max() + 1)
        draw = counter.uniforms(counter.EPISODES, seed=self.seed, epoch=epoch, start=step, count=1, width=width)[0]
        for_alphabets, for_turns, draw = np.split(draw, [len(chars.characters), 2 * len(chars.characters)])
        for_characters, for_drawings = draw[: len(chars)], draw[len(chars) :]
        character = self._choose(for_alphabets, for_characters)
        count = int(chars.drawings.max())
        # The K smallest random keys pick K different drawings. Keys of 2 stand for drawings that a character lacks.
        keys = for_drawings[: len(character) * count].reshape(len(character), count).copy()
        keys[np.arange(count) >= chars.drawings[character][:, None]] = 2.0
        nth = np.argsort(keys, axis=1)[:, : self.drawers]
        drawing = chars.order[chars.first_drawing[character][:, None] + nth].reshape(-1)
        turn = _position(for_turns[chars.alphabet_of[character]], self.rotations, self.flips)
        label = np.repeat(np.arange(len(character)), self.drawers)
        return Episode(drawing, label, np.repeat(turn, self.drawers))

    def _choose(self, for_alphabets: np.ndarray, for_characters: np.ndarray) -> np.ndarray:
        chars = self.characters
        # Taking the smallest of exponential waiting times samples without replacement by weight.
        if not self.alphabets:
            weight = 1 / chars.characters[chars.alphabet_of] if self.balance else np.ones(len(chars))
            return np.argsort(-np.log1p(-for_characters) / weight)[: self.each]
        weight = np.ones(len(chars.characters)) if self.balance else chars.characters
        waiting = -np.log1p(-for_alphabets) / weight
        waiting[chars.characters < self.each] = np.inf
        chosen = np.argsort(waiting)[: self.alphabets]
        picks = []
        for alphabet in chosen:
            first, size = chars.first_member[alphabet], chars.characters[alphabet]
            members = chars.members[first : first + size]
            picks.append(members[np.argsort(for_characters[members])[: self.each]])
        return np.concatenate(picks)


def dataset(drawings: Drawings | Characters, *, data: Data, train: Train) -> PairDataset | EpisodeDataset:
    """The dataset that the settings ask for. Raises UserError if these drawings do not suffice for it."""
    if data.sampling == "pairs":
        return PairDataset(
            drawings, seed=train.seed, balance=data.balance, hard_negatives=data.hard_negatives,
            rotations=data.rotations, flips=data.flips,
        )  # fmt: skip
    return EpisodeDataset(
        drawings, seed=train.seed, batch=train.batch, drawers=data.drawers, alphabets=data.alphabets,
        balance=data.balance, rotations=data.rotations, flips=data.flips,
    )  # fmt: skip
