"""Figures of the search: every trial's loss, learning rate against loss; and the curves of one training."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from oneshot.report.axes import SMALL, Scale, apart, epochs_axis, number, percent_mark, spanning, x_axis, y_axis
from oneshot.report.canvas import SERIES, Canvas, Shape
from oneshot.screen.console import compact, loss, percent
from oneshot.screen.tables import measured_epochs, settings_text

Trial = Mapping[str, Any]
SHAPES: tuple[Shape, ...] = ("circle", "square", "diamond")
MOST = 400  # trials in a figure and in the table at most, the best ones
NARROW = 400  # a canvas of fewer pixels is for a phone


def tip(trial: Trial) -> str:
    """The tooltip of a trial."""
    name = f"trial {trial['id']}, {trial['status']}" if trial["id"] else "this training"
    known = f"{name}: {settings_text(trial['settings'])}" if trial["settings"] else name
    if trial["val_loss"] is None:
        return f"{known}; no epoch was measured"
    return f"{known}; best val loss {loss(trial['val_loss'])} at epoch {trial['best_epoch']} of {trial['epochs']}"


def those(drawn: Sequence[Any], trials: Sequence[Trial]) -> str:
    """Which trials a figure shows, in words: all that have what it shows, or the best of them."""
    return f"the best {len(drawn)} of {len(trials)} trials" if len(drawn) == MOST < len(trials) else "every trial"


def losses(trials: Sequence[Trial], best: Trial | None, width: float) -> Canvas | None:
    """Every trial's validation loss over epochs, the best one heavy, those stopped early faded."""
    drawn = [(trial, measured_epochs(trial)) for trial in trials]
    drawn = [(trial, rows) for trial, rows in drawn if rows][:MOST]
    if not drawn or best is None:
        return None
    canvas = Canvas(width, 320 if width > NARROW else 260, f"Validation loss of {those(drawn, trials)} over epochs")
    canvas.description = f"{len(drawn)} trials. The lowest: {tip(best)}."
    left, right, top, bottom = 46, width - 66, 28, canvas.height - 40
    values = [row["val_loss"] for _, rows in drawn for row in rows]
    ceiling = 20 * best["val_loss"]  # what diverges stands at the upper edge, lest it flatten the others
    shown = [value for value in values if value <= ceiling] or values
    scale = spanning(shown, bottom, top, log=max(shown) > 3 * min(shown) > 0)
    y_axis(canvas, scale, left, right, title="validation loss (nats" + (", logarithmic)" if scale.log else ")"))
    x = epochs_axis(canvas, max(rows[-1]["epoch"] for _, rows in drawn), left, right, bottom)
    for trial, rows in sorted(drawn, key=lambda pair: (pair[0]["id"] == best["id"], -pair[0]["val_loss"])):
        leads, stopped = trial["id"] == best["id"], trial["status"] in ("stopped", "diverged", "failed")
        color, opacity = ("ours", 1.0) if leads else ("muted", 0.4 if stopped else 0.9)
        points = [(x(row["epoch"]), scale(row["val_loss"])) for row in rows]
        more = {"of": trial["id"], "tip": tip(trial), "opacity": opacity}
        canvas.line(points, color, 3 if leads else 1.6, dashed=trial["status"] == "diverged", **more)
        end: Shape = "cross" if trial["status"] in ("diverged", "failed") else "circle"
        canvas.dot(*points[-1], 4.5 if leads else 3.2, color, shape=end, hollow=trial["status"] == "running", **more)
    _end_labels(canvas, drawn, best, scale, right)
    return canvas


def _end_labels(canvas: Canvas, drawn: list, best: Trial, scale: Scale, right: float) -> None:
    """The names of the trials that came farthest, beside their ends."""
    last = max(rows[-1]["epoch"] for _, rows in drawn)
    ends = [(trial, scale(rows[-1]["val_loss"])) for trial, rows in drawn if rows[-1]["epoch"] == last]
    ends = sorted(ends, key=lambda pair: pair[1])[-8:] if len(ends) > 8 else ends
    for (trial, _), place in zip(ends, apart([y for _, y in ends], 13), strict=True):
        leads = trial["id"] == best["id"]
        name = f"{trial['id']} best" if leads else trial["id"]
        canvas.text(right + 9, place + 4, name, "ours" if leads else "muted", SMALL, bold=leads, of=trial["id"])


def lr_losses(trials: Sequence[Trial], best: Trial | None, width: float) -> Canvas | None:
    """Learning rate against the best validation loss; colour and shape: the optimizer, size: the batch."""
    drawn = [trial for trial in trials if trial["val_loss"] is not None and _amount(trial, "lr") > 0][:MOST]
    if len(drawn) < 2 or best is None:
        return None
    canvas = Canvas(width, 320 if width > NARROW else 290, "Learning rate against best validation loss")
    canvas.description = f"{len(drawn)} trials. The lowest: {tip(best)}."
    left, right, top, bottom = 46, width - 16, 54, canvas.height - 40
    y = spanning([trial["val_loss"] for trial in drawn], bottom, top, pad=0.08)
    y_axis(canvas, y, left, right, title="")
    x = spanning([trial["settings"]["lr"] for trial in drawn], left, right, log=True, pad=0.06)
    x_axis(canvas, x, bottom, title="learning rate (logarithmic)", label=compact, most=5 if width < NARROW else 8)
    optimizers = sorted({str(trial["settings"].get("optimizer", "")) for trial in drawn})
    batches = sorted({_amount(trial, "batch") for trial in drawn})
    looks = {name: (SERIES[i % len(SERIES)], SHAPES[i % len(SHAPES)]) for i, name in enumerate(optimizers)}
    radius = {batch: 4 + 5 * (i / max(1, len(batches) - 1)) for i, batch in enumerate(batches)}
    for trial in sorted(drawn, key=lambda trial: -radius[_amount(trial, "batch")]):
        color, shape = looks[str(trial["settings"].get("optimizer", ""))]
        place = x(trial["settings"]["lr"]), y(trial["val_loss"])
        size = radius[_amount(trial, "batch")]
        if trial["id"] == best["id"]:
            canvas.dot(place[0], place[1], size + 5, "ours", hollow=True)
            near = place[0] > right - 70
            canvas.text(place[0] + (-1 if near else 1) * (size + 9), place[1] + 4, f"{trial['id']} best", "ours", SMALL,
                        bold=True, anchor="end" if near else "start")  # fmt: skip
        canvas.dot(*place, size, color, shape=shape, tip=tip(trial), of=trial["id"], opacity=0.9)
    _legend(canvas, looks, {batch: radius[batch] for batch in batches if batch})
    return canvas


