"""Verification: are two drawings one character? The task a Siamese network is trained for (Koch et al. 2015, 4.2)."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from oneshot.answers import matching
from oneshot.answers.calibration import sigmoid
from oneshot.base.errors import UserError
from oneshot.data.drawings import Drawings
from oneshot.data.pairs import PairDataset
from oneshot.evaluation.scoring import Similarity, wilson

PAIRS = 10_000  # as in the paper
SEED = 4_2
KINDS = ("any", "within")  # kinds of different pairs: two characters of any alphabets, two of one alphabet
_MOST = 1e15  # what an infinite logit counts as: adding 1 still changes it


class Scored(NamedTuple):
    """P pairs: the logits that a scorer gives them, and whether they are the same."""

    logits: np.ndarray  # (P,)
    same: np.ndarray  # (P,) bool
    different: int  # how many pairs that are not the same there are, each counted once: few drawings make few


def threshold(logits: np.ndarray, same: np.ndarray) -> float:
    """The logit above which to say "same" to be right about the most of these pairs: a midpoint between two logits.

    Of several that do equally well, the one nearest to 0, which is a probability of one half. A NaN is above no
    threshold and is ignored; if there is nothing else, the threshold is 0.
    """
    known = ~np.isnan(logits)
    logits, same = np.clip(logits[known], -_MOST, _MOST), same[known]
    if not len(logits):
        return 0.0
    order = np.argsort(logits, kind="stable")
    logits, same = logits[order], same[order]
    # With the k lowest called different, the different ones among them are right, and the same ones among the others.
    right = np.concatenate([[0], np.cumsum(~same)]) + np.concatenate([np.cumsum(same[::-1])[::-1], [0]])
    ends = np.concatenate([[logits[0] - 1], logits, [logits[-1] + 1]])
    cuts = (ends[:-1] + ends[1:]) / 2
    between = np.diff(ends) > 0  # no threshold separates equal logits
    cuts, right = cuts[between], right[between]
    best = cuts[right == right.max()]
    return float(best[np.abs(best).argmin()])


def pairs_of(drawings: Drawings, logits_of: Similarity) -> dict[str, Scored]:
    """10,000 fixed pairs of drawings of each kind, with a scorer's logits. Half of them are of one character; the rest
    are of any two ("any"), or of two characters of one alphabet ("within"), which is harder.

    A kind that these drawings cannot make is left out; so is "within" if there is only one alphabet, since any two
    characters are of that."""
    found = {}
    for kind in KINDS if len(drawings.alphabets) > 1 else KINDS[:1]:
        try:
            made = PairDataset(drawings, seed=SEED, hard_negatives=float(kind == "within"))
        except UserError:
            continue
        pairs = made.pairs(epoch=0, start=0, count=PAIRS)
        different = matching.distinct(pairs.left[~pairs.same], pairs.right[~pairs.same])
        found[kind] = Scored(np.asarray(logits_of(pairs.left, pairs.right)), pairs.same, different)
    return found


def verification(test: Mapping[str, Scored], validation: Mapping[str, Scored]) -> dict[str, Any] | None:
    """How well a network tells same from different on test pairs, as `pairs_of` makes them.

    On pairs of any two characters: `pairs`; `accuracy` and `interval` (Wilson's 95 %) if a probability of one half
    decides; `threshold`, the probability that is best on the validation pairs; and `at_threshold`, the accuracy on the
    test pairs with it.

    `errors`, for both kinds of pairs: the equal error rate `eer`; the area under the ROC curve `auc`; how many
    `different` pairs, each counted once, the part with fewer of them holds; and for each rate of `matching.RATES` the
    `similarity`, as `OneShot.similarity` gives it, that at most this share of the different validation pairs is above,
    with its false match and false non-match rates on test pairs. 5,000 pairs carry a rate of 0.1 % only roughly: it is
    five of them. None if the drawings make no pairs.
    """
    if "any" not in test or "any" not in validation:
        return None
    asked, known = test["any"], validation["any"]
    cut = threshold(known.logits, known.same)
    plain, chosen = (int(((asked.logits > level) == asked.same).sum()) for level in (0.0, cut))
    return {
        "pairs": PAIRS,
        "accuracy": plain / PAIRS,
        "interval": list(wilson(plain, PAIRS)),
        "threshold": float(sigmoid(np.array(cut))),
        "at_threshold": chosen / PAIRS,
        "errors": {kind: _errors(each, validation[kind]) for kind, each in test.items() if kind in validation},
    }


def _errors(test: Scored, validation: Scored) -> dict[str, Any]:
    at = []
    for rate in matching.RATES:
        cut = matching.threshold(validation.logits[~validation.same], rate)
        told_same = test.logits > cut
        at.append({
            "rate": rate, "similarity": float(sigmoid(np.array(cut))),
            "false_match": float(told_same[~test.same].mean()),
            "false_non_match": float((~told_same[test.same]).mean()),
        })  # fmt: skip
    curve = matching.curve(test.logits, test.same)
    return {
        "eer": matching.equal_error(*curve), "auc": matching.area(*curve),
        "different": min(test.different, validation.different),
        "at_false_match": at,
    }  # fmt: skip
