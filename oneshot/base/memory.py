"""Memory that a process keeps once it had it, for as long as it lives."""

import ctypes
import functools

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h

# In the environment of a process that computes in another thread than its first, from its start on. Each thread has an
# arena of its own else, in which no block is larger than 64 MB: larger ones would be the system's again.
ONE_ARENA = {"MALLOC_ARENA_MAX": "1"}


@functools.cache
def keep() -> None:
    """Let this process keep what it frees: the next step asks for as much, and to touch memory for the first time takes
    longer than what is computed in it.

    By glibc's own rules blocks above 32 MB always go back to the system, and of smaller ones it depends on what was
    freed first. By them the paper's network, whose first layer makes 1.2 MB of a drawing, trains at 70 % of its rate.
    Other C libraries are left as they are.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)
