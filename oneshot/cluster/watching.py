"""What a run cannot do without of Ray, watched: where it is gone the run ends with a word, which Ray does not say."""

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
REFUSING = 10.0  # seconds after which what refuses connections is gone: it may have been started again
SILENT = 30.0  # and what does not answer at all: a network may come back
GONE = "Ray's {} is gone: nothing answers there for {:.0f} s ({}); what was done until then is saved"


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
    """Interrupt the block where `look`, each `pause` seconds, finds a sentence on what is gone, and put it into `dead`.
    A block that does not end by that ends the process, after its `last_words` and an `end` to what it leaves."""

    def loop(over: threading.Event) -> None:
        while not dead:
            if over.wait(pause):
                return
            dead.extend(look())
        _thread.interrupt_main(signal.SIGTERM)
        if not over.wait(5):  # what was asked of the dead Ray does not come back
            last_words()
            print_error(heard(console), dead[0])
            end()
            os._exit(1)

    with beside(loop, name="watching Ray"):
        yield


class Places:
    """Where parts of a cluster listen, by what they are called. One that does not answer from the beginning is not
    looked at: something stands between that lets Ray alone through."""

    def __init__(self, listening: dict[str, str]) -> None:
        self.listening = {name: place for name, place in listening.items() if not why_not(place, seconds=PAUSE)}
        self.failing: dict[str, float] = {}  # since when

    def gone(self) -> list[str]:
        """A sentence for each that has not answered for so long that it will not do so any more."""
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
        """The same, when it is certain of each whether it is there: an error may be of what died a moment ago."""
        while not (found := self.gone()) and self.failing:
            time.sleep(pause)
        return found


def why_not(place: str, *, seconds: float) -> OSError | None:
    """Why nothing is reached at `host:port` in so many seconds; None where something is."""
    host, _, port = place.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=seconds).close()
    except OSError as error:
        return error
    except OverflowError as error:  # a port that there cannot be
        return OSError(str(error))
    return None
