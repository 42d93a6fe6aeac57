"""Checkpoints that were tampered with."""

import hashlib
import json
import os
import pickle
from pathlib import Path
from typing import Any

from oneshot.run.checkpoint import OLDER, STATE, TRAINING


class Malice:
    """An object whose pickle makes a folder when it is loaded."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.place),)


def older(place: Path, owned: Path) -> None:
    """Turn a checkpoint into one of an older version, with a training.pt whose pickle makes the folder `owned`."""
    state = json.loads((place / STATE).read_text())
    content = pickle.dumps({"optimizer": Malice(owned)}, protocol=2)
    (place / TRAINING).unlink()
    (place / OLDER).write_bytes(content)
    del state["sha256"][TRAINING]
    state["sha256"][OLDER] = hashlib.sha256(content).hexdigest()
    (place / STATE).write_text(json.dumps(state))
