"""What all Parquet files of this project share: whole writes, format versions, and reading without trust."""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from oneshot.base import errors
from oneshot.base.errors import UserError
from oneshot.base.storage import Folder

FORMAT_VERSION = 1
OWN_VERSION = 2  # of drawings from own images, which programs of version 1 do not know
DIGESTS = "digests.json"  # the sha256 of each file of a data set, written after it
KEY = "oneshot"  # the metadata key under which a file says what it is
_T = TypeVar("_T")
_AGAIN = "remove it and run `python -m oneshot.data` again"


def put(folder: Folder, name: str, data: pa.Buffer | bytes) -> None:
    """Write a finished file, whole or not at all, then its digest. Raises UserError if that fails."""
    try:
        folder.write(name, data)
        digests = folder.read_json(DIGESTS) if folder.has(DIGESTS) else {}
        folder.write_json(DIGESTS, digests | {name: hashlib.sha256(data).hexdigest()})
    except OSError as error:
        raise UserError(f"cannot write {folder.file(name)} ({error}); choose another data root with --data") from error


def digested(folder: Folder, *names: str) -> bool:
    """Whether DIGESTS has entries for these files. Without them, a remote set is not ready and is not copied.

    A process killed between writing a file and its digest leaves such a set."""
    found = folder.read_json(DIGESTS) if folder.has(DIGESTS) else None
    return isinstance(found, dict) and set(names) <= found.keys()


def about(kind: str, facts: Mapping[str, Any], *, version: int = FORMAT_VERSION) -> dict[str, str]:
    """The metadata of a file of this kind."""
    return {KEY: json.dumps({"kind": kind, "format": version, **facts})}


def guarded(
    folder: Folder, name: str, kind: str, layout: Callable[[Any], pa.Schema], read: Callable[[pq.ParquetFile, Any], _T],
    *, versions: tuple[int, ...] = (FORMAT_VERSION, OWN_VERSION), again: str = _AGAIN,
) -> _T:  # fmt: skip
    """The result of `read(file, facts)` for a file of this kind, once its columns match `layout(facts)`.

    Whatever is wrong with the file, here or in `read`, becomes a UserError that names it and says how to make it
    `again`. Checksums of pages are compared if the file was written with them.
    """
    path = folder.file(name)
    try:
        if not folder.has(name):
            raise UserError(f"{path} does not exist; make it with `python -m oneshot.data`")
        source = folder.filesystem.open_input_file(f"{folder.path}/{name}")
        with source, pq.ParquetFile(source, pre_buffer=True, page_checksum_verification=True) as file:
            facts = _facts(file, path, kind, versions, again)
            _check_columns(file.schema_arrow, layout(facts), path, again)
            return read(file, facts)
    except UserError:
        raise
    except ValidationError as error:
        raise flaw(path, f"has an invalid description of its content ({errors.flaw(error)})", again) from None
    except (pa.ArrowException, OSError, ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        text = " ".join(str(error).split())[:200]
        raise UserError(f"{path} is damaged or not a Parquet file ({text}); {again}") from error


def flaw(path: str, what: str, again: str = _AGAIN) -> UserError:
    """The error for a file whose content is not what it should be: `what` continues after the file's name."""
    return UserError(f"{path} {what}; {again}")


def _facts(file: pq.ParquetFile, path: str, kind: str, versions: tuple[int, ...], again: str) -> Any:
    facts = json.loads((file.metadata.metadata or {}).get(KEY.encode(), b"{}"))
    if not isinstance(facts, dict) or facts.get("kind") != kind:
        raise flaw(path, f"is a Parquet file of something else, not of {kind}", again)
    version = facts.get("format")
    if version not in versions:
        known = f"version{'s' * (len(versions) > 1)} {' and '.join(map(str, versions))}"
        raise flaw(path, f"has format version {errors.shown(version)}, and this program reads {known}", again)
    return facts


def _check_columns(found: pa.Schema, expected: pa.Schema, path: str, again: str) -> None:
    for field in expected:
        if field.name not in found.names:
            raise flaw(path, f"has no column '{field.name}'", again)
        if (kind := found.field(field.name).type) != field.type:
            raise flaw(path, f"has a column '{field.name}' of type {kind}, not {field.type}", again)


def fixed_bytes(column: pa.ChunkedArray) -> np.ndarray:
    """A column of fixed-size bytes as uint8 (N, bytes)."""
    width = column.type.byte_width
    parts = [
        np.frombuffer(chunk.buffers()[1], np.uint8)[chunk.offset * width :][: len(chunk) * width]
        for chunk in column.chunks
    ]
    whole = parts[0] if len(parts) == 1 else np.concatenate(parts)  # usually one part, which is not copied
    return whole.reshape(-1, width)


def numbers(column: pa.ChunkedArray) -> np.ndarray:
    """A column of integers without nulls, int64 (N,).

    Arrow's own `to_numpy` would first import pandas, which takes longer than reading all of Omniglot."""
    return np.concatenate([np.from_dlpack(chunk) for chunk in column.chunks]).astype(np.int64)


def codes(column: pa.ChunkedArray) -> tuple[list[str], np.ndarray]:
    """The distinct strings of a column, and for each row the index of its string, (N,)."""
    chunks = column.unify_dictionaries().chunks
    return chunks[0].dictionary.to_pylist(), numbers(pa.chunked_array([chunk.indices for chunk in chunks]))
