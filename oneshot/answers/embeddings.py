"""Embeddings and the files that keep them: of images, or of classes, which are embedded once and asked many times.

A file is Parquet, as all data here, and no archive of NumPy's: it is written and read a part at a time, so that it may
be larger than the memory; names and numbers are rows of one table, which pandas, Polars and DuckDB read in a line; its
pages have checksums, by which damage is noticed; and its footer says by which network it was made, and how that scores
two embeddings (`OneShot.head`; older files do not say). Its columns are

- of images: `path`, as it was named, and `embedding`, a list of D float32;
- of classes: `class`; `images`, how many there are of it, copies aside; `path` and `pixels` of the first of them, null
  where it lay in no file, and uint8 (S, S) as the network sees it, row by row, ink 255; `embedding`, their mean.

Legend of shapes: C classes, N rows, D the length of an embedding, S the side in pixels of what a network sees.
"""

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pydantic import BaseModel, Field, FiniteFloat, model_validator

from oneshot.base.errors import UserError, nearest, shown, some
from oneshot.base.kinds import Positive, Views
from oneshot.base.reach import reach
from oneshot.base.storage import Folder
from oneshot.data import parquet
from oneshot.data.tree import text
from oneshot.run.formats import Cleaning

FORMAT = 1  # the next where columns are others, or where `preprocess` makes another image of the same file
PHOTOS = 2  # that of networks of photos, since a dark figure on nothing is laid on white
IMAGES, CLASSES = "embeddings of images", "embeddings of classes"
ENDING = ".parquet"
ROWS = 1_024  # of a row group: what is held at once where a file is written or read
_NAMED = 5  # of the classes, where they are shown in a line
NAMED = 10  # of them, in a warning
AGAIN = "`python -m oneshot.embed RUN --support FOLDER --out FILE` makes one"

# The mean of more embeddings is nearer to everything, and the calibration was measured with as many for each class.
UNEVEN = "the classes have unlike numbers of images, and those with more are named too often: give each as many"
FEWER = "these classes have fewer than {} different images, and the others are named too often: {}"


