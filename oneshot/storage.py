"""One way to read and write files, wherever they lie: a local path, NFS, or any URI that `pyarrow.fs` knows."""

import json
import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyarrow import fs

from oneshot.errors import UserError


@dataclass(frozen=True)
class Folder:
    """A folder on some file system. It need not exist: writing makes it.

    A file appears whole or not at all: on a local disk it is written under a temporary name, flushed and renamed;
    object stores show an object only when its upload is complete.
    """

    filesystem: fs.FileSystem
    path: str
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
            return cls(fs.LocalFileSystem(), str(Path(text).expanduser().absolute()))
        if "@" in text.partition("://")[2].partition("/")[0]:
            raise UserError(
                f"'{text.partition('://')[0]}://...@...': no user names or keys in a URI; use the environment"
            )
        try:
            filesystem, path = fs.FileSystem.from_uri(text)
        except Exception as error:
            raise UserError(f"cannot use '{text}' as a folder: {error}") from error
        return cls(filesystem, path.rstrip("/"), text.partition("?")[2])

    @property
    def is_local(self) -> bool:
        return isinstance(self.filesystem, fs.LocalFileSystem)

    @property
    def uri(self) -> str:
        """A text that `Folder.of` turns into this folder again, in any process."""
        if self.is_local:
            return self.path
        return f"{self.filesystem.type_name}://{self.path}" + (f"?{self.query}" if self.query else "")

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]

    def __str__(self) -> str:
        return self.uri

    def __truediv__(self, name: str) -> "Folder":
        return Folder(self.filesystem, f"{self.path}/{name}", self.query)

    def file(self, name: str) -> str:
        """The path of a file of this folder, for messages and for calls that take a `filesystem` beside it."""
        return f"{self.path}/{name}"

    def has(self, name: str = "") -> bool:
        """Whether the folder holds `name`; without a name, whether the folder itself exists.

        Raises UserError where nobody may look."""
        path = self.file(name) if name else self.path
        try:
            return self.filesystem.get_file_info(path).type != fs.FileType.NotFound
        except PermissionError:
            raise UserError(f"{path}: permission denied; name a folder that can be read") from None

    def names(self) -> list[str]:
        """What lies directly inside, sorted; nothing where there is no folder. Unfinished writes are left out.

        Raises UserError where a file is in the folder's place."""
        selector = fs.FileSelector(self.path, allow_not_found=True)
        try:
            found = [info.base_name for info in self.filesystem.get_file_info(selector)]
        except NotADirectoryError:
            raise UserError(f"{self} is a file, and a folder is needed: name another") from None
        return sorted(name for name in found if not name.startswith(".partial-"))

    def read(self, name: str) -> bytes:
        """The file's bytes. Raises FileNotFoundError or OSError."""
        with self.filesystem.open_input_file(self.file(name)) as stream:
            return stream.read()

    def read_json(self, name: str) -> Any:
        """The file's value. Raises UserError where it is not JSON."""
        try:
            return json.loads(self.read(name))
        except (ValueError, RecursionError) as error:  # also a number of thousands of digits, thousands of brackets
            raise UserError(
                f"{self.file(name)} is not JSON ({error}); it may be damaged: restore it or remove it"
            ) from error

    def write(self, name: str, data: bytes) -> None:
        """Write the file whole or not at all. Raises OSError naming it; nothing half-written stays behind."""
        self.make()
        if not self.is_local:
            with self.filesystem.open_output_stream(self.file(name)) as stream:
                stream.write(data)
            return
        partial = Path(self.path) / f".partial-{uuid.uuid4().hex[:8]}-{name}"
        try:
            with open(partial, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(partial, self.file(name))
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.file(name)) from error
        finally:
            partial.unlink(missing_ok=True)

    def write_json(self, name: str, value: Any) -> None:
        self.write(name, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())

    def append_json(self, name: str, value: Any) -> None:
        """Add a line to a file of JSON lines, which is written again whole: object stores cannot append."""
        old = self.read(name) if self.has(name) else b""
        self.write(name, old + json.dumps(value, ensure_ascii=False).encode() + b"\n")

    def make(self) -> None:
        """Make the folder. Raises UserError where that is not allowed."""
        try:
            self.filesystem.create_dir(self.path, recursive=True)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else error
            raise UserError(f"cannot make the folder {self}: {reason}; name one that can be written") from error

    def remove(self) -> None:
        """Remove the folder and all in it; nothing where it does not exist."""
        if self.has():
            self.filesystem.delete_dir(self.path)
