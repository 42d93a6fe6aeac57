"""Who trains in a run folder: a lock, or where there is none, as on an object store, a note that its owner renews.

The note keeps two people from the same run by accident. It is no proof: two processes that start within the same second
may both believe to own it until the first renewal.
"""

import contextlib
import json
import os
import re
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator

from oneshot.base import locks
from oneshot.base.beside import beside
from oneshot.base.errors import TROUBLE, RunFailed, UserError
from oneshot.base.storage import Folder, needing_room

NOTE = ".lock"
EVERY, FRESH = 10.0, 45.0  # seconds between renewals; seconds after which a note that was not renewed does not count
OLD = 86400.0  # seconds after which one does not, by whatever clock: until then those of two machines may differ


def aloud(sentence: str) -> None:
    print(sentence, file=sys.stderr)


@contextlib.contextmanager
def sole(run: Folder, *, say: Callable[[str], None] = aloud) -> Iterator[threading.Event]:
    """Hold a run folder for the time of the block; the event is set where another process took it over, which now
    writes there. Raises UserError where another process holds it; `say` is called where one that did has to be waited
    for.

    A lock of the operating system: it goes with the process, however that ends. Object stores have none, nor have some
    file systems (Lustre as it is often mounted, NFS without its lock daemon): there by a note, see `signed`.
    """
    with _locked(run) if run.is_local else contextlib.nullcontext(False) as locked:
        if locked:
            yield threading.Event()
            return
    with signed(run, say=say) as lost:
        yield lost


@contextlib.contextmanager
def _locked(run: Folder) -> Iterator[bool]:
    """Hold the lock of a local run folder; False where its file system has none. Raises UserError where it is held."""
    path = run.file(NOTE)
    with needing_room(path):
        lock = open(path, "ab+", buffering=0)  # closed below
    with lock:
        try:
            held = locks.hold(lock, wait=False)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().decode().strip() or "?"
            raise UserError(f"{run} is in use by process {holder}: wait for it or stop it") from None
        if not held:
            yield False
            return
        with needing_room(path):
            lock.truncate(0)
            lock.write(f"{os.getpid()} on {socket.gethostname()}\n".encode())
        yield True


@contextlib.contextmanager
def signed(
    run: Folder, *, every: float = EVERY, fresh: float = FRESH, say: Callable[[str], None] = aloud
) -> Iterator[threading.Event]:
    """Hold a run folder for the time of the block. One whose owner may have been killed is waited for, for `fresh`
    seconds at the most: a scheduler that gives a job again does so at once. Raises UserError where another process
    holds it, RunFailed where another took it over because this one was silent for too long: the block is interrupted
    then, and the event set before."""
    _wait_for_silence(run, every, fresh, say)
    me = {"host": socket.gethostname(), "pid": os.getpid(), "id": uuid.uuid4().hex}
    lost = threading.Event()

    def renew() -> None:
        run.write_json(NOTE, me | {"time": time.time()})

    def is_mine() -> bool:
        return (_read(run) or {}).get("id") == me["id"]  # who took it over may be done with it, and his note gone

    def loop(over: threading.Event) -> None:
        while not over.wait(every):
            with contextlib.suppress(*TROUBLE):  # out of reach, or new credentials are on their way
                if not is_mine():
                    lost.set()
                    signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)  # interrupts, see interrupts.py
                    return
                renew()

    renew()
    try:
        with beside(loop, name="owner"):
            yield lost
    except KeyboardInterrupt:
        if lost.is_set():
            raise RunFailed(f"{run} was taken over by {_name(_read(run))}: this process was silent too long") from None
        raise
    finally:
        with contextlib.suppress(*TROUBLE):
            if is_mine():
                run.remove(NOTE)


def is_held(run: Folder) -> bool:
    """Whether a process is known to hold a run folder now, which the question does not disturb: by its lock, which only
    its own machine sees, or by a note that was renewed lately. Where it is not known, nobody may hold it or somebody
    may."""
    with contextlib.suppress(*TROUBLE):
        if note := _read(run):
            return time.time() - note["time"] < FRESH
        if run.is_local and (holder := re.match(rb"(\d{1,9}) on ", run.read(NOTE))):
            return locks.is_held(run.file(NOTE), by=int(holder[1]))
    return False


def _wait_for_silence(run: Folder, every: float, fresh: float, say: Callable[[str], None]) -> None:
    """Wait until nobody has renewed the note for `fresh` seconds. Raises UserError as soon as somebody does.

    Its writer's clock may be another: ahead, it costs no more than the whole time; behind, two renewals are waited for.
    """
    note = _read(run)
    if note is None or (age := time.time() - note["time"]) > OLD:
        return
    left = min(max(fresh - age, 2.5 * every), fresh)
    holder = f"{run} is in use by {_name(note)}"
    say(f"{holder}; if it was killed, this process has the run in {left:.0f} s")
    end = time.monotonic() + left
    while time.monotonic() < end:
        time.sleep(min(1.0, left))
        newest = _read(run)
        if newest is None:
            return
        if newest != note:
            raise UserError(f"{holder}: wait for it or stop it")


def _read(run: Folder) -> dict | None:
    """The note, None where there is none or it says nothing."""
    try:
        note = json.loads(run.read(NOTE))
        return {"host": str(note["host"]), "pid": int(note["pid"]), "id": note["id"], "time": float(note["time"])}
    except (FileNotFoundError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def _name(note: dict | None) -> str:
    return f"process {note['pid']} on {note['host']}" if note else "another process"
