"""A training's curves as TensorBoard reads them: `events/`, with a file for each epoch.

Each epoch has its own file so that files are written whole, on object stores too, where nothing can be appended.
TensorBoard reads them in the order of their names, also while new ones appear. The format, TFRecord around protobuf, is
TensorFlow's (core/lib/io/record_writer.h, core/util/event.proto); this module needs a dozen bytes of it, and no
package.
"""

import math
import struct
import time
from typing import Any

from oneshot.base.storage import Folder

EVENTS = "events"
TAGS = {  # keys of a history row, and their names grouped for TensorBoard
    "train_loss": "loss/train",
    "val_loss": "loss/validation",
    "train_accuracy": "accuracy/train",
    "val_accuracy": "accuracy/validation",
    "val_oneshot": "accuracy/one-shot",
    "lr": "training/lr",
    "images_per_second": "training/images per second",
    "seconds": "training/seconds an epoch",
}
_POLYNOMIAL = 0x82F63B78  # of CRC-32C (Castagnoli), reflected


def write(folder: Folder, row: dict[str, Any]) -> None:
    """Write an epoch's row of the history. If the epoch is made again, its file is replaced."""
    now = time.time()
    start = _field(1, now) + _field(3, b"brain.Event:2")
    values = b"".join(
        _field(1, _field(1, tag.encode()) + _field(2, row[key]))
        for key, tag in TAGS.items()
        if isinstance(row.get(key), float) and math.isfinite(row[key])
    )
    event = _field(1, now) + _field(2, row["epoch"]) + _field(5, values)
    (folder / EVENTS).write(name(row["epoch"]), _record(start) + _record(event))


def mend(folder: Folder, rows: list[dict[str, Any]]) -> None:
    """Write the missing files of these epochs: a training may have been killed after the checkpoint of one."""
    there = set((folder / EVENTS).names())
    for row in rows:
        if name(row["epoch"]) not in there:
            write(folder, row)


def name(epoch: int) -> str:
    """The name of an epoch's file in `events/`."""
    return f"events.out.tfevents.{epoch:06d}.oneshot"


def _field(number: int, value: float | int | bytes) -> bytes:
    """A protobuf field. The time, an event's field 1, is the only double; other fractions are floats."""
    if isinstance(value, bytes):
        return _varint(number << 3 | 2) + _varint(len(value)) + value
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    if number == 1:
        return _varint(number << 3 | 1) + struct.pack("<d", value)
    return _varint(number << 3 | 5) + struct.pack("<f", value)


def _varint(value: int) -> bytes:
    head = bytearray()
    while value > 0x7F:
        head.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(head) + bytes([value])


def _record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", _masked_crc(length)) + data + struct.pack("<I", _masked_crc(data))


def _masked_crc(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ _POLYNOMIAL * (crc & 1)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
