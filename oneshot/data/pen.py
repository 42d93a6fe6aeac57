"""How a simulated person draws a character: strokes in, 1-bit pictures out. Shapes: D drawers, S strokes, P points."""

import itertools
from dataclasses import dataclass

import numpy as np

SIZE = 105  # pixels, both ways, as in Omniglot
_SPACING = 0.7  # pixels between the points of a stroke: below the pen's radius, so that a line has no gaps
_REACH = 2  # pixels from a point that a pen can ink


@dataclass(frozen=True)
class Hands:
    """The habits of D people, each kept through a whole alphabet. The first axis of all arrays is D."""

    frame: np.ndarray  # (D, 2, 2): slant, turn, size and width/height ratio, as one linear map
    place: np.ndarray  # (D, 2): where on the sheet, pixels
    pen: np.ndarray  # (D,): radius of the pen, pixels
    roundness: np.ndarray  # (D,): 0 draws corners sharp, 1 rounds them off
    care: np.ndarray  # (D,): spread of the shape errors, as a multiple of the usual

    @classmethod
    def of(cls, rng: np.random.Generator, drawers: int) -> "Hands":
        turn = rng.normal(0, np.radians(4), drawers)
        slant = rng.normal(0, 0.14, drawers)
        size = np.exp(rng.normal(0, 0.13, drawers))
        return cls(
            frame=_frames(turn, slant, size, rng.normal(0, 0.12, drawers)),
            place=rng.normal(0, 4.5, (drawers, 2)),
            pen=rng.uniform(1.15, 1.75, drawers),
            roundness=rng.beta(1.2, 1.2, drawers),
            care=np.exp(rng.normal(0, 0.3, drawers)),
        )


def _frames(turn: np.ndarray, slant: np.ndarray, size: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    """Linear maps (D, 2, 2) from angles (radians), shears, sizes and logarithms of width over height."""
    cos, sin = np.cos(turn), np.sin(turn)
    rotation = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
    wide, high = size * np.exp(ratio / 2), size * np.exp(-ratio / 2)
    shear = np.stack([np.stack([wide, -slant * high], -1), np.stack([np.zeros_like(high), high], -1)], -2)
    return rotation @ shear


def points_for(length: float) -> int:
    """How many points a stroke of this length (pixels) needs."""
    return int(np.clip(np.ceil(1.3 * length / _SPACING), 12, 400))


def draw(rng: np.random.Generator, strokes: np.ndarray, smooth: np.ndarray, hands: Hands) -> np.ndarray:
    """Everyone's drawing of one character: bool (D, SIZE, SIZE), True = ink.

    `strokes`: (S, P, 2) x and y in pixels around the middle of the sheet; `smooth`: the same, corners rounded off.
    """
    drawers, (count, points, _) = len(hands.pen), strokes.shape
    mix = (hands.roundness[:, None] * rng.uniform(0.6, 1.2, (drawers, count))).clip(0, 1)[..., None, None]
    path = strokes + mix * (smooth - strokes)  # (D, S, P, 2)
    path = _misdraw(rng, path, hands.care)
    again = _frames(
        *(rng.normal(0, spread, drawers) for spread in (np.radians(2.5), 0.05)),
        np.exp(rng.normal(0, 0.06, drawers)),
        rng.normal(0, 0.07, drawers),
    )
    path = np.einsum("dij,dspj->dspi", again @ hands.frame, path)
    path = path + (hands.place + rng.normal(0, 2.0, (drawers, 2)))[:, None, None]
    path = path.reshape(drawers, count * points, 2)
    return ink(_onto_sheet(path), hands.pen)


def _misdraw(rng: np.random.Generator, path: np.ndarray, care: np.ndarray) -> np.ndarray:
    """The same strokes with the errors of one drawing: each is moved, turned, stretched and bent."""
    drawers, count, points, _ = path.shape
    shape = (drawers, count)
    care = care[:, None]
    middle = path.mean(axis=2, keepdims=True)
    turn, size = rng.normal(0, 0.11, shape) * care, np.exp(rng.normal(0, 0.11, shape) * care)
    local = np.einsum(
        "dsij,dspj->dspi",
        _frames(turn, rng.normal(0, 0.06, shape) * care, size, rng.normal(0, 0.12, shape) * care),
        path - middle,
    )
    extent = np.sqrt((local**2).sum(-1)).max(axis=2)  # (D, S): half of the stroke's size
    along = np.linspace(0, 1, points)
    waves = np.stack([np.sin(np.pi * k * along) for k in (1, 2, 3)])  # bends of one, two and three bows
    weight = rng.normal(0, 1, (drawers, count, 3, 2)) * np.array([0.085, 0.06, 0.035])[:, None]
    bend = np.einsum("kp,dskc->dspc", waves, weight) * (extent * care)[..., None, None]
    shift = rng.normal(0, 2.2, (drawers, count, 1, 2)) * care[..., None, None]
    return local + middle + bend + shift


def _onto_sheet(path: np.ndarray) -> np.ndarray:
    """Coordinates on the sheet; a drawing that would leave it is moved, then shrunk, to stay on it."""
    margin, half = 3.0, SIZE / 2
    low, high = path.min(axis=1, keepdims=True), path.max(axis=1, keepdims=True)
    room = SIZE - 2 * margin
    scale = np.minimum(1, room / np.maximum(high - low, 1e-6)).min(axis=-1, keepdims=True)
    middle = (low + high) / 2
    reach = (high - low) * scale / 2
    return (path - middle) * scale + np.clip(middle + half, margin + reach, SIZE - margin - reach)


def ink(path: np.ndarray, pen: np.ndarray) -> np.ndarray:
    """Draw points (D, N, 2), x and y in pixels, with round pens of radius `pen` (D,), below 2: bool (D, SIZE, SIZE).

    Points nearer than two pixels to the edge are moved inwards.
    """
    path = np.clip(path, _REACH, SIZE - _REACH - 1e-3)
    cell = np.floor(path).astype(np.int64)
    offset = (path - cell - 0.5).astype(np.float32)
    away = [(step - offset) ** 2 for step in range(-_REACH, _REACH + 1)]  # each (D, N, 2): squared distance by axis
    limit = (pen[:, None] ** 2).astype(np.float32)
    first = (np.arange(len(path))[:, None] * SIZE + cell[..., 1]) * SIZE + cell[..., 0]
    picture = np.zeros(len(path) * SIZE * SIZE, dtype=bool)
    for column, row in itertools.product(range(-_REACH, _REACH + 1), repeat=2):
        near = away[column + _REACH][..., 0] + away[row + _REACH][..., 1] <= limit
        picture[first[near] + (row * SIZE + column)] = True
    return picture.reshape(-1, SIZE, SIZE)
