"""Two networks on the same trials: which trials each got right, kept and read again, and whether they differ.

Trials that both got right, or both wrong, say nothing about which is better. As two networks err mostly on the same
trials, a difference can show that is much smaller than the interval of either accuracy. Free of torch.

Legend of shapes: T trials.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from oneshot.base.errors import UserError
from oneshot.data.drawings import Drawings
from oneshot.evaluation.scoring import Trials, judge, wilson

_BYTES = 16  # of the digest of a picture


def kept_hits(judged: Iterable[tuple[Trials, np.ndarray]], drawings: Drawings) -> dict[str, dict[str, Any]]:
    """{protocol: `formats.Hits`}: which trials of each protocol were hits, given their scores (T, n_way).

    The `digest` says which trials they are: it is equal only for the same pictures, pixel by pixel, as query and in the
    support, in the same order. It does not depend on where a drawing is stored, on names or on seeds, so a protocol on
    alphabets that two splits share has one digest in both."""
    pictures = _pictures(drawings)
    return {
        trials.name: {
            "digest": _digest(trials, pictures),
            "trials": len(trials),
            "hits": base64.b64encode(np.packbits(judge(trials, scores).hits)).decode(),
        }
        for trials, scores in judged
    }


def hits_of(kept: Mapping[str, Any]) -> np.ndarray:
    """The hits of a protocol, (T,) bool, from what `kept_hits` wrote and `formats.Hits` checked."""
    packed = np.frombuffer(base64.b64decode(kept["hits"]), dtype=np.uint8)
    return np.unpackbits(packed, count=kept["trials"]).astype(bool)


def same_trials(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether the hits of two judgements are of the same trials."""
    return (one["digest"], one["trials"]) == (other["digest"], other["trials"])


def paired(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """Compare two networks on the same trials, given the hits of each, (T,) bool. Returns plain values.

    `both`, `only_first`, `only_second` and `neither` count trials by which network was right. `accuracy` holds that of
    each, `difference` the second's minus the first's, and `interval` its 95 % interval by `newcombe`, all as fractions.
    `p` is that of `mcnemar`. Raises UserError if there are no trials, or not equally many."""
    if first.shape != second.shape:
        raise UserError(f"{len(first)} and {len(second)} trials are not the same trials: compare hits on the same")
    both, only_first = int((first & second).sum()), int((first & ~second).sum())
    only_second, neither = int((~first & second).sum()), int((~first & ~second).sum())
    interval = newcombe(both, only_first, only_second, neither)
    trials = len(first)
    return {
        "trials": trials, "both": both, "only_first": only_first, "only_second": only_second, "neither": neither,
        "accuracy": [(both + only_first) / trials, (both + only_second) / trials],
        "difference": (only_second - only_first) / trials,
        "interval": list(interval),
        "p": mcnemar(only_first, only_second),
    }  # fmt: skip


def newcombe(both: int, only_first: int, only_second: int, neither: int) -> tuple[float, float]:
    """The 95 % interval of the second share minus the first, from paired trials, as fractions (low, high).

    Method 10 of Newcombe 1998 (Improved confidence intervals for the difference between binomial proportions based on
    paired data, Statistics in Medicine 17:2635-2650): Wilson's intervals of both shares, combined by their correlation
    phi, whose numerator, if positive, is reduced by half the number of pairs. It lies within -1 to 1, and has a width
    even if the two never differ. Raises UserError for a negative count, or if all are 0.
    """
    counts = (both, only_first, only_second, neither)
    if min(counts) < 0 or not any(counts):
        raise UserError(f"{counts} are not counts of trials: there must be at least 1 trial, and no count below 0")
    trials = sum(counts)
    first, second = both + only_first, both + only_second
    (low_1, high_1), (low_2, high_2) = wilson(first, trials), wilson(second, trials)
    together = both * neither - only_first * only_second
    if together > 0:
        together = max(together - trials / 2, 0.0)
    margins = first * (trials - first) * second * (trials - second)
    phi = together / margins**0.5 if margins else 0.0

    def reach(one: float, other: float) -> float:
        return (one * one - 2 * phi * one * other + other * other) ** 0.5

    share_1, share_2 = first / trials, second / trials
    apart = (only_second - only_first) / trials
    return apart - reach(share_2 - low_2, high_1 - share_1), apart + reach(high_2 - share_2, share_1 - low_1)


def mcnemar(only_first: int, only_second: int) -> float:
    """The two-sided p value of the exact test of McNemar (1947, Psychometrika 12:153-157): the probability that the
    trials on which only one network was right split so unevenly, or more so, if a fair coin decides each.

    The tail of a binomial distribution, summed in whole numbers: exact for any number of trials. It is 1 if the two
    never differ. Raises UserError for a negative count.
    """
    if min(only_first, only_second) < 0:
        raise UserError(f"{only_first} and {only_second} are not counts of trials: none can be below 0")
    trials = only_first + only_second
    ways = tail = 1  # ways to choose k of the trials, and of all up to k
    for k in range(min(only_first, only_second)):
        ways = ways * (trials - k) // (k + 1)
        tail += ways
    return min(1.0, 2 * tail / 2**trials)


def _pictures(drawings: Drawings) -> np.ndarray:
    """A digest of each drawing's pixels and their layout, uint8 (N, _BYTES)."""
    shape = f"{drawings.height} {drawings.width} {drawings.bits} ".encode()
    digests = [hashlib.blake2b(shape + each.tobytes(), digest_size=_BYTES).digest() for each in drawings.packed]
    return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, _BYTES)


def _digest(trials: Trials, pictures: np.ndarray) -> str:
    """The sha256 (hex) of what trials ask: their shape, their pictures, and which one is right."""
    whole = hashlib.sha256(f"{len(trials)} {trials.n_way} {trials.k_shot} ".encode())
    for pictured in (pictures[trials.query], pictures[trials.support]):
        whole.update(pictured.tobytes())
    whole.update(trials.target.astype("<i8").tobytes())
    return whole.hexdigest()
