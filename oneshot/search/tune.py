"""The search: Ray Tune over Ray Train, stopped early on the all-reduced validation loss.

A trial's history and checkpoints, which its training writes into the run folder, are the truth. Tune keeps no state
that a later session reads: a trial that goes on, in this session or a later one, is a new one to Tune. This process is
free of torch: it only drives.
"""

import tempfile
from collections.abc import Callable
from typing import Any

from oneshot.base.beside import every
from oneshot.base.errors import DiskFull, NoRoom, RunFailed, last_line
from oneshot.base.settings import Settings
from oneshot.base.storage import Folder
from oneshot.cluster import capacity
from oneshot.cluster.packing import Packing
from oneshot.run import checkpoint
from oneshot.run.watch import often
from oneshot.screen.live import StudyView
from oneshot.search.halving import Halving
from oneshot.search.study import OVER, Study


def tune(
    settings: Settings, study: Study, data: Folder, packing: Packing, view: StudyView, *, seconds: float | None = None,
    trial: Callable[..., None] | None = None,
) -> bool:  # fmt: skip
    """Run the trials of a study that are not over yet, on a connected cluster. Returns whether the search is over: no
    trial waits, and none is due to go on.

    After `seconds` the search ends where it is: running trials keep their checkpoints and wait. A trial that fails does
    not stop the others, unless many do at once; one whose process dies goes on, `scale.max_failures` times; one that
    finds no room waits. Raises NoRoom if no trial finds any, RunFailed if no trial has anything to show or many failed
    at once.

    `trial` is what Tune runs for each in place of `trial.run_trial`, to look at the driver alone.
    """
    halving, why_over, why_broken = Halving(settings), "", ""
    for each in study.trials:
        if halving.waits(each):  # broken off at its rung, before that was recorded
            study.end(each["id"])
    study.say = view.say
    view.update(study.record())
    remade = _reopen_damaged(study)
    if any(each["status"] not in OVER for each in study.trials) or halving.due(study.trials, last=True):
        # Tune insists on a folder for its own state; it is not read again and goes at the end.
        with tempfile.TemporaryDirectory(prefix="oneshot-tune-", ignore_cleanup_errors=True) as folder:
            tuner, search = _tuner(
                settings, study, data, packing, view, remade=remade, folder=folder, seconds=seconds, run=trial
            )  # fmt: skip
            try:
                with every(often(study.run), study.take_pulses, name="pulses", patience=0):
                    tuner.fit()
                why_over, why_broken = search.why_over, search.why_broken
            except Exception as error:
                study.interrupt()
                behind: BaseException | None = error
                while behind:  # Tune wraps our error in its own
                    if isinstance(behind, DiskFull):
                        raise behind from None
                    behind = behind.__context__
                cause = last_line(str(error)) or type(error).__name__
                raise RunFailed(f"the search broke off: {cause}; to go on: --resume {study.run.quoted}") from error
    study.interrupt()  # those that the time limit broke off
    study.catch_up()
    study.save()
    if why_broken:
        raise RunFailed(f"{why_broken}; correct that or leave it out; to go on: --resume {study.run.quoted}")
    if why_over:
        raise NoRoom(why_over)
    if study.best() is None:
        reasons = "; ".join(sorted({str(trial["error"]) for trial in study.trials if trial["error"]}))
        if study.waiting():
            reasons = f"the time limit came first; to go on: --resume {study.run.quoted}"
        raise RunFailed(f"no trial of {study.run} finished an epoch: {reasons or 'none was started'}")
    return halving.over(study.trials)


def _reopen_damaged(study: Study) -> dict[str, int]:
    """Let the best trial go on if its network is not available any more, so that what is judged is what was recorded.
    Returns its id, and the rung up to which it is made again, if it ended at one."""
    best = study.best()
    if best is None or best["status"] not in OVER:
        return {}
    found = checkpoint.best(study.folder(best["id"]) / "checkpoints")
    if found is not None and found.progress.epoch == best["best_epoch"]:
        return {}
    remade = {best["id"]: best["epochs"]} if best["status"] == "stopped" else {}
    study.again(best["id"], f"the checkpoint of its best epoch, {best['best_epoch']}, is damaged; it is made again")
    return remade


def _tuner(
    settings: Settings, study: Study, data: Folder, packing: Packing, view: StudyView, *, remade: dict[str, int],
    folder: str, seconds: float | None, run: Callable[..., None] | None,
) -> tuple[Any, Any]:  # fmt: skip
    """Ray's tuner, and the search algorithm that it asks, which says why the search ended."""
    from ray import tune

    from oneshot.search import trial, tuning

    search = tuning.PlannedSearch(
        settings, study, data, concurrent=packing.concurrent, nodes=lambda: len(capacity.nodes()), remade=remade
    )
    tuner = tune.Tuner(
        trial.trainable(packing, run or trial.run_trial),
        tune_config=tune.TuneConfig(
            num_samples=-1, max_concurrent_trials=packing.concurrent, search_alg=search,
            scheduler=tuning.InOrder(), trial_name_creator=trial.name, trial_dirname_creator=trial.folder,
        ),
        run_config=tune.RunConfig(
            name="study", storage_path=folder, verbose=0, callbacks=[tuning.Recorder(study, view)],
            stop=tuning.TimeLimit(seconds),
            failure_config=tune.FailureConfig(max_failures=settings.scale.max_failures),
        ),
    )  # fmt: skip
    return tuner, search
