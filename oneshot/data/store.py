"""Drawings and fixed trials as Parquet files: written once, one row group per alphabet, read without decoding pictures.

`image` is for people and viewers (PNG, the convention of Hugging Face `datasets`); `pixels` holds the same drawing
unencoded, which is what training reads. Each alphabet has a row group of its own, so that reading some alphabets reads
no pixel of another.
"""

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from oneshot.base.errors import UserError, nearest
from oneshot.base.storage import Folder
from oneshot.data import footer, parquet
from oneshot.data.drawings import Description, Drawings, FixedTrials, Own, Row
from oneshot.data.parquet import FORMAT_VERSION, OWN_VERSION

DRAWINGS = "drawings.parquet"
TRIALS = "trials.parquet"
SPLIT = "splits.json"  # for own images, which have no fixed trials: the split in the footer, for people to read
_TEXT = pa.dictionary(pa.int32(), pa.string())
# Every process reads the pixels when it begins, and LZ4 unpacks them in half the time. The rest is seldom read.
_COMPRESSION = dict.fromkeys(("image.bytes", "image.path", "alphabet", "character", "drawer", "origin"), "zstd")
_COMPRESSION["pixels"] = "lz4"
_TRIALS = pa.schema({"run": pa.int16(), "query": pa.int32(), "support": pa.list_(pa.int32()), "target": pa.int16()})


def _layout(facts: Any) -> pa.Schema:
    """The columns that a file must have according to its footer. Raises ValidationError for a wrong footer."""
    footer.Facts.model_validate(facts, strict=True)
    return _schema(facts)


