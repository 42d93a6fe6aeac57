"""Stopwatches: two sides measured in turns, so that a machine that slows down slows both."""

import time
from collections.abc import Callable


def rate(work: Callable[[], int], *, seconds: float) -> float:
    """Units of work a second: `work`, which says how many units it did, is called for so long, once at least."""
    done, began = 0, time.perf_counter()
    while True:
        done += work()
        passed = time.perf_counter() - began
        if passed >= seconds:
            return done / passed


def in_turns(*sides: Callable[[], float], repeats: int, warm: bool = True) -> list[list[float]]:
    """The figures of each side, measured A B A B ...; with `warm`, a first call of each is not counted."""
    for side in sides if warm else ():
        side()
    figures: list[list[float]] = [[] for _ in sides]
    for _ in range(repeats):
        for side, found in zip(sides, figures, strict=True):
            found.append(side())
    return figures
