"""The Modified Hausdorff distance (Dubuisson & Jain 1994) between drawings: the baseline of Lake et al. 2015."""

from collections.abc import Callable

import numpy as np

from oneshot.data.drawings import Drawings


def points(ink: np.ndarray) -> np.ndarray:
    """Coordinates (P, 2) of a drawing's (H, W) ink pixels relative to their mean: its position does not matter."""
    found = np.argwhere(ink).astype(np.float64)
    return found - found.mean(axis=0)


def distance(left: np.ndarray, right: np.ndarray) -> float:
    """The greater of the two mean distances from a point of one (P, 2) to the nearest point of the other (Q, 2)."""
    # |l - r|^2 = |l|^2 + |r|^2 - 2 l.r, all three terms in one matrix product
    one_left, one_right = np.ones((len(left), 1)), np.ones((len(right), 1))
    size_left, size_right = (left**2).sum(axis=1, keepdims=True), (right**2).sum(axis=1, keepdims=True)
    squared = np.hstack([size_left, one_left, -2 * left]) @ np.hstack([one_right, size_right, right]).T
    return max(np.sqrt(squared.min(axis=axis).clip(0)).mean() for axis in (0, 1))


def similarity(drawings: Drawings) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A scorer of positions in `drawings` for `evaluation.trials.score`: the negative distance."""
    clouds: dict[int, np.ndarray] = {}

    def cloud(position: int) -> np.ndarray:
        if position not in clouds:
            clouds[position] = points(drawings.pixels(np.array([position]))[0])
        return clouds[position]

    def score(query: np.ndarray, support: np.ndarray) -> np.ndarray:
        return -np.array([distance(cloud(q), cloud(s)) for q, s in zip(query.tolist(), support.tolist(), strict=True)])

    return score
