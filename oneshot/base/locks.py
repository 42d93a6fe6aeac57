"""Locks of the operating system: they go with the process that holds one, however that ends."""

import errno
import os
import re
from pathlib import Path
from typing import IO

try:
    import fcntl
except ModuleNotFoundError:  # Windows: a network is asked there all the same
    fcntl = None  # type: ignore[assignment]

NONE = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # how a file system says that it has no locks


def hold(file: IO[bytes] | int, *, wait: bool) -> bool:
    """Hold the lock of a file, or of what a descriptor is of, until that is closed; wait for it where another process
    does, or raise BlockingIOError. False: its file system has no locks, as some of clusters and of user space, or the
    operating system has none of this kind, and nobody waited."""
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
    """Whether a process of this number holds the lock of a file, as far as this machine's system shows, which knows
    nothing of other machines. Nobody is kept from the lock by the question."""
    try:
        inode, all_held = os.stat(path).st_ino, Path("/proc/locks").read_text()
    except OSError:
        return False
    # Not by its device, too: some disks have another number here than for `stat`.
    return re.search(rf"\bFLOCK +ADVISORY +WRITE +{by} +\w+:\w+:{inode} ", all_held) is not None
