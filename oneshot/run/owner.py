"""Who trains in a run folder. The owner holds a lock or, without locks, as on an object store, renews a note.

The note keeps two people from using the same run by accident. It is no proof: two processes that start within the same
second may both believe that they own it until the first renewal.
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
OLD = 86400.0  # seconds after which a note never counts; until then the clocks of two machines may differ


def aloud(sentence: str) -> None:
    print(sentence, file=sys.stderr)


@contextlib.contextmanager
def sole(run: Folder, *, say: Callable[[str], None] = aloud) -> Iterator[threading.Event]:
    """Hold a run folder while the block runs. The event is set if another process took it over and now writes there.
    Raises UserError if another process holds it; `say` is called if one that held it has to be waited for.

    The lock is one of the operating system: it is released when the process ends, however it ends. Object stores have
    no locks, nor have some file systems (Lustre as it is often mounted, NFS without its lock daemon): for these there
    is a note, see `signed`.
    """
    with _locked(run) if run.is_local else contextlib.nullcontext(False) as locked:
        if locked:
            yield threading.Event()
            return
    with signed(run, say=say) as lost:
        yield lost


@contextlib.contextmanager
def _locked(run: Folder) -> Iterator[bool]:
    """Hold the lock of a local run folder; yield False if its file system has none. Raises UserError if it is held."""
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
        with contextlib.suppress(OSError):  # who holds it is said for people: on a full disk the lock alone has to do
            lock.truncate(0)
            lock.write(f"{os.getpid()} on {socket.gethostname()}\n".encode())
        yield True


@contextlib.contextmanager
def signed(
    run: Folder, *, every: float = EVERY, fresh: float = FRESH, say: Callable[[str], None] = aloud
) -> Iterator[threading.Event]:
    """Hold a run folder by a note while the block runs. If its owner may have been killed, wait for at most `fresh`
    seconds: a scheduler that restarts a job does so at once. Raises UserError if another process holds it. If another
    takes it over because this one was silent for too long, the event is set, the block is interrupted and RunFailed is
    raised."""
    _wait_for_silence(run, every, fresh, say)
    me = {"host": socket.gethostname(), "pid": os.getpid(), "id": uuid.uuid4().hex}
    lost = threading.Event()

    def renew() -> None:
        run.write_json(NOTE, me | {"time": time.time()})

    def is_mine() -> bool:
        return (_read(run) or {}).get("id") == me["id"]  # whoever took it over may be done, the note gone

    def loop(over: threading.Event) -> None:
        while not over.wait(every):
            with contextlib.suppress(*TROUBLE):  # the store is out of reach, or awaits new credentials
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
    """Whether a process is known to hold a run folder now, by its lock, which only its own machine sees, or by a note
    that was renewed lately. Asking does not disturb it. False means that nobody is known to hold it, though somebody
    may."""
    with contextlib.suppress(*TROUBLE):
        if note := _read(run):
            return time.time() - note["time"] < FRESH
        if run.is_local and (holder := re.match(rb"(\d{1,9}) on ", run.read(NOTE))):
            return locks.is_held(run.file(NOTE), by=int(holder[1]))
    return False


def _wait_for_silence(run: Folder, every: float, fresh: float, say: Callable[[str], None]) -> None:
    """Wait until nobody has renewed the note for `fresh` seconds. Raises UserError as soon as somebody does.

    The clock of its writer may differ from this one. If it is ahead, the wait is at most `fresh`; if it is behind, two
    renewals are waited for.
    """
    note = _read(run)
    if note is None or (age := time.time() - note["time"]) > OLD:
        return
    left = min(max(fresh - age, 2.5 * every), fresh)
    holder = f"{run} is in use by {_name(note)}"
    say(f"{holder}; if that process was killed, this one takes over the run in {left:.0f} s")
    end = time.monotonic() + left
    while time.monotonic() < end:
        time.sleep(min(1.0, left))
        newest = _read(run)
        if newest is None:
            return
        if newest != note:
            raise UserError(f"{holder}: wait for it or stop it")


def _read(run: Folder) -> dict | None:
    """The note; None if there is none or it is malformed."""
    try:
        note = json.loads(run.read(NOTE))
        return {"host": str(note["host"]), "pid": int(note["pid"]), "id": note["id"], "time": float(note["time"])}
    except (FileNotFoundError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def _name(note: dict | None) -> str:
    return f"process {note['pid']} on {note['host']}" if note else "another process"
