"""Parallel coordinates: each trial of a study is a line through its settings and its results."""

from collections.abc import Callable, Sequence
from typing import Any

from oneshot.report.axes import SMALL, number, percent_mark, spanning
from oneshot.report.canvas import Canvas
from oneshot.report.search import MOST, NARROW, Trial, oneshot, those, tip
from oneshot.screen.tables import setting

_AXES, _FEW_AXES = 9, 6  # on a wide and on a narrow canvas


def parallel(trials: Sequence[Trial], best: Trial | None, width: float) -> Canvas | None:
    """Draw the figure; None if fewer than two trials have settings and a loss."""
    drawn = [trial for trial in trials if trial["val_loss"] is not None and trial["settings"]][:MOST]
    if len(drawn) < 2 or best is None:
        return None
    columns = _coordinates(drawn, _AXES if width > NARROW else _FEW_AXES)
    canvas = Canvas(
        width, 320 if width > NARROW else 280, f"Settings and outcome of {those(drawn, trials)}, side by side"
    )
    canvas.description = f"Axes: {', '.join(name for name, _, _ in columns)}. The best: {tip(best)}."
    top, bottom = 40, canvas.height - 22
    places = [30 + at * (width - 78) / (len(columns) - 1) for at in range(len(columns))]
    axes = [_Axis([of(trial) for trial in drawn], name == "lr", bottom, top) for name, of, _ in columns]
    for trial in sorted(drawn, key=lambda trial: (trial["id"] == best["id"], -trial["val_loss"])):
        leads, faded = trial["id"] == best["id"], trial["status"] not in ("finished", "running")
        points = [(x, axis(of(trial))) for x, axis, (_, of, _) in zip(places, axes, columns, strict=True)]
        opacity = 1 if leads else 0.35 if faded else 0.85
        more = {"of": trial["id"], "tip": tip(trial), "opacity": opacity}
        canvas.line(points, "ours" if leads else "muted", 3 if leads else 1.5, **more)
    for x, axis, (name, _, label) in zip(places, axes, columns, strict=True):
        canvas.line([(x, top), (x, bottom)], "line", 1)
        words = name.split(" ") if width < NARROW or len(name) > 12 else [name]
        for line, word in enumerate(words[-2:]):
            canvas.text(
                x, 24 - 13 * (len(words[-2:]) - 1 - line), word, "ink", SMALL, anchor="middle", bold=True, halo=True
            )
        for value, place in axis.labels(4 if width < NARROW else 6):
            canvas.text(x + 6, place + 4, label(value), "muted", 10 if width < NARROW else SMALL, halo=True)
    return canvas


Coordinate = tuple[str, Callable[[Trial], Any], Callable[[Any], str]]


def _coordinates(trials: Sequence[Trial], most: int) -> list[Coordinate]:
    """The settings that differ between trials, then epochs, one-shot accuracy and loss: each name, value and label."""

    def of(key: str) -> Callable[[Trial], Any]:
        return lambda trial: trial["settings"].get(key)

    names = dict.fromkeys(key for trial in trials for key in trial["settings"])
    varied = [key for key in names if len({repr(of(key)(trial)) for trial in trials}) > 1] or list(names)[:1]
    ends: list[Coordinate] = [
        ("epochs run", lambda trial: trial["epochs"], number),
        ("val loss", lambda trial: trial["val_loss"], lambda value: f"{value:.3g}"),
    ]
    if all(oneshot(trial) is not None for trial in trials):
        ends.insert(1, ("one-shot accuracy", oneshot, percent_mark))
    shown = [(key.rsplit(".", 1)[-1].replace("_", " ") if "." in key else key, of(key), setting) for key in varied]
    return shown[: most - len(ends)] + ends


def _order(value: Any) -> tuple[int, float, str]:
    """A sorting key: first None, as of a setting that only some trials have, then numbers, then words."""
    number = isinstance(value, int | float)
    return (0 if value is None else 1 if number else 2, value if number else 0.0, str(value))


class _Axis:
    """One of the parallel axes: a scale for numbers, equal distances for words and for few whole numbers."""

    def __init__(self, values: list[Any], log: bool, bottom: float, top: float) -> None:
        kinds = {type(value) for value in values}
        numeric = kinds <= {int, float} and None not in values
        distinct = (
            sorted(set(values)) if numeric else sorted({repr(value): value for value in values}.values(), key=_order)
        )
        self.places: dict[str, float] | None = None
        self.values = distinct
        if not numeric or (len(distinct) <= 4 and kinds == {int}):
            step = (bottom - top - 24) / max(1, len(distinct) - 1)
            self.places = {repr(value): bottom - 12 - at * step for at, value in enumerate(distinct)}
            if len(distinct) == 1:
                self.places = {repr(distinct[0]): (top + bottom) / 2}
        else:
            self.scale = spanning(distinct, bottom, top, log=log or None)

    def __call__(self, value: Any) -> float:
        return self.scale(value) if self.places is None else self.places[repr(value)]

    def labels(self, most: int) -> list[tuple[Any, float]]:
        if self.places is None:
            return [(tick, self.scale(tick)) for tick in self.scale.ticks(most)]
        return [(value, self.places[repr(value)]) for value in self.values]
