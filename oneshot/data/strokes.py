"""Invented alphabets: a style, and characters as strokes in that style, drawn from the given random generator.

Characters are written on a few anchor points, like letters on ruled paper. A stroke walks from anchor to anchor, in the
directions and with the bows and ornaments that its alphabet prefers. A new character is often an old one with a stroke
added or exchanged, as in real scripts, which makes two characters of one alphabet easy to confuse.
"""

from dataclasses import dataclass

import numpy as np

Stroke = np.ndarray  # (points, 2): x to the right, y down

_GRIDS = ((2, 2), (2, 3), (3, 2), (3, 3), (3, 3))  # columns and rows of anchors
_ORNAMENTS = ("none", "none", "none", "ring", "tick", "dot")
_BARS = np.array([[[0, 0], [1, 0]], [[0, 1], [1, 1]], [[0, 0], [0, 1]], [[1, 0], [1, 1]]], dtype=float)


@dataclass(frozen=True)
class Style:
    """What the characters of one alphabet share. Lengths are in units of its anchor grid, about 1 wide and high."""

    anchors: np.ndarray  # (A, 2)
    steps: np.ndarray  # (A, A): the probability of a step from anchor to anchor; rows sum to one
    curvy: float  # the share of steps that are bows
    bows: np.ndarray  # the heights of its bows, as shares of their length
    side: float  # the share of bows to the right of the direction of travel
    strokes: np.ndarray  # the probabilities of 1, 2, 3 strokes
    walk: np.ndarray  # the probabilities of 1, 2, 3, 4 steps in a stroke
    joined: float  # the probability that a stroke begins where another one passed
    rounded: float  # 0: corners are corners, 1: they are curves
    ornament: str  # none | ring | tick | dot
    ornate: float  # the share of strokes with the ornament
    bar: Stroke | None  # a line that most characters have, as in Devanagari
    size: float  # pixels of the grid's longer side

    @classmethod
    def of(cls, rng: np.random.Generator) -> "Style":
        anchors = _anchors(rng)
        return cls(
            anchors=anchors,
            steps=_steps(rng, anchors),
            curvy=rng.beta(0.4, 0.4),
            bows=rng.choice([0.15, 0.25, 0.35, 0.5, 0.65], 2, replace=False),
            side=rng.beta(0.4, 0.4),
            strokes=rng.dirichlet([1.8, 4.5, 3.7]),
            walk=rng.dirichlet([3.7, 4.5, 2.2, 0.8]),
            joined=rng.uniform(0.6, 1.0),
            rounded=rng.beta(0.6, 0.9),
            ornament=_ORNAMENTS[rng.integers(len(_ORNAMENTS))],
            ornate=rng.uniform(0.5, 0.9),
            bar=_bar(rng, anchors) if rng.random() < 0.3 else None,
            size=rng.uniform(48, 72),
        )


def _anchors(rng: np.random.Generator) -> np.ndarray:
    ratio = np.exp(rng.normal(0, 0.2))
    columns, rows = _GRIDS[rng.integers(len(_GRIDS))]
    x, y = (np.concatenate([[0], np.cumsum(rng.uniform(0.6, 1.4, count - 1))]) for count in (columns, rows))
    anchors = np.stack(np.meshgrid(x / x[-1] * ratio, y / y[-1] / ratio), axis=-1).reshape(-1, 2)
    if rng.random() < 0.3:
        middle = anchors.mean(axis=0, keepdims=True) + rng.normal(0, 0.08, (1, 2))
        anchors = np.concatenate([anchors, middle])
    return anchors


def _steps(rng: np.random.Generator, anchors: np.ndarray) -> np.ndarray:
    """The `Style.steps` of an alphabet, which prefers some of six directions, some single steps, and short ones."""
    way = anchors[None] - anchors[:, None]
    sector = (np.mod(np.arctan2(way[..., 1], way[..., 0]), np.pi) / np.pi * 6).astype(int) % 6
    likes = np.exp(rng.normal(0, 1.6, 6))[sector] * np.exp(rng.normal(0, 1.0, sector.shape))
    likes *= np.exp(-1.3 * np.hypot(way[..., 0], way[..., 1]))
    np.fill_diagonal(likes, 0)
    return likes / likes.sum(axis=1, keepdims=True)


def _bar(rng: np.random.Generator, anchors: np.ndarray) -> Stroke:
    low, high = anchors.min(axis=0), anchors.max(axis=0)
    return _bow(*(low + (high - low) * _BARS[rng.integers(len(_BARS))]), height=0.0)


def _bow(start: np.ndarray, end: np.ndarray, *, height: float) -> Stroke:
    along = np.linspace(0, 1, 33)[:, None]
    across = np.array([[start[1] - end[1], end[0] - start[0]]])
    return start + (end - start) * along + height * across * np.sin(np.pi * along)


