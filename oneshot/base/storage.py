"""One way to read and write files, wherever they lie: a local path, NFS, or any URI that `pyarrow.fs` knows."""

import contextlib
import errno
import json
import os
import shlex
import tempfile
import urllib.parse
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pyarrow import fs

from oneshot.base import locks
from oneshot.base.errors import DiskFull, Refused, RunFailed, UserError

PARTIAL = ".partial-"  # prefix of the names of unfinished files
TRIES = 3  # attempts to read an object that others replace
# Keys of a URI's query whose values are secret, such as those of Azure's store.
SECRETS = {"sig", "client_secret", "account_key", "secret_key", "access_key", "password", "token"}
_BLOCK = 1 << 24  # bytes of a file held in memory on its way to a store


@dataclass(frozen=True)
class Folder:
    """A folder on some file system. It need not exist: writing makes it.

    A file appears whole or not at all: on a local disk it is written under a temporary name, flushed and renamed;
    object stores show an object only when its upload is complete. A store that does not answer is not taken for a
    missing file: reading or writing there raises RunFailed.
    """

    filesystem: fs.FileSystem
    path: str
    address: str = ""  # the URI without its query; empty for a local folder
    query: str = ""  # the URI's query: a region, the endpoint of a store other than the usual one

    @classmethod
    def of(cls, where: "str | os.PathLike[str] | Folder") -> "Folder":
        """The folder at a path (made absolute: Ray workers have another working directory) or a URI such as `s3://b/p`.

        Raises UserError for a name or a URI that cannot be used."""
        if isinstance(where, Folder):
            return where
        text = os.fspath(where)
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UserError(f"the folder '{text}' has a name that is not UTF-8: name another") from None
        if "\0" in text:
            raise UserError(f"the folder '{text}' has a name with a zero byte: name another")
        if "://" not in text:
            return cls(fs.LocalFileSystem(), at_home(text).absolute().as_posix())
        refuse_secrets(text)
        try:
            filesystem, path = fs.FileSystem.from_uri(_in_one_request(text))
        except Exception as error:
            raise UserError(f"cannot use '{text}' as a folder: {cause(error)}") from error
        if isinstance(filesystem, fs.LocalFileSystem):
            return cls(filesystem, path.rstrip("/"))
        address, _, query = text.partition("?")
        return cls(filesystem, path.rstrip("/"), address.rstrip("/"), query)

    @property
    def is_local(self) -> bool:
        return isinstance(self.filesystem, fs.LocalFileSystem)

    @property
    def uri(self) -> str:
        """A text that `Folder.of` turns into this folder again, in any process."""
        if self.is_local:
            return self.path
        return self.address + (f"?{self.query}" if self.query else "")

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]

    @property
    def quoted(self) -> str:
        """The URI, quoted for a shell's command line."""
        return shlex.quote(self.uri)

    @property
    def parent(self) -> "Folder":
        """The folder around this one; the outermost folder is its own parent."""
        if self.is_local:
            return Folder(self.filesystem, os.path.dirname(self.path))
        if "/" not in self.path.strip("/"):
            return self
        return Folder(self.filesystem, self.path.rpartition("/")[0], self.address.rpartition("/")[0], self.query)

    def __str__(self) -> str:
        return self.uri

    def __truediv__(self, name: str) -> "Folder":
        address = self.address and f"{self.address}/{urllib.parse.quote(name)}"
        return Folder(self.filesystem, f"{self.path}/{name}", address, self.query)

    def file(self, name: str) -> str:
        """The path or URI of a file of this folder, as people name it."""
        return f"{self.address or self.path}/{name}"

    def has(self, name: str = "") -> bool:
        """Whether the folder holds `name`; without a name, whether the folder itself exists.

        Raises UserError if permission is denied."""
        try:
            with self._answering("look at", name):
                return self.filesystem.get_file_info(self._path(name)).type != fs.FileType.NotFound
        except PermissionError:
            raise UserError(f"{self._path(name)}: permission denied; name a folder that can be read") from None

    def names(self) -> list[str]:
        """The names directly inside, sorted; empty if there is no folder. Unfinished writes are left out.

        Raises UserError if a file is in the folder's place."""
        return sorted(name for name in self._every_name() if not name.startswith(PARTIAL))

    def _every_name(self) -> list[str]:
        selector = fs.FileSelector(self.path, allow_not_found=True)
        try:
            with self._answering("list"):
                return [info.base_name for info in self.filesystem.get_file_info(selector)]
        except NotADirectoryError:
            raise UserError(f"{self} is a file, and a folder is needed: name another") from None

    def written(self, names: Sequence[str]) -> float:
        """When the newest of these files was written, in seconds since 1970; 0 if none exists or the time is not
        known."""
        with self._answering("look at"):
            found = self.filesystem.get_file_info([self._path(name) for name in names])
        return max((info.mtime_ns / 1e9 for info in found if info.mtime_ns is not None), default=0.0)

    def stamp(self, name: str) -> tuple[int | None, int | None] | None:
        """What becomes another when the file is replaced: its bytes, and when it was written, in ns since 1970, of
        which stores know the second. None if there is no file."""
        with self._answering("look at", name):
            info = self.filesystem.get_file_info(self._path(name))
        return None if info.type == fs.FileType.NotFound else (info.size, info.mtime_ns)

    def size(self) -> int:
        """The bytes of all files in the folder and its subfolders; 0 if there is none."""
        selector = fs.FileSelector(self.path, allow_not_found=True, recursive=True)
        with self._answering("list"):
            return sum(info.size or 0 for info in self.filesystem.get_file_info(selector))

    def read(self, name: str) -> bytes:
        """The file's bytes. Raises FileNotFoundError; for a local file, also other OSErrors."""
        with self._answering("read", name), self.filesystem.open_input_file(self._path(name)) as stream:
            return stream.read()

    def read_json(self, name: str) -> Any:
        """The file's value. Raises UserError if it is not JSON."""
        return self._sound(name, json.loads)

    def _sound(self, name: str, parse: Callable[[bytes], Any]) -> Any:
        try:
            return self._parsed(name, parse)
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{self.file(name)} is not JSON ({error}); it may be damaged: restore it or remove it"
            ) from error

    def read_lines(self, name: str) -> list[Any]:
        """The values of a file of JSON lines. Raises ValueError or RecursionError if one is not JSON."""
        return self._parsed(name, lambda data: [json.loads(line) for line in data.splitlines()])

    def _parsed(self, name: str, parse: Callable[[bytes], Any]) -> Any:
        """Read and parse a file. If an object is replaced while it is read, pyarrow gives the new content at the length
        of the old one, so an object that `parse` rejects is read again."""
        left = 1 if self.is_local else TRIES
        while True:
            try:
                return parse(self.read(name))
            except (ValueError, RecursionError):  # also from thousands of digits or brackets
                left -= 1
                if not left:
                    raise

    def write(self, name: str, data: bytes) -> None:
        """Write the file whole or not at all. Nothing half-written stays behind.

        Raises DiskFull or OSError naming a local file, Refused if the store does not let it be written."""
        if self.is_local:
            with self.writing(name) as stream:
                stream.write(data)
        else:
            self._put(name, [data])

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """A stream for a file that may be larger than the memory. The file appears when the block ends, unless it ends
        by an error. For a store the data are gathered on this machine's disk first. Raises as `write` does."""
        if self.is_local:
            self.make()
            with needing_room(self.file(name)), self._beside(name) as stream:
                yield stream
            return
        with needing_room(tempfile.gettempdir()), tempfile.TemporaryFile() as stream:
            yield stream
            stream.seek(0)
            self._put(name, iter(lambda: stream.read(_BLOCK), b""))

    def _put(self, name: str, blocks: Iterable[bytes]) -> None:
        # Leaving a pyarrow stream always completes the object. The upload has its own thread, as an interrupt, which
        # only the main thread gets, must not leave the stream early: an empty object would replace the old one.
        with self._answering("write", name), ThreadPoolExecutor(1) as pool:
            pool.submit(self._upload, name, blocks).result()

    def _upload(self, name: str, blocks: Iterable[bytes]) -> None:
        with self.filesystem.open_output_stream(self._path(name)) as stream:
            for block in blocks:
                stream.write(block)

    @contextlib.contextmanager
    def _beside(self, name: str) -> Iterator[BinaryIO]:
        partial = Path(self.path) / f"{PARTIAL}{uuid.uuid4().hex[:8]}-{name}"
        try:
            with open(partial, "wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(partial, self.file(name))
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.file(name)) from error
        finally:
            with contextlib.suppress(OSError):  # the error that prevented the write is reported
                partial.unlink(missing_ok=True)

    def write_json(self, name: str, value: Any) -> None:
        self.write(name, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())

    def append_json(self, name: str, value: Any) -> None:
        """Add a line to a file of JSON lines, which is rewritten whole: object stores cannot append.

        Processes that add to a local file at the same moment wait for each other. On an object store, and on NFS, which
        locks no folder, a line can be lost. Raises UserError if an existing line is not JSON."""
        line = json.dumps(value, ensure_ascii=False).encode() + b"\n"
        with self.alone():
            try:
                old = self._sound(name, _lines)
            except FileNotFoundError:
                old = b""
            self.write(name, old + line)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold a local folder while the block runs, by a lock of the folder itself, which leaves no file behind. Others
        that ask for it wait. Object stores, and NFS, have no such lock: there the block just runs."""
        if not self.is_local:
            yield
            return
        self.make()
        folder = os.open(self.path, os.O_RDONLY)
        try:
            with contextlib.suppress(OSError):  # NFS
                locks.hold(folder, wait=True)
            yield
        finally:
            os.close(folder)

    def make(self) -> None:
        """Make the folder, unless it is on an object store, which has no folders.

        Raises DiskFull, and UserError if the folder cannot be made."""
        if not self.is_local:
            return
        with self._making():
            self.filesystem.create_dir(self.path, recursive=True)

    def make_new(self) -> bool:
        """Make the folder unless it exists, and return whether it did not. If several processes ask at once, only one
        of them gets True; on an object store, which has no empty folders, each may.

        Raises DiskFull, and UserError if the folder cannot be made."""
        if not self.is_local:
            return not self.has()
        self.parent.make()
        with self._making():
            try:
                os.mkdir(self.path)
            except FileExistsError:
                return False
        return True

    @contextlib.contextmanager
    def _making(self) -> Iterator[None]:
        try:
            with needing_room(self.path):
                yield
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else error
            raise UserError(f"cannot make the folder {self}: {reason}; name one that can be written") from error

    def remove(self, name: str = "") -> None:
        """Remove a file, or without a name the folder and all in it; do nothing if it does not exist."""
        with self._answering("remove", name), contextlib.suppress(FileNotFoundError):
            if name:
                self.filesystem.delete_file(self._path(name))
            else:
                self.filesystem.delete_dir(self.path)

    def remove_if_empty(self) -> None:
        """Remove the folder, unless somebody else has put something there in the meantime."""
        if self.is_local:
            with contextlib.suppress(OSError):
                os.rmdir(self.path)
        elif not self._every_name():
            self.remove()

    def _path(self, name: str) -> str:
        return f"{self.path}/{name}" if name else self.path

    @contextlib.contextmanager
    def _answering(self, verb: str, name: str = "") -> Iterator[None]:
        """Turn what a store answers to the block into one sentence. A missing file is left to the caller."""
        try:
            yield
        except OSError as error:
            if self.is_local or isinstance(error, FileNotFoundError):
                raise
            kind = Refused if verb == "write" and "ACCESS_DENIED" in str(error) else RunFailed
            raise kind(f"cannot {verb} {self.file(name) if name else self}: {cause(error)}") from error


def _lines(data: bytes) -> bytes:
    """JSON lines, with a line break after the last. Raises ValueError or RecursionError if one is not JSON."""
    for line in data.splitlines():
        json.loads(line)
    return data if data.endswith(b"\n") else data + b"\n" * bool(data)


def at_home(path: str | os.PathLike[str]) -> Path:
    """The path with its `~` expanded. Raises UserError if that home is not known."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UserError(
            f"'{os.fspath(path)}': that home directory is not known; write the path in full, or set HOME"
        ) from None


def refuse_secrets(uri: str) -> None:
    """Raise UserError for a URI with a key, password or token, which would end up in records and on screens."""
    scheme, _, rest = uri.partition("://")
    address, _, query = rest.partition("?")
    told = {key.lower() for key in urllib.parse.parse_qs(query, keep_blank_values=True)}
    if ":" in address.rpartition("@")[0] or told & SECRETS:  # a secret may hold a "/"
        raise UserError(f"'{scheme}://...@...': no keys or passwords in a URI; use the environment")


def _in_one_request(uri: str) -> str:
    """The URI, for an S3 store such that a small object is put at once and not as an upload of several parts."""
    if not uri.startswith("s3://") or "allow_delayed_open=" in uri:
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}allow_delayed_open=true"


def cause(error: object) -> str:
    """What a store said, without the circumstances: the message around it names the file."""
    text = " ".join(str(error).split()).rstrip(".")
    return text[text.find("AWS Error ") :][:300] if "AWS Error " in text else text[:300]


@contextlib.contextmanager
def needing_room(path: str) -> Iterator[None]:
    """Raise DiskFull naming `path` if the block, which writes it, finds no room for it."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFull(f"no space left on the disk for {path}: free some and go on") from None
