"""What a few seeds say of all: means, and how far other seeds may lie from them."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

# Student's t for 95 %, two-sided, by degrees of freedom from 1; beyond them the last, which is a little too wide.
_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


def spread_of(values: Sequence[float]) -> dict[str, Any]:
    """Mean, standard deviation between seeds, and Student's 95 % interval of the mean: of other seeds, not of other
    trials. One seed has neither."""
    mean = statistics.mean(values)
    if len(values) == 1:
        return {"mean": mean, "interval": None, "spread": None, "seeds": 1}
    low, high = student(values)
    spread = statistics.stdev(values)
    return {"mean": mean, "interval": [max(0.0, low), min(1.0, high)], "spread": spread, "seeds": len(values)}


def student(values: Sequence[float]) -> tuple[float, float]:
    """Student's 95 % interval of the mean of two values or more."""
    mean, error = statistics.mean(values), statistics.stdev(values) / len(values) ** 0.5
    half = _STUDENT[min(len(values) - 1, len(_STUDENT)) - 1] * error
    return mean - half, mean + half


def difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[float, list[float]]:
    """How much the mean of `one` is above that of `other`, and the 95 % interval of that (Welch 1947); both as
    `spread_of` gives them, of two seeds or more each. The degrees of freedom are rounded down, which is on the safe
    side."""
    shares = [each["spread"] ** 2 / each["seeds"] for each in (one, other)]
    squares = sum(share**2 / (each["seeds"] - 1) for share, each in zip(shares, (one, other), strict=True))
    freedom = int(sum(shares) ** 2 / squares) if squares else len(_STUDENT)
    apart = one["mean"] - other["mean"]
    half = _STUDENT[min(freedom, len(_STUDENT)) - 1] * sum(shares) ** 0.5
    return apart, [apart - half, apart + half]
