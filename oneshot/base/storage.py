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

PARTIAL = ".partial-"  # how the names of unfinished files begin
TRIES = 3  # to read an object that others replace
# Keys of a URI's query that hold what only its owner may know, as those of Azure's store.
SECRETS = {"sig", "client_secret", "account_key", "secret_key", "access_key", "password", "token"}
_BLOCK = 1 << 24  # bytes that are held of a file on its way to a store


@dataclass(frozen=True)
class Folder:
    """A folder on some file system. It need not exist: writing makes it.

    A file appears whole or not at all: on a local disk it is written under a temporary name, flushed and renamed;
    object stores show an object only when its upload is complete. A store that does not answer is no missing file: what
    reads or writes there raises RunFailed.
    """

    filesystem: fs.FileSystem
    path: str
    address: str = ""  # the URI without its query; of a local folder: nothing
    query: str = ""  # of the URI: a region, the endpoint of a store that is not the usual one

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
        """As a shell's command line takes it."""
        return shlex.quote(self.uri)

    @property
    def parent(self) -> "Folder":
        """The folder around it; of the outermost, itself."""
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
        """Where a file of this folder lies, as people name it: a path or a URI."""
        return f"{self.address or self.path}/{name}"

    def has(self, name: str = "") -> bool:
        """Whether the folder holds `name`; without a name, whether the folder itself exists.

        Raises UserError where nobody may look."""
        try:
            with self._answering("look at", name):
                return self.filesystem.get_file_info(self._path(name)).type != fs.FileType.NotFound
        except PermissionError:
            raise UserError(f"{self._path(name)}: permission denied; name a folder that can be read") from None

    def names(self) -> list[str]:
        """What lies directly inside, sorted; nothing where there is no folder. Unfinished writes are left out.

        Raises UserError where a file is in the folder's place."""
        return sorted(name for name in self._every_name() if not name.startswith(PARTIAL))

    def _every_name(self) -> list[str]:
        selector = fs.FileSelector(self.path, allow_not_found=True)
        try:
            with self._answering("list"):
                return [info.base_name for info in self.filesystem.get_file_info(selector)]
        except NotADirectoryError:
            raise UserError(f"{self} is a file, and a folder is needed: name another") from None

    def written(self, names: Sequence[str]) -> float:
        """When the newest of these files was written, seconds since 1970; 0 where none is there or nobody knows."""
        with self._answering("look at"):
            found = self.filesystem.get_file_info([self._path(name) for name in names])
        return max((info.mtime_ns / 1e9 for info in found if info.mtime_ns is not None), default=0.0)

    def size(self) -> int:
        """The bytes of all files in the folder and in those in it; 0 where there is none."""
        selector = fs.FileSelector(self.path, allow_not_found=True, recursive=True)
        with self._answering("list"):
            return sum(info.size or 0 for info in self.filesystem.get_file_info(selector))

    def read(self, name: str) -> bytes:
        """The file's bytes. Raises FileNotFoundError; of a local file, OSError."""
        with self._answering("read", name), self.filesystem.open_input_file(self._path(name)) as stream:
            return stream.read()

    def read_json(self, name: str) -> Any:
        """The file's value. Raises UserError where it is not JSON."""
        return self._sound(name, json.loads)

    def _sound(self, name: str, parse: Callable[[bytes], Any]) -> Any:
        try:
            return self._parsed(name, parse)
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{self.file(name)} is not JSON ({error}); it may be damaged: restore it or remove it"
            ) from error

    def read_lines(self, name: str) -> list[Any]:
        """The values of a file of JSON lines. Raises ValueError or RecursionError where one is not JSON."""
        return self._parsed(name, lambda data: [json.loads(line) for line in data.splitlines()])

    def _parsed(self, name: str, parse: Callable[[bytes], Any]) -> Any:
        """Of an object that is replaced while it is read, pyarrow gives the new content at the length of the old one:
        what `parse` does not take is read again there."""
        left = 1 if self.is_local else TRIES
        while True:
            try:
                return parse(self.read(name))
            except (ValueError, RecursionError):  # also a number of thousands of digits, thousands of brackets
                left -= 1
                if not left:
                    raise

    def write(self, name: str, data: bytes) -> None:
        """Write the file whole or not at all. Nothing half-written stays behind.

        Raises DiskFull or OSError naming a local file, Refused where the store does not let it be written."""
        if self.is_local:
            with self.writing(name) as stream:
                stream.write(data)
        else:
            self._put(name, [data])

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """A stream to write a file to that is larger than the memory: it appears when the block is over, and not where
        that ends by an error. For a store it is gathered on this machine's disk. Raises as `write` does."""
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
        # Leaving a stream of pyarrow's always completes the object. An interrupt, which only the main thread gets,
        # must not leave one early: an empty object would take the place of the old one.
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
            with contextlib.suppress(OSError):  # what kept the file from being written is what is said
                partial.unlink(missing_ok=True)

    def write_json(self, name: str, value: Any) -> None:
        self.write(name, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())

    def append_json(self, name: str, value: Any) -> None:
        """Add a line to a file of JSON lines, which is written again whole: object stores cannot append.

        Processes that add to a local file at the same moment wait for each other; on an object store, and on NFS, which
        locks no folder, a line can be lost. Raises UserError where a line that is there is not JSON."""
        line = json.dumps(value, ensure_ascii=False).encode() + b"\n"
        with self._alone():
            try:
                old = self._sound(name, _lines)
            except FileNotFoundError:
                old = b""
            self.write(name, old + line)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold a local folder for the time of the block: a lock of the folder itself, which leaves no file behind."""
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
        """Make the folder, where that means anything: object stores have none.

        Raises DiskFull, and UserError where it may not be."""
        if not self.is_local:
            return
        with self._making():
            self.filesystem.create_dir(self.path, recursive=True)

    def make_new(self) -> bool:
        """Make the folder unless it is there; whether it was not. Of processes that ask at once one is told so; on an
        object store, where an empty folder is none, each is.

        Raises DiskFull, and UserError where it may not be."""
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
        """Remove a file, or without a name the folder and all in it; nothing where it does not exist."""
        with self._answering("remove", name), contextlib.suppress(FileNotFoundError):
            if name:
                self.filesystem.delete_file(self._path(name))
            else:
                self.filesystem.delete_dir(self.path)

    def remove_if_empty(self) -> None:
        """Remove the folder, but not what somebody else has put there in the meantime."""
        if self.is_local:
            with contextlib.suppress(OSError):
                os.rmdir(self.path)
        elif not self._every_name():
            self.remove()

    def _path(self, name: str) -> str:
        return f"{self.path}/{name}" if name else self.path

    @contextlib.contextmanager
    def _answering(self, verb: str, name: str = "") -> Iterator[None]:
        """A sentence for what a store answers to the block. That a file is not there is left to the caller."""
        try:
            yield
        except OSError as error:
            if self.is_local or isinstance(error, FileNotFoundError):
                raise
            kind = Refused if verb == "write" and "ACCESS_DENIED" in str(error) else RunFailed
            raise kind(f"cannot {verb} {self.file(name) if name else self}: {cause(error)}") from error


def _lines(data: bytes) -> bytes:
    """JSON lines, each of them ended. Raises ValueError, RecursionError where one is not JSON."""
    for line in data.splitlines():
        json.loads(line)
    return data if data.endswith(b"\n") else data + b"\n" * bool(data)


def at_home(path: str | os.PathLike[str]) -> Path:
    """The path with its `~` written out. Raises UserError where nobody knows whose home that is."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UserError(f"'{os.fspath(path)}': there is no such home; write it out, or set HOME") from None


def refuse_secrets(uri: str) -> None:
    """Raises UserError for a URI with a key, password or token, which would end up in records and on screens."""
    scheme, _, rest = uri.partition("://")
    address, _, query = rest.partition("?")
    told = {key.lower() for key in urllib.parse.parse_qs(query, keep_blank_values=True)}
    if ":" in address.rpartition("@")[0] or told & SECRETS:  # a secret may hold a "/"
        raise UserError(f"'{scheme}://...@...': no keys or passwords in a URI; use the environment")


def _in_one_request(uri: str) -> str:
    """The URI of an S3 store, so that a small object is put at once and not as an upload of several parts."""
    if not uri.startswith("s3://") or "allow_delayed_open=" in uri:
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}allow_delayed_open=true"


def cause(error: object) -> str:
    """What a store said, without the circumstances: the message around it names the file."""
    text = " ".join(str(error).split()).rstrip(".")
    return text[text.find("AWS Error ") :][:300] if "AWS Error " in text else text[:300]


@contextlib.contextmanager
def needing_room(path: str) -> Iterator[None]:
    """Raises DiskFull with a sentence where the block, which writes `path`, finds no room for it."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFull(f"no room on the disk for {path}: make some and go on") from None
