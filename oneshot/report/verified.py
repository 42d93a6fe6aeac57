"""Same or different: how verification trades its two errors, and the thresholds that validation chose."""

from collections.abc import Mapping
from typing import Any

from oneshot.answers.doubts import ENOUGH
from oneshot.report.axes import SMALL, Scale, percent_mark, x_axis, y_axis
from oneshot.report.canvas import Canvas
from oneshot.report.html import HALF, Column, Figures, esc, section, table
from oneshot.report.reading import Run
from oneshot.report.search import NARROW
from oneshot.screen.console import count, percent

_LEAST = 2e-4  # one of 5,000 pairs
_LOOKS = {"any": "ours", "within": "c2"}


def verification(run: Run, figures: Figures) -> str:
    """The section on verification: the cost of making few false matches, and a figure if its curves were kept."""
    found = (run.result or {}).get("verification") or {}
    errors = {kind: each for kind, each in (found.get("errors") or {}).items() if kind in _LOOKS}
    if not errors:
        return ""
    names, words = _names(run), run.words
    said = ", ".join(
        f"{percent(each['eer'])} for {names[kind]} (area under the ROC curve {each['auc']:.4f})"
        for kind, each in errors.items()
    )
    about = (
        f"Pairs of one {words.one} and of two, {count(found['pairs'] // 2)} of each. A false match: two {words.many}"
        f" are called the same. A false non-match: one {words.one} is called different. The rate at which both are"
        f" equal is {said}. FMR and FNMR: the two rates at other thresholds."
    )
    caption = (
        "Each threshold’s two errors, both axes logarithmic (detection error trade-off); down and left is better. Dots:"
        " the equal error rates. Diamonds: the thresholds that validation chose."
    )
    chart = figures.chart("verification", lambda width: curves(errors, run, width), caption, wide=HALF)
    columns = [
        Column("different", lambda row: esc(_short(run, row[0])), lambda row: row[0], text=True),
        Column("meant", lambda row: percent_mark(row[1]["rate"]), lambda row: row[1]["rate"]),
        Column("FMR", lambda row: _fine(row[1]["false_match"]), lambda row: row[1]["false_match"]),
        Column("FNMR", lambda row: _fine(row[1]["false_non_match"]), lambda row: row[1]["false_non_match"]),
    ]
    counted = " and ".join(f"{count(each['different'])} {_short(run, kind)}" for kind, each in errors.items())
    told = (
        "Thresholds were fixed before the test, on validation pairs, for the rates in “meant”; “verify --false-match”"
        " has its own, in the model card. A row is rough if its rate times the number of different pairs"
        f" ({counted}, each counted once, in validation or test, whichever has fewer) is below {ENOUGH}."
    )
    rows = [(kind, at) for kind, each in errors.items() for at in each["at_false_match"]]
    inside = f'<p>{about}</p><div class="pair">{chart}<div>{table(told, columns, rows)}</div></div>'
    return section("same-or-different", "Same or different", inside)


def _names(run: Run) -> dict[str, str]:
    return {"any": f"any two {run.words.many}", "within": f"two {run.words.many} of one {run.words.group}"}


def _short(run: Run, kind: str) -> str:
    return {"any": "any two", "within": f"in one {run.words.group}"}[kind]


def _fine(share: float) -> str:
    return f"{100 * share:.2f} %"


def curves(errors: Mapping[str, Any], run: Run, width: float) -> Canvas | None:
    """False non-match rate over false match rate, a line for each kind of different pairs; None if no threshold has
    errors of both kinds, or if no curve was kept."""
    kept = {kind: (run.outcomes or {}).get("curves", {}).get(kind, []) for kind in errors}
    drawn = {kind: [point for point in points if min(point) > 0] for kind, points in kept.items()}
    drawn = {kind: points for kind, points in drawn.items() if len(points) > 1}
    if not drawn:
        return None
    canvas = Canvas(width, 400 if width > NARROW else 340, "Verification: false non-matches over false matches")
    names = _names(run)
    canvas.description = "; ".join(f"{names[kind]}: equal error rate {percent(errors[kind]['eer'])}" for kind in drawn)
    left, right, top, bottom = 58, width - 20, 30 + 18 * len(drawn), canvas.height - 44
    x, y = Scale(_LEAST, 1.0, left, right, log=True), Scale(_LEAST, 1.0, bottom, top, log=True)
    y_axis(canvas, y, left, right, label=percent_mark, title="false non-matches")
    x_axis(canvas, x, bottom, label=percent_mark, title="false matches", top=top)
    canvas.line([(left, bottom), (right, top)], "muted", 1, dashed=True)
    for place, (kind, points) in enumerate(drawn.items()):
        color = _LOOKS[kind]
        canvas.line([(left, 8 + 18 * place), (left + 20, 8 + 18 * place)], color, 2.5)
        canvas.text(left + 28, 12 + 18 * place, f"different: {names[kind]}", "ink", SMALL)
        canvas.line([(x(a), y(b)) for a, b in points], color, 2.5)
        _marks(canvas, errors[kind], x, y, color, above=kind == "within")
    return canvas


def _marks(canvas: Canvas, errors: Mapping[str, Any], x: Scale, y: Scale, color: str, *, above: bool) -> None:
    """Draw the thresholds of validation, and the equal error rate with its number on the side without another curve."""
    for at in errors["at_false_match"]:
        tip = (
            f"{percent_mark(at['rate'])} meant: false matches {_fine(at['false_match'])}, false non-matches"
            f" {_fine(at['false_non_match'])}"
        )
        canvas.dot(x(max(at["false_match"], _LEAST)), y(max(at["false_non_match"], _LEAST)), 4.5, color,
                   shape="diamond", hollow=True, tip=tip)  # fmt: skip
    if (equal := errors["eer"]) > 0:
        canvas.dot(x(equal), y(equal), 4.5, color, tip=f"equal error rate {percent(equal)}")
        place, anchor = (x(equal) + 10, "start") if above else (x(equal) - 10, "end")
        canvas.text(place, y(equal) + 4, percent(equal), color, SMALL, bold=True, halo=True, anchor=anchor)
