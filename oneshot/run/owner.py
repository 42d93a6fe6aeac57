"""Who trains in a run folder: a lock, or on an object store, which has none, a note that its owner renews.

The note keeps two people from the same run by accident. It is no proof: two processes that start within the same second
may both believe to own it until the first renewal.
"""

import contextlib
import fcntl
import json
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator

from oneshot.base.beside import beside
from oneshot.base.errors import RunFailed, UserError
from oneshot.base.storage import Folder, needing_room

NOTE = ".lock"
EVERY, FRESH = 10.0, 45.0  # seconds between renewals; seconds after which a note that was not renewed does not count


@contextlib.contextmanager
def sole(run: Folder) -> Iterator[None]:
    """Hold a run folder for the time of the block. Raises UserError where another process does.

    A lock of the operating system: it goes with the process, however that ends. Object stores have none, see
    `signed`.
    """
    if not run.is_local:
        with signed(run):
            yield
        return
    path = run.file(NOTE)
    with needing_room(path):
        lock = open(path, "ab+", buffering=0)  # closed below
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            holder = lock.read().decode().strip() or "?"
            raise UserError(f"{run} is in use by process {holder}: wait for it or stop it") from None
        with needing_room(path):
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n".encode())
        yield


@contextlib.contextmanager
def signed(run: Folder, *, every: float = EVERY, fresh: float = FRESH) -> Iterator[None]:
    """Hold a run folder for the time of the block. Raises UserError where another process does, RunFailed where another
    took it over because this one was silent for too long."""
    _refuse_a_fresh_one(run, fresh)
    me = {"host": socket.gethostname(), "pid": os.getpid(), "id": uuid.uuid4().hex}
    lost = threading.Event()

    def renew() -> None:
        run.write_json(NOTE, me | {"time": time.time()})

    def is_mine() -> bool:
        return (_read(run) or me)["id"] == me["id"]

    def loop(over: threading.Event) -> None:
        while not over.wait(every):
            with contextlib.suppress(RunFailed):  # the store is out of reach for a moment
                if not is_mine():
                    lost.set()
                    signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)  # interrupts, see interrupts.py
                    return
                renew()

    renew()
    try:
        with beside(loop, name="owner"):
            yield
    except KeyboardInterrupt:
        if lost.is_set():
            raise RunFailed(f"{run} was taken over by {_name(_read(run))}: this process was silent too long") from None
        raise
    finally:
        with contextlib.suppress(RunFailed):
            if is_mine():
                run.remove(NOTE)


def _refuse_a_fresh_one(run: Folder, fresh: float) -> None:
    note = _read(run)
    if note is None:
        return
    left = min(fresh - (time.time() - note["time"]), fresh)  # a clock that is ahead costs no more than the whole time
    if left > 0:
        raise UserError(
            f"{run} is in use by {_name(note)}: wait for it or stop it; if it was killed, try again in {left:.0f} s"
        )


def _read(run: Folder) -> dict | None:
    """The note, None where there is none or it says nothing."""
    try:
        note = json.loads(run.read(NOTE))
        return {"host": str(note["host"]), "pid": int(note["pid"]), "id": note["id"], "time": float(note["time"])}
    except (FileNotFoundError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def _name(note: dict | None) -> str:
    return f"process {note['pid']} on {note['host']}" if note else "another process"
