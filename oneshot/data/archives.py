"""Read untrusted zip archives: members go into memory, nothing is extracted by path, sizes are bounded."""

import hashlib
import lzma
import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from oneshot.base.errors import UserError

_BROKEN = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    KeyError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)


@dataclass(frozen=True)
class Limits:
    """Limits of an archive, in bytes and members: several times what the largest archive of Omniglot holds."""

    archive: int = 64 << 20
    members: int = 60_000
    member: int = 64 << 10
    total: int = 256 << 20


def read_zip(path: Path, *, limits: Limits = Limits()) -> dict[str, bytes]:
    """Read every file of a zip archive into memory, keyed by its path in the archive.

    Raises UserError, naming the archive and the member, if it is not a zip file, is damaged, or cannot be trusted: a
    path that leaves the archive, a link, an encrypted or duplicate member, more or larger members than `limits`.
    """
    if not path.is_file():
        raise UserError(f"{path} is not a file; give the folder that holds the Omniglot archives with --source")
    if path.stat().st_size > limits.archive:
        raise UserError(f"{path} has {path.stat().st_size:,} bytes: too large for an Omniglot archive; get another")
    try:
        with zipfile.ZipFile(path) as archive:
            members = _checked(path, archive.infolist(), limits)
            return {member.filename: _read(path, archive, member, limits) for member in members}
    except UserError:
        raise
    except _BROKEN as error:
        raise UserError(f"{path} is not a zip archive or is damaged ({error}); get it again") from error


def _checked(path: Path, members: list[zipfile.ZipInfo], limits: Limits) -> list[zipfile.ZipInfo]:
    """The members that are files. Raises UserError if the metadata of any member looks harmful."""
    if len(members) > limits.members:
        raise UserError(
            f"{path} has {len(members):,} members, more than {limits.members:,}: not an Omniglot archive; get another"
        )
    if len({member.filename for member in members}) < len(members):
        raise UserError(f"{path} holds two members of the same name; get the archive again")
    if sum(member.file_size for member in members) > limits.total:
        raise UserError(
            f"{path} would unpack to more than {limits.total:,} bytes: not an Omniglot archive; do not unpack it"
        )
    for member in members:
        problem = _problem(member, limits)
        if problem:
            raise UserError(f"{path}: the member '{member.filename}' {problem}; do not trust this archive, get another")
    return [member for member in members if not member.is_dir()]


def _problem(member: zipfile.ZipInfo, limits: Limits) -> str:
    """What is wrong with a member, or an empty string."""
    name = PurePosixPath(member.filename)
    kind = stat.S_IFMT(member.external_attr >> 16)
    if name.is_absolute() or ".." in name.parts or "\\" in member.filename or ":" in member.filename:
        return "has a path that leaves the archive"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a special file"
    if member.flag_bits & 0x1:
        return "is encrypted"
    if member.file_size > limits.member:
        return f"has {member.file_size:,} bytes, more than {limits.member:,}"
    return ""


def _read(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, limits: Limits) -> bytes:
    """A member's bytes. The declared size may be false, so no more than the limit (and one byte) is decompressed."""
    with archive.open(member) as stream:
        data = stream.read(limits.member + 1)
    if len(data) > limits.member or len(data) != member.file_size:
        raise UserError(
            f"{path}: the member '{member.filename}' does not have the size it claims; get the archive again"
        )
    return data


def content_digest(members: Mapping[str, bytes]) -> str:
    """sha256 (hex) over the lines `<sha256 of the PNG>  <path>`, PNG members only, sorted by path.

    An official archive and a re-zipped copy of it have the same digest.
    """
    whole = hashlib.sha256()
    for name in sorted(name for name in members if name.endswith(".png")):
        whole.update(f"{hashlib.sha256(members[name]).hexdigest()}  {name}\n".encode())
    return whole.hexdigest()
