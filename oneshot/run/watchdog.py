"""Ends a process whose training has come to a stop: in a file system that does not answer, in a GPU that hangs.

Ray checks a worker's health in another thread than the one that trains, and that thread always answers. Free of torch.
"""

import contextlib
import faulthandler
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from oneshot.base.beside import beside
from oneshot.base.settings import Scale
from oneshot.run.watch import Watch

LOOKS = 10  # within the seconds allowed: looks are counted, so a process that was suspended and goes on is not late
LEAST = 60.0  # seconds that a training may always stand still: for its first step, for a disk that others use
PATIENCE = 5.0  # seconds to record it: the disk may be what does not answer
PROGRAM = str(Path(__file__).resolve().parents[1])


def still(scale: Scale) -> float:
    """Seconds for which a training may stand still."""
    return max(scale.timeout, LEAST)


class Moves(Watch):
    """Counts how often a training has moved. While it `rests` it waits for others, which have watchdogs of their
    own."""

    count, rests = 0, False

    def moved(self) -> None:
        self.count += 1

    def start(self, *, epochs: int, steps_per_epoch: int, done: int = 0) -> None:
        self.moved()

    def step(self, done: int, loss: float, images_per_second: float) -> None:
        self.moved()

    def epoch(self, row: dict[str, Any], is_best: bool) -> None:
        self.moved()

    @contextlib.contextmanager
    def resting(self) -> Iterator[None]:
        self.rests = True
        try:
            yield
        finally:
            self.moved()
            self.rests = False


@contextlib.contextmanager
def watchdog(moves: Moves, *, seconds: float, who: str, tell: Callable[[str], object]) -> Iterator[None]:
    """End this process, which trains in the block, with exit code 1 if nothing moves for so many seconds, and print to
    standard error what all its threads do. `tell` is given a sentence that names `who` it is."""
    thread = threading.get_ident()

    def loop(over: threading.Event) -> None:
        seen, still = moves.count, 0
        while not over.wait(seconds / LOOKS):
            still = still + 1 if moves.count == seen and not moves.rests else 0
            seen = moves.count
            if still == LOOKS:
                _end(f"{who} stood still for {seconds:g} s{_where(thread)}", tell)

    with beside(loop, name="watchdog"):
        yield


def _end(what: str, tell: Callable[[str], object]) -> None:
    sentence = (
        f"{what}: its process was ended; if a step may take that long, raise the limit with --set scale.timeout=SECONDS"
    )
    print(sentence, file=sys.stderr, flush=True)
    faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
    telling = threading.Thread(target=tell, args=(sentence,), daemon=True)
    telling.start()
    telling.join(PATIENCE)
    os._exit(1)


def _where(thread: int) -> str:
    """Which line of this program a thread is at."""
    frame = sys._current_frames().get(thread)
    lines = [each for each in traceback.extract_stack(frame) if each.filename.startswith(PROGRAM)] if frame else []
    return f" in {lines[-1].name} ({lines[-1].filename.removeprefix(PROGRAM)[1:]}:{lines[-1].lineno})" if lines else ""
