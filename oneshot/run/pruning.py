"""Checkpoints that a run can do without once it is over: which they are, how large, and that they are gone.

The trials of a study lose theirs, but for those that keep the newest and the best, as a single training does. A note of
it is written before the first one goes: a session that finds it starts no such trial from nothing (`search.closing`).
Free of torch until a checkpoint that stays is looked at.
"""

import time
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from oneshot.base.storage import Folder
from oneshot.run import checkpoint, formats

PRUNED = "pruned.json"
_AT_ONCE = 8  # trials at a time, or checkpoints: a store far away answers late


@dataclass(frozen=True)
class Found:
    """A checkpoint of a run, with its bytes; `trial`: whose it is, empty where the run is a single training."""

    trial: str
    place: Folder
    size: int
    needed: bool


def look(run: Folder, trials: Collection[str], *, keep: Mapping[str, int]) -> list[Found]:
    """All checkpoints of a run, whole or not. `trials`: the ids of its trainings, "" for a single one; `keep`: those of
    them that keep what they need, each with its best epoch, see `checkpoint.needed`. Raises as that."""

    def of(trial: str) -> list[Found]:
        folder = (run / "trials" / trial if trial else run) / "checkpoints"
        stay = checkpoint.needed(folder, best_epoch=keep[trial]) if trial in keep else set()
        return [Found(trial, folder / name, (folder / name).size(), name in stay) for name in checkpoint.names(folder)]

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return [each for found in pool.map(of, trials) for each in found]


def remove(run: Folder, found: Collection[Found]) -> None:
    """Remove what is not needed of what was found, and nothing else. Of a study it is noted before: what is broken off
    here may be done again and goes on."""
    gone = [each for each in found if not each.needed]
    if trials := {each.trial for each in gone if each.trial}:
        if run.has(PRUNED):
            trials |= set(formats.read(formats.Pruned, run, PRUNED)["trials"])
        run.write_json(PRUNED, {"time": time.time(), "trials": sorted(trials)})
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for _ in pool.map(lambda each: each.place.remove(), gone):
            pass
