"""The bench's record on the terminal: a row a comparison, its goal beside it; and what changed since another record."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from oneshot.screen.console import MISSING, Column, Fitting, fitted

_STATUS = {True: ("met", "green"), False: ("not met", "red"), None: ("not run", "dim")}
_SAME = 0.05  # a change of a ratio by less is the machine's noise


def figure(value: float | None) -> str:
    """Three significant digits, whole thousands with commas: 0.0123, 4.56, 789, 12,345."""
    if value is None:
        return MISSING
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".")


def times(row: Mapping[str, Any] | None) -> str:
    """A row's ratio as `12.3 x`, or as `98.7 %` where its goal is a share."""
    if row is None or row["ratio"] is None:
        return MISSING
    share = "%" in row["goal"] and " x" not in row["goal"]  # what the goal is in
    return f"{100 * row['ratio']:.1f} %" if share else f"{figure(row['ratio'])} x"


def bench_table(record: Mapping[str, Any]) -> RenderableType:
    """The rows of a record, and below them what there is to say of each."""
    columns = (
        Column("row", lambda row: Text(row["name"], "bold"), justify="left"),
        Column("what", lambda row: row["what"], 4, "left"),
        Column("ours", lambda row: _measure(row, "value"), 1),
        Column("reference", lambda row: _measure(row, "reference"), 3),
        Column("ratio", lambda row: Text(times(row), "bold")),
        Column("goal", lambda row: row["goal"], justify="left"),
        Column("", lambda row: Text(*_status(row)), justify="left"),
    )
    table = Fitting(lambda width: fitted(columns, record["rows"], width))
    return Group(table, Text(), *_notes(record["rows"]))


def changes_table(record: Mapping[str, Any], before: Mapping[str, Any]) -> RenderableType:
    """The rows of two records side by side, by name."""
    old = {row["name"]: row for row in before["rows"]}
    rows = [(row, old.get(row["name"])) for row in record["rows"]]
    columns = (
        Column("row", lambda pair: Text(pair[0]["name"], "bold"), justify="left"),
        Column("value then", lambda pair: _measure(pair[1], "value"), 2),
        Column("now", lambda pair: _measure(pair[0], "value"), 1),
        Column("ratio then", lambda pair: times(pair[1])),
        Column("now", lambda pair: times(pair[0])),
        Column("change", _change),
        Column("then", lambda pair: Text(*_status(pair[1])) if pair[1] else MISSING, 3, "left"),
        Column("now", lambda pair: Text(*_status(pair[0])), justify="left"),
    )
    return Fitting(lambda width: fitted(columns, rows, width))


def _change(pair: tuple[Mapping[str, Any], Mapping[str, Any] | None]) -> Text | str:
    """By how much the ratio became better; of a row without one, by how much its value shrank: they are of seconds."""
    now, then = pair
    if not then or now["value"] is None or then["value"] is None:
        return MISSING
    factor = now["ratio"] / then["ratio"] if now["ratio"] and then["ratio"] else then["value"] / now["value"]
    if now["ratio"] and now.get("better") == "less":
        factor = 1 / factor
    style = "dim" if abs(factor - 1) < _SAME else "green" if factor > 1 else "red"
    return Text(f"{100 * (factor - 1):+.0f} %", style)


def _measure(row: Mapping[str, Any] | None, side: str) -> str:
    return MISSING if row is None or row[side] is None else f"{figure(row[side])} {row['unit']}"


def _status(row: Mapping[str, Any]) -> tuple[str, str]:
    failed = row["value"] is None and row["met"] is False
    return ("failed", "red") if failed else _STATUS[row["met"]]


def _notes(rows: Sequence[Mapping[str, Any]]) -> list[Text]:
    return [Text.assemble((f"{row['name']}  ", "bold"), (str(row["note"]), "dim")) for row in rows if row["note"]]
