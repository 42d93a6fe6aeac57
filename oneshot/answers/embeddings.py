"""Files of embeddings: of images, or of classes, which are embedded once and asked many times.

A file is Parquet, as all data here, and not a NumPy archive. It can be written and read a part at a time, so it may be
larger than the memory. Names and numbers are rows of one table, which pandas, Polars and DuckDB read in a line. Its
pages have checksums, by which damage is noticed. Its footer says which network made it, and how that network scores two
embeddings (`OneShot.head`; older files do not say). Its columns are

- in a file of images: `path`, as the image was named, and `embedding`, a list of D float32;
- in a file of classes: `class`; `images`, the number of its different images; `path` of the first of them, null if it
  was in no file; `pixels` of the first as the network sees it, uint8 (S, S), row by row, ink 255; `embedding`, their
  mean.

Legend of shapes: C classes, N rows, D the length of an embedding, S the side in pixels of what a network sees.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pydantic import BaseModel, Field, FiniteFloat, model_validator

from oneshot.base.errors import UserError, shown
from oneshot.base.kinds import Positive, Views
from oneshot.base.reach import reach
from oneshot.base.storage import Folder
from oneshot.data import parquet
from oneshot.data.tree import text
from oneshot.run.formats import Cleaning

FORMAT = 1  # one more when columns change, or when `preprocess` makes another image of the same file
PHOTOS = 2  # for networks of photos, since a dark figure on transparency is laid on white
IMAGES, CLASSES = "embeddings of images", "embeddings of classes"
ENDING = ".parquet"
ROWS = 1_024  # of a row group: a file is written and read by so many
AGAIN = "`python -m oneshot.embed RUN --support FOLDER --out FILE` makes one"


class _Network(BaseModel):
    """What an embedding depends on besides the image: `OneShot.identity`."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    views: Views
    size: Annotated[int, Field(ge=1, le=4096)]
    dimension: Annotated[Positive, Field(le=1 << 24)]
    cleaning: Cleaning | None


class _Head(BaseModel):
    """How two embeddings are scored: `OneShot.head`."""

    weight: list[FiniteFloat]
    bias: FiniteFloat


class _Facts(BaseModel):
    """What the footer says."""

    network: _Network
    head: _Head | None = None
    warnings: list[str]

    @model_validator(mode="after")
    def _check(self) -> "_Facts":
        if self.head and len(self.head.weight) != self.network.dimension:
            found, dimension = len(self.head.weight), self.network.dimension
            raise ValueError(f"head.weight: {found} numbers for embeddings of {dimension}")
        return self


def target(path: str | Path | Folder) -> Folder:
    """Where to write a file of embeddings. Raises UserError if its name has another ending, or is that of a folder."""
    file = path if isinstance(path, Folder) else reach(path)
    if not file.name.endswith(ENDING):
        raise UserError(f"{file}: name a file that ends in {ENDING}, so that other programs know what it is")
    if file.is_local and Path(file.path).is_dir():
        raise UserError(f"{file} is a folder; name a file in it")
    return file


@dataclass
class Rows:
    """A file that is being written: `add` adds rows, `count` is their number so far, `warnings` go to the footer."""

    writer: pq.ParquetWriter
    count: int = 0
    warnings: list[str] = field(default_factory=list)
    waiting: list[pa.Table] = field(default_factory=list)
    classes: set[str] = field(default_factory=set)

    def add(self, **columns: Any) -> None:
        """Add rows, given as columns by name: texts, numbers, and tensors of pixels and embeddings. Raises UserError
        for a class that is there already: nobody could read the file."""
        for name in map(text, columns.get("class", ())):
            if name in self.classes:
                raise UserError(f"two classes are named '{name}', once names are plain text: rename one")
            self.classes.add(name)
        schema = self.writer.schema
        arrays = [_array(columns[each.name], each.type) for each in schema]
        self.waiting.append(pa.table(arrays, schema=schema))
        self.count += len(self.waiting[-1])
        if sum(map(len, self.waiting)) >= ROWS:
            self.flush()

    def flush(self) -> None:
        if self.waiting:
            self.writer.write_table(pa.concat_tables(self.waiting), row_group_size=ROWS)
            self.waiting.clear()


@contextlib.contextmanager
def writing(
    file: Folder, kind: str, network: Mapping[str, Any] | None, head: Mapping[str, Any] | None
) -> Iterator[Rows]:
    """Write a file of this kind, with embeddings of `network`, which scores them by `head`.

    The file appears, whole, when the block is over, and not if it ends with an error. Raises as `Folder.writing`."""
    facts = {"network": network, "head": head}
    with (
        file.parent.writing(file.name) as stream,
        pq.ParquetWriter(
            stream, _layout(kind)(facts | {"warnings": []}), compression="zstd", use_dictionary=False,
            write_statistics=False, write_page_checksum=True,
        ) as writer,
    ):  # fmt: skip
        rows = Rows(writer)
        yield rows
        rows.flush()
        facts |= {"warnings": rows.warnings}
        writer.add_key_value_metadata(parquet.about(kind, facts, version=_format(network)))


