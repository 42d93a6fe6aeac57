"""TensorBoard's event files, on a disk and on an object store, checked with tensorboardX's code for the format."""

import math
import struct
from pathlib import Path

import pytest
import tiny
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c

from oneshot.base.storage import Folder
from oneshot.run import events


def read(data: bytes) -> list[Event]:
    """The events of a file; the checksums of each record are checked."""
    found = []
    while data:
        head, data = data[:12], data[12:]
        length, crc = struct.unpack("<QI", head)
        assert crc == masked_crc32c(head[:8])
        body, tail, data = data[:length], data[length : length + 4], data[length + 4 :]
        assert struct.unpack("<I", tail) == (masked_crc32c(body),)
        found.append(Event.FromString(body))
    return found


def curves(folder: Folder) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for name in (folder / "events").names():
        version, event = read((folder / "events").read(name))
        assert version.file_version == "brain.Event:2"
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


@pytest.mark.parametrize("where", ["disk", "bucket"])
def test_a_training_leaves_its_history_as_curves(where: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    folder = Folder.of(tmp_path / "run" if where == "disk" else f"{request.getfixturevalue('bucket')}/run")
    rows = tiny.train(folder, tiny.settings(epochs=3)).history
    found = curves(folder)
    assert set(found) == set(events.TAGS.values())
    for key, tag in events.TAGS.items():
        assert found[tag] == [(row["epoch"], pytest.approx(row[key], rel=1e-6)) for row in rows]


def test_curves_that_a_kill_left_behind_the_checkpoint_are_mended(tmp_path: Path) -> None:
    rows = tiny.train(tmp_path, tiny.settings(epochs=2)).history
    (tmp_path / "events" / events.name(2)).unlink()
    first = (tmp_path / "events" / events.name(1)).read_bytes()
    tiny.train(tmp_path, tiny.settings(epochs=2))
    assert curves(Folder.of(tmp_path))["loss/validation"] == [
        (row["epoch"], pytest.approx(row["val_loss"], rel=1e-6)) for row in rows
    ]
    assert (tmp_path / "events" / events.name(1)).read_bytes() == first


def test_an_epoch_that_is_made_again_replaces_its_own(tmp_path: Path) -> None:
    for loss in (0.5, 0.25):
        events.write(Folder.of(tmp_path), {"epoch": 300, "val_loss": loss, "train_loss": math.nan, "best": True})
    assert curves(Folder.of(tmp_path)) == {"loss/validation": [(300, 0.25)]}
