"""Checkpoints that a run can do without once it is over: which they are, how large, and their removal.

The trials of a study lose all of theirs, except for the trials that keep the newest and the best, as a single training
does. A note of this is written before the first one goes that a trial would miss: a session that finds it starts no
such trial from nothing (`search.closing`). Free of torch until a checkpoint that stays is examined.
"""

import contextlib
import time
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from oneshot.base.errors import TROUBLE, DiskFull, UserError
from oneshot.base.storage import Folder
from oneshot.run import checkpoint, formats

PRUNED = "pruned.json"
_AT_ONCE = 8  # trials or checkpoints at a time: a distant store answers late


@dataclass(frozen=True)
class Found:
    """A checkpoint of a run, with its bytes. `trial` is whose it is, empty if the run is a single training."""

    trial: str
    place: Folder
    size: int
    needed: bool


def look(run: Folder, trials: Collection[str], *, keep: Mapping[str, int]) -> list[Found]:
    """All checkpoints of a run, whole or not. `trials` are the ids of its trainings, "" for a single one. `keep` maps
    those that keep what they need to their best epochs, see `checkpoint.needed`. Raises as that does."""

    def of(trial: str) -> list[Found]:
        folder = (run / "trials" / trial if trial else run) / "checkpoints"
        stay = checkpoint.needed(folder, best_epoch=keep[trial]) if trial in keep else set()
        return [Found(trial, folder / name, (folder / name).size(), name in stay) for name in checkpoint.names(folder)]

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return [each for found in pool.map(of, trials) for each in found]


def remove(run: Folder, found: Collection[Found]) -> None:
    """Remove those of the found checkpoints that are not needed, and nothing else. For a study this is noted before any
    goes that a trial would miss: if the removal is interrupted, it can be repeated and goes on. If nothing could be
    removed, the note is taken back."""
    gone = [each for each in found if not each.needed]
    trials = {each.trial for each in gone if each.trial}
    if not trials:
        _remove(gone)
        return
    before = noted(run)
    gone = _note(run, before | trials, gone)
    try:
        _remove(gone)
    except TROUBLE:
        with contextlib.suppress(*TROUBLE):  # then the note stays: perhaps something is gone
            if all(each.place.size() == each.size for each in gone):
                _take_back(run, before)
        raise


def noted(run: Folder) -> set[str]:
    """The trials of a study whose checkpoints are removed, or may be. Raises UserError if the note is damaged."""
    return set(formats.read(formats.Pruned, run, PRUNED)["trials"]) if run.has(PRUNED) else set()


def _note(run: Folder, trials: Collection[str], gone: list[Found]) -> list[Found]:
    """Write the note. If the disk has no room for it, those checkpoints go first that no trial would miss even if it
    went on. Returns those that are left to remove."""
    try:
        _write(run, trials)
    except DiskFull:
        _remove(spare := _spare(gone))
        _write(run, trials)
        return [each for each in gone if each not in spare]
    return gone


def _write(run: Folder, trials: Collection[str]) -> None:
    run.write_json(PRUNED, {"time": time.time(), "trials": sorted(trials)})


def _spare(gone: Collection[Found]) -> list[Found]:
    """Those of the checkpoints that are neither the newest whole one of their training nor that of its best epoch."""
    needed = {}
    for folder in {each.place.parent.uri: each.place.parent for each in gone}.values():
        try:
            needed[folder.uri] = checkpoint.needed(folder, best_epoch=0)
        except UserError:  # of an older version: nobody knows
            needed[folder.uri] = set(checkpoint.names(folder))
    return [each for each in gone if each.place.name not in needed[each.place.parent.uri]]


def _take_back(run: Folder, before: Collection[str]) -> None:
    """Make the note what it was. Whoever may write and not remove leaves one that names no trial."""
    if not before:
        try:
            run.remove(PRUNED)
            return
        except TROUBLE:
            pass
    _write(run, before)


def _remove(gone: Collection[Found]) -> None:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for _ in pool.map(lambda each: each.place.remove(), gone):
            pass
