"""Calibration of scores: probabilities, and the limit for "none of these". Pure arithmetic on scores.

Three things are fitted on one-shot trials of the validation alphabets, for 1, 2 and 5 support images a class:
- pair: the probability that two images show the same class, if half of all pairs do (Platt 1999);
- classes: the probability of each class, if the image shows one of them (a temperature: Guo et al. 2017). The
  temperature depends on the number of support images and hardly on that of the classes (on Omniglot, it is 0.88 to 0.94
  from 2 to 20 classes);
- none: how good the best class has to be. It is measured with the true class absent: a limit is what a stated share of
  such images passes. Both the best score and its lead over the second count; the lead's weight is chosen too. The
  limits hold for other classes only if the measured ones represent them: `doubts` says when these are too few.

Legend of shapes: T trials, N classes of which the first is the true one, Q queries, C classes.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

SHOTS = (1, 2, 5)
WAYS = (1, 2, 5, 10, 20)
RATES = (0.01, 0.05, 0.1, 0.2, 0.5)
RATE = 0.1  # the default rate of false acceptance
LEADS = (0.0, 0.25, 0.5, 1.0)
BINS = 15  # of the expected calibration error, as in Guo et al. 2017


class Calibration:
    """Turns scores into probabilities, by a record as `fit` returns it."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        self.record = record
        self._shots = [shot["k_shot"] for shot in record["shots"]]

    def pair(self, scores: np.ndarray, *, k_shot: int = 1) -> np.ndarray:
        """Scores of any shape -> probabilities of the same class, rising with the score."""
        slope, offset = (self._by_shots(k_shot, [shot["pair"][key] for shot in self.record["shots"]])
                         for key in ("slope", "offset"))  # fmt: skip
        return sigmoid(slope * scores + offset)

    def classes(self, scores_QC: np.ndarray, *, k_shot: int = 1) -> np.ndarray:
        """Scores (Q, C) -> probabilities (Q, C) that sum to 1 over the classes."""
        temperature = self._by_shots(k_shot, [shot["classes"]["temperature"] for shot in self.record["shots"]])
        return softmax(scores_QC / temperature)

    def known(self, scores_QC: np.ndarray, *, k_shot: int = 1, rate: float = RATE) -> np.ndarray:
        """Scores (Q, C) -> (Q,) bool: whether the best class is good enough for the image to be of one of these.

        `rate`, one of RATES or 1 (always), is the share of images of no class that passes all the same."""
        if rate == 1:
            return np.ones(len(scores_QC), dtype=bool)
        return evidence(scores_QC, self.record["lead"]) >= self.limit(scores_QC.shape[1], k_shot=k_shot, rate=rate)

    def limit(self, ways: int, *, k_shot: int = 1, rate: float = RATE) -> float:
        """The limit that the evidence of the best of `ways` classes has to reach; `rate` is one of RATES."""
        return self._by_shots(k_shot, [self._limit(shot["none"], ways, rate) for shot in self.record["shots"]])

    def _limit(self, cells: Sequence[Mapping[str, Any]], ways: int, rate: float) -> float:
        """The limit for a number of classes. Beyond those measured it goes on as it rose between the last two.

        If there are no two to compare (the evidence of one class has no lead), the classes are treated as lots of the
        last number, each an independent chance to pass. The limit is then that of a lower rate, chosen so that all lots
        together pass at `rate`; in fact they pass at less, as the lots of one image are alike."""
        rates, last = self.record["rates"], cells[-1]["n_way"]
        if ways > last and (len(cells) == 1 or (self.record["lead"] and cells[-2]["n_way"] == 1)):
            lower = 1 - (1 - rate) ** (last / ways)
            limits = zip(rates, cells[-1]["limits"], strict=True)
            return _at(sorted((1 / each, limit) for each, limit in limits), 1 / lower)
        return _at([(cell["n_way"], cell["limits"][rates.index(rate)]) for cell in cells], ways)

    def _by_shots(self, k_shot: int, values: Sequence[float]) -> float:
        """Interpolate `values` linearly over the logarithm of the measured shots; beyond these, take the nearest."""
        return float(np.interp(math.log(k_shot), np.log(self._shots), values))


