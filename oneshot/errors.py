"""What goes wrong, in one sentence: what is wrong, where, and what to do about it."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """The request was wrong: a file, a key, a value, a resource. The command ends with this line and exit code 2."""


class RunFailed(RuntimeError):
    """The request was right and the run failed all the same. The command ends with this line and exit code 1."""


class RayDied(RunFailed):
    """The Ray that this process had started died, and taking leave of it would hang: after this line it just ends."""


class DiskFull(RunFailed):
    """There is no room for a file: what is tried next would fail too, so everything stops until room is made."""


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint that names the known word nearest to `word`, or all of them where none is near."""
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"
