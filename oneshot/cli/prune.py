"""The verb `prune`: removes checkpoints that runs no longer need, while no other process can go on with the runs."""

import contextlib
from functools import partial

from rich.console import Console

from oneshot.base.errors import UserError
from oneshot.base.reach import reach
from oneshot.base.storage import Folder
from oneshot.report import reading
from oneshot.run import opened, owner, pruning, trust
from oneshot.run.history import measured
from oneshot.run.pruning import Found
from oneshot.screen.console import heard, print_line, size
from oneshot.search import closing


def prune(console: Console, *, runs: list[str], stopped: bool, dry_run: bool) -> None:
    """Remove the checkpoints that runs no longer need, and say what that freed; `stopped`: also those of runs that are
    not over; `dry_run`: say what it would free, and touch nothing. If one run is refused, nothing is removed of any.

    Raises UserError if one is no run, another user's, in use, not over, or has lost its network.
    """
    folders = list({folder.uri: folder for folder in map(reach, runs)}.values())
    for folder in folders:
        opened.settings_of_run(folder)  # else a lock would be left where there is no run
        trust.check(folder)
    with contextlib.ExitStack() as held:
        if not dry_run:
            for folder in folders:
                held.enter_context(owner.sole(folder, say=partial(print_line, heard(console))))
        found = [_look(folder, stopped=stopped, dry_run=dry_run) for folder in folders]
        for folder, checkpoints in zip(folders, found, strict=True):
            if not dry_run:
                pruning.remove(folder, checkpoints)
            print_line(console, f"{folder}: {_said(checkpoints, dry_run=dry_run)}")


def _look(folder: Folder, *, stopped: bool, dry_run: bool) -> list[Found]:
    """The checkpoints of a run, which this process holds except in a dry run. Raises UserError if it is not over."""
    run = reading.read(folder, shown=False)
    if dry_run and run.running:
        raise UserError(f"{folder} is running: wait for it or stop it")
    leader = min(measured(_in_order(run)), key=lambda trial: trial["val_loss"], default=None)
    if not stopped and (why := _why_not_over(run, leader)):
        after = "; then it cannot go on" if run.study else ""
        raise UserError(f"{folder} is not over: {why}; let it finish, or prune it as it is with --stopped{after}")
    # A resumed study looks for the leader's checkpoints; what was judged is usually the same trial.
    stays = [trial for trial in (leader, run.best) if trial] if run.study else run.trials
    keep = {trial["id"]: trial["best_epoch"] or 0 for trial in stays}
    return pruning.look(folder, [trial["id"] for trial in _in_order(run)], keep=keep)


def _in_order(run: reading.Run) -> list[dict]:
    return sorted(run.trials, key=lambda trial: trial["id"])


def _why_not_over(run: reading.Run, leader: dict | None) -> str:
    """What is left to do for a run; empty if nothing is."""
    if run.study is None:
        return "" if run.over else "its training has not ended"
    if what := closing.goes_on(_in_order(run), run.settings):
        return what
    judged = ((run.result or {}).get("best_trial") or {}).get("id")
    return "" if leader and judged == leader["id"] else "the network of its best trial has not been judged"


def _said(found: list[Found], *, dry_run: bool) -> str:
    gone, kept = ([each for each in found if each.needed == needed] for needed in (False, True))
    stays = f"{', '.join(each.place.name for each in kept)} ({_size(kept)})" if kept else "no checkpoint"
    whose = f" of trial {' and '.join(names)}" if (names := sorted({each.trial for each in kept} - {""})) else ""
    if not gone:
        return f"nothing to remove; {stays}{whose} stays"
    trials = len({each.trial for each in gone if each.trial})
    of = f" of {trials} trial{'s' * (trials > 1)}" if trials else ""
    freed = "would be freed" if dry_run else "freed"
    number = f"{len(gone)} checkpoint{'s' * (len(gone) > 1)}{of}"
    return f"{_size(gone)} {freed}, {number}; {stays}{whose} stays"


def _size(found: list[Found]) -> str:
    return size(sum(each.size for each in found))
