"""A thread beside a block of code: it is there as long as the block."""

import contextlib
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def beside(
    loop: Callable[[threading.Event], None], *, name: str | None = None, patience: float | None = None
) -> Iterator[None]:
    """Run `loop(over)` in a thread for the time of the block; at its end `over` is set and the thread waited for, for
    `patience` seconds at the most (None: until it has ended)."""
    over = threading.Event()
    thread = threading.Thread(target=loop, args=(over,), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(patience)


@contextlib.contextmanager
def every(
    seconds: float, do: Callable[[], object], *, name: str | None = None, patience: float | None = None
) -> Iterator[None]:
    """Call `do` every so many seconds in a thread, for the time of the block; `patience` as above."""

    def loop(over: threading.Event) -> None:
        while not over.wait(seconds):
            do()

    with beside(loop, name=name, patience=patience):
        yield
