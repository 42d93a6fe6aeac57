"""Small sets of drawings for the tests of one-shot trials."""

from collections.abc import Callable

import numpy as np

from oneshot.data.drawings import Drawings, FixedTrials
from oneshot.evaluation.scoring import Trials
from oneshot.evaluation.trials import between, lake400, seed352, within

MADE = {"within": within, "between": between, "seed352": seed352}
SIZES = {"Greek": 24, "Latin": 26, "Runes": 33}


def drawings_of(sizes: dict[str, int], *, drawers: int = 20, seed: int = 0, keep: float = 1.0) -> Drawings:
    """Alphabets with these numbers of characters, each drawn once by every drawer, in random order; `keep` is the
    share of drawings kept."""
    generator = np.random.default_rng(seed)
    characters = [f"{alphabet}/character{n + 1:02d}" for alphabet, size in sizes.items() for n in range(size)]
    cell = generator.permutation(len(characters) * drawers)
    cell = cell[: round(keep * len(cell))]
    return Drawings(
        packed=generator.integers(256, size=(len(cell), 8), dtype=np.uint8),
        height=8,
        width=8,
        bits=1,
        row=cell + 1000,
        character=cell // drawers,
        drawer=cell % drawers + 1,
        characters=tuple(characters),
        alphabet_of=np.repeat(np.arange(len(sizes)), list(sizes.values())),
        alphabets=tuple(sizes),
    )


def fixed_of(drawings: Drawings, runs: int = 20) -> FixedTrials:
    """Fixed trials like Lake's: a run has 20 characters of an alphabet by two drawers, and each character is the query
    once."""
    run, query, support, target = [], [], [], []
    generator = np.random.default_rng(5)
    row_of = dict(
        zip(zip(drawings.character.tolist(), drawings.drawer.tolist(), strict=True), drawings.row, strict=True)
    )
    for number in range(runs):
        alphabet = number % len(drawings.alphabets)
        characters = generator.permutation(np.flatnonzero(drawings.alphabet_of == alphabet))[:20]
        for place in generator.permutation(20):
            run.append(number)
            query.append(row_of[characters[place], 2 * number % 20 + 1])
            support.append([row_of[character, (2 * number + 1) % 20 + 1] for character in characters])
            target.append(place)
    return FixedTrials(*(np.array(each) for each in (run, query, support, target)))


def all_protocols(drawings: Drawings) -> list[Trials]:
    return [make(drawings, trials=4000) for make in MADE.values()] + [lake400(fixed_of(drawings), drawings)]


def chi_square(counts: np.ndarray) -> float:
    """The chi-square statistic of counts against a uniform distribution."""
    return float(((counts - counts.mean()) ** 2 / counts.mean()).sum())


def alike(drawings: Drawings) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A scorer that is always right."""
    return lambda query, support: drawings.character[query] == drawings.character[support]
