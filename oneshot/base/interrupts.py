"""Ctrl-C and SIGTERM end the present work with a KeyboardInterrupt, which is neither lost nor repeated meanwhile."""

import math
import signal
import sys
import time
from typing import Any

PATIENCE = 10.0  # seconds that ending work has to save and tidy up; after them another signal interrupts that
AGAIN = 1.0  # seconds after which an interrupt is checked for having taken effect

_last = -math.inf  # when the last interrupt was raised


def heed() -> None:
    """Handle SIGTERM, which a scheduler sends before it kills, like Ctrl-C. Handle Ctrl-C too, unless whoever started
    this process wants it ignored."""
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGALRM, _insist)


def heed_no_more() -> None:
    """Ignore signals once all is done and said: one that comes while Python shuts down, or an earlier one, must not
    replace the exit code."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)
    # If an interrupt passed through an exec of a string, as when a dataclass is made, CPython treats it as unhandled
    # even if it was caught: `python -m` then ends by a SIGINT of its own. The next such exec resets that.
    exec("")


def _interrupt(number: int, frame: Any) -> None:
    if not _ending() or time.monotonic() - _last > PATIENCE:
        _raise()


def _insist(number: int, frame: Any) -> None:
    """Raise an interrupt again if it came to nothing. It may fall into code that drops every error: C code that asks
    Python whether an object has an attribute, a callback of Ray's core, a bare `except`."""
    if _ending():
        signal.setitimer(signal.ITIMER_REAL, AGAIN)
    elif sys.gettrace() is None:  # a debugger's prompt takes interrupts for its own
        _raise()


def _raise() -> None:
    global _last
    _last = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, AGAIN)
    raise KeyboardInterrupt


def _ending() -> bool:
    """Whether an interrupt is propagating: a `finally`, an `except` or the end of a `with` is running."""
    error = sys.exception()
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None
