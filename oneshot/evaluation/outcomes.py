"""What a judgement keeps of single trials, so that a report can show them without the network and without the data.

`outcomes.json` holds trials as they came out, the errors, the characters that were confused, a map of the embeddings,
the drawings of all these, each once, how verification trades its two errors, and of every trial whether it was a hit:
below 1 MB for drawings of one bit. It is taken from the scores that gave `result.json`: to show them, or to compare two
networks trial by trial, touches the test alphabets no further.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from oneshot.answers import matching
from oneshot.data.clean import shown
from oneshot.data.drawings import Drawings
from oneshot.data.png import encode
from oneshot.data.sheet import spread
from oneshot.evaluation.paired import kept_hits
from oneshot.evaluation.scoring import Trials, judge, per_alphabet
from oneshot.evaluation.verification import Scored

OUTCOMES = "outcomes.json"
FORMAT = 1
# 400: every error of Lake's trials, whatever the network. Of few own images the same question comes again and again.
GALLERY, ERRORS, PAIRS, EXAMPLES = 12, 400, 24, 3
CURVE = 200  # points of a curve of verification
MAP_ALPHABETS, MAP_CHARACTERS, MAP_DRAWERS, MAP_SIDE = 20, 20, 12, 1000  # positions are whole numbers 0..MAP_SIDE
_SIDE, _GREY_SIDE = 105, 48  # the most pixels a side of a drawing that is kept: of one bit, and of 16 greys


@dataclass(frozen=True)
class Seen:
    """The material of a judgement: test drawings, their embeddings (N, D), each protocol and each kind of pairs with
    their scores."""

    drawings: Drawings
    embeddings: np.ndarray
    judged: Sequence[tuple[Trials, np.ndarray]]  # scores (T, n_way)
    pairs: Mapping[str, Scored]


@dataclass
class _Kept:
    """Drawings on their way into the file, each once."""

    drawings: Drawings
    places: dict[int, int] = field(default_factory=dict)

    def add(self, position: int) -> int:
        """The number of the drawing at a position, under which the file knows it."""
        return self.places.setdefault(int(position), len(self.places))

    def to_list(self) -> list[dict[str, Any]]:
        positions = np.array(list(self.places), dtype=np.int64)
        return [
            {
                "png": base64.b64encode(_thumbnail(ink, self.drawings.bits, self.drawings.polarity)).decode(),
                "character": self.drawings.characters[self.drawings.character[position]],
                "drawer": int(self.drawings.drawer[position]),
            }
            for position, ink in zip(positions.tolist(), self.drawings.pixels(positions), strict=True)
        ]


def outcomes(seen: Seen, *, sha256: str | None) -> dict[str, Any]:
    """The content of outcomes.json, see `formats.Outcomes`. `sha256`: of the network that was judged.

    Single trials are those of `lake400`, else of `within`, else of the first protocol; confusions those of `within`,
    which has most trials, or of the same protocol; hits those of every protocol. Embeddings that are not finite have no
    map.
    """
    kept = _Kept(seen.drawings)
    by_name = {trials.name: (trials, scores) for trials, scores in seen.judged}
    first = next(iter(by_name))
    trials, scores = by_name[next((name for name in ("lake400", "within") if name in by_name), first)]
    hits = judge(trials, scores).hits
    order = _order(trials, scores, hits)
    many = by_name.get("within", (trials, scores))
    return {
        "format": FORMAT,
        "sha256": sha256,
        "protocol": trials.name,
        "n_way": trials.n_way,
        "k_shot": trials.k_shot,
        "trials": len(trials),
        "correct": int(hits.sum()),
        "hits": kept_hits(seen.judged, seen.drawings),
        "per_alphabet": per_alphabet(trials, hits, seen.drawings),
        "gallery": [_trial(trials, scores, order, at, kept) for at in spread(len(trials), GALLERY)],
        "errors": [
            _trial(trials, scores, order, at, kept, short=True) for at in _worst(seen, trials, scores, order, hits)
        ],
        "confused": _confused(*many, kept),
        "map": _map(seen, kept),
        "curves": {kind: _curve(scored) for kind, scored in seen.pairs.items()},
        "polarity": seen.drawings.polarity,
        "drawings": kept.to_list(),
    }


def _order(trials: Trials, scores: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """The n_way of every trial (T, n_way), the most alike first; the right one stands first where the trial is a hit
    and not first where it is none, also among equals."""
    right = np.arange(trials.n_way) == trials.target[:, None]
    last = np.where(hits[:, None], ~right, right)
    order = np.lexsort((last, -scores), axis=1)
    wrong = np.flatnonzero(~hits & (order[:, 0] == trials.target))  # a NaN in the scores
    order[wrong, :2] = order[wrong, 1::-1]
    return order


def _trial(
    trials: Trials, scores: np.ndarray, order: np.ndarray, at: int, kept: _Kept, *, short: bool = False
) -> dict[str, Any]:
    """One trial: query, ranking (first drawing of each character, the most alike first), `right`: the target's place.

    `short`: of the ranking only the chosen one and the right one, which then have the places 0 and `right`.
    """
    row = order[at]
    right = int(np.flatnonzero(row == trials.target[at])[0])
    places = [0, right] if short else range(len(row))
    return {
        "query": kept.add(trials.query[at]),
        "ranking": [kept.add(trials.support[at, row[place], 0]) for place in places],
        "scores": [_number(scores[at, row[place]]) for place in places],
        "right": right,
    }


def _number(value: float) -> float | None:
    return round(float(value), 3) if np.isfinite(value) else None


def _worst(seen: Seen, trials: Trials, scores: np.ndarray, order: np.ndarray, hits: np.ndarray) -> list[int]:
    """The misses, the one by the greatest margin first; of those that took a drawing for the same character, one."""
    wrong = np.flatnonzero(~hits)
    right = np.take_along_axis(scores[wrong], trials.target[wrong, None], axis=1)[:, 0]
    margin = np.nan_to_num(scores[wrong].max(axis=1) - right, nan=np.inf)
    wrong = wrong[np.argsort(-margin, kind="stable")]
    chosen = trials.support[wrong, order[wrong, 0], 0]
    taken = np.stack([trials.query[wrong], seen.drawings.character[chosen]], axis=1)
    _, first = np.unique(taken, axis=0, return_index=True)
    return wrong[np.sort(first)][:ERRORS].tolist()


def _confused(trials: Trials, scores: np.ndarray, kept: _Kept) -> dict[str, Any]:
    """The pairs of characters most often taken for each other; `met`: in how many trials that was possible."""
    drawings = kept.drawings
    hits = judge(trials, scores).hits
    wrong = np.flatnonzero(~hits)
    chosen = trials.support[wrong, _order(trials, scores, hits)[wrong, 0], 0]
    asked, support = drawings.character[trials.query], drawings.character[trials.support[:, :, 0]]
    pair = np.stack([asked[wrong], drawings.character[chosen]], axis=1)
    both, which, count = np.unique(np.sort(pair, axis=1), axis=0, return_inverse=True, return_counts=True)
    pairs = []
    for number in np.argsort(-count, kind="stable")[:PAIRS]:
        a, b = both[number].tolist()
        here = np.flatnonzero(which.reshape(-1) == number)
        met = ((asked == a) & (support == b).any(1)) | ((asked == b) & (support == a).any(1))
        culprits = np.concatenate([trials.query[wrong[here]], chosen[here]])
        shown = [np.unique(culprits[drawings.character[culprits] == one])[:EXAMPLES] for one in (a, b)]
        pairs.append(
            {
                "characters": [drawings.characters[a], drawings.characters[b]],
                "counts": [int((pair[here, 0] == a).sum()), int((pair[here, 0] == b).sum())],
                "met": int(met.sum()),
                "drawings": [[kept.add(position) for position in some] for some in shown],
            }
        )
    return {"protocol": trials.name, "trials": len(trials), "errors": len(wrong), "pairs": pairs}


def _map(seen: Seen, kept: _Kept) -> list[dict[str, Any]]:
    """For each alphabet its drawings in the plane of the two greatest variances of their embeddings."""
    drawings, maps = seen.drawings, []
    if not np.isfinite(seen.embeddings).all():
        return []
    for alphabet in spread(len(drawings.alphabets), MAP_ALPHABETS):
        characters = np.flatnonzero(drawings.alphabet_of == alphabet)
        characters = characters[spread(len(characters), MAP_CHARACTERS)]
        rows = [np.flatnonzero(drawings.character == one)[:MAP_DRAWERS] for one in characters]
        plane, explained = _plane(seen.embeddings[np.concatenate(rows)])
        entries, at = [], 0
        for one, positions in zip(characters.tolist(), rows, strict=True):
            points = plane[at : at + len(positions)]
            at += len(positions)
            middle = int(((points - points.mean(axis=0)) ** 2).sum(axis=1).argmin())
            name = drawings.characters[one]
            entries.append({"character": name, "drawing": kept.add(positions[middle]), "points": points.tolist()})
        maps.append({"alphabet": drawings.alphabets[alphabet], "explained": explained, "characters": entries})
    return maps


def _plane(z: np.ndarray) -> tuple[np.ndarray, float]:
    """Principal components: (n, 2) whole numbers in a square of MAP_SIDE, and the share of variance that they show."""
    centred = z.astype(np.float64) - z.mean(axis=0, dtype=np.float64)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    count = min(2, len(s))
    flat = np.zeros((len(z), 2))
    flat[:, :count] = u[:, :count] * s[:count]
    total = float((s**2).sum())
    flat -= (flat.max(axis=0) + flat.min(axis=0)) / 2
    reach = max(float(np.abs(flat).max()), 1e-12)
    square = np.clip(np.rint((flat / reach + 1) / 2 * MAP_SIDE), 0, MAP_SIDE).astype(int)
    return square, round(float((s[:2] ** 2).sum()) / total, 4) if total else 0.0


def _curve(scored: Scored) -> list[list[float]]:
    """False match and false non-match rate at many thresholds, CURVE at the most: of all there are, those at equal
    distances along the curve where both axes are logarithmic. What no pair does counts as half a pair there."""
    both = np.stack(matching.curve(scored.logits, scored.same))
    steps = np.diff(np.log(np.maximum(both, 1 / len(scored.same))))
    path = np.append(0.0, np.abs(steps).sum(axis=0).cumsum())
    at = np.unique(np.searchsorted(path, np.linspace(0, path[-1], CURVE)))
    return both[:, at].T.round(6).tolist()


def _thumbnail(ink: np.ndarray, bits: int, polarity: str) -> bytes:
    """A small PNG of a drawing (height, width) uint8, 255 = ink: one bit, or 16 greys where it had more.

    It looks as the image did that the drawing comes from: a photo and light ink on dark paper are no negatives."""
    side, most = max(ink.shape), _SIDE if bits == 1 else _GREY_SIDE
    if side > most:
        size = [max(1, round(length * most / side)) for length in ink.shape[::-1]]
        ink = np.asarray(Image.fromarray(ink).resize(size, Image.Resampling.BOX))
    if bits == 1:
        return encode(shown(ink, polarity) < 128)
    grey = Image.fromarray(shown(ink // 17 * 17, polarity) // 17)
    picture = Image.frombytes("P", grey.size, grey.tobytes())
    picture.putpalette([17 * level for level in range(16) for _ in "rgb"])
    stream = io.BytesIO()
    picture.save(stream, "PNG", bits=4)
    return stream.getvalue()
