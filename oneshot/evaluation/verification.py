"""Verification: are two drawings one character? The task a Siamese network is trained for (Koch et al. 2015, 4.2)."""

from typing import Any

import numpy as np

from oneshot.answers.calibration import sigmoid
from oneshot.base.errors import UserError
from oneshot.data.drawings import Drawings
from oneshot.data.pairs import PairDataset
from oneshot.evaluation.scoring import Similarity, wilson

PAIRS = 10_000  # as in the paper
SEED = 4_2
_MOST = 1e15  # what an infinite logit counts as: one more or less is still another number


def threshold(logits: np.ndarray, same: np.ndarray) -> float:
    """The logit above which to say "same", so that most of these pairs are told right: a midpoint between two of them.

    Of several that do equally well, the one nearest to 0, which is a probability of one half. A NaN is above no
    threshold and has no say; where there is nothing else, it is 0.
    """
    known = ~np.isnan(logits)
    logits, same = np.clip(logits[known], -_MOST, _MOST), same[known]
    if not len(logits):
        return 0.0
    order = np.argsort(logits, kind="stable")
    logits, same = logits[order], same[order]
    # With the k lowest called different: their different ones are right, and of the others the same ones.
    right = np.concatenate([[0], np.cumsum(~same)]) + np.concatenate([np.cumsum(same[::-1])[::-1], [0]])
    ends = np.concatenate([[logits[0] - 1], logits, [logits[-1] + 1]])
    cuts = (ends[:-1] + ends[1:]) / 2
    between = np.diff(ends) > 0  # no threshold parts equal logits
    cuts, right = cuts[between], right[between]
    best = cuts[right == right.max()]
    return float(best[np.abs(best).argmin()])


def verification(
    logits_of: Similarity, test: Drawings, *, validation: Drawings, validation_logits_of: Similarity
) -> dict[str, Any] | None:
    """Accuracy on 10,000 fixed pairs of test drawings, half of them of one character, the others of any two.

    `pairs`, `accuracy` and `interval` (Wilson's 95 %) where a probability of one half decides; `threshold`, a
    probability, is the best one on as many pairs of validation drawings, `at_threshold` the accuracy of the test pairs
    with it. None where the drawings make no pairs.
    """
    try:
        asked, known = (
            PairDataset(each, seed=SEED).pairs(epoch=0, start=0, count=PAIRS) for each in (test, validation)
        )
    except UserError:
        return None
    cut = threshold(np.asarray(validation_logits_of(known.left, known.right)), known.same)
    logits = np.asarray(logits_of(asked.left, asked.right))
    plain, chosen = (int(((logits > level) == asked.same).sum()) for level in (0.0, cut))
    return {
        "pairs": PAIRS,
        "accuracy": plain / PAIRS,
        "interval": list(wilson(plain, PAIRS)),
        "threshold": float(sigmoid(np.array(cut))),
        "at_threshold": chosen / PAIRS,
    }