class _Network(BaseModel):
    """What an embedding depends on besides the image: `OneShot.identity`."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    views: Views
    size: Annotated[int, Field(ge=1, le=4096)]
    dimension: Annotated[Positive, Field(le=1 << 24)]
    cleaning: Cleaning | None


class _Head(BaseModel):
    """What scores two embeddings: `OneShot.head`."""

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


@dataclass(frozen=True)
class Classes:
    """What can be chosen from: names, the mean embedding (C, D) of each, and of how many images it is, copies aside.

    `OneShot.classes` makes them, of the first image of each with the pixels (C, S, S) that the network sees and its
    path. `network`: which they are of, and `head` how it scores. `warnings`: what is wrong with their images, in
    sentences. `seen`: the `mark` of each of their images, also of those that are not the first; a file has none.
    """

    names: tuple[str, ...]
    z_CD: torch.Tensor
    counts: tuple[int, ...]
    pixels: torch.Tensor | None = None
    paths: tuple[str | None, ...] = ()
    network: Mapping[str, Any] | None = None
    head: Mapping[str, Any] | None = None
    warnings: tuple[str, ...] = ()
    seen: frozenset[bytes] = field(default=frozenset(), compare=False)

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        least, most = min(self.counts), max(self.counts)
        each = f"of {least} to {most} images" if least < most else f"of {most} image{'s' * (most != 1)} each"
        named = ", ".join(map(str, self.names[:_NAMED])) + ", ..." * (len(self) > _NAMED)
        return f"Classes({len(self):,} {each}: {named})"

    @property
    def k_shot(self) -> int:
        """The number of images that scores are taken to rest on: the least of a class."""
        return min(self.counts)

    def merged(self, other: "Classes", *, replace: bool = False) -> "Classes":
        """These classes, then those of another. `replace`: what both have is taken from the other, in its place here.

        Raises UserError where not the same network embedded both, and, without `replace`, for a name that both have."""
        if not isinstance(other, Classes):
            raise UserError(f"an object of type {type(other).__name__} is no Classes; `OneShot.classes` makes them")
        if self.network is None or self.network != other.network:
            raise UserError("these classes are not embeddings of one network; make both with the one that is asked")
        known = set(self.names)
        twice = [name for name in other.names if name in known]
        if twice and not replace:
            raise UserError(f"both have a class '{twice[0]}': leave one of them out by `without`, or say replace=True")
        both = joined([self, other], warnings=tuple(dict.fromkeys(self.warnings + other.warnings)))
        places = {name: place for place, name in enumerate(both.names)}  # a key keeps its place, with the latter value
        return both._at([*places.values()]) if twice else both

    def without(self, names: str | Iterable[str]) -> "Classes":
        """These classes but for some, by name. Raises UserError for a name that none has, and where none is left."""
        out, known = dict.fromkeys([names] if isinstance(names, str) else names), set(self.names)
        for name in out:
            if name not in known:
                raise UserError(f"there is no class '{name}' to leave out; {nearest(str(name), map(str, self.names))}")
        if len(out) == len(self):
            raise UserError("no class would be left; keep one at least")
        return self._at([place for place, name in enumerate(self.names) if name not in out])

    def _at(self, places: list[int]) -> "Classes":
        """The classes at these places."""
        return replace(
            self,
            names=tuple(self.names[place] for place in places),
            z_CD=self.z_CD[places],
            counts=tuple(self.counts[place] for place in places),
            pixels=None if self.pixels is None else self.pixels[places],
            paths=tuple(self.paths[place] for place in places) if self.paths else (),
            seen=frozenset(),  # by which class each was is not known
        )

    def save(self, path: str | Path | Folder) -> None:
        """Write them to a file whose name ends in .parquet, a path or a URI, whole or not at all; what is there is
        replaced. `OneShot.classes` reads it. Raises UserError, also where their names are no texts, OSError."""
        if self.network is None or not all(isinstance(name, str) for name in self.names):
            raise UserError("only classes that `OneShot.classes` made, and whose names are texts, have a file")
        with writing(target(path), CLASSES, self.network, self.head) as rows:
            rows.add(**self.columns())
            rows.warnings += self.warnings

    def columns(self) -> dict[str, Any]:
        """The columns of their file."""
        return {
            "class": self.names, "images": self.counts, "path": self.paths, "pixels": self.pixels,
            "embedding": self.z_CD,
        }  # fmt: skip


def mark(pixels: torch.Tensor) -> bytes:
    """By which an image is known again that a network sees as exactly these pixels, uint8 (S, S) or (1, S, S)."""
    return hashlib.blake2b(pixels.numpy().tobytes(), digest_size=16).digest()


def joined(parts: Sequence[Classes], *, warnings: Sequence[str]) -> Classes:
    """Classes that were embedded in parts, one at least, as one."""
    return Classes(
        names=tuple(name for part in parts for name in part.names),
        z_CD=torch.cat([part.z_CD.to(parts[0].z_CD.device) for part in parts]),
        counts=tuple(count for part in parts for count in part.counts),
        pixels=torch.cat([part.pixels for part in parts]),
        paths=tuple(path for part in parts for path in part.paths),
        network=parts[0].network,
        head=parts[0].head,
        warnings=tuple(warnings),
        seen=frozenset().union(*(part.seen for part in parts)),
    )


def uneven(names: Sequence[str], counts: Sequence[int], *, per_class: int | None = None) -> str:
    """What is to be said of the numbers of images of classes, in words: which have fewer than were asked for of each,
    or, where nothing was asked for, that they are unlike. Empty where nothing is."""
    if per_class is None:
        least, most = min(counts), max(counts)
        return f"{UNEVEN} ({least} to {most} are there)" if least < most else ""
    few = [name for name, count in zip(names, counts, strict=True) if count < per_class]
    return FEWER.format(per_class, listed(few)) if few else ""


def listed(names: Sequence[str]) -> str:
    """Classes in a warning."""
    return some([*map(str, names)], NAMED)


def target(path: str | Path | Folder) -> Folder:
    """Where a file of embeddings is to lie. Raises UserError where its name has another ending, or a folder has it."""
    file = path if isinstance(path, Folder) else reach(path)
    if not file.name.endswith(ENDING):
        raise UserError(f"{file}: name a file that ends in {ENDING}, by which other programs know what it is")
    if file.is_local and Path(file.path).is_dir():
        raise UserError(f"{file} is a folder; name a file in it")
    return file


@dataclass
class Rows:
    """A file that is being written: `add` gives it rows, `count` of them so far; `warnings` is what to say of them."""

    writer: pq.ParquetWriter
    count: int = 0
    warnings: list[str] = field(default_factory=list)
    waiting: list[pa.Table] = field(default_factory=list)

    def add(self, **columns: Any) -> None:
        """Columns by name: texts, numbers, and tensors of pixels and embeddings."""
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
    """A file of a kind, of a network's embeddings, which it scores by this head: it appears, whole, when the block is
    over, and not where that ends by an error. Raises as `Folder.writing`."""
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
    """By what a file's footer says, its columns. What that gives raises ValidationError."""

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


