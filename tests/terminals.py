"""Terminals and logs that keep what is printed on them, for the tests of what users see."""

import io
import re

from rich.console import Console

from oneshot.screen.live import StudyView

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"  # codes that hide and show the cursor


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def terminal(width: int = 140, height: int = 40) -> Console:
    return Console(file=Terminal(), width=width, height=height, force_terminal=True, highlight=False)


def log() -> Console:
    return Console(file=io.StringIO(), width=120, force_terminal=False, highlight=False)


def drawn(renderable, width: int, height: int = 40) -> list[str]:
    """The lines of a renderable as a terminal shows them, without escape codes."""
    screen = terminal(width, height)
    screen.print(renderable)
    return plain(screen).rstrip("\n").split("\n")


def plain(screen: Console) -> str:
    """The text printed on a terminal, without escape codes."""
    return re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", screen.file.getvalue())


def view_of(record, width: int = 140) -> StudyView:
    view = StudyView(Console(file=io.StringIO(), width=width))
    view.update(record)
    return view


def told(*records) -> list[str]:
    """The lines of a log after these updates, without the time at the start of each."""
    screen = log()
    with StudyView(screen) as view:
        for record in records:
            view.update(record)
    return [line[9:] for line in screen.file.getvalue().splitlines()]


def row_of(lines: list[str], *words: str) -> int:
    """The index of the only line that has all these words in this order."""
    found = [i for i, line in enumerate(lines) if re.search(".*".join(map(re.escape, words)), line)]
    assert len(found) == 1, (words, lines)
    return found[0]
