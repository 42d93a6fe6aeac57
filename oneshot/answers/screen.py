"""An answer on the terminal: small pictures of the query and the best classes, and the classes by probability."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from oneshot.data.clean import shown as as_it_was
from oneshot.data.sheet import dark, in_blocks
from oneshot.screen.console import Column, Fitting, bar, fitted, one_line, percent

SIDE = 14  # pixels of a small picture: 14 columns, 7 lines
_BAR = 12  # columns of a probability's bar
_TABLE = 44  # columns that the table of classes needs beside the pictures


def can_draw(console: Console) -> bool:
    """Whether pictures can be drawn: on a terminal that shows half blocks."""
    return console.is_terminal and not console.is_dumb_terminal and console.encoding.lower().startswith("utf")


def picture(ink: np.ndarray, *, colour: bool, polarity: str = "dark") -> Text:
    """A drawing, uint8 (S, S) with 255 = ink, as 7 lines of 14 half blocks: grey with `colour`, else two-tone.

    `polarity` is that of the image, see `clean`. With colour, the picture is as bright as the image was, on any
    terminal. Without, ink has the text's own colour, and so have the dark parts of a photo, which is dithered."""
    small = np.asarray(Image.fromarray(ink).resize((SIDE, SIDE), Image.Resampling.BOX))
    if not colour and polarity == "photo":
        return in_blocks(~np.asarray(Image.fromarray(small).convert("1")))
    if not colour:
        return in_blocks(dark(small))
    if polarity == "dark":  # lines get thin when made small: darker
        grey = 238 - np.minimum(255, small.astype(int) * 3 // 2) * 220 // 255
    else:
        grey = as_it_was(small, polarity)
    lines = []
    for upper, lower in zip(grey[0::2], grey[1::2], strict=True):
        cells = ((f"rgb({a},{a},{a}) on rgb({b},{b},{b})") for a, b in zip(upper, lower, strict=True))
        lines.append(Text.assemble(*(("▀", style) for style in cells)))
    return Text("\n").join(lines)


def verdict(name: str, ranking: Mapping[str, Any]) -> Text:
    """One line: the image and its class, or none of these. `ranking` is as `Ranking.to_dict` returns it."""
    best = ranking["ranked"][0]
    text = Text.assemble((one_line(name), "bold"), "  ")
    if ranking["known"] is False:
        return text.append("none of these", "bold yellow").append(f"  nearest: {one_line(best['class'])}", "dim")
    return text.append(one_line(best["class"]), "bold green").append(f"  {percent(best['probability'])}")


def answer_view(
    name: str,
    ranking: Mapping[str, Any],
    *,
    query: np.ndarray | None = None,
    shown: Mapping[str, np.ndarray] | None = None,
    colour: bool = True,
    polarity: str = "dark",
) -> RenderableType:
    """The verdict on one image, then the query and as many of the best classes' images as find room, then the classes.

    `query` and the images in `shown` are uint8 (S, S); without them, only names are shown. `polarity` as in `picture`.
    """
    head = verdict(name, ranking)
    if query is None or shown is None:
        return Group(head, Fitting(lambda width: _classes(ranking, width)), Text())

    def draw(width: int) -> Table:
        fit = max(1, (width - _TABLE) // (SIDE + 2)) - 1
        ranked = ranking["ranked"][:fit]
        captions = [f"{rank} {one_line(each['class'])}" for rank, each in enumerate(ranked, 1)]
        pictures = [("query", query), *zip(captions, (shown[each["class"]] for each in ranked), strict=True)]
        row = Table.grid(padding=(0, 2, 0, 0))
        left = width
        for _ in pictures:
            row.add_column(width=SIDE)
            left -= SIDE + 2
        row.add_column()
        drawn = (
            Group(
                picture(ink, colour=colour, polarity=polarity),
                Text(caption, "dim", justify="center", no_wrap=True, overflow="ellipsis"),
            )
            for caption, ink in pictures
        )
        row.add_row(*drawn, _classes(ranking, left))
        return row

    return Group(head, Fitting(draw), Text())


def _classes(ranking: Mapping[str, Any], width: int) -> Table:
    """The classes by probability, dimmed if the image is none of these."""
    rows = list(enumerate(ranking["ranked"], 1))
    named = ranking["known"] is not False
    columns = (
        Column("", lambda row: str(row[0])),
        Column(
            "class", lambda row: Text(one_line(row[1]["class"]), "green" if named and row[0] == 1 else ""), 0, "left"
        ),
        Column("", lambda row: bar(row[1]["probability"], _BAR, "green" if row[0] == 1 else "cyan"), 1, "left"),
        Column("probability" if named else "if it is one", lambda row: percent(row[1]["probability"])),
    )
    return fitted(columns, rows, width, row_style=lambda row: "" if named else "dim")