def read(file: Folder, network: Mapping[str, Any]) -> Classes:
    """The classes in a file, in the order of its rows. Raises UserError where it is none, is damaged, of another
    format, or of another network than this."""
    if not file.name.endswith(ENDING):
        where = "" if file.is_local else " on this machine"
        raise UserError(f"{file} is neither a folder of classes{where} nor a file of them ({ENDING}); {AGAIN}")
    if not file.has():
        raise UserError(f"{file} does not exist; {AGAIN}")

    def classes(opened: pq.ParquetFile, facts: Any) -> Classes:
        for key, value in network.items():
            if (found := facts["network"][key]) != value:
                what = f"its {key} is {shown(found, 40)} and not {shown(value, 40)}"
                raise UserError(f"{file} was made by another network, {what}; {AGAIN}")
        if facts["format"] < _format(network):
            raise parquet.flaw(str(file), "is of a time when transparent photos were laid on black, all of them", AGAIN)
        return replace(_read(str(file), opened, facts), network=network)

    versions = (FORMAT, PHOTOS)
    return parquet.guarded(file.parent, file.name, CLASSES, _layout(CLASSES), classes, versions=versions, again=AGAIN)


def _read(path: str, file: pq.ParquetFile, facts: Any) -> Classes:
    groups = [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)]
    if not groups or not 0 < min(groups) <= max(groups) <= ROWS:
        raise parquet.flaw(path, f"holds no classes, or not at most {ROWS:,} a row group", AGAIN)
    size, ends = facts["network"]["size"], np.cumsum(groups)
    # Filled part by part: the numbers are held once.
    z_CD = np.empty((ends[-1], facts["network"]["dimension"]), np.float32)
    pixels = np.empty((ends[-1], size, size), np.uint8)
    columns: dict[str, list[Any]] = {"class": [], "images": [], "path": []}
    for index, end in enumerate(ends):
        table, rows = file.read_row_group(index), slice(end - groups[index], end)
        if len(table) != groups[index] or any(table[name].null_count for name in table.column_names if name != "path"):
            raise parquet.flaw(path, "has empty places in its columns", AGAIN)
        for name, values in columns.items():
            values += table[name].to_pylist()
        z_CD[rows] = _numbers(table["embedding"])
        pixels[rows] = parquet.fixed_bytes(table["pixels"]).reshape(-1, size, size)
        if not np.isfinite(z_CD[rows]).all():
            raise parquet.flaw(path, "holds values that are not finite", AGAIN)
    names = columns["class"]
    if len(set(names)) < len(names) or min(columns["images"]) < 1:
        raise parquet.flaw(path, "holds a class twice, or one of no image", AGAIN)
    return Classes(
        names=tuple(names), z_CD=torch.from_numpy(z_CD), counts=tuple(columns["images"]),
        pixels=torch.from_numpy(pixels), paths=tuple(columns["path"]),
        warnings=tuple(facts["warnings"]),
    )  # fmt: skip


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """A column of lists of D numbers as float32 (N, D)."""
    parts = [np.from_dlpack(chunk.flatten()) for chunk in column.chunks]
    return np.concatenate(parts).reshape(len(column), -1)
