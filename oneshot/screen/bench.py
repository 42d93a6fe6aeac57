"""The bench's record on the terminal: a row for each comparison and its goal; and what changed since another record."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from oneshot.screen.console import MISSING, Column, Fitting, fitted

_STATUS = {True: ("met", "green"), False: ("not met", "red"), None: ("not run", "dim")}
_SAME = 0.05  # a smaller change of a ratio is the machine's noise


def figure(value: float | None) -> str:
    """Three significant digits, whole thousands with commas: 0.0123, 4.56, 789, 12,345."""
    if value is None:
        return MISSING
    if abs(value) >= 999.5:  # which three digits would round to a thousand
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".")


def times(row: Mapping[str, Any] | None) -> str:
    """A row's ratio as `12.3 x`, or as `98.7 %` if its goal is a share."""
    if row is None or row["ratio"] is None:
        return MISSING
    share = "%" in row["goal"] and " x" not in row["goal"]  # the unit of the goal
    least = "> " * bool(row.get("bound"))  # the reference was stopped early
    return f"{least}{100 * row['ratio']:.1f} %" if share else f"{least}{figure(row['ratio'])} x"


def conditions(row: Mapping[str, Any]) -> list[str]:
    """The other rates that a row's goal looks at, each with its share: `of the matmul rate 78.3 %`. A share above 1 is
    shown as a multiple."""
    shares = (row.get("shares") or {}).items()
    return [f"{name} {figure(share)} x" if share > 1 else f"{name} {100 * share:.1f} %" for name, share in shares]


def measure(row: Mapping[str, Any] | None, side: str) -> str:
    """A row's `value` or `reference` with its unit. A reference that was stopped early is shown as more than its
    figure."""
    if row is None or row[side] is None:
        return MISSING
    return f"{'> ' * (side == 'reference' and bool(row.get('bound')))}{figure(row[side])} {row['unit']}"


def status(row: Mapping[str, Any]) -> tuple[str, str]:
    """Whether a row's goal is met, as a word and its colour. A lower bound below the goal shows neither."""
    if row["met"] is False and row["value"] is None:
        return "failed", "red"
    if row["met"] is False and row.get("bound"):
        return "not shown", "yellow"
    return _STATUS[row["met"]]


def bench_table(record: Mapping[str, Any]) -> RenderableType:
    """The rows of a record, and below them the notes on each."""
    columns = (
        Column("row", lambda row: Text(row["name"], "bold"), justify="left"),
        Column("what", lambda row: row["what"], 4, "left"),
        Column("ours", lambda row: measure(row, "value"), 1),
        Column("reference", lambda row: measure(row, "reference"), 3),
        Column("ratio", lambda row: Text(times(row), "bold")),
        Column("goal", lambda row: row["goal"], justify="left"),
        Column("", lambda row: Text(*status(row)), justify="left"),
    )
    table = Fitting(lambda width: fitted(columns, record["rows"], width))
    return Group(table, Text(), *_notes(record["rows"]))


def changes_table(record: Mapping[str, Any], before: Mapping[str, Any]) -> RenderableType:
    """The rows of two records side by side, by name."""
    old = {row["name"]: row for row in before["rows"]}
    rows = [(row, old.get(row["name"])) for row in record["rows"]]
    columns = (
        Column("row", lambda pair: Text(pair[0]["name"], "bold"), justify="left"),
        Column("value then", lambda pair: measure(pair[1], "value"), 2),
        Column("now", lambda pair: measure(pair[0], "value"), 1),
        Column("ratio then", lambda pair: times(pair[1])),
        Column("now", lambda pair: times(pair[0])),
        Column("change", _change),
        Column("then", lambda pair: Text(*status(pair[1])) if pair[1] else MISSING, 3, "left"),
        Column("now", lambda pair: Text(*status(pair[0])), justify="left"),
    )
    return Fitting(lambda width: fitted(columns, rows, width))


def _change(pair: tuple[Mapping[str, Any], Mapping[str, Any] | None]) -> Text | str:
    """By how much the ratio improved. For a row without a ratio: by how much its value, in seconds, shrank."""
    now, then = pair
    if not then or now["value"] is None or then["value"] is None:
        return MISSING
    if (now["what"], now["against"]) != (then["what"], then["against"]):
        return Text("measured differently", "dim")
    if now.get("bound") or then.get("bound"):
        return MISSING  # a lower bound does not tell by how much it changed
    factor = now["ratio"] / then["ratio"] if now["ratio"] and then["ratio"] else then["value"] / now["value"]
    if now["ratio"] and now.get("better") == "less":
        factor = 1 / factor
    style = "dim" if abs(factor - 1) < _SAME else "green" if factor > 1 else "red"
    return Text(f"{100 * (factor - 1):+.0f} %", style)


def _notes(rows: Sequence[Mapping[str, Any]]) -> list[Text]:
    return [Text.assemble((f"{row['name']}  ", "bold"), (str(row["note"]), "dim")) for row in rows if row["note"]]
