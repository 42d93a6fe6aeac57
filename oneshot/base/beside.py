"""Threads that run beside a block of code, for as long as the block lasts."""

import contextlib
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def beside(
    loop: Callable[[threading.Event], None], *, name: str | None = None, patience: float | None = None
) -> Iterator[None]:
    """Run `loop(over)` in a thread while the block runs. When the block ends, `over` is set and the thread is waited
    for, for at most `patience` seconds (None: until it has ended)."""
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
    """Call `do` every `seconds` seconds in a thread while the block runs; `patience` is as in `beside`."""

    def loop(over: threading.Event) -> None:
        while not over.wait(seconds):
            do()

    with beside(loop, name=name, patience=patience):
        yield
