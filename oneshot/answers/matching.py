"""Same or different by a threshold: its two errors, and the thresholds that keep one of them at a stated rate.

Two images are called the same if their score is above the threshold. The names are those of ISO/IEC 19795-1: the false
match rate is the share of different pairs that are called the same, the false non-match rate that of same pairs that
are called different. A NaN is above no threshold: it counts as the lowest score. Pure arithmetic on scores.

Legend of shapes: P pairs, K thresholds, T trials, N classes of which the first is the true one.
"""

import math
from typing import Any

import numpy as np

from oneshot.answers.calibration import Calibration, across, halves
from oneshot.base.errors import UserError, shown

RATES = (0.1, 0.01, 0.001)  # of false matches


def curve(scores: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False match and false non-match rate (K,) at every threshold that makes a difference.

    Thresholds rise from one below all scores (P,) to one that no score is above. `same` (P,) bool has pairs of both
    kinds."""
    values, at = np.unique(_numbers(scores), return_inverse=True)
    different, alike = (np.bincount(at[kind], minlength=len(values)) for kind in (~same, same))
    above, below = different.sum() - np.cumsum(different), np.cumsum(alike)
    return np.append(1.0, above / different.sum()), np.append(0.0, below / alike.sum())


def equal_error(false_match: np.ndarray, false_non_match: np.ndarray) -> float:
    """The equal error rate of a `curve`: the value at which both rates are the same.

    Between two thresholds, and so among equal scores, it is interpolated on a straight line, as if chance decided."""
    gap = false_non_match - false_match  # rises from -1 to 1
    after = int((gap >= 0).argmax())
    share = gap[after - 1] / (gap[after - 1] - gap[after])
    return float(false_match[after - 1] + share * (false_match[after] - false_match[after - 1]))


def area(false_match: np.ndarray, false_non_match: np.ndarray) -> float:
    """The area under the ROC curve: the probability that a same pair scores above a different one, where a tie counts
    one half."""
    return float((-np.diff(false_match) * (1 - (false_non_match[1:] + false_non_match[:-1]) / 2)).sum())


def threshold(different: np.ndarray, rate: float) -> float:
    """The lowest of the scores (P,) of different pairs that has no more than the share `rate` of them above it."""
    falling = np.sort(_numbers(different))[::-1]
    return float(falling[math.floor(rate * len(falling) + 1e-9)])  # 0.29 * 100 is less than 29


def distinct(left: np.ndarray, right: np.ndarray) -> int:
    """How many different pairs two arrays of drawings, of one shape, form element by element. A pair counts once,
    whichever of its drawings is left."""
    return len(np.unique(np.sort(np.stack([left.ravel(), right.ravel()], axis=-1), axis=1), axis=0))


def _numbers(scores: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(scores), -np.inf, scores)


def fit(scores_TN: np.ndarray, group: np.ndarray) -> dict[str, Any]:
    """The entry `match` of a calibration's record, from one-shot trials with one image a class: `rates`, and for each a
    limit, which is a score. `group` (T,) is the alphabet of each trial.

    The limits are fitted on all trials; `false_match` and `false_non_match` are measured on each half of the alphabets
    with the limits of the other half, as in `calibration.fit`.
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
    """The calibrated probability above which two images are the same at a false match rate. Raises UserError if the
    rate was not measured."""
    known = calibration.record.get("match") if calibration else None
    if not (calibration and known):
        raise UserError(
            "this network has no thresholds for false match rates: it is a checkpoint, an older version wrote it, or"
            " its scores do not tell classes apart; leave out --false-match and judge by the probability"
        )
    if rate not in known["rates"]:
        rates = ", ".join(f"{each:g}" for each in known["rates"])
        raise UserError(f"a false match rate of {shown(rate)} was not measured; use one of {rates}")
    return float(calibration.pair(np.array(known["limits"][known["rates"].index(rate)])))