def _format(network: Mapping[str, Any] | None) -> int:
    """The format of the files of a network's embeddings."""
    cleaning = network and network["cleaning"]
    return PHOTOS if cleaning and cleaning["polarity"] == "photo" else FORMAT


def _layout(kind: str) -> Any:
    """A function from what a file's footer says to its columns. It raises ValidationError if that is invalid."""

    def schema(facts: Any) -> pa.Schema:
        _Facts.model_validate(facts, strict=True)
        columns: dict[str, pa.DataType] = {"path": pa.string()}
        if kind == CLASSES:
            columns = {"class": pa.string(), "images": pa.int32()} | columns
            columns["pixels"] = pa.binary(facts["network"]["size"] ** 2)
        number = pa.field("element", pa.float32(), nullable=False)
        columns["embedding"] = pa.list_(number, facts["network"]["dimension"])
        return pa.schema([pa.field(name, each, nullable=name == "path") for name, each in columns.items()])

    return schema


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    if pa.types.is_fixed_size_list(kind):
        numbers = pa.array(values.cpu().contiguous().numpy().ravel())
        return pa.FixedSizeListArray.from_arrays(numbers, type=kind)
    if pa.types.is_fixed_size_binary(kind):
        buffer = pa.py_buffer(values.contiguous().numpy())
        return pa.FixedSizeBinaryArray.from_buffers(kind, len(values), [None, buffer])
    if pa.types.is_string(kind):
        values = [each if each is None else text(each) for each in values]
    return pa.array(values, kind)


def read(file: Folder, network: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The columns of a file of classes by name, lists or tensors, in the order of its rows; and its warnings. Raises
    UserError if it is not such a file, is damaged, or is of another format or of another network than this."""
    if not file.name.endswith(ENDING):
        where = "" if file.is_local else " on this machine"
        raise UserError(f"{file} is neither a folder of classes{where} nor a file of them ({ENDING}); {AGAIN}")
    if not file.has():
        raise UserError(f"{file} does not exist; {AGAIN}")

    def columns(opened: pq.ParquetFile, facts: Any) -> tuple[dict[str, Any], list[str]]:
        for key, value in network.items():
            if (found := facts["network"][key]) != value:
                what = f"its {key} is {shown(found, 40)} and not {shown(value, 40)}"
                raise UserError(f"{file} was made by another network, {what}; {AGAIN}")
        if facts["format"] < _format(network):
            raise parquet.flaw(
                str(file), "was made by an older version, which laid all transparent photos on black", AGAIN
            )
        return _columns(str(file), opened, facts["network"]), facts["warnings"]

    versions = (FORMAT, PHOTOS)
    return parquet.guarded(file.parent, file.name, CLASSES, _layout(CLASSES), columns, versions=versions, again=AGAIN)


def _columns(path: str, file: pq.ParquetFile, network: Mapping[str, Any]) -> dict[str, Any]:
    groups = [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)]
    if not groups or not 0 < min(groups) <= max(groups) <= ROWS:
        raise parquet.flaw(path, f"holds no classes, or more than {ROWS:,} in a row group", AGAIN)
    size, ends = network["size"], np.cumsum(groups)
    # Filled part by part, so that the numbers are held only once.
    z_CD = np.empty((ends[-1], network["dimension"]), np.float32)
    pixels = np.empty((ends[-1], size, size), np.uint8)
    columns: dict[str, list[Any]] = {"class": [], "images": [], "path": []}
    for index, end in enumerate(ends):
        table, rows = file.read_row_group(index), slice(end - groups[index], end)
        if len(table) != groups[index] or any(table[name].null_count for name in table.column_names if name != "path"):
            raise parquet.flaw(path, "has missing values in its columns", AGAIN)
        for name, values in columns.items():
            values += table[name].to_pylist()
        z_CD[rows] = _numbers(table["embedding"])
        pixels[rows] = parquet.fixed_bytes(table["pixels"]).reshape(-1, size, size)
        if not np.isfinite(z_CD[rows]).all():
            raise parquet.flaw(path, "holds values that are not finite", AGAIN)
    names = columns["class"]
    if len(set(names)) < len(names) or min(columns["images"]) < 1:
        raise parquet.flaw(path, "holds a class twice, or one without images", AGAIN)
    return columns | {"embedding": torch.from_numpy(z_CD), "pixels": torch.from_numpy(pixels)}


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """A column of lists of D numbers as float32 (N, D)."""
    parts = [np.from_dlpack(chunk.flatten()) for chunk in column.chunks]
    return np.concatenate(parts).reshape(len(column), -1)
