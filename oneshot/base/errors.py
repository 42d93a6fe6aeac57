"""What goes wrong, in one sentence: what is wrong, where, and what to do about it."""

import difflib
from collections.abc import Iterable, Sequence

from pydantic import ValidationError


class UserError(ValueError):
    """The request was wrong: a file, a key, a value, a resource. The command ends with this line and exit code 2."""


class Damaged(UserError):
    """A file of a run that cannot be used. `why` is the sentence without the advice, for where another one is taken."""

    def __init__(self, why: str) -> None:
        super().__init__(f"{why}; use another")
        self.why = why

    def __reduce__(self) -> tuple[type, tuple[str]]:  # from a process of Ray it comes pickled
        return type(self), (self.why,)


class Refused(UserError):
    """A store does not let a file be written: for good, or until the credentials that ran out are renewed."""


class RunFailed(RuntimeError):
    """The request was right and the run failed all the same. The command ends with this line and exit code 1."""


class RayDied(RunFailed):
    """The Ray that this process had started, or the head of the cluster that it was attached to, died, and taking leave
    of it would hang: after this line the process just ends."""


class NoRoom(RunFailed):
    """The nodes that are there have no place for it, and none came within the time set for that."""


class DiskFull(RunFailed):
    """There is no room for a file: what is tried next would fail too, so everything stops until room is made."""


GPU_FULL = "the GPU is out of memory: make train.batch or data.size smaller ({})"  # and what torch says of it
_LISTED = 20  # words in a hint

TROUBLE = (OSError, UserError, RunFailed)  # what a folder that cannot be used for the moment may answer


def first_line(error: BaseException) -> str:
    """The first line of what an exception says; its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def some(names: Sequence[str], most: int, *, sep: str = ", ") -> str:
    """The first `most` of the names, and of how many more there are the number."""
    return sep.join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def nearest(word: str, known: Iterable[str], *, alike: float = 0.5) -> str:
    """A hint that names the known word nearest to `word`, or all of them, of many the first, where none is `alike` (0
    to 1)."""
    known = sorted(known)
    return meant(word, known, alike=alike) or f"known: {some(known, _LISTED)}"


def meant(word: str, known: Iterable[str], *, alike: float = 0.5) -> str:
    """A hint that names the known word nearest to `word`; empty where none is `alike`."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=alike)
    return f"did you mean '{near[0]}'?" if near else ""


def flaw(error: ValidationError) -> str:
    """The first thing that was found wrong, as `section.key = value: what is wrong`."""
    first = error.errors(include_url=False)[0]
    # Tags of unions ("float", "literal['auto']") and of keys stand in the location too: they name nothing.
    keys = [str(part) for part in first["loc"]]
    place = ".".join(key for key in keys if "[" not in key and key not in ("float", "constrained-float"))
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":  # a section's own check: its message names the key and the value
        return message
    if first["type"] == "missing":
        return f"'{place}' is missing"
    message = message.partition(" or instance of ")[0].replace("Input should be", "must be").replace("Input", "it")
    return f"{place or 'the whole'} = {shown(first['input'])}: {message[0].lower()}{message[1:]}"


def shown(value: object, most: int = 80) -> str:
    """A value as it stands in a sentence: cut where it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python writes out no number of over 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= most else f"{text[: most - 1]}…"


def last_line(text: str) -> str:
    """The last line that is not blank, where Ray puts the cause of a remote failure; empty where there is none."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
