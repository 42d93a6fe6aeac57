"""Parquet files of drawings of noise, and ways to change such files behind the program's back."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from oneshot.base.storage import Folder
from oneshot.data import store
from oneshot.data.drawings import FixedTrials, Row
from oneshot.data.png import encode
from oneshot.data.store import DRAWINGS


def row(alphabet: str, character: int, drawer: int, *, size: tuple[int, int] = (9, 7), grey: bool = False) -> Row:
    """A drawing of noise that depends only on its alphabet, character and drawer."""
    ink = np.random.default_rng([ord(alphabet[0]), character, drawer]).integers(0, 256, size, dtype=np.uint8)
    if not grey:
        ink = np.where(ink > 200, 255, 0).astype(np.uint8)
    png = encode(ink if grey else ink > 0)
    return Row(
        png, ink, alphabet, f"character{character:02d}", drawer, "evaluation" if alphabet > "M" else "background"
    )


ROWS = [
    row(alphabet, character, drawer)
    for alphabet in ("Zeta", "Alpha", "Mu")
    for character in (2, 1)
    for drawer in (3, 1)
]
FIXED = FixedTrials(np.array([1, 1]), np.array([0, 4]), np.array([[1, 5], [5, 1]]), np.array([0, 0]))


def written(folder: Path, rows: list[Row] = ROWS, **how: object) -> Folder:
    place = Folder.of(folder)
    store.write(place, rows, **{"name": "noise", "source": "dice", "digests": {"a": "1"}, **how})
    return place


def same(table: pa.Table) -> pa.Table:
    return table


def rewritten(
    folder: Folder, change: Callable[[pa.Table], pa.Table] = same, name: str = DRAWINGS, **facts: object
) -> None:
    """Write the file again, with a changed table or changed facts in its footer."""
    with pq.ParquetFile(folder.file(name)) as file:
        table, about = change(file.read()), json.loads(file.metadata.metadata[b"oneshot"])
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema) as writer:
        for start in range(0, max(len(table), 1), 4):
            writer.write_table(table.slice(start, 4), row_group_size=4)
        writer.add_key_value_metadata({"oneshot": json.dumps({**about, **facts})})
    folder.write(name, sink.getvalue())
