"""Stopwatches. Two sides are measured in turns, so that a machine that slows down slows both."""

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any


def rate(work: Callable[[], int], *, seconds: float) -> float:
    """Units of work a second: `work`, which returns how many units it did, is called for `seconds`, at least once."""
    done, began = 0, time.perf_counter()
    while True:
        done += work()
        passed = time.perf_counter() - began
        if passed >= seconds:
            return done / passed


@contextlib.contextmanager
def apart(make: Callable[..., Callable[[], int]], **given: Any) -> Iterator[Callable[[float], float]]:
    """Measure, in a process of its own, the work that `make(**given)` returns. That process shares nothing with this
    one, not even the memory that this one keeps. Yields a function of seconds that gives the `rate`; the process ends
    with the block."""
    spawn = get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=_begin, initargs=(make, given)) as pool:
        yield lambda seconds: pool.submit(_rate, seconds).result()


def _begin(make: Callable[..., Callable[[], int]], given: dict[str, Any]) -> None:
    _work.append(make(**given))


_work: list[Callable[[], int]] = []  # filled in a process that `apart` started


def _rate(seconds: float) -> float:
    return rate(_work[0], seconds=seconds)


def in_turns(*sides: Callable[[], float], repeats: int, warm: bool = True) -> list[list[float]]:
    """The figures of each side, measured A B A B ...; with `warm`, a first call of each is not counted."""
    for side in sides if warm else ():
        side()
    figures: list[list[float]] = [[] for _ in sides]
    for _ in range(repeats):
        for side, found in zip(sides, figures, strict=True):
            found.append(side())
    return figures
