"""Errors that say in one sentence what is wrong, where, and what to do about it."""

import difflib
from collections.abc import Iterable, Sequence

from pydantic import ValidationError


class UserError(ValueError):
    """A wrong request: a file, a key, a value, a resource. The command prints the message and exits with code 2."""


class Damaged(UserError):
    """A file of a run cannot be used. `why` is the message without its advice, for a caller that uses another file
    instead."""

    def __init__(self, why: str) -> None:
        super().__init__(f"{why}; use another")
        self.why = why

    def __reduce__(self) -> tuple[type, tuple[str]]:  # Ray pickles it between processes
        return type(self), (self.why,)


class Refused(UserError):
    """A store does not let a file be written: for good, or until expired credentials are renewed."""


class RunFailed(RuntimeError):
    """The request was right, but the run failed. The command prints the message and exits with code 1."""


class RayDied(RunFailed):
    """The Ray that this process had started, or the head of the cluster that it was attached to, died. Shutting down
    Ray would hang, so the process prints the message and just ends."""


class NoRoom(RunFailed):
    """The present nodes have no room for the work, and no node with room joined within the time set for that."""


class DiskFull(RunFailed):
    """There is no room for a file. Whatever is tried next would fail too, so everything stops until room is made."""


GPU_FULL = "the GPU is out of memory: make train.batch or data.size smaller ({})"  # formatted with torch's message
_LISTED = 20  # words that a hint lists at most

TROUBLE = (OSError, UserError, RunFailed)  # what a folder may raise while it cannot be used


def first_line(error: BaseException) -> str:
    """The first line of an exception's message; the name of its type if the message is empty."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def some(names: Sequence[str], most: int, *, sep: str = ", ") -> str:
    """The first `most` names, and how many more there are."""
    return sep.join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def nearest(word: str, known: Iterable[str], *, alike: float = 0.5) -> str:
    """A hint that names the known word nearest to `word`. If none is `alike` (0 to 1), it lists the known words, or the
    first of them if there are many."""
    known = sorted(known)
    return meant(word, known, alike=alike) or f"known: {some(known, _LISTED)}"


def meant(word: str, known: Iterable[str], *, alike: float = 0.5) -> str:
    """A hint that names the known word nearest to `word`; empty if none is `alike`."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=alike)
    return f"did you mean '{near[0]}'?" if near else ""


def flaw(error: ValidationError) -> str:
    """The first flaw of a validation, as `section.key = value: what is wrong`."""
    first = error.errors(include_url=False)[0]
    # The location also holds tags of unions ("float", "literal['auto']") and of keys, which name nothing.
    keys = [str(part) for part in first["loc"]]
    place = ".".join(key for key in keys if "[" not in key and key not in ("float", "constrained-float"))
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":  # a section's own check: its message names the key and the value
        return message
    if first["type"] == "missing":
        return f"'{place}' is missing"
    message = message.partition(" or instance of ")[0].replace("Input should be", "must be").replace("Input", "it")
    return f"{place or 'the value'} = {shown(first['input'])}: {message[0].lower()}{message[1:]}"


def shown(value: object, most: int = 80) -> str:
    """The repr of a value for a sentence, cut to `most` characters."""
    try:
        text = repr(value)
    except ValueError:  # Python does not write out numbers of over 4,300 digits
        return "a number with thousands of digits"
    return text if len(text) <= most else f"{text[: most - 1]}…"


def last_line(text: str) -> str:
    """The last line that is not blank, where Ray puts the cause of a remote failure; empty if there is none."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