def _ring(middle: np.ndarray, radius: float) -> Stroke:
    angle = np.linspace(0, 2 * np.pi, 41)
    return middle + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def invent(rng: np.random.Generator, style: Style, relatives: list[list[Stroke]]) -> list[Stroke]:
    """The strokes of a new character, on the alphabet's grid; 40 % are made from one of `relatives`. May be empty."""
    if relatives and rng.random() < 0.4:
        old = relatives[rng.integers(len(relatives))]
        lost = rng.integers(-len(old), len(old))  # negative in half of the cases: no stroke of it is lost
        return [stroke for index, stroke in enumerate(old) if index != lost] + _stroke(rng, style, [], set())
    strokes: list[Stroke] = []
    visited: list[int] = []
    used: set[tuple[int, int]] = set()
    for _ in range(1 + rng.choice(len(style.strokes), p=style.strokes)):
        strokes += _stroke(rng, style, visited, used)
    if style.bar is not None and strokes and rng.random() < 0.85:
        strokes.insert(0, style.bar)
    return strokes


def _stroke(rng: np.random.Generator, style: Style, visited: list[int], used: set[tuple[int, int]]) -> list[Stroke]:
    """One walk over the anchors, with its ornament. It repeats no step of its character, so it may be empty."""
    joins = visited and rng.random() < style.joined
    here = visited[rng.integers(len(visited))] if joins else int(rng.integers(len(style.anchors)))
    path: list[np.ndarray] = []
    for _ in range(1 + rng.choice(len(style.walk), p=style.walk)):
        there = int(rng.choice(len(style.anchors), p=style.steps[here]))
        if (here, there) in used:
            continue
        used.update([(here, there), (there, here)])
        height = 0.0
        if rng.random() < style.curvy:
            height = rng.choice(style.bows) * (1 if rng.random() < style.side else -1)
        path.append(_bow(style.anchors[here], style.anchors[there], height=height))
        visited += [here, there]
        here = there
    if not path:
        return []
    whole = np.concatenate(path)
    return _ornamented(rng, style, whole) if rng.random() < style.ornate else [whole]


def _ornamented(rng: np.random.Generator, style: Style, path: Stroke) -> list[Stroke]:
    unit = np.ptp(style.anchors, axis=0)
    if style.ornament == "ring":
        return [path, _ring(path[-1] if rng.random() < 0.7 else path[0], 0.13 * unit.mean())]
    if style.ornament == "dot":
        return [path, _ring(style.anchors.mean(axis=0) + rng.normal(0, 0.45, 2) * unit, 0.03 * unit.mean())]
    if style.ornament == "tick":
        way = path[-1] - path[-6]
        across = np.array([-way[1], way[0]]) / np.hypot(*way) * (1 if style.side > 0.5 else -1)
        return [np.concatenate([path, path[-1] + np.linspace(0, 0.2, 8)[1:, None] * unit.mean() * across])]
    return [path]


def on_sheet(strokes: list[Stroke], style: Style) -> list[Stroke]:
    """The strokes in pixels around the middle of the sheet. Small characters grow, but stay smaller than others."""
    whole = np.concatenate(strokes)
    middle = (whole.min(axis=0) + whole.max(axis=0)) / 2
    extent = (np.ptp(whole, axis=0).max() + np.ptp(style.anchors, axis=0).max()) / 2
    return [(stroke - middle) * (style.size / extent) for stroke in strokes]


def lengths(strokes: list[Stroke]) -> np.ndarray:
    """The length of each stroke, in the strokes' own units."""
    return np.array([np.hypot(*np.diff(stroke, axis=0).T).sum() for stroke in strokes])


def even(strokes: list[Stroke], points: int) -> np.ndarray:
    """The strokes as (S, points, 2), the points of each stroke equally far apart."""
    result = np.empty((len(strokes), points, 2))
    for index, stroke in enumerate(strokes):
        at = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(stroke, axis=0).T))])
        wanted = np.linspace(0, at[-1], points)
        for axis in (0, 1):
            result[index, :, axis] = np.interp(wanted, at, stroke[:, axis])
    return result


def smoothed(strokes: np.ndarray, share: float) -> np.ndarray:
    """Strokes (S, P, 2) with their corners cut: each point becomes the mean over that share of the stroke around it."""
    window = max(3, int(strokes.shape[1] * share)) | 1
    around = ((0, 0), (window // 2, window // 2), (0, 0))
    padded = np.pad(strokes, around, mode="reflect", reflect_type="odd")  # odd: the ends stay where they are
    total = np.cumsum(np.pad(padded, ((0, 0), (1, 0), (0, 0))), axis=1)
    return (total[:, window:] - total[:, :-window]) / window
