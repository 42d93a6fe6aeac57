"""The one-shot protocols: which drawing is asked about, and among which characters. Knows nothing of networks.

Legend of shapes: T trials, n_way characters to choose from, k_shot drawings of each; positions index a `Drawings`.
"""

from collections.abc import Sequence

import numpy as np

from oneshot.base.errors import UserError, nearest
from oneshot.data.drawings import Drawings, FixedTrials
from oneshot.evaluation.lots import Table, Unsuited, by_drawer, by_drawing, everyone, lacking
from oneshot.evaluation.scoring import Trials

NAMES = ("lake400", "within", "between", "seed352")


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
    Of one's own images nobody knows who made which: a trial takes one group, and any different images of its classes.

    The alphabet is drawn uniformly among `alphabets` (default: all that can carry such a trial; see `unfit`). Raises
    UserError for an unknown alphabet and, with both numbers, if one asked for is too small or none carries a trial.
    """
    _check(trials, n_way, k_shot, seed)
    poor = unfit(drawings, n_way=n_way, k_shot=k_shot)
    kind = "group" if drawings.own else "alphabet"
    wanted = [name for name in drawings.alphabets if name not in poor] if alphabets is None else list(alphabets)
    for name in wanted:
        if name not in drawings.alphabets:
            raise UserError(f"within: there is no {kind} '{name}' here; {nearest(name, drawings.alphabets)}")
        if name in poor:
            raise Unsuited(f"within: {kind} '{name}' has {poor[name]}; leave it out or ask for less")
    if not wanted and not poor:
        raise Unsuited(f"within: there is no {kind} to choose from; name one")
    if not wanted:
        largest = drawings.alphabets[np.bincount(drawings.alphabet_of).argmax()]
        raise Unsuited(
            f"within: no {kind} allows {n_way}-way {k_shot}-shot trials: '{largest}', the largest, has"
            f" {poor[largest]}; ask for less"
        )
    groups = drawings.alphabet_of == np.array([[drawings.alphabets.index(name)] for name in wanted])
    make = by_drawing if drawings.own else by_drawer
    return make("within", drawings, groups, trials, n_way, k_shot, seed)


def between(drawings: Drawings, *, trials: int = 10_000, n_way: int = 20, k_shot: int = 1, seed: int = 0) -> Trials:
    """Easier trials, which most open code reports: characters of any alphabets, the query by another drawer.

    As `within`, with all characters as one alphabet (a drawer's number may mean another person in each alphabet).
    Raises UserError, with both numbers, if there are too few characters or drawers.
    """
    _check(trials, n_way, k_shot, seed)
    if lack := lacking(Table(drawings), np.arange(len(drawings.characters)), n_way, k_shot):
        raise Unsuited(f"between: the drawings have {lack}; ask for less")
    make = by_drawing if drawings.own else by_drawer
    return make("between", drawings, everyone(drawings), trials, n_way, k_shot, seed)


PROTOCOLS = {"within": within, "between": between}  # those that take any number of ways and shots


def seed352(drawings: Drawings, *, trials: int = 352, n_way: int = 20, k_shot: int = 1, seed: int = 352) -> Trials:
    """The source document's protocol: characters of any alphabets, any different drawings of them, whoever drew them.

    Raises UserError, with both numbers, if too few characters have k_shot + 1 drawings.
    """
    _check(trials, n_way, k_shot, seed)
    enough = int((np.bincount(drawings.character, minlength=len(drawings.characters)) > k_shot).sum())
    if enough < n_way:
        raise Unsuited(
            f"seed352: {enough} characters have the {k_shot + 1} drawings that {k_shot}-shot needs (one for the "
            f"query), and {n_way}-way needs {n_way}; ask for less"
        )
    return by_drawing("seed352", drawings, everyone(drawings), trials, n_way, k_shot, seed)


def lake400(fixed: FixedTrials, drawings: Drawings) -> Trials:
    """Lake's fixed trials (20 runs of 20, Lake et al. 2015) with file rows turned into positions in `drawings`.

    Raises UserError if `drawings` lack some of them, or if a target is not the query's character.
    """
    rows = np.concatenate([fixed.query[:, None], fixed.support], axis=1)
    missing = np.unique(rows[~np.isin(rows, drawings.row)])
    if missing.size:
        raise Unsuited(f"lake400: {missing.size} of its {np.unique(rows).size} drawings are missing here")
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

    `n_way`, `k_shot`, `trials` and `seed` are for `within` and `between`; the other two are always 20-way one-shot.
    On one's own images n_way is at most `most_ways`: whoever shows the trials has to say so. Raises UserError for an
    unknown name, for a number out of range, and if no protocol is left to judge by.
    """
    _check(trials, n_way, k_shot, seed)
    made: list[Trials] = []
    skipped: dict[str, str] = {}
    for name in names:
        try:
            made.append(_made(name, names, drawings, fixed, n_way=n_way, k_shot=k_shot, trials=trials, seed=seed))
        except Unsuited as error:
            skipped[name] = str(error).removeprefix(f"{name}: ")
    if not made:
        reasons = "; ".join(f"{name}: {why.removesuffix('; ask for less')}" for name, why in skipped.items())
        raise UserError(
            f"no one-shot trial can be made ({reasons or 'no protocol is named'}); ask for less or for other protocols"
        )
    if any(each.name == "within" for each in made):
        poor = unfit(drawings, n_way=_ways(drawings, "within", n_way, k_shot), k_shot=k_shot)
        skipped |= {f"within {alphabet}": f"it has {lack}" for alphabet, lack in poor.items()}
    return made, skipped


def suited(drawings: Drawings, n_way: int) -> tuple[str, int]:
    """The protocol that suits the drawings, and its number of ways, at most `n_way`: `within`, with as many as some
    alphabet carries (of one's own images, `most_ways`); if none carries two, as with one class a group, `between`."""
    if drawings.own:
        ways = min(n_way, most_ways(drawings, "within", k_shot=1))
    else:
        ways = min(n_way, int(np.bincount(drawings.alphabet_of).max()))
        while ways > 1 and not carry(drawings, "within", n_way=ways, k_shot=1):
            ways -= 1  # a character may lack a drawer
    return ("within", ways) if ways > 1 else ("between", min(n_way, most_ways(drawings, "between", k_shot=1)))


def most_ways(drawings: Drawings, name: str, *, k_shot: int) -> int:
    """The greatest n_way that the protocol `name`, `within` or `between`, should have on one's own images.

    `within` is about groups, so at least half of them must carry it. But it takes two classes: if less than half of
    them have two, those that do are enough."""
    rich = np.bincount(drawings.character, minlength=len(drawings.characters)) > k_shot
    if name == "between":
        return int(rich.sum())
    classes = np.sort(np.bincount(drawings.alphabet_of[rich], minlength=len(drawings.alphabets)))[::-1]
    half = int(classes[(len(classes) - 1) // 2])
    return max(half, min(2, int(classes[0])))


def carry(drawings: Drawings, name: str, *, n_way: int, k_shot: int) -> bool:
    """Whether the protocol `name`, `within` some alphabet or `between` one's own images, has such trials."""
    if name == "between":
        return most_ways(drawings, name, k_shot=k_shot) >= n_way
    return len(unfit(drawings, n_way=n_way, k_shot=k_shot)) < len(drawings.alphabets)


def unfit(drawings: Drawings, *, n_way: int, k_shot: int) -> dict[str, str]:
    """The alphabets that cannot carry a `within` trial, and what each one lacks, with both numbers."""
    lack_of, table = {}, Table(drawings)
    for index, name in enumerate(drawings.alphabets):
        if lack := lacking(table, np.flatnonzero(drawings.alphabet_of == index), n_way, k_shot):
            lack_of[name] = lack
    return lack_of


def _made(
    name: str, names: Sequence[str], drawings: Drawings, fixed: FixedTrials | None, *, n_way: int, k_shot: int,
    trials: int, seed: int,
) -> Trials:  # fmt: skip
    """The trials of one of the protocols `names`. Raises Unsuited if they cannot be made."""
    if name not in NAMES:
        raise UserError(f"there is no protocol '{name}'; {nearest(name, NAMES)}")
    if name in PROTOCOLS:
        if name == "between" and drawings.own and len(drawings.alphabets) == 1 and "within" in names:
            raise Unsuited("all test classes are of one group, so it would be the same as within")
        ways = _ways(drawings, name, n_way, k_shot)
        return PROTOCOLS[name](drawings, trials=trials, n_way=ways, k_shot=k_shot, seed=seed)
    if (n_way, k_shot) != (20, 1):
        raise Unsuited(f"it is 20-way 1-shot by definition, and {n_way}-way {k_shot}-shot was asked for")
    if name == "seed352":
        return seed352(drawings)
    if fixed is None:
        raise Unsuited("this dataset has no fixed trials")
    return lake400(fixed, drawings)


def _ways(drawings: Drawings, name: str, n_way: int, k_shot: int) -> int:
    """The n_way of `within` or `between`: `n_way`, on one's own images at most `most_ways`, if that is 2 or more."""
    most = most_ways(drawings, name, k_shot=k_shot) if drawings.own else n_way
    return min(n_way, most) if most > 1 else n_way


def _check(trials: int, n_way: int, k_shot: int, seed: int) -> None:
    for key, value, least in (("trials", trials, 1), ("n_way", n_way, 2), ("k_shot", k_shot, 1), ("seed", seed, 0)):
        if value < least:
            raise UserError(f"{key} is {value}: it must be {least} or more")
