"""Files over HTTP: streamed, resumed if the server supports it and begun again if not, and never half a file."""

import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from oneshot.base import locks
from oneshot.base.errors import UserError

Progress = Callable[[int, int | None], None]  # bytes received so far, bytes in all if the server says


@dataclass(frozen=True)
class Patience:
    """How long to wait for a server: seconds to connect and between two pieces; attempts, and seconds between them.

    The pause grows: after attempt n it is n times as long."""

    connect: float = 10.0
    read: float = 30.0
    attempts: int = 5
    pause: float = 1.0


class NotThere(UserError):
    """The server answered that it has no such file."""


class _Interrupted(Exception):
    """The transfer broke off and may be resumed."""


def download(
    url: str, target: Path, *, limit: int, progress: Progress | None = None, patience: Patience = Patience()
) -> bool:
    """Fetch `url` into the file `target`, which appears whole or not at all. True if an earlier part was continued.

    Received bytes are kept in `<target>.part`, so that a broken transfer, or the next command, goes on from there. If
    two processes want one file, the second waits and finds it done. Raises NotThere for HTTP 404 and 410, UserError for
    every other failure of the transfer and for a file of more than `limit` bytes, OSError if it cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with _alone(target) as part:
        if target.exists():
            return False
        continued = part.size > 0
        for attempt in range(1, patience.attempts + 1):
            try:
                _attempt(url, part, limit, progress or (lambda done, total: None), patience)
                part.finish(target)
                return continued
            except _Interrupted as error:
                if attempt == patience.attempts:
                    kept = f"; {part.size:,} bytes are kept and the same command goes on from there" * (
                        part.lasts and part.size > 0
                    )
                    raise UserError(
                        f"{url} could not be fetched in {attempt} attempts ({error}){kept or '; try again later'}"
                    ) from error
            continued = continued or part.size > 0
            time.sleep(patience.pause * attempt)
    raise AssertionError("unreachable: the last attempt returns or raises")


@contextmanager
def _alone(target: Path) -> Iterator["_Part"]:
    """The part of a file, under the file's lock: no other process writes it during the block.

    If the file system has no locks, the part is private to this process and removed after the block. Two processes that
    fetch at once then fetch twice, and their bytes do not mix."""
    with open(target.with_name(target.name + ".lock"), "wb") as lock:
        if locks.hold(lock, wait=True):
            yield _Part(target)
            return
        part = _Part(target, own=f".{uuid.uuid4().hex[:8]}")
        try:
            yield part
        finally:
            part.clear()


class _Part:
    """A partly received file, and a note beside it of the URL and the version that it is a part of."""

    def __init__(self, target: Path, *, own: str = "") -> None:
        self.path = target.with_name(f"{target.name}{own}.part")
        self._note = target.with_name(f"{target.name}{own}.part.json")
        self.lasts = not own

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def of(self, url: str) -> tuple[int, str]:
        """The bytes received of `url`, and the server's tag of that version. A part of another URL is removed."""
        try:
            note = json.loads(self._note.read_text())
            if note["url"] == url and self.size:
                return self.size, str(note["tag"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # no note, or half a note: the part cannot be continued
        self.clear()
        return 0, ""

    def begin(self, url: str, tag: str) -> None:
        self.clear()
        self._note.write_text(json.dumps({"url": url, "tag": tag}))

    def clear(self) -> None:
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def finish(self, target: Path) -> None:
        os.replace(self.path, target)
        self._note.unlink(missing_ok=True)


def _attempt(url: str, part: _Part, limit: int, progress: Progress, patience: Patience) -> None:
    """Bring the part to its full size with one request, or raise."""
    here, tag = part.of(url)
    headers = {"Accept-Encoding": "identity"}  # a compressed transfer has no byte positions to go on from
    if here:
        headers["Range"] = f"bytes={here}-"
        if tag:
            headers["If-Range"] = tag
    try:
        with requests.get(url, headers=headers, stream=True, timeout=(patience.connect, patience.read)) as answer:
            total = _answered(url, answer, part, here)
            _receive(answer, part, limit, total, progress)
    except requests.exceptions.RequestException as error:
        if _unreachable(error):
            raise UserError(f"cannot reach {url} ({_reason(error)}); check the network or give --source") from error
        raise _Interrupted(_reason(error)) from error
    if total is not None and part.size != total:
        raise _Interrupted(f"{part.size:,} of {total:,} bytes came")


def _unreachable(error: requests.exceptions.RequestException) -> bool:
    """Whether there was no connection at all (no such host, refused, no route): trying again changes nothing."""
    if isinstance(error, requests.exceptions.ConnectTimeout | requests.exceptions.InvalidURL):
        return True
    return "NewConnectionError" in repr(error) or "NameResolutionError" in repr(error) or "ProxyError" in repr(error)


def _reason(error: requests.exceptions.RequestException) -> str:
    """The reason in a few words; the exceptions' own messages repeat the URL and each other."""
    if "timed out" in str(error):
        return "timed out"
    if isinstance(error, requests.exceptions.ChunkedEncodingError) or "Connection aborted" in str(error):
        return "the connection was cut"
    inner = getattr(error.args[0], "reason", error) if error.args else error
    return str(inner).rsplit(": ", 1)[-1].strip("'\" ") or type(error).__name__


def _answered(url: str, answer: requests.Response, part: _Part, here: int) -> int | None:
    """Prepare the part for what the server is about to send; return the whole file's size, or None if unknown."""
    code = answer.status_code
    length = answer.headers.get("Content-Length", "")
    size = int(length) if length.isdigit() else None
    if code == 206 and here and answer.headers.get("Content-Range", "").startswith(f"bytes {here}-"):
        return None if size is None else here + size
    if code == 200:
        tag = answer.headers.get("ETag", "")
        part.begin(url, "" if tag.startswith("W/") else tag)
        return size
    if code in (206, 416):  # the part does not match the server's file: begin again
        part.clear()
        raise _Interrupted(f"the server could not go on from byte {here:,}")
    if code in (404, 410):
        raise NotThere(f"{url} does not exist (HTTP {code}); give the folder or address of the archives with --source")
    if code in (408, 429) or code >= 500:
        raise _Interrupted(f"the server answered HTTP {code}")
    raise UserError(f"{url} cannot be fetched: the server answered HTTP {code}; give another --source")


def _receive(answer: requests.Response, part: _Part, limit: int, total: int | None, progress: Progress) -> None:
    """Add the received bytes to the part. Raises UserError, and keeps nothing, if they are more than `limit`."""
    done = part.size
    with open(part.path, "ab") as stream:
        progress(done, total)
        for piece in answer.iter_content(1 << 13):
            done += len(piece)
            if done > limit or (total or 0) > limit:
                part.clear()
                raise UserError(
                    f"{answer.url} sends more than {limit:,} bytes: not what was asked for; give another --source"
                )
            stream.write(piece)
            progress(done, total)
        stream.flush()
        os.fsync(stream.fileno())
