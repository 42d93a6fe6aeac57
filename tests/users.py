"""Being another user than root for a while."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def plain_user() -> Iterator[None]:
    """Without root's right to do anything; for the time of the block."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