def _schema(facts: Mapping[str, Any]) -> pa.Schema:
    """The columns of drawings.parquet, for drawings of the height, width and bits in `facts`."""
    columns = {
        "image": pa.struct({"bytes": pa.binary(), "path": pa.string()}),
        "pixels": pa.binary((facts["height"] * facts["width"] * facts["bits"] + 7) // 8),
        "alphabet": _TEXT,
        "character": _TEXT,
        "drawer": pa.int32() if facts.get("own") else pa.int8(),
        "origin": _TEXT,
    }
    viewer = {"info": {"features": {"image": {"_type": "Image"}}}}
    return pa.schema(columns, metadata={"huggingface": json.dumps(viewer)})


def write(
    folder: Folder,
    rows: Iterable[Row],
    *,
    name: str,
    source: str,
    digests: Mapping[str, str],
    trial_alphabets: Sequence[str] = (),
    bits: int = 1,
    own: Own | None = None,
) -> None:
    """Write drawings.parquet, whole or not at all, from rows that are grouped by alphabet.

    Within an alphabet the rows are sorted by character and drawer. `bits` = 1 keeps ink above 127 as 1, `bits` = 8
    keeps the grey value; `own` is for the user's own images. Raises UserError if there is no row or the folder cannot
    be written, ValueError for rows that do not fit together (two sizes, an alphabet in two places or of two origins,
    two drawings of a character by one drawer).
    """
    alphabets: list[dict[str, Any]] = []
    sink, writer, facts = pa.BufferOutputStream(), None, {"bits": bits, "own": own and asdict(own)}
    for _, group in itertools.groupby(rows, key=lambda row: row.alphabet):
        drawings = sorted(group, key=lambda row: (row.character, row.drawer))
        if writer is None:
            facts["height"], facts["width"] = drawings[0].ink.shape
            texts = ["alphabet", "character", "origin"]
            # Statistics of pixels would put drawings of every alphabet into the footer, which every reader loads.
            writer = pq.ParquetWriter(
                sink, _schema(facts), compression=_COMPRESSION, use_dictionary=texts, write_statistics=texts
            )
        alphabets.append(_summary(drawings, facts, known={entry["name"] for entry in alphabets}))
        writer.write_table(_table(drawings, _schema(facts), bits), row_group_size=len(drawings))
    if writer is None:
        raise UserError(f"{folder.file(DRAWINGS)} was not written: there are no drawings to put into it")
    facts |= {"name": name, "source": source, "digests": dict(digests)}
    facts |= {"trial_alphabets": list(trial_alphabets), "alphabets": alphabets}
    version = OWN_VERSION if own else FORMAT_VERSION
    known = {key: value for key, value in facts.items() if value is not None}
    writer.add_key_value_metadata(parquet.about("drawings", known, version=version))
    writer.close()
    parquet.put(folder, DRAWINGS, sink.getvalue())


def _summary(rows: list[Row], facts: Mapping[str, Any], *, known: set[str]) -> dict[str, Any]:
    """The footer's entry for an alphabet. Raises ValueError if its rows do not fit together."""
    alphabet, origins = rows[0].alphabet, {row.origin for row in rows}
    if alphabet in known:
        raise ValueError(f"the rows of {alphabet} do not come one after the other")
    if any(row.ink.shape != (facts["height"], facts["width"]) for row in rows):
        raise ValueError(f"{alphabet} has drawings of another size than {facts['height']} x {facts['width']}")
    if len({(row.character, row.drawer) for row in rows}) < len(rows):
        raise ValueError(f"{alphabet} has two drawings of one character by one drawer")
    if len(origins) > 1:
        raise ValueError(f"{alphabet} has drawings of two origins")
    return {
        "name": alphabet,
        "origin": origins.pop(),
        "drawings": len(rows),
        "characters": sorted({row.character for row in rows}),
        "drawers": sorted({row.drawer for row in rows}),
    }


def _table(rows: list[Row], layout: pa.Schema, bits: int) -> pa.Table:
    flat = np.stack([row.ink for row in rows]).reshape(len(rows), -1)
    packed = np.ascontiguousarray(np.packbits(flat > 127, axis=1) if bits == 1 else flat)
    columns: dict[str, Any] = {name: [getattr(row, name) for row in rows] for name in layout.names[2:]}
    columns["image"] = [
        {"bytes": row.png, "path": f"{row.alphabet}/{row.character}/{row.drawer:02d}.png"} for row in rows
    ]
    kind = layout.field("pixels").type
    columns["pixels"] = pa.FixedSizeBinaryArray.from_buffers(kind, len(rows), [None, pa.py_buffer(packed)])
    return pa.table([pa.array(columns[field.name], field.type) for field in layout], schema=layout)


def describe(folder: Folder) -> Description:
    """Describe the data set in a folder from its file's footer alone. Raises UserError if it cannot be read."""
    return parquet.guarded(folder, DRAWINGS, "drawings", _layout, lambda file, facts: _description(folder, file, facts))


def _description(folder: Folder, file: pq.ParquetFile, facts: Mapping[str, Any]) -> Description:
    alphabets = facts["alphabets"]
    groups = [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)]
    if not sum(groups):
        raise parquet.flaw(folder.file(DRAWINGS), "holds no drawings")
    if groups != [entry["drawings"] for entry in alphabets]:
        raise parquet.flaw(folder.file(DRAWINGS), "does not have one row group for each of its alphabets")
    return Description(
        name=facts["name"],
        source=facts["source"],
        digests=dict(facts["digests"]),
        height=facts["height"],
        width=facts["width"],
        bits=facts["bits"],
        trial_alphabets=tuple(facts["trial_alphabets"]),
        characters={entry["name"]: tuple(entry["characters"]) for entry in alphabets},
        drawings={entry["name"]: entry["drawings"] for entry in alphabets},
        drawers={entry["name"]: tuple(entry["drawers"]) for entry in alphabets},
        origin={entry["name"]: entry["origin"] for entry in alphabets},
        own=_own(facts.get("own")),
    )


def _own(facts: Mapping[str, Any] | None) -> Own | None:
    if facts is None:
        return None
    split = {part: tuple(names) for part, names in facts["split"].items()}
    return Own(polarity=facts["polarity"], flat=facts["flat"], by=facts["by"], split=split)


def load(folder: Folder, *, alphabets: Sequence[str] | None = None, pixels: bool = True) -> Drawings:
    """The drawings of a data set, or of some of its alphabets, in the order of the file.

    No pixel of the other alphabets is read, and no picture (`image`) of any. Without `pixels`, `packed` is (N, 0).
    Raises UserError for a file that cannot be read and for an alphabet that it does not hold.
    """

    def read(file: pq.ParquetFile, facts: Mapping[str, Any]) -> Drawings:
        about = _description(folder, file, facts)
        wanted = about.alphabets if alphabets is None else alphabets
        if not wanted:
            raise UserError(f"no alphabet of {folder} was asked for; name at least one")
        for alphabet in wanted:
            if alphabet not in about.drawings:
                raise UserError(f"{folder} has no alphabet '{alphabet}': {nearest(alphabet, about.alphabets)}")
        return _load(folder, file, about, [name for name in about.alphabets if name in set(wanted)], pixels)

    return parquet.guarded(folder, DRAWINGS, "drawings", _layout, read)


