"""Locks of the operating system: they go with the process that holds one, however that ends."""

import errno
import fcntl
from typing import IO

NONE = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # how a file system says that it has no locks


def wait_for(file: IO[bytes]) -> bool:
    """Wait until no other process holds the lock of a file, and hold it until that is closed. False: its file system
    has no locks, as some of clusters and of user space, and nobody waited."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in NONE:
            raise
        return False
    return True
