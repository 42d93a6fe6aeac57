"""The one-shot protocols: which drawing is asked about, and among which characters. Knows nothing of networks.

Legend of shapes: T trials, n_way characters to choose from, k_shot drawings of each; positions count in a `Drawings`.
"""

from collections.abc import Iterator, Sequence
from zlib import crc32

import numpy as np

from oneshot.data.drawings import Drawings, FixedTrials
from oneshot.errors import UserError, nearest
from oneshot.scoring import Outcome, Similarity, Trials, judge, per_alphabet, score, wilson

__all__ = [
    "NAMES", "Outcome", "Similarity", "Trials", "Unsuited", "between", "judge", "lake400", "per_alphabet", "protocols",
    "score", "seed352", "unfit", "wilson", "within",
]  # fmt: skip

NAMES = ("lake400", "within", "between", "seed352")

_BLOCK = 1 << 20  # random numbers held at once while trials are made: the memory is bounded whatever is asked for
_ROUNDS = 100  # how often drawers are drawn again where they have too few characters in common


class Unsuited(UserError):
    """These drawings cannot carry this protocol: too few characters, drawers or drawings."""


def within(
    drawings: Drawings,
    *,
    trials: int = 10_000,
    n_way: int = 20,
    k_shot: int = 1,
    seed: int = 0,
    alphabets: Sequence[str] | None = None,
) -> Trials:
    """Trials of Lake's difficulty: one alphabet, the query by one drawer, the whole support by k_shot other drawers.

    The alphabet is drawn uniformly among `alphabets` (default: all that can carry such a trial; see `unfit`). Raises
    UserError for an unknown alphabet and, with both numbers, where an alphabet asked for is too small.
    """
    _check(trials, n_way, k_shot, seed)
    lacking = unfit(drawings, n_way=n_way, k_shot=k_shot)
    wanted = [name for name in drawings.alphabets if name not in lacking] if alphabets is None else list(alphabets)
    for name in wanted:
        if name not in drawings.alphabets:
            raise UserError(f"within: there is no alphabet '{name}' here; {nearest(name, drawings.alphabets)}")
        if name in lacking:
            raise Unsuited(f"within: alphabet '{name}' has {lacking[name]}; leave it out or ask for less")
    if not wanted and not lacking:
        raise Unsuited("within: there is no alphabet to choose from; name one")
    if not wanted:
        largest = drawings.alphabets[np.bincount(drawings.alphabet_of).argmax()]
        raise Unsuited(
            f"within: no alphabet can carry {n_way}-way {k_shot}-shot trials: '{largest}', the largest, has"
            f" {lacking[largest]}; ask for less"
        )
    groups = drawings.alphabet_of == np.array([[drawings.alphabets.index(name)] for name in wanted])
    return _by_drawer("within", drawings, groups, trials, n_way, k_shot, seed)


def between(drawings: Drawings, *, trials: int = 10_000, n_way: int = 20, k_shot: int = 1, seed: int = 0) -> Trials:
    """Easier trials, which most open code reports: characters of any alphabets, the query by another drawer.

    As `within`, with all characters as one alphabet (a drawer's number may mean another person in each alphabet).
    Raises UserError with both numbers where there are too few characters or drawers.
    """
    _check(trials, n_way, k_shot, seed)
    table = _Table(drawings)
    if lack := _lack(int(table.present.any(1).sum()), int(table.present.any(0).sum()), n_way, k_shot):
        raise Unsuited(f"between: the drawings have {lack}; ask for less")
    groups = np.ones((1, len(drawings.characters)), dtype=bool)
    return _by_drawer("between", drawings, groups, trials, n_way, k_shot, seed)


def seed352(drawings: Drawings, *, trials: int = 352, n_way: int = 20, k_shot: int = 1, seed: int = 352) -> Trials:
    """The source document's protocol: characters of any alphabets, any different drawings of them, whoever drew them.

    Raises UserError with both numbers where too few characters have k_shot + 1 drawings.
    """
    _check(trials, n_way, k_shot, seed)
    table = _Table(drawings)
    drawn = table.count.sum(axis=1)
    enough = drawn > k_shot
    if enough.sum() < n_way:
        raise Unsuited(
            f"seed352: {enough.sum()} characters have the {k_shot + 1} drawings that {k_shot}-shot needs (one for the "
            f"query), and {n_way}-way needs {n_way}; ask for less"
        )
    generator = _generator("seed352", seed)
    parts = []
    for size in _blocks(trials, max(len(drawn), n_way * int(drawn.max()))):
        character = _choose(generator, np.broadcast_to(enough, (size, len(drawn))), n_way)
        which = np.arange(drawn.max()) < drawn[character].reshape(-1, 1)
        nth = _choose(generator, which, k_shot + 1).reshape(size, n_way, k_shot + 1)
        drawing = table.order[table.start[character, 0][..., None] + nth]
        target = generator.integers(n_way, size=size)
        parts.append((drawing[np.arange(size), target, k_shot], drawing[..., :k_shot], target))
    return _joined("seed352", parts, seed)


