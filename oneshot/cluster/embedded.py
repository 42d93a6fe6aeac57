"""An embedded Ray: its processes, watched, kept from signals that are not theirs, ended to the last; its folder."""

import contextlib
import ctypes
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import psutil

PARTS = ("gcs_server", "raylet")  # of an embedded Ray, without which it waits in vain
DIED = "Ray's {} died: killed, or out of memory; what was done until then is saved"
PR_SET_CHILD_SUBREAPER = 36  # of Linux's prctl
SOCKET = "/oneshot-abcdefgh/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"  # no path is longer
SOCKET_MAX = 107 if sys.platform == "linux" else 103  # bytes that the path of a socket may have


@contextlib.contextmanager
def folder() -> Iterator[str]:
    """A folder around Ray's own, closed to other users; gone after the block, with what is in it.

    Ray lets every user of the machine write to its folder and what is below it, where it keeps its sockets and the code
    of its workers. Where the path of the system's temporary folder is too long for those sockets, it lies in /tmp."""
    place = tempfile.gettempdir()
    made = tempfile.mkdtemp(prefix="oneshot-", dir=place if len(os.fsencode(place + SOCKET)) <= SOCKET_MAX else "/tmp")
    try:
        yield made
    finally:
        remove(made)


def remove(folder: str) -> None:
    """Remove a folder with all that is in it, to which processes that are being killed may still write."""
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.exists(folder):
            return
        time.sleep(0.05)


@contextlib.contextmanager
def deaf_children() -> Iterator[None]:
    """What the block starts, and what that starts, does not hear a SIGTERM; this process does, by its other threads.

    `timeout` sends it to a process group, SLURM and systemd to every process of a job: Ray would go before this program
    has saved and said what is to be, and Ray's C++ part end it there and then.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def lean(node: type, *, logs: bool) -> Iterator[None]:
    """A Ray that the block starts does without processes that have no work here: the autoscaler's monitor, the server
    of a dashboard that is not there, and the log monitor unless the workers' `logs` are to be shown by this process.

    No option of `ray.init` leaves them out, which waits for them for half of its time. `node` is Ray's own class."""
    idle = ["start_monitor", "start_api_server", *([] if logs else ["start_log_monitor"])]
    before = {name: getattr(node, name) for name in idle if hasattr(node, name)}  # another Ray may name them otherwise
    for name in before:
        setattr(node, name, lambda *_, **__: None)
    try:
        yield
    finally:
        for name, start in before.items():
            setattr(node, name, start)


@contextlib.contextmanager
def adopting() -> Iterator[list[psutil.Process]]:
    """The children this process has already. What loses its parent within the block becomes a child of it too, not of
    init, so that `kill_all` finds what a dead raylet leaves: by itself that may take a minute to end. Linux only."""
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else lambda *_: None
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield psutil.Process().children()
    finally:
        prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def raylet() -> list[psutil.Process]:
    """The raylet of an embedded Ray and what it has started: when it ends, they do so by themselves, but seconds later,
    or a minute where they have just been started."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if child.name() == "raylet":
                found += [child, *child.children(recursive=True)]
    return found


def kill(processes: list[psutil.Process]) -> None:
    """SIGKILL to each that is still there."""
    for each in processes:
        with contextlib.suppress(psutil.Error):
            each.kill()


def kill_all(spared: list[psutil.Process]) -> None:
    """SIGKILL to all that this process has started or adopted and what those have, but for the `spared` and theirs."""
    for _ in range(3):  # a raylet that is being killed may just have started one more
        for child in psutil.Process().children():
            if child not in spared:
                with contextlib.suppress(psutil.Error):
                    child.suspend()  # it starts no more
                    kill([*child.children(recursive=True), child])


def bury(spared: list[psutil.Process]) -> None:
    """Wait until the killed are gone: `killed_at_start` would take them for parts of the next Ray."""
    psutil.wait_procs([child for child in psutil.Process().children() if child not in spared], timeout=10)


def killed_at_start() -> list[str]:
    """The parts of an embedded Ray, still starting, that were killed; the others are then ended: Ray itself would wait
    for half a minute and more, or end this process without a word. What ends by itself Ray explains better."""
    parts, dead = [], []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error, OSError):
            if child.name() in PARTS:
                parts.append(child)
                how = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if how and (how.si_code, how.si_status) == (os.CLD_KILLED, signal.SIGKILL):
                    dead.append(child.name())
    if dead:
        kill(parts)
    return dead


def died(node: Any) -> list[str]:
    """The parts of a running Ray that died; `node` is Ray's own object."""
    return [kind for kind, _ in node.dead_processes() if kind in PARTS]


@contextlib.contextmanager
def ended(node: Any) -> Iterator[None]:
    """The block ends Ray; after it none of its processes is left."""
    started = raylet()
    for each in (process for kind in node.all_processes.values() for process in kind):
        each.process.terminate = each.process.kill  # Ray would ask it to go, which it does not hear, and wait a second
    try:
        yield
    finally:
        kill(started)
