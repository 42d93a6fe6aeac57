"""What one-shot trials are, and how a scorer is judged by them; `trials` makes them.

Legend of shapes: T trials, n_way characters to choose from, k_shot drawings of each; positions index a `Drawings`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from oneshot.base.errors import UserError
from oneshot.data.drawings import Drawings

Similarity = Callable[[np.ndarray, np.ndarray], ArrayLike]


@dataclass(frozen=True, eq=False)
class Trials:
    """Trials of one protocol: `query` (T,), `support` (T, n_way, k_shot), `target` (T,), all int64.

    `query` and `support` are positions; `target` is which of the n_way is right; `seed` is None if none was used.
    """

    name: str
    query: np.ndarray
    support: np.ndarray
    target: np.ndarray
    seed: int | None = None

    def __len__(self) -> int:
        return len(self.query)

    @property
    def n_way(self) -> int:
        return self.support.shape[1]

    @property
    def k_shot(self) -> int:
        return self.support.shape[2]


@dataclass(frozen=True, eq=False)
class Outcome:
    """How a scorer did. Fractions in [0, 1]; `interval` is Wilson's 95 %; `tied` counts the trials decided by lot."""

    n_way: int
    k_shot: int
    trials: int
    correct: int
    accuracy: float
    interval: tuple[float, float]
    seed: int | None
    tied: int
    hits: np.ndarray  # (T,) bool

    def to_dict(self) -> dict[str, Any]:
        """The outcome as it stands in `result.json`: all but `hits`."""
        plain = {key: value for key, value in vars(self).items() if key != "hits"}
        return plain | {"interval": list(self.interval)}


def score(trials: Trials, similarity: Similarity, *, pairs: int = 1 << 16) -> np.ndarray:
    """The scores of every trial, (T, n_way) float64: the greater, the more alike. With k_shot > 1 the mean over shots.

    `similarity` maps positions of queries (M,) and of support drawings (M,) to M numbers of any range; it is called
    with at most `pairs` pairs at a time. Raises UserError if it returns another shape.
    """
    support = trials.support.reshape(-1)
    query = np.repeat(trials.query, trials.n_way * trials.k_shot)
    scores = np.empty(support.size)
    for start in range(0, support.size, pairs):
        part = slice(start, start + pairs)
        values = np.asarray(similarity(query[part], support[part]), dtype=np.float64)
        if values.shape != query[part].shape:
            raise UserError(f"the scorer returned shape {values.shape} for {len(query[part])} pairs, not one a pair")
        scores[part] = values
    return scores.reshape(trials.support.shape).mean(axis=-1)


def judge(trials: Trials, scores: np.ndarray) -> Outcome:
    """How often the target has the greatest of the `scores` (T, n_way).

    An arg-max that decides among equals at random, from the trials' seed: a tie is not a hit by itself, and a dead
    network, which answers a constant, scores 1 / n_way wherever the targets are. The lot depends on the drawings and
    not on their places, so the order of the support does not change an outcome. A NaN makes its trial a miss. Raises
    UserError if the shapes differ.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.shape != (len(trials), trials.n_way):
        raise UserError(
            f"scores of shape {scores.shape} for {len(trials)} {trials.n_way}-way trials, not a row a trial"
        )
    best = scores == scores.max(axis=1, keepdims=True)  # all False in a trial that holds a NaN
    winner = np.where(best, _lots(trials) | np.uint64(1), np.uint64(0)).argmax(axis=1)
    hits = (winner == trials.target) & best.any(axis=1)
    correct = int(hits.sum())
    return Outcome(
        n_way=trials.n_way,
        k_shot=trials.k_shot,
        trials=len(trials),
        correct=correct,
        accuracy=correct / len(trials),
        interval=wilson(correct, len(trials)),
        seed=trials.seed,
        tied=int((best.sum(axis=1) > 1).sum()),
        hits=hits,
    )


def per_alphabet(trials: Trials, hits: np.ndarray, drawings: Drawings) -> dict[str, dict[str, Any]]:
    """{alphabet of the query: {"trials", "correct", "accuracy", "interval"}}, alphabets without a trial left out."""
    alphabet = drawings.alphabet_of[drawings.character[trials.query]]
    count = np.bincount(alphabet, minlength=len(drawings.alphabets)).tolist()
    correct = np.bincount(alphabet[hits], minlength=len(drawings.alphabets)).tolist()
    return {
        name: {"trials": n, "correct": c, "accuracy": c / n, "interval": list(wilson(c, n))}
        for name, n, c in zip(drawings.alphabets, count, correct, strict=True)
        if n
    }


def wilson(correct: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """The score interval of a binomial share (Wilson 1927), as fractions (low, high); `z` = 1.959964 is 95 %.

    Raises UserError unless 0 <= correct <= trials and trials >= 1.
    """
    if not 0 <= correct <= trials or trials < 1:
        raise UserError(
            f"{correct} correct of {trials} trials: there must be at least 1 trial, and from 0 to all correct"
        )
    share = correct / trials
    shrink = 1 + z * z / trials
    middle = (share + z * z / (2 * trials)) / shrink
    half = z / shrink * (share * (1 - share) / trials + z * z / (4 * trials * trials)) ** 0.5
    return (middle - half if correct else 0.0), (middle + half if correct < trials else 1.0)  # exact at the ends


def _lots(trials: Trials) -> np.ndarray:
    """Random 64-bit words (T, n_way), each a pure function of the seed, the query and the support it is for."""
    seed = _mix(np.array([trials.seed or 0], dtype=np.uint64))
    query = _mix(trials.query.astype(np.uint64) ^ seed)
    support = _mix(trials.support.astype(np.uint64)).sum(axis=-1)  # wraps around; independent of the order of shots
    return _mix(support ^ query[:, None])


def _mix(words: np.ndarray) -> np.ndarray:
    """SplitMix64's output function (Steele et al. 2014): neighbouring integers become unrelated ones."""
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
