"""Pieces of the page as HTML text. Whatever comes from a run goes through `esc`: a name may hold anything."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from oneshot.report.canvas import Canvas, svg

# Pixels across a figure on a desktop, one of two side by side there, and one on a phone: each is drawn for its size.
WIDE, HALF, NARROW = 840, 482, 356
FIGURES = "figures"  # the folder of the files, beside the page


def esc(value: object) -> str:
    return escape(str(value), quote=True)


@dataclass
class Figures:
    """The figures of a page, in order: drawn in it for two widths, and kept to be written as files."""

    files: dict[str, Canvas] = field(default_factory=dict)

    def chart(self, name: str, draw: Callable[[float], Canvas | None], caption: str, *, wide: float = WIDE) -> str:
        """A figure with its caption (HTML) and links to its files; empty if `draw` has nothing to show."""
        large, small = draw(wide), draw(NARROW)
        if large is None or small is None:
            return ""
        inside = f'<div class="wide">{svg(large, name=f"{name}-w")}</div>'
        inside += f'<div class="narrow">{svg(small, name=f"{name}-n")}</div>'
        return f'<figure id="{name}">{inside}<figcaption>{caption} {self.keep(name, large)}</figcaption></figure>'

    def keep(self, name: str, canvas: Canvas) -> str:
        """Keep this figure to be written as files, too. Returns the links to them."""
        self.files[name] = canvas
        links = (f'<a href="{FIGURES}/{name}.{kind}">{kind.upper()}</a>' for kind in ("svg", "png"))
        return f'<span class="files">{" · ".join(links)}</span>'


@dataclass(frozen=True)
class Column:
    """A column of a table: its header, the text of a cell (HTML), and the key it is sorted by (None: at the end)."""

    header: str
    cell: Callable[[Any], str]
    key: Callable[[Any], float | str | None]
    text: bool = False  # words are aligned to the left, numbers to the right
    css: str = ""


def table(
    caption: str, columns: Sequence[Column], rows: Iterable[Any], *, row: Callable[[Any], str] = lambda _: ""
) -> str:  # fmt: skip
    """A table sorted by the header that is pressed. `row` gives a row further attributes; its first cell names it."""
    head = "".join(
        f'<th scope="col" aria-sort="none" class="{_css(column)}">'
        f'<button type="button">{esc(column.header)}</button></th>'
        for column in columns
    )
    body = "".join(
        f"<tr{row(one)}>" + "".join(_cell(column, one, at == 0) for at, column in enumerate(columns)) + "</tr>"
        for one in rows
    )
    inside = (
        f"<table><caption><span>{caption}</span></caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{esc(caption)}">{inside}</div>'


def _css(column: Column) -> str:
    return " ".join(filter(None, ("text" if column.text else "", column.css)))


def _cell(column: Column, one: Any, first: bool) -> str:
    key = column.key(one)
    kind, scope = ("th", ' scope="row"') if first else ("td", "")
    return (
        f'<{kind}{scope} class="{_css(column)}" data-v="{"" if key is None else esc(key)}">{column.cell(one)}</{kind}>'
    )


def section(name: str, title: str, inside: str) -> str:
    """A part of the page with its heading; `name` is where links to it lead."""
    return f'<section aria-labelledby="{name}"><h2 id="{name}">{title}</h2>{inside}</section>'


def picture(png: str, alt: str, css: str = "") -> str:
    """A drawing, base64 of its PNG."""
    return f'<span class="d {css}"><img src="data:image/png;base64,{png}" alt="{esc(alt)}" title="{esc(alt)}"></span>'


def pairs(entries: Iterable[tuple[str, object]]) -> str:
    """A list of names and values; values are escaped."""
    return "<dl>" + "".join(f"<dt>{esc(name)}</dt><dd>{esc(value)}</dd>" for name, value in entries) + "</dl>"


def note(sentences: Iterable[str], css: str = "") -> str:
    """A remark set apart; sentences are HTML."""
    inside = "".join(f"<p>{sentence}</p>" for sentence in sentences)
    return f'<div class="note {css}" role="note">{inside}</div>' if inside else ""
