"""Locks of the operating system. They are released when the process that holds them ends, however it ends."""

import errno
import os
import re
from pathlib import Path
from typing import IO

try:
    import fcntl
except ModuleNotFoundError:  # Windows, where networks can still be queried
    fcntl = None  # type: ignore[assignment]

NONE = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # how a file system says that it has no locks


def hold(file: IO[bytes] | int, *, wait: bool) -> bool:
    """Hold the lock of a file, or of what a descriptor refers to, until that is closed. If another process holds it,
    wait for it, or without `wait` raise BlockingIOError.

    Returns False, without waiting, if there is no such lock: some file systems, of clusters and in user space, have
    none, and neither has Windows."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in NONE:
            raise
        return False
    return True


def is_held(path: str, *, by: int) -> bool:
    """Whether the process with this number holds the lock of a file, as far as the system of this machine shows, which
    knows nothing of other machines. Asking keeps nobody from taking the lock."""
    try:
        inode, all_held = os.stat(path).st_ino, Path("/proc/locks").read_text()
    except OSError:
        return False
    # The device is not compared: some disks have another number here than in `stat`.
    return re.search(rf"\bFLOCK +ADVISORY +WRITE +{by} +\w+:\w+:{inode} ", all_held) is not None