def _at(points: Sequence[tuple[float, float]], where: float) -> float:
    """The limit at `where`, on lines between rising points over the logarithm. The last goes on, and never falls."""
    x, y = np.log([point[0] for point in points]), np.array([point[1] for point in points])
    if math.log(where) <= x[-1] or len(points) == 1:
        return float(np.interp(math.log(where), x, y))
    return float(y[-1] + max(0.0, (y[-1] - y[-2]) / (x[-1] - x[-2])) * (math.log(where) - x[-1]))


def evidence(scores_QC: np.ndarray, lead: float) -> np.ndarray:
    """(Q, C) -> (Q,): the best score plus `lead` times its distance to the second, if there is one."""
    if scores_QC.shape[1] == 1:
        return scores_QC[:, 0]
    second, best = np.partition(scores_QC, -2, axis=1)[:, -2:].T
    return best + lead * (best - second)


def sigmoid(values: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -np.asarray(values, dtype=np.float64)))


def softmax(scores_QC: np.ndarray) -> np.ndarray:
    powers = np.exp(scores_QC - scores_QC.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def fit(scores: Mapping[int, np.ndarray], group: np.ndarray) -> dict[str, Any] | None:
    """A record from scores by number of shots, each (T, N) with the true class first; N >= 2.

    `group` (T,) is the alphabet of each trial. All values are fitted on all trials. How good they are is measured on
    each half of the alphabets (of the trials, if there is one alphabet) with values fitted on the other half. Returns
    None if the scores do not tell classes apart: there is nothing to calibrate.
    """
    fold = halves(group)
    pairs = {
        k: (np.concatenate([each[:, 0], each[:, 1]]), np.repeat([True, False], len(each))) for k, each in scores.items()
    }
    if min(platt(*pair)[0] for pair in pairs.values()) <= 0:
        return None
    lead = min(
        LEADS, key=lambda lead: sum(cell["refused"] for each in scores.values() for cell in _none(each, fold, lead))
    )
    return {
        "lead": lead,
        "rates": list(RATES),
        "shots": [
            {
                "k_shot": k,
                "pair": _pair(*pairs[k], np.tile(fold, 2)),
                "classes": _classes(each, fold),
                "none": _none(each, fold, lead),
            }
            for k, each in scores.items()
        ],
    }


def halves(group: np.ndarray) -> np.ndarray:
    """The half that each trial belongs to, 0 or 1: of the alphabets, or of the trials if there is one alphabet."""
    names = np.unique(group)
    return np.searchsorted(names, group) % 2 if len(names) > 1 else np.arange(len(group)) % 2


def across(
    fold: np.ndarray, fitted: Callable[[np.ndarray], Any], applied: Callable[[Any, np.ndarray], np.ndarray]
) -> np.ndarray:
    """The values of each half by what was fitted on the other: `applied(fitted(other_rows), rows)`."""
    values = [(rows, applied(fitted(~rows), rows)) for rows in (fold == 0, fold == 1)]
    whole = np.empty((len(fold), *values[0][1].shape[1:]), dtype=values[0][1].dtype)
    for rows, part in values:
        whole[rows] = part
    return whole


def _pair(scores: np.ndarray, same: np.ndarray, fold: np.ndarray) -> dict[str, Any]:
    slope, offset = platt(scores, same)
    after = across(
        fold, lambda rows: platt(scores[rows], same[rows]), lambda line, rows: sigmoid(line[0] * scores[rows] + line[1])
    )
    return {
        "slope": slope, "offset": offset, "pairs": len(scores), "ece_before": ece(sigmoid(scores), same),
        "ece_after": ece(after, same),
    }  # fmt: skip


def _classes(scores_TN: np.ndarray, fold: np.ndarray) -> dict[str, Any]:
    hits = scores_TN.argmax(axis=1) == 0
    after = across(
        fold, lambda rows: temperature(scores_TN[rows]), lambda heat, rows: softmax(scores_TN[rows] / heat).max(axis=1)
    )
    return {
        "temperature": temperature(scores_TN), "n_way": scores_TN.shape[1], "accuracy": float(hits.mean()),
        "ece_before": ece(softmax(scores_TN).max(axis=1), hits), "ece_after": ece(after, hits),
    }  # fmt: skip


def _none(scores_TN: np.ndarray, fold: np.ndarray, lead: float) -> list[dict[str, Any]]:
    """For each number of classes, the limits, and the shares of images of no class that pass and of known ones that are
    refused at RATE."""
    cells = []
    for ways in (ways for ways in WAYS if ways < scores_TN.shape[1]):
        absent, present = evidence(scores_TN[:, 1 : ways + 1], lead), evidence(scores_TN[:, :ways], lead)
        passed = across(
            fold,
            lambda rows, absent=absent: np.quantile(absent[rows], 1 - RATE),
            lambda limit, rows, absent=absent, present=present: (
                np.stack([absent[rows], present[rows]], axis=1) >= limit
            ),
        )
        false_accept, accepted = passed.mean(axis=0).tolist()
        cells.append({
            "n_way": ways, "limits": np.quantile(absent, 1 - np.array(RATES)).tolist(), "false_accept": false_accept,
            "refused": 1 - accepted,
        })  # fmt: skip
    return cells


def platt(scores: np.ndarray, same: np.ndarray) -> tuple[float, float]:
    """Slope and offset of the logistic curve of greatest likelihood (Platt 1999), by Newton's method.

    Platt's targets fall short of 0 and 1 by one example each, so it is finite even if scores separate the two kinds.
    """
    centre, spread = scores.mean(), max(float(scores.std()), 1e-12)
    design = np.stack([(scores - centre) / spread, np.ones(len(scores))], axis=1)
    ones, zeros = int(same.sum()), int((~same).sum())
    target = np.where(same, (ones + 1) / (ones + 2), 1 / (zeros + 2))

    def loss(line: np.ndarray) -> float:
        logits = design @ line
        return float((np.logaddexp(0, logits) - target * logits).mean())

    line = np.zeros(2)
    for _ in range(100):
        share = sigmoid(design @ line)
        curvature = (design.T * (share * (1 - share))) @ design + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, design.T @ (share - target))
        while loss(line - step) > loss(line) and np.abs(step).max() > 1e-9:
            step = step / 2
        line = line - step
        if np.abs(step).max() < 1e-9:
            break
    slope = float(line[0] / spread)
    return slope, float(line[1] - slope * centre)


def temperature(scores_TN: np.ndarray) -> float:
    """The divisor of scores that gives their softmax the greatest likelihood (Guo et al. 2017), from 1e-3 to 1e3.

    The likelihood is concave in the inverse, so bisection finds it. One extra trial counts as missed, so that trials
    that are all hits do not lead to complete certainty.
    """
    missed = 1 / (len(scores_TN) + 2)
    aim = (1 - missed) * scores_TN[:, 0].mean() + missed * scores_TN[:, 1:].mean()
    low, high = math.log(1e-3), math.log(1e3)
    for _ in range(60):
        middle = (low + high) / 2
        expected = (softmax(scores_TN * math.exp(middle)) * scores_TN).sum(axis=1).mean()
        low, high = (middle, high) if expected < aim else (low, middle)
    return math.exp(-(low + high) / 2)


def ece(confidence: np.ndarray, hits: np.ndarray) -> float:
    """The expected calibration error (Naeini et al. 2015): how far apart confidence and share of hits are."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, weights=confidence - hits, minlength=BINS)
    return float(np.abs(gaps).sum() / len(confidence))
