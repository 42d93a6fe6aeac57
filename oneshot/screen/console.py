"""The terminal: making a console, writing numbers, fitting tables into a given width."""

import codecs
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TextIO

from rich.box import SIMPLE_HEAD, Box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

PLAIN_WIDTH = 120  # columns if the output is not a terminal: a job's log, CI, a pipe
MISSING = "–"
_CUT: dict[str, Any] = {"no_wrap": True, "overflow": "ellipsis"}  # for a cell that is still too long
_RULE = Box(str(SIMPLE_HEAD), ascii=True)  # otherwise Rich puts bars between columns if the encoding is not UTF-8
_GAP = 2  # blank columns between two columns of a table
_ASCII = str.maketrans("–━╾─╌●★·×╶╴", "-=--.o*.x--") | {
    ord(sign): text for sign, text in {"≥": ">=", "≤": "<=", "→": "->", "▶": ">", "…": "...", "µ": "u"}.items()
}


def console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """The console of one stream (standard output, or standard error).

    On a terminal, width and colour are Rich's own and NO_COLOR is respected. Anything else gets 120 columns and no
    control code, whatever FORCE_COLOR or COLUMNS say, since a log keeps every code it is given. With `quiet`, nothing
    but warnings is printed, and these to standard error.
    """
    stream = sys.stderr if stderr else sys.stdout
    _never_fail_to_encode(stream)
    plain: dict[str, Any] = {"force_interactive": False} if quiet else {}
    if not stream.isatty():
        plain = {"force_terminal": False, "force_interactive": False, "color_system": None, "width": PLAIN_WIDTH}
    made = QuietConsole if quiet else Console
    return made(stderr=stderr, quiet=quiet, highlight=False, emoji=False, force_jupyter=False, **plain)


class QuietConsole(Console):
    """Prints nothing. `aloud` is the console of standard error, for what must be said all the same."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.aloud = console(stderr=True)


def heard(console: Console) -> Console:
    """The console for what must be said: the given one or, if it is quiet, that of standard error."""
    return console.aloud if isinstance(console, QuietConsole) else console


def print_line(console: Console, text: str | Text) -> None:
    """Prints one line as it is: square brackets are no markup and a long line is not broken."""
    console.print(text if isinstance(text, Text) else Text(text), soft_wrap=True)


def print_error(console: Console, message: object) -> None:
    """Prints `error: message` in one line, unbroken, so that a path in it can be copied."""
    print_line(console, Text.assemble(("error: ", "bold red"), one_line(message)))


def print_warning(console: Console, message: object) -> None:
    """Prints `warning: message` in one line, unbroken."""
    print_line(heard(console), Text.assemble(("warning: ", "bold yellow"), one_line(message)))


def one_line(message: object) -> str:
    """The message with every run of blanks and line breaks as one blank, and characters that steer a terminal
    escaped."""
    text = " ".join(str(message).split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def percent(fraction: float | None) -> str:
    """A fraction as percent with one decimal: 0.925 is `92.5 %`; None is a dash."""
    return MISSING if fraction is None else f"{100 * fraction:.1f} %"


def interval(low: float, high: float) -> str:
    """The two ends of an interval, fractions, as `88.9–94.3 %`."""
    return f"{100 * low:.1f}–{100 * high:.1f} %"


def loss(value: float | None) -> str:
    """A loss with four decimals; None is a dash; a loss too large for that in scientific notation."""
    if value is None:
        return MISSING
    return f"{value:.4f}" if abs(value) < 1000 or not math.isfinite(value) else f"{value:.0e}"


def compact(value: float | None) -> str:
    """A learning rate in compact scientific notation, three digits at most: 0.003 is `3e-3`, 0.00123 is `1.23e-3`."""
    if value is None:
        return MISSING
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits, exponent = f"{value:.2e}".split("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"


def count(value: float | None) -> str:
    """A whole number with a comma before every three digits; None is a dash."""
    return MISSING if value is None or not math.isfinite(value) else f"{value:,.0f}"


def duration(seconds: float | None) -> str:
    """Seconds as `1:05`, `1:02:05` or `2 d 03:00`; None is a dash."""
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours:02}:{minutes:02}"
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size(number: float) -> str:
    """Bytes with three digits: 310,000,000 is `310 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 999.5:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"


def bar(fraction: float, width: int, style: str = "cyan") -> Text:
    """A line of `width` columns, heavy up to `fraction` (0 to 1) and light after it, readable without colour too."""
    halves = round(2 * width * min(1.0, max(0.0, fraction)))
    heavy = "━" * (halves // 2) + "╾" * (halves % 2)
    return Text.assemble((heavy, style), ("─" * (width - len(heavy)), "dim"))


@dataclass(frozen=True)
class Column:
    """A column of a table. The header may hold line breaks."""

    header: str
    cell: Callable[[Any], str | Text]
    drop: int = 0  # if width is short, the column with the greatest number is left out first; 0 stays
    justify: Literal["left", "right"] = "right"
    least: int = 0  # its least width, so that a table that is redrawn does not jump
    cut: int = 0  # if width is short, it is cut to this before a column is left out; 0: it is not cut


def fitted(
    columns: Sequence[Column], records: Iterable[Any], width: int, *, row_style: Callable = lambda _: ""
) -> Table:
    """A table with a row for each record, at most `width` wide. If that is too narrow, columns are left out, not
    wrapped."""
    records = list(records)
    cells = {column: [column.cell(record) for record in records] for column in columns}
    needed = {column: _widest(column, cells[column]) for column in columns}
    widths = {column: min(most, column.cut or most) for column, most in needed.items()}
    kept = list(columns)
    while (spare := width + _GAP - sum(widths[column] + _GAP for column in kept)) < 0:
        least = max(kept, key=lambda column: column.drop)
        if least.drop == 0:
            break  # Rich cuts cells if even the columns that stay are too wide
        kept.remove(least)
    fits = spare >= 0
    table = Table(box=_RULE, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.border_style = "dim"
    for column in kept:
        known = None
        if fits:  # spares Rich from measuring every cell again
            known = min(needed[column], widths[column] + spare)
            spare -= known - widths[column]
        table.add_column(column.header, justify=column.justify, vertical="bottom", width=known, **_CUT)
    for i, record in enumerate(records):
        row = (cells[column][i] for column in kept)
        table.add_row(*(c if isinstance(c, Text) else Text(c) for c in row), style=row_style(record))
    return table


def _widest(column: Column, cells: list[str | Text]) -> int:
    return max(column.least, *(cell_len(line) for line in (*column.header.split("\n"), *map(str, cells))))


class Fitting:
    """Something drawn anew for the width it is given. `draw(width)` returns what Rich can print."""

    def __init__(self, draw: Callable[[int], RenderableType]) -> None:
        self.draw = draw

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.draw(options.max_width)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement.get(console, options, self.draw(options.max_width))


def _never_fail_to_encode(stream: TextIO) -> None:
    # Under cp1252 or latin-1 a bar or a dash would end a long run with UnicodeEncodeError: write ASCII instead.
    # UTF-8 has no bytes for a lone surrogate, which a file's name may hold.
    encoding = (getattr(stream, "encoding", None) or "").lower()
    if hasattr(stream, "reconfigure"):
        codecs.register_error("oneshot.ascii", _in_ascii)
        stream.reconfigure(errors="backslashreplace" if encoding.startswith("utf") else "oneshot.ascii")


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    lost = error.object[error.start : error.end].translate(_ASCII)
    return "".join(c if c.isascii() else "?" for c in lost), error.end
