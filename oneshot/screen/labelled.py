"""How often a recogniser is right on labelled images, on the terminal: at one rate of false acceptance, and at all."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from oneshot.base.errors import some
from oneshot.screen.console import MISSING, Column, Fitting, count, fitted, interval, one_line, percent

NAMED = 5  # folders or classes of a kind that are named; the rest is only counted
_RATES = {"right": "right", "wrong": "wrong", "refused": "refused", "strangers_named": "strangers\nnamed"}


def labelled_view(record: Mapping[str, Any]) -> RenderableType:
    """What was asked about, the outcome at the chosen rate and then at every rate, and the classes that were confused.
    `record` is what `--json` prints as `summary`."""
    asked = f"{count(record['images'])} images: {count(record['of_classes'])} of {count(record['classes'])} classes"
    parts: list[RenderableType] = [Text(f"{asked}, {count(record['strangers'])} strangers, of none of them", "bold")]
    parts += [Text(line, "yellow") for line in _beside(record)]
    parts += [Text(), Fitting(partial(_at_one, record))]
    if record["calibrated"]:
        rule = (
            "In percent, with Wilson's 95 % intervals. The rate is --false-accept: the share of strangers that may be"
            " named, as calibrated; 1 always names the best class."
        )
        parts += [Text(), Fitting(partial(_at_all, record)), Text(), Text(rule, "dim")]
    if record["confused"]:
        rule = "By the best class alone, whether or not it was good enough to be named."
        parts += [Text(), Fitting(partial(_confused, record["confused"])), Text(), Text(rule, "dim")]
    return Group(*parts)


def _beside(record: Mapping[str, Any]) -> list[str]:
    """What the figures leave out, and what may be a mistake in the folders."""
    lines = []
    if record["left_out"]:
        lines.append(f"left out: {count(record['left_out'])} that look to the network the same as support images")
    if record["unreadable"]:
        lines.append(f"left out: {count(record['unreadable'])} that could not be read")
    if record["classes_without_images"]:
        lines.append(f"classes without an image: {_some(record['classes_without_images'])}")
    if record["strangers_in"]:
        lines.append(f"strangers are in: {_some(record['strangers_in'])}")
    return lines


def _some(names: Sequence[str]) -> str:
    return some([*map(one_line, names)], NAMED)


def _at_one(record: Mapping[str, Any], width: int) -> RenderableType:
    found = next(each for each in record["rates"] if each["false_accept"] == record["false_accept"])
    of, strangers = record["of_classes"], record["strangers"]
    rows = [
        ("right", found["right"], of),
        ("wrong", found["wrong"], of),
        ("refused, though of a class", found["refused"], of),
        ("named, though a stranger", found["strangers_named"], strangers),
    ]
    rows += [
        (f"right class among the best {each['places']}", each, of) for each in record["within"] if each["places"] > 1
    ]
    columns = (
        Column(f"at --false-accept {record['false_accept']:g}", lambda row: row[0], justify="left"),
        Column("images", lambda row: count(row[1]["images"])),
        Column("of", lambda row: count(row[2])),
        Column("share", lambda row: Text(percent(row[1]["share"]), "bold")),
        Column("95 % interval", lambda row: MISSING if row[1]["interval"] is None else interval(*row[1]["interval"])),
    )
    return fitted(columns, rows, width)


def _at_all(record: Mapping[str, Any], width: int) -> RenderableType:
    def cell(kind: str) -> Column:
        return Column(_RATES[kind], lambda row: _share(row[kind]))

    columns = (Column("rate", lambda row: f"{row['false_accept']:g}"), *map(cell, _RATES))
    shown = record["false_accept"]
    return fitted(columns, record["rates"], width, row_style=lambda row: "bold" if row["false_accept"] == shown else "")


def _share(found: Mapping[str, Any]) -> str:
    if found["share"] is None:
        return MISSING
    low, high = found["interval"]
    return f"{100 * found['share']:.1f} ({100 * low:.1f}–{100 * high:.1f})"


def _confused(pairs: Sequence[Mapping[str, Any]], width: int) -> RenderableType:
    columns = (
        Column("images", lambda pair: count(pair["images"])),
        Column("most confused: of", lambda pair: one_line(pair["truth"]), justify="left", cut=20),
        Column("taken for", lambda pair: one_line(pair["class"]), justify="left", cut=20),
        Column("such as", lambda pair: Text(one_line(pair["example"]), "dim"), 1, "left", cut=20),
    )
    return fitted(columns, pairs, width)
