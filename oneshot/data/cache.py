"""A data set that lies far away, copied once to each machine that reads it.

The copy is found by the digests of the files, so a data set that was made anew is another copy. The processes of a
machine wait for the one that fetches.
"""

import hashlib
import os

import platformdirs

from oneshot.base import locks
from oneshot.base.errors import UserError
from oneshot.base.storage import Folder
from oneshot.data.parquet import DIGESTS
from oneshot.data.store import DRAWINGS, SPLIT, TRIALS


def root() -> Folder:
    """Where this machine keeps what it fetched: $ONESHOT_CACHE, else the user's cache folder."""
    return Folder.of(os.environ.get("ONESHOT_CACHE") or platformdirs.user_cache_path("oneshot"))


def near(folder: Folder) -> Folder:
    """The data set on a local disk: where it lies, or a verified copy of it.

    Raises UserError where it is not whole or the cache cannot be written, RunFailed where its store does not answer.
    """
    if folder.is_local:
        return folder
    digests = _digests(folder)
    copies = root() / "copies"
    copy = copies / f"{folder.name}-{hashlib.sha256(''.join(digests.values()).encode()).hexdigest()[:16]}"
    try:
        copies.make()
        with open(copies.file(f"{copy.name}.lock"), "wb") as lock:
            locks.hold(
                lock, wait=True
            )  # where there are no locks several fetch it: files appear whole, and are the same
            for name, digest in digests.items():
                if not (copy.has(name) and _sha256(copy.read(name)) == digest):
                    _fetch(folder, name, digest, copy)
    except OSError as error:
        raise UserError(f"cannot keep a copy of {folder} in {copies} ({error}); name another ONESHOT_CACHE") from error
    return copy


def _fetch(folder: Folder, name: str, digest: str, copy: Folder) -> None:
    try:
        data = folder.read(name)
    except FileNotFoundError:
        raise UserError(f"{folder.file(name)} is missing; run `python -m oneshot.data` again") from None
    if _sha256(data) != digest:
        raise UserError(
            f"{folder.file(name)} does not match its digest in {DIGESTS}: it is damaged or being written;"
            " remove it and run `python -m oneshot.data` again"
        )
    copy.write(name, data)


def _digests(folder: Folder) -> dict[str, str]:
    try:
        found = folder.read_json(DIGESTS)
        return {name: str(found[name]) for name in (DRAWINGS, SPLIT if SPLIT in found else TRIALS)}
    except (FileNotFoundError, KeyError, TypeError):
        raise UserError(
            f"{folder.file(DIGESTS)} is missing or incomplete; make the data set with `python -m oneshot.data`"
        ) from None


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
