"""What a few seeds or alphabets say about all: means, and how far the means of others may lie from them."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

# Student's t for 95 %, two-sided, by degrees of freedom from 1; beyond them the last value, a little too wide.
_STUDENT = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
_GROUPS = 5  # fewer say nothing about others


def spread_of(values: Sequence[float]) -> dict[str, Any]:
    """Mean, standard deviation between seeds, and Student's 95 % interval of the mean of all seeds, on the same trials.

    A single further seed may lie sqrt(seeds + 1) times as far from the mean. One seed has neither deviation nor
    interval. Seeds whose values are equal by chance have no interval: it would have no width, and nothing is that
    certain."""
    mean = statistics.mean(values)
    spread = statistics.stdev(values) if len(values) > 1 else None
    if not spread:
        return {"mean": mean, "interval": None, "spread": spread, "seeds": len(values)}
    low, high = student(values)
    return {"mean": mean, "interval": [max(0.0, low), min(1.0, high)], "spread": spread, "seeds": len(values)}


def student(values: Sequence[float]) -> tuple[float, float]:
    """Student's 95 % interval of the mean of two values or more."""
    mean, error = statistics.mean(values), statistics.stdev(values) / len(values) ** 0.5
    half = _STUDENT[min(len(values) - 1, len(_STUDENT)) - 1] * error
    return mean - half, mean + half


def over_groups(scores: Sequence[tuple[float, int]], kind: str) -> str:
    """A sentence that says where the mean of all alphabets, or groups, like these may lie. `scores`: accuracy and
    trials of each; `kind`: what to call one.

    Empty for few groups, and if their variance is at most twice that which chance alone gives in so many trials: then
    it is unknown by how much groups differ."""
    if len(scores) < _GROUPS:
        return ""
    accuracies = [accuracy for accuracy, _ in scores]
    by_chance = statistics.mean(accuracy * (1 - accuracy) / trials for accuracy, trials in scores)
    if statistics.variance(accuracies) <= 2 * by_chance:
        return ""
    mean, (low, high) = statistics.mean(accuracies), student(accuracies)
    return (
        f"On average {100 * mean:.1f} %. If these {len(accuracies)} are a fair sample, the mean over all such {kind}s"
        f" lies within {100 * max(0.0, low):.1f}–{100 * min(1.0, high):.1f} % (95 %, Student)."
    )


def difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[float, list[float]]:
    """How much the mean of `one` is above that of `other`, and the 95 % interval of that (Welch 1947). Both are
    as `spread_of` gives them, of two seeds or more each. The degrees of freedom are rounded down, which is on the safe
    side."""
    shares = [each["spread"] ** 2 / each["seeds"] for each in (one, other)]
    squares = sum(share**2 / (each["seeds"] - 1) for share, each in zip(shares, (one, other), strict=True))
    freedom = int(sum(shares) ** 2 / squares) if squares else len(_STUDENT)
    apart = one["mean"] - other["mean"]
    half = _STUDENT[min(freedom, len(_STUDENT)) - 1] * sum(shares) ** 0.5
    return apart, [apart - half, apart + half]
