"""How one-shot trials are drawn, many at once, from the drawings there are to pick from. `trials` has the protocols.

Legend of shapes: T trials, C characters, D drawers, G groups of characters; positions index a `Drawings`.
"""

from collections.abc import Iterator
from zlib import crc32

import numpy as np

from oneshot.base.errors import UserError
from oneshot.data.drawings import Drawings
from oneshot.evaluation.scoring import Trials

_BLOCK = 1 << 20  # random numbers held at once while trials are made: the memory is bounded whatever is asked for
_ROUNDS = 100  # how often drawers are drawn again if they have too few characters in common


class Unsuited(UserError):
    """These drawings cannot carry this protocol: too few characters, drawers or drawings."""


class Table:
    """Where the drawing of each (character, drawer) lies, so that many can be picked at once.

    `count` and `start` are (C, D), D the different drawers: the drawings of a cell are at order[start : start + count].
    There is at most one, since a person draws a character once. The drawings of a character follow each other.
    """

    def __init__(self, drawings: Drawings) -> None:
        numbers, drawer = np.unique(drawings.drawer, return_inverse=True)
        shape = (len(drawings.characters), len(numbers))
        cell = drawings.character * len(numbers) + drawer
        self.order = np.argsort(cell, kind="stable")
        count = np.bincount(cell, minlength=shape[0] * shape[1])
        self.count = count.reshape(shape)
        self.start = (count.cumsum() - count).reshape(shape)
        self.present = self.count > 0
        self.own = drawings.own


def everyone(drawings: Drawings) -> np.ndarray:
    """All characters as one group, bool (1, C)."""
    return np.ones((1, len(drawings.characters)), dtype=bool)


def by_drawing(
    name: str, drawings: Drawings, groups: np.ndarray, trials: int, n_way: int, k_shot: int, seed: int
) -> Trials:
    """Trials, each inside one of the `groups` (G, C) bool: any different drawings of a character, whoever drew them."""
    table = Table(drawings)
    generator = _generator(name, seed)
    drawn = table.count.sum(axis=1)
    groups = groups & (drawn > k_shot)
    parts = []
    for size in _blocks(trials, max(len(drawn), n_way * int(drawn.max()))):
        character = _choose(generator, groups[generator.integers(len(groups), size=size)], n_way)
        which = np.arange(drawn.max()) < drawn[character].reshape(-1, 1)
        nth = _choose(generator, which, k_shot + 1).reshape(size, n_way, k_shot + 1)
        drawing = table.order[table.start[character, 0][..., None] + nth]
        target = generator.integers(n_way, size=size)
        parts.append((drawing[np.arange(size), target, k_shot], drawing[..., :k_shot], target))
    return _joined(name, parts, seed)


def by_drawer(
    name: str, drawings: Drawings, groups: np.ndarray, trials: int, n_way: int, k_shot: int, seed: int
) -> Trials:
    """Trials, each inside one of the `groups` (G, C) bool: drawer A for the query, B1..Bk != A for the support."""
    table = Table(drawings)
    generator = _generator(name, seed)
    parts = []
    for size in _blocks(trials, max(table.count.shape) * (k_shot + 1)):
        drawer, known = _draw_drawers(
            name, generator, groups[generator.integers(len(groups), size=size)], table, n_way, k_shot
        )
        character = _choose(generator, known, n_way)
        target = generator.integers(n_way, size=size)
        asked = table.start[character[np.arange(size), target], drawer[:, 0]]
        shown = table.start[character[:, :, None], drawer[:, None, 1:]]
        parts.append((table.order[asked], table.order[shown], target))
    return _joined(name, parts, seed)


def _draw_drawers(
    name: str, generator: np.random.Generator, inside: np.ndarray, table: Table, n_way: int, k_shot: int
) -> tuple[np.ndarray, np.ndarray]:
    """For characters `inside` (T, C): drawers (T, k_shot + 1), and the characters that all of them drew (T, C)."""
    drawers = inside.astype(np.float32) @ table.present.astype(np.float32) > 0
    drawer = np.empty((len(inside), k_shot + 1), dtype=np.int64)
    known = np.zeros_like(inside)
    open_ = np.arange(len(inside))
    for _ in range(_ROUNDS):  # once, if every drawer drew every character
        drawer[open_] = _choose(generator, drawers[open_], k_shot + 1)
        known[open_] = inside[open_] & table.present.T[drawer[open_]].all(axis=1)
        open_ = open_[known[open_].sum(axis=1) < n_way]
        if not open_.size:
            return drawer, known
    raise Unsuited(f"{name}: {k_shot + 1} drawers who all drew the same {n_way} characters are too rare; ask for less")


def _choose(generator: np.random.Generator, allowed: np.ndarray, count: int) -> np.ndarray:
    """`count` different columns of each row, (T, count), uniform among the `allowed` (T, M) bool, in random order."""
    keys = np.where(allowed, generator.random(allowed.shape), 2.0)
    least = np.argpartition(keys, count - 1, axis=1)[:, :count]
    order = np.take_along_axis(keys, least, axis=1).argsort(axis=1)
    return np.take_along_axis(least, order, axis=1)


def lacking(table: Table, characters: np.ndarray, n_way: int, k_shot: int) -> str:
    """What these characters lack for such trials, with both numbers (had and needed); empty if they suffice."""
    if table.own:
        rich = int((table.count[characters].sum(axis=1) > k_shot).sum())
        return "" if rich >= n_way else f"{rich} classes of {k_shot + 1} images, and {n_way}-way needs {n_way}"
    here = table.present[characters]
    many, drawers = int(here.any(1).sum()), int(here.any(0).sum())
    if many < n_way:
        return f"{many} characters, and {n_way}-way needs {n_way}"
    if drawers < k_shot + 1:
        return f"{drawers} drawers, and {k_shot}-shot needs {k_shot + 1} (one for the query)"
    return ""


def _generator(name: str, seed: int) -> np.random.Generator:
    """A generator of its own for each protocol, so that equal seeds do not make their trials alike."""
    return np.random.default_rng([seed, crc32(name.encode())])


def _blocks(trials: int, width: int) -> Iterator[int]:
    """Sizes that sum to `trials`, none so large that `width` numbers a trial would fill the memory."""
    step = max(1, _BLOCK // width)
    for start in range(0, trials, step):
        yield min(step, trials - start)


def _joined(name: str, parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]], seed: int) -> Trials:
    query, support, target = (np.concatenate(each) for each in zip(*parts, strict=True))
    return Trials(name, query, support, target, seed)
