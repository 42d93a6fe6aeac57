"""The processes of an embedded Ray: watched, shielded from signals and all ended."""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import psutil

PARTS = ("gcs_server", "raylet")  # parts of an embedded Ray, which waits in vain without them
DIED = "Ray's {} died: killed, or out of memory; what was done until then is saved"
PR_SET_CHILD_SUBREAPER = 36  # of Linux's prctl


@contextlib.contextmanager
def deaf_children() -> Iterator[None]:
    """Block SIGTERM in what the block starts and its descendants. This process still hears it, by its other threads.

    `timeout` sends SIGTERM to a process group, SLURM and systemd to every process of a job. Ray would then end before
    this program has saved its work and reported, and Ray's C++ part would end this process at once.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def lean(node: type, *, logs: bool) -> Iterator[None]:
    """Let a Ray that the block starts do without processes that have no work here: the autoscaler's monitor, the server
    of a dashboard that is not there, and, unless this process is to show the workers' `logs`, the log monitor.

    `ray.init` has no option to leave them out, and spends half of its time waiting for them. `node` is Ray's own class.
    """
    idle = ["start_monitor", "start_api_server", *([] if logs else ["start_log_monitor"])]
    before = {name: getattr(node, name) for name in idle if hasattr(node, name)}  # another Ray may have other names
    for name in before:
        setattr(node, name, lambda *_, **__: None)
    try:
        yield
    finally:
        for name, start in before.items():
            setattr(node, name, start)


@contextlib.contextmanager
def adopting() -> Iterator[list[psutil.Process]]:
    """Yield the children this process has already, and adopt orphans within the block. Linux only.

    A descendant that loses its parent becomes a child of this process, not of init, so that `kill_all` finds what a
    dead raylet leaves. Such a process may take a minute to end by itself.
    """
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else lambda *_: None
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield psutil.Process().children()
    finally:
        prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def raylet() -> list[psutil.Process]:
    """The raylet of an embedded Ray and its descendants. They end by themselves after the raylet, but seconds later, or
    a minute later if they have just been started."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if child.name() == "raylet":
                found += [child, *child.children(recursive=True)]
    return found


def kill(processes: list[psutil.Process]) -> None:
    """Send SIGKILL to each process that is still there."""
    for each in processes:
        with contextlib.suppress(psutil.Error):
            each.kill()


def kill_all(spared: list[psutil.Process]) -> None:
    """Send SIGKILL to all children of this process, started or adopted, and their descendants, except the `spared` ones
    and theirs."""
    for _ in range(3):  # a raylet that is being killed may just have started one more
        for child in psutil.Process().children():
            if child not in spared:
                with contextlib.suppress(psutil.Error):
                    child.suspend()  # so that it starts no more
                    kill([*child.children(recursive=True), child])


def bury(spared: list[psutil.Process]) -> None:
    """Wait up to 10 s until killed processes are gone. `killed_at_start` would take them for parts of the next Ray."""
    psutil.wait_procs([child for child in psutil.Process().children() if child not in spared], timeout=10)


def killed_at_start() -> list[str]:
    """The parts of a starting embedded Ray that were killed; the others are then killed too.

    Ray itself would wait for half a minute or more, or end this process without a word. A part that ends by itself is
    not listed: Ray explains that better.
    """
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
    """Let the block end Ray, and kill the processes of Ray that are left after it."""
    started = raylet()
    for each in (process for kind in node.all_processes.values() for process in kind):
        each.process.terminate = each.process.kill  # SIGTERM is blocked there: Ray would wait a second in vain
    try:
        yield
    finally:
        kill(started)
