"""Scales and axes: where a value stands on a canvas, and what is written beside it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from oneshot.report.canvas import Canvas
from oneshot.screen.console import compact

SMALL = 11  # size of the text at axes
_MOST = 1e12  # greater numbers stand at the edge


@dataclass(frozen=True)
class Scale:
    """Maps values low..high to places start..end; logarithmic if `log`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        value = min(max(value, self.low), self.high)
        low, high = self._of(self.low), self._of(self.high)
        share = (self._of(value) - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)

    def _of(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def ticks(self, most: int = 6) -> list[float]:
        """Round values inside the range: two at least, and `most` at most."""
        if not self.log:
            return _linear_ticks(self.low, self.high, most)
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for digits in ((1, 2, 5), (1, 3), (1,)):
            ticks = [
                d * 10.0**e for e in decades for d in digits if self.low <= d * 10.0**e * 1.0001 <= self.high * 1.001
            ]
            if 2 <= len(ticks) <= most:
                return ticks
        return ticks[:: math.ceil(len(ticks) / most)] if len(ticks) > 1 else _linear_ticks(self.low, self.high, most)


def _linear_ticks(low: float, high: float, most: int) -> list[float]:
    if high <= low:
        return [low]
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    # Where both ends are ticks, there is one more than there are steps.
    step = next(step * by for by in (1, 2, 2.5, 5, 10, 20) if (high - low) / (step * by) < most - 1e-6)
    first = math.ceil(low / step - 1e-9)
    return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


def spanning(values: Iterable[float], start: float, end: float, *, log: bool | None = None, pad: float = 0.04) -> Scale:
    """A scale for all values, with some room at both ends. If `log` is None, it is logarithmic when they span more than
    a factor of 8. It is never logarithmic if a value is not positive."""
    values = [min(max(value, -_MOST), _MOST) for value in values]
    low, high = min(values), max(values)
    if low > 1 / _MOST and (log or (log is None and high / low > 8)):
        room = max((high / low) ** pad, 1.02)
        return Scale(low / room, high * room, start, end, True)
    room = (high - low) * pad or abs(high) * 0.1 or 1.0
    return Scale(low - room, high + room, start, end)


def number(value: float) -> str:
    """A tick's label, as short as can be: 0.25, 10, 3e-4."""
    return f"{value:.6g}" if value == 0 or 1e-3 <= abs(value) < 1e5 else compact(value)


def percent_mark(value: float) -> str:
    return f"{100 * value:.4g} %"


def y_axis(canvas: Canvas, scale: Scale, left: float, right: float, *, label=number, title: str = "") -> None:
    """Draw grid lines from left to right, their values before them, and what these mean above."""
    for tick in scale.ticks():
        canvas.line([(left, scale(tick)), (right, scale(tick))], "grid", 1)
        canvas.text(left - 6, scale(tick) + 4, label(tick), "muted", SMALL, anchor="end")
    if title:
        canvas.text(0, min(scale.start, scale.end) - 10, title, "muted", SMALL)


def x_axis(
    canvas: Canvas,
    scale: Scale,
    bottom: float,
    *,
    label=number,
    title: str = "",
    most: int = 6,
    top: float | None = None,
) -> None:
    """Draw a base line, values below it, and what they mean below these; with `top`, grid lines up to there."""
    canvas.line([(scale.start, bottom), (scale.end, bottom)], "line", 1)
    for tick in scale.ticks(most):
        if top is not None:
            canvas.line([(scale(tick), bottom), (scale(tick), top)], "grid", 1)
        canvas.line([(scale(tick), bottom), (scale(tick), bottom + 4)], "line", 1)
        canvas.text(scale(tick), bottom + 17, label(tick), "muted", SMALL, anchor="middle")
    if title:
        canvas.text(scale.end, bottom + 33, title, "muted", SMALL, anchor="end")


def epochs_axis(canvas: Canvas, last: int, left: float, right: float, bottom: float) -> Scale:
    """Draw an axis of whole epochs 1..last. Returns its scale."""
    scale = Scale(1 if last > 1 else 0, max(last, 2), left, right)
    canvas.line([(left, bottom), (right, bottom)], "line", 1)
    steps = (digit * 10**zeros for zeros in range(10) for digit in (1, 2, 5))
    step = next(step for step in steps if last / step <= 8)
    for epoch in {1, *range(step, last + 1, step)} if step != 2 else range(2, last + 1, 2):
        canvas.line([(scale(epoch), bottom), (scale(epoch), bottom + 4)], "line", 1)
        canvas.text(scale(epoch), bottom + 17, str(epoch), "muted", SMALL, anchor="middle")
    canvas.text(right, bottom + 33, "epoch", "muted", SMALL, anchor="end")
    return scale


def apart(places: list[float], least: float) -> list[float]:
    """Places in the same order, moved so that neighbours are at least `least` apart and labels do not overlap."""
    order = sorted(range(len(places)), key=places.__getitem__)
    moved = list(places)
    for before, after in pairwise(order):
        moved[after] = max(moved[after], moved[before] + least)
    over = (moved[order[-1]] - places[order[-1]]) / 2 if order else 0.0
    return [place - over for place in moved]