def _amount(trial: Trial, key: str) -> float:
    """A setting if it is a number, else 0."""
    value = trial["settings"].get(key)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else 0


def _legend(canvas: Canvas, looks: Mapping[str, tuple[str, Shape]], radius: Mapping[int, float]) -> None:
    at = 8.0
    for name, (color, shape) in looks.items():
        canvas.dot(at, 12, 5, color, shape=shape)
        canvas.text(at + 10, 16, name, "ink", 12)
        at += 32 + 7.5 * len(name)
    at = 8.0 if canvas.width < NARROW else at + 8
    line = 32.0 if canvas.width < NARROW else 12.0
    if len(radius) > 1:
        canvas.text(at - 6, line + 4, "batch", "muted", 12)
        at += 40
        for batch, size in radius.items():
            canvas.dot(at, line, size, "muted", hollow=True)
            canvas.text(at + size + 5, line + 4, str(batch), "muted", 12)
            at += size + 22 + 7 * len(str(batch))


def oneshot(trial: Trial) -> float | None:
    """One-shot accuracy on the validation alphabets at the best epoch."""
    rows = [row for row in trial["history"] if row["epoch"] == trial["best_epoch"]]
    value = rows[-1].get("val_oneshot") if rows else None
    return value if value is not None and math.isfinite(value) else None


def curves(trial: Trial | None, width: float) -> Canvas | None:
    """Loss and accuracy over epochs, training and validation, of one training; the best epoch marked."""
    rows = measured_epochs(trial) if trial else []
    if len(rows) < 2:
        return None
    side_by_side = width > NARROW
    canvas = Canvas(width, 280 if side_by_side else 580, "Loss and accuracy over epochs, training and validation")
    canvas.description = f"{tip(trial)}."
    half = (width - 40) / 2 if side_by_side else width
    accuracies = [("training pairs", "train_accuracy", "c2"), ("validation pairs", "val_accuracy", "ours"),
                  ("one-shot", "val_oneshot", "c3")]  # fmt: skip
    panels = (
        ("loss (nats)", [("training", "train_loss", "c2"), ("validation", "val_loss", "ours")], 0.0, 0.0),
        ("accuracy", accuracies, half + 40 if side_by_side else 0.0, 0.0 if side_by_side else 300.0),
    )
    for title, lines, x, y in panels:
        _panel(canvas, trial, rows, title, lines, (x + 46, x + half - 14, y + 46, y + 240))
    return canvas


def _panel(
    canvas: Canvas, trial: Trial, rows: list, title: str, lines: list, box: tuple[float, float, float, float]
) -> None:  # fmt: skip
    left, right, top, bottom = box
    lines = [(name, key, color) for name, key, color in lines if any(_has(row, key) for row in rows)]
    values = [row[key] for _, key, _ in lines for row in rows if _has(row, key)]
    if not values:
        return
    scale = spanning(values, bottom, top, log=False if title == "accuracy" else None)
    label = percent_mark if title == "accuracy" else number
    y_axis(canvas, scale, left, right, label=label)
    x = epochs_axis(canvas, rows[-1]["epoch"], left, right, bottom)
    canvas.text(left - 46, top - 32, title + (", logarithmic" if scale.log else ""), "ink", 12, bold=True)
    at = left - 46
    for name, key, color in lines:
        canvas.line([(at, top - 16), (at + 16, top - 16)], color, 2.5, dashed=key.startswith("train"))
        canvas.text(at + 21, top - 12, name, "ink", SMALL)
        at += 34 + 6.2 * len(name)
    best = x(trial["best_epoch"])
    canvas.line([(best, top), (best, bottom)], "line", 1, dashed=True)
    for _, key, color in lines:
        points = [(x(row["epoch"]), scale(row[key])) for row in rows if _has(row, key)]
        canvas.line(points, color, 2.2, dashed=key.startswith("train"))
        for row in rows:
            if _has(row, key):
                shown = percent(row[key]) if title == "accuracy" else loss(row[key])
                here = (x(row["epoch"]), scale(row[key]))
                size = 4 if row["epoch"] == trial["best_epoch"] else 2.2 if len(rows) < 40 else 0.8
                canvas.dot(*here, size, color, tip=f"epoch {row['epoch']}: {shown}")


def _has(row: Mapping[str, Any], key: str) -> bool:
    return row.get(key) is not None and math.isfinite(row[key])
