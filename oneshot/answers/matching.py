"""Same or different by a threshold: its two errors, and the thresholds that keep one of them at a stated rate.

Two images are told the same where their score is above the threshold. The names are those of ISO/IEC 19795-1: the
false match rate is the share of different pairs that are told the same, the false non-match rate that of same pairs
that are told different. A NaN is above no threshold: it counts as the lowest score. Pure arithmetic on scores.

Legend of shapes: P pairs, K thresholds, T trials, N classes of which the first is the true one.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from oneshot.answers.calibration import FEW, Calibration, across, flattered, halves
from oneshot.base.errors import UserError, shown

RATES = (0.1, 0.01, 0.001)  # of false matches
# Where few classes validated, thresholds are rough however many pairs they make. Simulated, with half of the scores'
# spread that of the two classes: where 1 % are stated, 11 % pass on average where 2 classes validated, 4.7 % where 3,
# 1.7 % where 6, 1.1 % where 12; where 0.1 % are stated, 7.8, 2.1, 0.3 and 0.15 %: `FEW`.
# The rule of 30 (Doddington et al. 2000, and ISO/IEC 19795-1): of so many errors a rate is within 30 % of the true one,
# with 90 % confidence, where the pairs are independent.
ENOUGH = 30
OFF = 1.5  # times the rate that is meant: where as many pass on other alphabets, that is to be said


def curve(scores: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False match and false non-match rate (K,) at every threshold that makes a difference, rising: from one that all
    of the scores (P,) are above to one that none is. `same` (P,) bool holds pairs of both kinds."""
    values, at = np.unique(_numbers(scores), return_inverse=True)
    different, alike = (np.bincount(at[kind], minlength=len(values)) for kind in (~same, same))
    above, below = different.sum() - np.cumsum(different), np.cumsum(alike)
    return np.append(1.0, above / different.sum()), np.append(0.0, below / alike.sum())


def equal_error(false_match: np.ndarray, false_non_match: np.ndarray) -> float:
    """The equal error rate of a `curve`: where both are the same. Between two thresholds that is on the straight line,
    as if a lot decided; so it is among equal scores."""
    gap = false_non_match - false_match  # rises from -1 to 1
    after = int((gap >= 0).argmax())
    share = gap[after - 1] / (gap[after - 1] - gap[after])
    return float(false_match[after - 1] + share * (false_match[after] - false_match[after - 1]))


def area(false_match: np.ndarray, false_non_match: np.ndarray) -> float:
    """The area under the ROC curve: how probable it is that a same pair scores above a different one; of two that are
    equal either may."""
    return float((-np.diff(false_match) * (1 - (false_non_match[1:] + false_non_match[:-1]) / 2)).sum())


def threshold(different: np.ndarray, rate: float) -> float:
    """The lowest of the scores (P,) of different pairs that no more than the share `rate` of them are above."""
    falling = np.sort(_numbers(different))[::-1]
    return float(falling[math.floor(rate * len(falling) + 1e-9)])  # 0.29 * 100 is less than 29


def distinct(left: np.ndarray, right: np.ndarray) -> int:
    """How many pairs there are of drawings and those beside them, arrays of one shape: each counted once, whichever of
    its two is left."""
    return len(np.unique(np.sort(np.stack([left.ravel(), right.ravel()], axis=-1), axis=1), axis=0))


def _numbers(scores: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(scores), -np.inf, scores)


def fit(scores_TN: np.ndarray, group: np.ndarray) -> dict[str, Any]:
    """`match` of a calibration's record, of one-shot trials with one image a class: `rates`, and for each a limit, a
    score. `group` (T,): the alphabet of each trial.

    The limits are those of all trials; `false_match` and `false_non_match` are what half of the alphabets gives by the
    limits of the other half, as in `calibration.fit`.
    """

    def limits(rows: np.ndarray) -> np.ndarray:
        return np.array([threshold(scores_TN[rows, 1:].ravel(), rate) for rate in RATES])

    def errors(cuts: np.ndarray, rows: np.ndarray) -> np.ndarray:
        told_same = scores_TN[rows, :, None] > cuts
        return np.stack([told_same[:, 1:].mean(axis=1), ~told_same[:, 0]], axis=1)

    false_match, false_non_match = across(halves(group), limits, errors).mean(axis=0).tolist()
    return {
        "rates": list(RATES), "limits": limits(np.ones(len(group), dtype=bool)).tolist(), "false_match": false_match,
        "false_non_match": false_non_match,
    }  # fmt: skip


def limit(calibration: Calibration | None, rate: float) -> float:
    """The calibrated probability above which two images are the same at a false match rate. Raises UserError where it
    was not measured."""
    known = calibration.record.get("match") if calibration else None
    if not (calibration and known):
        raise UserError(
            "this network has no thresholds for false match rates: it is a checkpoint, or an older version wrote it, or"
            " its scores tell no classes apart; leave --false-match out and judge by the probability"
        )
    if rate not in known["rates"]:
        rates = ", ".join(f"{each:g}" for each in known["rates"])
        raise UserError(f"a false match rate of {shown(rate)} was not measured; use one of {rates}")
    return float(calibration.pair(np.array(known["limits"][known["rates"].index(rate)])))


def doubt(record: Mapping[str, Any], rate: float) -> str:
    """Why the false match rate may not be kept, in words; empty where it was measured on new classes, and enough."""
    classes, pairs, said = record["measured_on"]["characters"], record["match"]["pairs"], [flattered(record)]
    if classes < FEW:
        said.append(
            f"the threshold was measured on {classes} validation classes only: of pairs of two classes many more than"
            " the stated share may be told the same"
        )
    elif rate * pairs < ENOUGH:
        said.append(
            f"the threshold was measured on {pairs:,} pairs of two classes, of which {100 * rate:g} % are less than"
            f" {ENOUGH}: the rate is rough"
        )
    else:  # pairs of one alphabet, and of one hand, are alike: so many are worth less than as many of all
        passed = record["match"]["false_match"][record["match"]["rates"].index(rate)]
        if passed > OFF * rate:
            said.append(
                f"by thresholds of one half of the validation alphabets {100 * passed:.2g} % of the other half's pairs"
                f" of two classes are told the same, where {100 * rate:g} % are meant: the rate is rough"
            )
    return "; ".join(filter(None, said))
