"""Local copies of remote data sets, made once on each machine that reads them.

A copy is named by the digests of the files, so a remade data set gets another copy. While one process of a machine
fetches the copy, the others wait. A process that finds the copy complete needs no permission to write there.
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
    """The data set on a local disk: its own folder if that is local, else a verified copy.

    Raises UserError if it is incomplete or the cache cannot be written, RunFailed if its store does not answer.
    """
    if folder.is_local:
        return folder
    digests = _digests(folder)
    copies = root() / "copies"
    copy = copies / f"{folder.name}-{_joined(digests)[:16]}"
    try:
        if _missing(copy, digests):
            _fill(copy, folder, digests, copies)
    except OSError as error:
        raise UserError(
            f"cannot keep a copy of {folder} in {copies} ({error}); make it writable for all who use it, or name"
            " another ONESHOT_CACHE"
        ) from error
    return copy


def digest(folder: Folder) -> str:
    """Identify a remote data set by one digest, computed from its small DIGESTS file.

    Raises UserError if that file is missing."""
    return _joined(_digests(folder))


def _fill(copy: Folder, folder: Folder, digests: dict[str, str], copies: Folder) -> None:
    """Fetch the files that the copy lacks, or wait for another process of this machine that does."""
    copies.make()
    with open(copies.file(f"{copy.name}.lock"), "wb") as lock:
        locks.hold(lock, wait=True)  # without locks, several may fetch: files appear whole and are identical
        for name in _missing(copy, digests):
            _fetch(folder, name, digests[name], copy)


def _missing(copy: Folder, digests: dict[str, str]) -> list[str]:
    """The files that the copy lacks or whose digest differs."""
    return [name for name, digest in digests.items() if not (copy.has(name) and _sha256(copy.read(name)) == digest)]


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


def _joined(digests: dict[str, str]) -> str:
    return _sha256("".join(digests.values()).encode())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
