"""What a score is worth: probabilities, and the limit of "none of these". Pure arithmetic on scores.

Three things are fitted on one-shot trials of the validation alphabets, for 1, 2 and 5 support images a class:
- pair: the probability that two images show the same class, where half of all pairs do (Platt 1999);
- classes: the probability of each class, where the image shows one of them (a temperature: Guo et al. 2017). It depends
  on the number of support images and hardly on that of the classes (on Omniglot 0.88 to 0.94 from 2 to 20 classes);
- none: how good the best class has to be. Measured where the true class is absent: the limits are those that a stated
  share of such images passes. Both the best score and its lead over the second count; the lead's weight is chosen too.
  That they hold of other classes supposes that those measured stand for them: `doubt` says where they are too few.

Legend of shapes: T trials, N classes of which the first is the true one, Q queries, C classes.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

SHOTS = (1, 2, 5)
WAYS = (1, 2, 5, 10, 20)
RATES = (0.01, 0.05, 0.1, 0.2, 0.5)
RATE = 0.1  # the rate of false acceptance where none is named
LEADS = (0.0, 0.25, 0.5, 1.0)
# Classes; measured on fewer, limits are rough. Simulated, with 20 classes to choose from and 10 % stated: 40 to 53 %
# pass where 2 classes validated, 16 to 23 % where 3, 11 to 19 % where 6, 11 to 12 % where 11.
FEW = 10
HELD = "validation alphabets"  # where nobody says what they are
BINS = 15  # of the expected calibration error, as in Guo et al. 2017


class Calibration:
    """The probabilities that a record, as `fit` makes it, gives to scores."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        self.record = record
        self._shots = [shot["k_shot"] for shot in record["shots"]]

    def pair(self, scores: np.ndarray, *, k_shot: int = 1) -> np.ndarray:
        """Scores of any shape -> probabilities of the same class, rising with the score."""
        slope, offset = (self._by_shots(k_shot, [shot["pair"][key] for shot in self.record["shots"]])
                         for key in ("slope", "offset"))  # fmt: skip
        return sigmoid(slope * scores + offset)

    def classes(self, scores_QC: np.ndarray, *, k_shot: int = 1) -> np.ndarray:
        """(Q, C) -> probabilities (Q, C) that sum to 1 over the classes."""
        temperature = self._by_shots(k_shot, [shot["classes"]["temperature"] for shot in self.record["shots"]])
        return softmax(scores_QC / temperature)

    def known(self, scores_QC: np.ndarray, *, k_shot: int = 1, rate: float = RATE) -> np.ndarray:
        """(Q, C) -> (Q,) bool: whether the best class is good enough for the image to be of one of these.

        `rate`, one of RATES or 1 (always): of images of no class, the share that passes all the same."""
        if rate == 1:
            return np.ones(len(scores_QC), dtype=bool)
        return evidence(scores_QC, self.record["lead"]) >= self.limit(scores_QC.shape[1], k_shot=k_shot, rate=rate)

    def limit(self, ways: int, *, k_shot: int = 1, rate: float = RATE) -> float:
        """What the evidence of the best of so many classes has to reach; `rate`: one of RATES."""
        return self._by_shots(k_shot, [self._limit(shot["none"], ways, rate) for shot in self.record["shots"]])

    def _limit(self, cells: Sequence[Mapping[str, Any]], ways: int, rate: float) -> float:
        """The limit for a number of classes. Beyond those measured it goes on as it rose between the last two.

        Where there are no two to compare (one class has no lead in its evidence), the classes are taken for lots of
        the last number, each lot an independent chance to pass: the limit is then that of a lower rate, at which all
        lots together pass at `rate`, or less, as the lots of one image are alike."""
        rates, last = self.record["rates"], cells[-1]["n_way"]
        if ways > last and (len(cells) == 1 or (self.record["lead"] and cells[-2]["n_way"] == 1)):
            lower = 1 - (1 - rate) ** (last / ways)
            limits = zip(rates, cells[-1]["limits"], strict=True)
            return _at(sorted((1 / each, limit) for each, limit in limits), 1 / lower)
        return _at([(cell["n_way"], cell["limits"][rates.index(rate)]) for cell in cells], ways)

    def _by_shots(self, k_shot: int, values: Sequence[float]) -> float:
        """Between the numbers of shots that were measured: on a line over their logarithms; beyond: the nearest."""
        return float(np.interp(math.log(k_shot), np.log(self._shots), values))


def _at(points: Sequence[tuple[float, float]], where: float) -> float:
    """The limit at `where`, of points that rise: on lines over the logarithm. The last goes on, and never falls."""
    x, y = np.log([point[0] for point in points]), np.array([point[1] for point in points])
    if math.log(where) <= x[-1] or len(points) == 1:
        return float(np.interp(math.log(where), x, y))
    return float(y[-1] + max(0.0, (y[-1] - y[-2]) / (x[-1] - x[-2])) * (math.log(where) - x[-1]))


def doubt(record: Mapping[str, Any], *, held: str = HELD) -> str:
    """Why the stated rates may not be kept, in words; empty where they were measured on new classes, and enough.
    `held`: what those are called that validate."""
    classes, said = record["measured_on"]["characters"], [flattered(record, held=held)]
    if classes < FEW:
        said.append(
            f'the limits of "none of these" were measured on {classes} validation classes only: of images of no class'
            " many more than the stated share may be taken for one"
        )
    return "; ".join(filter(None, said))


def flattered(record: Mapping[str, Any], *, held: str = HELD) -> str:
    """Why the probabilities themselves may be surer than they should be, in words; empty where nothing says so."""
    taught = record["measured_on"].get("taught")  # older records do not say
    if not taught:
        return ""
    return (
        f"this network {'may have been' if taught == 'perhaps' else 'was'} taught the {held}, too, on"
        " which its probabilities were measured: those of new classes are less sure, and their errors more"
    )


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

    `group` (T,): the alphabet of each trial. All values are fitted on all trials; how good they are is measured across:
    half of the alphabets by what the other half would have given (of the trials, where there is one alphabet). None
    where scores do not tell classes apart: there is nothing to calibrate.
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
    """Which half each trial is of, 0 or 1: half of the alphabets, of one alphabet half of the trials."""
    names = np.unique(group)
    return np.searchsorted(names, group) % 2 if len(names) > 1 else np.arange(len(group)) % 2


def across(
    fold: np.ndarray, fitted: Callable[[np.ndarray], Any], applied: Callable[[Any, np.ndarray], np.ndarray]
) -> np.ndarray:
    """Each half's values by what was fitted on the other half: `fitted(rows)`, `applied(that, rows)`."""
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
    """For each number of classes the limits, and at RATE what share of images of no class passes and of known ones is
    refused."""
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

    With Platt's targets, short of 0 and 1 by one example each, it is finite where the scores tell the two kinds apart.
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
    """What scores are divided by so that their softmax has the greatest likelihood (Guo et al. 2017), 1e-3 to 1e3.

    The likelihood is concave in the inverse, so halving an interval finds it. One trial more is counted as missed, so
    that trials that are all hits do not make it sure of everything.
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
    """The expected calibration error (Naeini et al. 2015): how far confidence and share of hits are apart."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, weights=confidence - hits, minlength=BINS)
    return float(np.abs(gaps).sum() / len(confidence))
