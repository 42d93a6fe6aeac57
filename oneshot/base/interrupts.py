"""Ctrl-C and SIGTERM: what goes on ends by a KeyboardInterrupt, which is neither lost nor repeated meanwhile."""

import math
import signal
import sys
import time
from typing import Any

PATIENCE = 10.0  # seconds in which what ends saves and tidies up; after them another signal breaks that off
AGAIN = 1.0  # seconds after which it is looked whether an interrupt came to something

_last = -math.inf  # when one was raised


def heed() -> None:
    """Answer SIGTERM, what a scheduler sends before it kills, as Ctrl-C; and that unless who started this process wants
    it ignored."""
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGALRM, _insist)


def heed_no_more() -> None:
    """All is done and said: a signal, while Python tears itself down or an earlier one, is not to replace the exit
    code."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)
    # An interrupt that went through an exec of a string, as where a dataclass is made, CPython holds for unhandled even
    # if it was caught: `python -m` then ends by a SIGINT of its own. The next such exec makes it forget.
    exec("")


def _interrupt(number: int, frame: Any) -> None:
    if not _ending() or time.monotonic() - _last > PATIENCE:
        _raise()


def _insist(number: int, frame: Any) -> None:
    """An interrupt may fall into code that drops every error: C code that asks Python whether an object has an
    attribute, a callback of Ray's core, a bare `except`."""
    if _ending():
        signal.setitimer(signal.ITIMER_REAL, AGAIN)
    elif sys.gettrace() is None:  # the prompt of a debugger takes an interrupt for its own
        _raise()


def _raise() -> None:
    global _last
    _last = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, AGAIN)
    raise KeyboardInterrupt


def _ending() -> bool:
    """Whether an interrupt is on its way out: what runs now is a `finally`, an `except` or the end of a `with`."""
    error = sys.exception()
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None
