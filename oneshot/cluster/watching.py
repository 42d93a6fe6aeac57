"""Watches what a run needs of Ray. If that is gone, the run ends with a message, which Ray itself does not give."""

import _thread
import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

from rich.console import Console

from oneshot.base.beside import beside
from oneshot.screen.console import heard, print_error

PAUSE = 2.0  # seconds between two looks at a cluster
REFUSING = 10.0  # seconds after which a part that refuses connections is gone: it may be restarting
SILENT = 30.0  # the same for one that does not answer at all: a network may come back
GONE = "Ray's {} is gone: nothing has answered there for {:.0f} s ({}); what was done until then is saved"


@contextlib.contextmanager
def watched(
    console: Console,
    dead: list[str],
    look: Callable[[], list[str]],
    *,
    last_words: Callable[[], object],
    end: Callable[[], object],
    pause: float = PAUSE,
) -> Iterator[None]:
    """Interrupt the block if `look`, called every `pause` seconds, returns sentences on what is gone; they go into
    `dead`. If that does not end the block within 5 s, call `last_words`, print the first sentence, call `end` to tidy
    up, and exit."""

    def loop(over: threading.Event) -> None:
        while not dead:
            if over.wait(pause):
                return
            dead.extend(look())
        _thread.interrupt_main(signal.SIGTERM)
        if not over.wait(5):  # a call to the dead Ray does not return
            last_words()
            print_error(heard(console), dead[0])
            end()
            os._exit(1)

    with beside(loop, name="watching Ray"):
        yield


class Places:
    """Where parts of a cluster listen, by name. A part that does not answer from the beginning is not watched:
    something in between lets only Ray through."""

    def __init__(self, listening: dict[str, str]) -> None:
        self.listening = {name: place for name, place in listening.items() if not why_not(place, seconds=PAUSE)}
        self.failing: dict[str, float] = {}  # since when

    def gone(self) -> list[str]:
        """A sentence for each part that has not answered for so long that it counts as gone."""
        found = []
        for name, place in self.listening.items():
            error = why_not(place, seconds=PAUSE)
            if error is None:
                self.failing.pop(name, None)
                continue
            seconds = time.monotonic() - self.failing.setdefault(name, time.monotonic())
            if seconds >= (REFUSING if isinstance(error, ConnectionRefusedError) else SILENT):
                found.append(GONE.format(f"{name} at {place}", seconds, error.strerror or error))
        return found

    def settled(self, *, pause: float = PAUSE) -> list[str]:
        """Like `gone`, but wait until it is certain of each part whether it is there: an error may come from a part
        that died a moment ago."""
        while not (found := self.gone()) and self.failing:
            time.sleep(pause)
        return found


def why_not(place: str, *, seconds: float) -> OSError | None:
    """Why nothing is reached at `host:port` within `seconds`; None if something is."""
    host, _, port = place.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=seconds).close()
    except OSError as error:
        return error
    except OverflowError as error:  # an impossible port
        return OSError(str(error))
    return None
