"""The parts of Ray that a run needs are watched: a short failure is ignored, a lasting one reported. Without Ray."""

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from command import ROOT
from rich.console import Console

from oneshot.cluster import watching
from oneshot.cluster.watching import Places, watched


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("PAUSE", 0.05), ("REFUSING", 2.0), ("SILENT", 1.0)):
        monkeypatch.setattr(watching, name, seconds)


@contextlib.contextmanager
def listening(port: int = 0) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", port)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def until_gone(places: Places, *, seconds: float) -> list[str]:
    end = time.monotonic() + seconds
    while not (found := places.gone()) and time.monotonic() < end:
        time.sleep(0.02)
    return found


@pytest.mark.usefixtures("quick")
def test_what_refuses_for_long_is_gone_and_a_hiccup_is_nothing() -> None:
    with listening() as place:
        places = Places({"head": place})
        assert places.gone() == []
    for _ in range(2):
        assert until_gone(places, seconds=0.2) == []
        with listening(int(place.rpartition(":")[2])):
            assert places.settled(pause=0.01) == [] and not places.failing
    (sentence,) = until_gone(places, seconds=60)
    assert sentence.startswith(f"Ray's head at {place} is gone: nothing has answered there for ")
    assert "(Connection refused)" in sentence


@pytest.mark.usefixtures("quick")
def test_an_error_is_held_back_until_it_is_certain_whether_a_part_died() -> None:
    with listening() as place:
        places = Places({"head": place})
        assert places.settled(pause=0.01) == []
    (sentence,) = places.settled(pause=0.01)
    assert "is gone" in sentence


def test_what_does_not_answer_from_the_beginning_is_not_looked_at() -> None:
    with listening() as place:
        pass
    assert Places({"head": place}).listening == {}


def test_the_block_is_interrupted_and_told_of_what_is_gone() -> None:
    dead: list[str] = []
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as the command line handles it
    try:
        with (
            pytest.raises(KeyboardInterrupt),
            watched(Console(), dead, lambda: ["it is gone"], last_words=pytest.fail, end=pytest.fail, pause=0.05),
        ):
            for _ in range(400):
                time.sleep(0.01)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert dead == ["it is gone"]


# A process whose main thread does not notice the interrupt, like one that waits in Ray's C++ code.
DEAF = """
import ctypes
from oneshot.cluster.watching import watched
from oneshot.screen.console import console, print_line
screen = console()
with watched(screen, [], lambda: ["it is gone"], last_words=lambda: print_line(screen, "to go on: so"),
             end=lambda: print_line(screen, "over"), pause=0.05):
    ctypes.CDLL(None).sleep(60)
"""


def test_a_process_that_does_not_let_go_of_it_ends_with_its_last_words() -> None:
    done = subprocess.run([sys.executable, "-c", DEAF], cwd=ROOT, text=True, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "to go on: so\nerror: it is gone\nover\n")
