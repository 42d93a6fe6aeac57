"""Contact sheets: many drawings as one picture, and a picture in the characters of a terminal."""

from collections.abc import Sequence

import numpy as np
from PIL import Image
from rich.text import Text

from oneshot.data.clean import shown
from oneshot.data.drawings import Drawings

CELL = 20  # pixels of a drawing in a terminal: 20 columns, 10 lines
_GAP = 4  # pixels of paper around each drawing of a picture
_BLOCKS = " ▀▄█"  # nothing, upper half, lower half, both: two pixels above each other in one character
_ASCII_BLOCKS = " '.:"
_THIN = 0.18  # the share of ink that makes a small pixel dark: a line is thinner than a small pixel


def of_alphabets(drawings: Drawings, columns: int) -> list[list[int]]:
    """For each alphabet a row of positions in `drawings`: characters from all over it, each by two drawers."""
    rows = []
    for alphabet in range(len(drawings.alphabets)):
        characters = np.flatnonzero(drawings.alphabet_of == alphabet)
        chosen = characters[spread(len(characters), (columns + 1) // 2)]
        row: list[int] = []
        for number, character in enumerate(chosen):
            drawn = np.flatnonzero(drawings.character == character)
            row += np.roll(drawn, -2 * number)[:2].tolist()
        rows.append(row[:columns])
    return rows


def of_characters(drawings: Drawings, columns: int, characters: Sequence[int] | None = None) -> list[list[int]]:
    """For each character, or each of `characters`, a row of positions in `drawings`: its drawings, by different
    drawers."""
    chosen = range(len(drawings.characters)) if characters is None else characters
    return [np.flatnonzero(drawings.character == character)[:columns].tolist() for character in chosen]


def spread(count: int, most: int) -> list[int]:
    """At most `most` of the numbers below `count`, evenly spread, in order."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()


def picture(drawings: Drawings, rows: Sequence[Sequence[int]]) -> np.ndarray:
    """The drawings at these positions as one picture, uint8 (height, width), 0 = paper, 255 = ink."""
    height, width = drawings.height + _GAP, drawings.width + _GAP
    whole = np.zeros((len(rows) * height + _GAP, max(map(len, rows)) * width + _GAP), np.uint8)
    for y, row in enumerate(rows):
        for x, ink in enumerate(drawings.pixels(np.array(row, dtype=np.int64))):
            top, left = _GAP + y * height, _GAP + x * width
            whole[top : top + drawings.height, left : left + drawings.width] = ink
    return whole


def in_terminal(drawings: Drawings, row: Sequence[int], *, ascii_only: bool = False, greys: bool = False) -> Text:
    """One row of drawings as CELL / 2 lines of text, each drawing CELL columns wide.

    If `greys`, the terminal has shades and own images are shown in them. Otherwise photos are dithered."""
    small = np.concatenate(
        [
            np.asarray(Image.fromarray(ink).resize((CELL, CELL), Image.Resampling.BOX))
            for ink in drawings.pixels(np.array(row, dtype=np.int64))
        ],
        axis=1,
    )
    if drawings.own and greys and not ascii_only:
        return _shaded(shown(small, drawings.polarity))
    if drawings.polarity == "photo":
        return in_blocks(~np.asarray(Image.fromarray(small).convert("1")), ascii_only=ascii_only)
    return in_blocks(dark(small), ascii_only=ascii_only)


def dark(small: np.ndarray) -> np.ndarray:
    """Which pixels of a reduced drawing are shown dark."""
    return small > 255 * _THIN


def in_blocks(dark: np.ndarray, *, ascii_only: bool = False) -> Text:
    """Dark pixels (height, width) as lines of text, two rows of pixels a line. The height must be even."""
    blocks = _ASCII_BLOCKS if ascii_only else _BLOCKS
    lines = ("".join(blocks[code] for code in line).rstrip() for line in dark[0::2] + 2 * dark[1::2])
    return Text("\n".join(lines), no_wrap=True)


def _shaded(bright: np.ndarray) -> Text:
    """Grey drawings (CELL, n CELL) as lines of half blocks, with a gap between drawings.

    The foreground colour is the upper pixel, the background colour the lower one."""
    picture = Text(no_wrap=True)
    for upper, lower in zip(bright[0::2], bright[1::2], strict=True):
        for column, (one, other) in enumerate(zip(upper.tolist(), lower.tolist(), strict=True), 1):
            if column % CELL == 0:
                picture.append(" ")
                continue
            picture.append("▀", f"rgb({one},{one},{one}) on rgb({other},{other},{other})")
        picture.append("\n")
    picture.rstrip()
    return picture