def _load(folder: Folder, file: pq.ParquetFile, about: Description, chosen: list[str], pixels: bool) -> Drawings:
    groups = [about.alphabets.index(name) for name in chosen]
    counts = np.array(list(about.drawings.values()))
    starts = np.cumsum(counts) - counts
    table = file.read_row_groups(groups, columns=["alphabet", "character", "drawer"] + ["pixels"] * pixels)
    if any(column.null_count for column in table.columns):
        raise parquet.flaw(folder.file(DRAWINGS), "has missing values in its columns")
    rows = [starts[group] + np.arange(counts[group]) for group in groups]
    return Drawings(
        packed=parquet.fixed_bytes(table["pixels"]) if pixels else np.zeros((len(table), 0), np.uint8),
        height=about.height,
        width=about.width,
        bits=about.bits,
        row=np.concatenate(rows),
        character=_characters(folder, table, {name: about.characters[name] for name in chosen}),
        drawer=parquet.numbers(table["drawer"]),
        characters=tuple(f"{name}/{character}" for name in chosen for character in about.characters[name]),
        alphabet_of=np.repeat(np.arange(len(chosen)), [len(about.characters[name]) for name in chosen]),
        alphabets=tuple(chosen),
        own=about.own is not None,
        polarity=about.own.polarity if about.own else "dark",
    )


def _characters(folder: Folder, table: pa.Table, expected: Mapping[str, Sequence[str]]) -> np.ndarray:
    """The character that each row shows: int64 (N,), numbered across all alphabets of `expected`."""
    alphabets, alphabet = parquet.codes(table["alphabet"])
    names, name = parquet.codes(table["character"])
    index = {pair: at for at, pair in enumerate((one, two) for one, all_ in expected.items() for two in all_)}
    lookup = np.array([[index.get((one, two), -1) for two in names] for one in alphabets], dtype=np.int64)
    found = lookup[alphabet, name]
    if (found < 0).any():
        at = int(np.argmax(found < 0))
        what = f"{alphabets[alphabet[at]]}/{names[name[at]]}"
        raise parquet.flaw(folder.file(DRAWINGS), f"holds a drawing of {what}, which its description does not list")
    return found


def write_trials(folder: Folder, trials: FixedTrials) -> None:
    """Write trials.parquet, whole or not at all. Raises UserError if the folder cannot be written."""
    layout = _TRIALS.with_metadata(parquet.about("fixed trials", {}))
    table = pa.table([trials.run, trials.query, list(trials.support), trials.target], schema=layout)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    parquet.put(folder, TRIALS, sink.getvalue())


def load_trials(folder: Folder) -> FixedTrials:
    """The fixed trials of a data set. Raises UserError if they cannot be read or do not fit its drawings."""
    rows = describe(folder).rows

    def read(file: pq.ParquetFile, facts: Mapping[str, Any]) -> FixedTrials:
        table = file.read()
        if any(column.null_count for column in table.columns):
            raise parquet.flaw(folder.file(TRIALS), "has missing values in its columns")
        run, query, target = (parquet.numbers(table[name]) for name in ("run", "query", "target"))
        support = table["support"].to_pylist()
        if not support or any(not row or len(row) != len(support[0]) for row in support):
            raise parquet.flaw(folder.file(TRIALS), "holds no trials, or trials of different sizes")
        trials = FixedTrials(run, query, np.array(support, dtype=np.int64), target)
        used = np.concatenate([query, trials.support.ravel()])
        if used.min() < 0 or used.max() >= rows or target.min() < 0 or target.max() >= trials.support.shape[1]:
            raise parquet.flaw(folder.file(TRIALS), f"points at drawings that {DRAWINGS} does not hold")
        return trials

    return parquet.guarded(folder, TRIALS, "fixed trials", lambda facts: _TRIALS, read)