def lake400(fixed: FixedTrials, drawings: Drawings) -> Trials:
    """Lake's fixed trials (20 runs of 20, Lake et al. 2015) with file rows turned into positions in `drawings`.

    Raises UserError where `drawings` lack some of them, or where a target is not the query's character.
    """
    rows = np.concatenate([fixed.query[:, None], fixed.support], axis=1)
    missing = np.unique(rows[~np.isin(rows, drawings.row)])
    if missing.size:
        raise Unsuited(f"lake400: {missing.size} of its {np.unique(rows).size} drawings are not among those at hand")
    order = np.argsort(drawings.row)
    position = order[np.searchsorted(drawings.row, rows, sorter=order)]
    target = fixed.target.astype(np.int64)
    right = np.take_along_axis(position[:, 1:], target[:, None], axis=1)[:, 0]
    if (drawings.character[right] != drawings.character[position[:, 0]]).any():
        raise UserError("trials.parquet does not belong to drawings.parquet (targets differ): prepare the data again")
    return Trials("lake400", position[:, 0], position[:, 1:, None], target)


def protocols(
    drawings: Drawings,
    fixed: FixedTrials | None,
    *,
    names: Sequence[str] = NAMES,
    n_way: int = 20,
    k_shot: int = 1,
    trials: int = 10_000,
    seed: int = 0,
) -> tuple[list[Trials], dict[str, str]]:
    """The protocols `names` on test `drawings`, and what was left out: {protocol or "within <alphabet>": why}.

    `n_way`, `k_shot`, `trials` and `seed` are for `within` and `between`; the other two are what they are, 20-way
    one-shot. Raises UserError for an unknown name, a number out of range, and where nothing is left to judge by.
    """
    _check(trials, n_way, k_shot, seed)
    made: list[Trials] = []
    skipped: dict[str, str] = {}
    for name in names:
        if name not in NAMES:
            raise UserError(f"there is no protocol '{name}'; {nearest(name, NAMES)}")
        if name in ("lake400", "seed352") and (n_way, k_shot) != (20, 1):
            skipped[name] = f"it is 20-way 1-shot by definition, and {n_way}-way {k_shot}-shot was asked for"
            continue
        if name == "lake400" and fixed is None:
            skipped[name] = "this dataset has no fixed trials"
            continue
        try:
            if name == "lake400":
                made.append(lake400(fixed, drawings))
            elif name == "seed352":
                made.append(seed352(drawings))
            else:
                make = within if name == "within" else between
                made.append(make(drawings, trials=trials, n_way=n_way, k_shot=k_shot, seed=seed))
        except Unsuited as error:
            skipped[name] = str(error).removeprefix(f"{name}: ")
    if not made:
        reasons = "; ".join(f"{name}: {why.removesuffix('; ask for less')}" for name, why in skipped.items())
        raise UserError(
            f"no one-shot trial can be made ({reasons or 'no protocol is named'}); ask for less or for others"
        )
    if any(each.name == "within" for each in made):
        lacking = unfit(drawings, n_way=n_way, k_shot=k_shot)
        skipped |= {f"within {alphabet}": f"it has {lack}" for alphabet, lack in lacking.items()}
    return made, skipped


def unfit(drawings: Drawings, *, n_way: int, k_shot: int) -> dict[str, str]:
    """The alphabets that cannot carry a `within` trial, and what each one lacks, with both numbers."""
    present = _Table(drawings).present
    lacking = {}
    for index, name in enumerate(drawings.alphabets):
        here = present[drawings.alphabet_of == index]
        if lack := _lack(int(here.any(1).sum()), int(here.any(0).sum()), n_way, k_shot):
            lacking[name] = lack
    return lacking


class _Table:
    """Where the drawing of each (character, drawer) lies, so that many can be picked at once.

    `count` and `start` are (C, D), D the different drawers: those of a cell are at order[start : start + count]. There
    is one at most, since a person draws a character once; a character's follow each other.
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


def _by_drawer(
    name: str, drawings: Drawings, groups: np.ndarray, trials: int, n_way: int, k_shot: int, seed: int
) -> Trials:
    """Trials each inside one of the `groups` (G, C) bool: drawer A for the query, B1..Bk != A for the support."""
    table = _Table(drawings)
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
    name: str, generator: np.random.Generator, inside: np.ndarray, table: _Table, n_way: int, k_shot: int
) -> tuple[np.ndarray, np.ndarray]:
    """For characters `inside` (T, C): drawers (T, k_shot + 1), and the characters that all of them drew (T, C)."""
    drawers = inside.astype(np.float32) @ table.present.astype(np.float32) > 0
    drawer = np.empty((len(inside), k_shot + 1), dtype=np.int64)
    known = np.zeros_like(inside)
    open_ = np.arange(len(inside))
    for _ in range(_ROUNDS):  # once, where every drawer drew every character
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


def _lack(characters: int, drawers: int, n_way: int, k_shot: int) -> str:
    """What so many characters and drawers lack for such trials, with both numbers; empty where they suffice."""
    if characters < n_way:
        return f"{characters} characters, and {n_way}-way needs {n_way}"
    if drawers < k_shot + 1:
        return f"{drawers} drawers, and {k_shot}-shot needs {k_shot + 1} (one for the query)"
    return ""


def _check(trials: int, n_way: int, k_shot: int, seed: int) -> None:
    for key, value, least in (("trials", trials, 1), ("n_way", n_way, 2), ("k_shot", k_shot, 1), ("seed", seed, 0)):
        if value < least:
            raise UserError(f"{key} is {value}: it has to be {least} at least")


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
