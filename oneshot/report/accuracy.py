"""Figures of the judgement: accuracy among the published figures, and by alphabet."""

from collections.abc import Mapping
from typing import Any

from oneshot.report.axes import SMALL, Scale, percent_mark, x_axis
from oneshot.report.canvas import Canvas
from oneshot.report.search import NARROW
from oneshot.screen.console import interval, percent
from oneshot.screen.published import ladder
from oneshot.screen.results import compares, is_omniglot, short
from oneshot.screen.words import words_of

Outcome = Mapping[str, Any]
_ROW, _NAMES = 24, 190  # height of a line; room for the names on a wide canvas


def ladders(result: Mapping[str, Any]) -> dict[str, Outcome]:
    """The outcomes, by protocol, that published figures may stand beside."""
    if not is_omniglot(result) or result.get("overlap"):
        return {}
    return {name: one for name, one in result["protocols"].items() if compares(one) and ladder(name)}


def standing(result: Mapping[str, Any], width: float) -> Canvas | None:
    """For each protocol, this run's accuracy with its interval, in its place among the published ones."""
    by_protocol = ladders(result)
    if not by_protocol:
        return None
    count = sum(len(ladder(name)) + 1 for name in by_protocol)
    canvas = Canvas(width, _ROW * count + 34 * len(by_protocol) + 44, "This run among the published figures")
    canvas.description = "; ".join(f"{name}: {percent(one['accuracy'])}" for name, one in by_protocol.items())
    published = [figure.accuracy for name in by_protocol for figure in ladder(name)]
    least = min([*published, *(one["interval"][0] for one in by_protocol.values())])
    names = _NAMES if width > NARROW else 0
    scale = Scale(min(0.5, int(10 * least) / 10), 1.0, names + 8 if names else 18, width - 66)
    top = 20.0
    for tick in scale.ticks():
        canvas.line([(scale(tick), 8), (scale(tick), canvas.height - 36)], "grid", 1)
    for name, outcome in by_protocol.items():
        canvas.rect(0, top - 17, 9.5 * len(name) + 4, 22, "paper")
        canvas.text(0, top, name, "ink", 13, bold=True)
        top = _rungs(canvas, name, outcome, scale, top + 22, names) + 12
    x_axis(canvas, scale, canvas.height - 32, label=percent_mark)
    return canvas


def _rungs(canvas: Canvas, protocol: str, outcome: Outcome, scale: Scale, top: float, names: float) -> float:
    """Draw one protocol's lines, the best first. Returns where the next protocol begins."""
    rows: list[tuple[float, str, str, bool]] = [
        (figure.accuracy, figure.name, short(figure.source), False) for figure in ladder(protocol)
    ]
    rows.append((outcome["accuracy"], "this run", "", True))
    for accuracy, name, source, ours in sorted(rows, key=lambda row: -row[0]):
        x = scale(accuracy)
        color = "ours" if ours else "muted"
        if ours:
            canvas.rect(0, top - 15, canvas.width, _ROW - 2, "ours", opacity=0.1)
            low, high = map(scale, outcome["interval"])
            canvas.line([(low, top - 4), (high, top - 4)], "ours", 3)
        canvas.dot(x, top - 4, 5.5 if ours else 4, color, tip=f"{name}: {percent(accuracy)} {source}".rstrip())
        canvas.text(canvas.width - 4, top, percent(accuracy), color, 12, anchor="end", bold=ours)
        if names:
            canvas.text(names, top, name, "ours" if ours else "ink", 12, anchor="end", bold=ours)
        else:  # on a phone the name stands on the side of the dot that has room
            edge = max(x, scale(outcome["interval"][1])) if ours else x
            start = min(x, scale(outcome["interval"][0])) if ours else x
            right = edge + 10 + 6.6 * len(name) < canvas.width - 56
            place = edge + 10 if right else start - 10
            canvas.text(place, top, name, color if ours else "ink", 12, anchor="start" if right else "end", bold=ours)
        top += _ROW
    return top


def alphabets(result: Mapping[str, Any], outcomes: Mapping[str, Any] | None, width: float) -> Canvas | None:
    """Accuracy by alphabet with 95 % intervals: dots for `within`, hollow ones for Lake's trials if there are any."""
    within = result["per_alphabet"]
    if not within:
        return None
    fixed = outcomes["per_alphabet"] if outcomes and outcomes["protocol"] == "lake400" else {}
    rows = sorted(within.items(), key=lambda item: -item[1]["accuracy"])
    two_lines = width <= NARROW  # a phone has no room beside the dots: the name stands above them
    row = 36 if two_lines else 22
    canvas = Canvas(width, row * len(rows) + 76, f"Accuracy by {words_of(result['split']).group}")
    best, worst = rows[0], rows[-1]
    canvas.description = (
        f"within: from {percent(worst[1]['accuracy'])} ({plain(worst[0])}) to {percent(best[1]['accuracy'])}"
        f" ({plain(best[0])})."
    )
    least = min(one["interval"][0] for one in [*within.values(), *fixed.values()])
    scale = Scale(min(0.9, int(10 * least) / 10), 1.0, 18 if two_lines else 224, width - 58)
    for tick in scale.ticks():
        canvas.line([(scale(tick), 30), (scale(tick), canvas.height - 40)], "grid", 1)
    _key(canvas, bool(fixed))
    for at, (name, one) in enumerate(rows):
        y = 48 + at * row + (14 if two_lines else 0)
        low, high = map(scale, one["interval"])
        canvas.line([(low, y), (high, y)], "ours", 2.5, opacity=0.55)
        shown = f"{plain(name)}: {percent(one['accuracy'])} ({interval(*one['interval'])}) of {one['trials']} trials"
        canvas.dot(scale(one["accuracy"]), y, 4.5, "ours", tip=shown)
        if name in fixed:
            of = fixed[name]
            told = f"{plain(name)}, lake400: {of['correct']} of {of['trials']}"
            canvas.dot(scale(of["accuracy"]), y, 4.5, "c2", shape="diamond", hollow=True, tip=told)
        place = (0, y - 12, "start") if two_lines else (212, y + 4, "end")
        canvas.text(place[0], place[1], cut(plain(name), 34), "ink", 12, anchor=place[2])
        canvas.text(width - 4, y + 4, percent(one["accuracy"]), "muted", SMALL, anchor="end")
    x_axis(canvas, scale, canvas.height - 36, label=percent_mark)
    return canvas


def _key(canvas: Canvas, fixed: bool) -> None:
    canvas.dot(8, 12, 4.5, "ours")
    canvas.text(18, 16, "within, 95 % interval", "ink", SMALL)
    if fixed:
        canvas.dot(160, 12, 4.5, "c2", shape="diamond", hollow=True)
        canvas.text(170, 16, "lake400", "ink", SMALL)


def plain(name: str) -> str:
    """An alphabet's name as people write it."""
    return name.replace("_", " ")


def cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
