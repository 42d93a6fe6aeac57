"""Run a block as a user other than root."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def plain_user() -> Iterator[None]:
    """Give up root's rights while the block runs; if the user is not root, nothing changes."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
