"""The folder of an embedded Ray, and the folders of those whose process was killed."""

import contextlib
import os
import re
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from oneshot.base.beside import beside
from oneshot.base.locks import hold

NAME = re.compile(r"oneshot-[a-z0-9_]{8}")  # as `tempfile` ends it
MARK = "owner"  # a file in each folder, whose lock the process that made the folder holds while it lives
SOCKET = "/oneshot-abcdefgh/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"  # no path is longer
SOCKET_MAX = 107 if sys.platform == "linux" else 103  # bytes that the path of a socket may have
BOOT = Path("/proc/sys/kernel/random/boot_id")  # of this machine since it was started, whose locks can be relied on


@contextlib.contextmanager
def temporary() -> Iterator[str]:
    """Yield a new folder, closed to other users, in which Ray's own is to be `ray`. It is removed after the block with
    all that is in it. Meanwhile those that killed processes have left beside it are removed, for which nobody waits.

    Ray lets every user of the machine write to its own folder and below, where it keeps its sockets and its workers'
    code. The new folder lies in the system's temporary folder, or in /tmp if that path is too long for the sockets.
    """
    place = tempfile.gettempdir()
    place = place if len(os.fsencode(place + SOCKET)) <= SOCKET_MAX else "/tmp"
    made = tempfile.mkdtemp(prefix="oneshot-", dir=place)
    with _marked(made), beside(lambda _: remove_left(place), name="removing what was left", patience=0):
        try:
            yield made
        finally:
            remove(made)


def remove(folder: str) -> None:
    """Remove a folder with all that is in it, even if processes that are being killed still write to it."""
    ray = os.path.join(folder, "ray")
    for _ in range(20):
        shutil.rmtree(ray, ignore_errors=True)
        if not os.path.exists(ray):  # the mark goes last: with it, the next start removes what is left
            shutil.rmtree(folder, ignore_errors=True)
        if not os.path.exists(folder):
            return
        time.sleep(0.05)


@contextlib.contextmanager
def _marked(folder: str) -> Iterator[None]:
    """Mark a folder for the time of the block, unless that fails or there are no locks: it then stays if this process
    is killed. The mark gets its name once its lock is held, so that nobody ever finds it without."""
    new = os.path.join(folder, "new")
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            file = stack.enter_context(open(new, "xb", buffering=0))
            file.write(BOOT.read_bytes())
            if hold(file, wait=False):
                os.rename(new, os.path.join(folder, MARK))
        yield


def remove_left(place: str) -> None:
    """Remove the folders in `place` that this program made for this user, by processes that have been killed since the
    machine was started. In doubt a folder stays."""
    with contextlib.suppress(OSError):
        for name in filter(NAME.fullmatch, os.listdir(place)):
            with contextlib.suppress(OSError):
                _remove_left(os.path.join(place, name))


def _remove_left(folder: str) -> None:
    """Remove a folder if it was left. Raises OSError if it is none of ours, or its process lives. What goes is reached
    through the folder that was looked at: nobody can put another in its place."""
    with contextlib.ExitStack() as stack:

        def opened(path: str, flags: int, **where: int) -> int:
            descriptor = os.open(path, flags | os.O_NOFOLLOW, **where)
            stack.callback(os.close, descriptor)
            return descriptor

        inside = opened(folder, os.O_RDONLY | os.O_DIRECTORY)
        found = os.fstat(inside)
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) != 0o700:
            return
        mark = opened(MARK, os.O_RDWR, dir_fd=inside)
        if os.read(mark, 99) == BOOT.read_bytes() and hold(mark, wait=False):
            shutil.rmtree("ray", dir_fd=inside, ignore_errors=True)
            if os.listdir(inside) == [MARK]:
                os.unlink(MARK, dir_fd=inside)
                os.rmdir(folder)
