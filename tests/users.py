"""Run a block as a user other than root."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def plain_user() -> Iterator[None]:
    """Give up root's rights while the block runs; another user's rights stay as they are."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
