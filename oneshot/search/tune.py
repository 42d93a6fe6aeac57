"""The search: Ray Tune over Ray Train, stopped early on the all-reduced validation loss; then the final job.

A trial's history and checkpoints, which its training writes into the run folder, are the truth. Tune keeps no state
that a later session reads: a trial that goes on, in this session or a later one, is a new one to Tune. This process is
free of torch: it only drives.
"""

import contextlib
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

from oneshot.base.beside import every
from oneshot.base.environment import cores
from oneshot.base.errors import DiskFull, NoRoom, RunFailed, last_line
from oneshot.base.jobs import parse
from oneshot.base.settings import Settings
from oneshot.base.storage import Folder
from oneshot.cluster import connection
from oneshot.cluster.packing import Packing
from oneshot.evaluation.judgement import RESULT, result_of
from oneshot.run import checkpoint
from oneshot.run.watch import STAGE, Showing, often, staged, staging
from oneshot.screen.live import StudyView
from oneshot.search.halving import Halving
from oneshot.search.study import OVER, Study

START = 60.0  # seconds for the final job's process to start, beyond those to find room


def tune(
    settings: Settings, study: Study, data: Folder, packing: Packing, view: StudyView, *, seconds: float | None = None,
    trial: Callable[..., None] | None = None,
) -> bool:  # fmt: skip
    """Run the trials of a study that are not over yet, on a connected cluster; whether all of them were.

    After `seconds` the search ends where it is: trials that run keep their checkpoints and wait. A trial that fails
    does not stop the others, unless many do at once; one whose process dies goes on, `scale.max_failures` times; one
    that finds no room waits. Raises NoRoom where none finds any, RunFailed where no trial has anything to show and
    where many failed at once.

    `trial` is what Tune runs for each in place of `trial.run_trial`, where it is the driver that is looked at.
    """
    halving, why_over, why_broken = Halving(settings), "", ""
    for each in study.trials:
        if halving.waits(each):  # broken off between its rung and the word of it
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
                while behind:  # Tune makes its own error of ours
                    if isinstance(behind, DiskFull):
                        raise behind from None
                    behind = behind.__context__
                cause = last_line(str(error)) or type(error).__name__
                raise RunFailed(f"the search broke off: {cause}; to go on: --resume {study.run.quoted}") from error
    study.interrupt()  # those that the time limit broke off
    study.catch_up()
    study.save()
    if why_broken:
        raise RunFailed(f"{why_broken}; mend that or leave it out; to go on: --resume {study.run.quoted}")
    if why_over:
        raise NoRoom(why_over)
    if study.best() is None:
        reasons = "; ".join(sorted({str(trial["error"]) for trial in study.trials if trial["error"]}))
        if study.waiting():
            reasons = f"the time limit came first; to go on: --resume {study.run.quoted}"
        raise RunFailed(f"no trial of {study.run} finished an epoch: {reasons or 'none was started'}")
    return halving.over(study.trials)


def _reopen_damaged(study: Study) -> dict[str, int]:
    """The best trial goes on where its network is not to be had any more: what is judged is what was recorded. Its id,
    and the rung up to which it is made again, if it ended at one."""
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
    """Ray's tuner and the search that it asks, which says when it is over."""
    from ray import tune

    from oneshot.search import trial, tuning

    search = tuning.PlannedSearch(
        settings, study, data, concurrent=packing.concurrent, nodes=lambda: len(connection.nodes()), remade=remade
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


def judge_best(
    settings: Settings, study: Study, data: Folder, packing: Packing, *, progress: Showing, alone: bool = False
) -> dict[str, Any]:  # fmt: skip
    """The final job, a task on the cluster: the best trial's network goes to `best/` and is judged on the test
    alphabets; its result is written to `result.json`. A network that has its result is not judged again: the test
    alphabets are touched once. `alone`: nobody else uses the cluster, and the job all cores of this machine. Raises
    NoRoom where it found none for as long as a training waits for it, RunFailed, UserError."""
    import ray

    from oneshot.cluster import ahead

    best = study.best()
    assert best is not None
    kind = ahead.environment(ahead.OTHER)
    job = ray.remote(num_cpus=packing.cpus, num_gpus=packing.gpus, max_retries=2, runtime_env=kind)(_judge)
    known = {"id": best["id"], "settings": best["settings"]}
    threads = cores() if alone else packing.cpus
    patience = settings.scale.timeout * (1 + settings.scale.max_failures)
    study.run.remove(STAGE)  # of a session that was killed
    try:
        with staged(study.run, progress):
            judging = job.remote(
                settings.model_dump(), study.run.uri, data.uri, study.folder(best["id"]).uri, best_trial=known,
                device=packing.device, threads=threads,
            )  # fmt: skip
            seen = None
            while not ray.wait([judging], timeout=START + patience)[0]:
                stage = study.patiently(partial(_stage, study.run))
                if stage == seen:  # nothing, or what a process left that died: Ray waits to run it again
                    ray.cancel(judging)
                    raise NoRoom(
                        f"the cluster had no room for the final job for {patience:g} s: a node is lost, or others use"
                        " it"
                    )
                seen = stage
            return ray.get(judging)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None  # without the traceback that Ray makes part of the message
    except ray.exceptions.RayError as error:
        raise RunFailed(
            f"the process of the final job died, or its node ({type(error).__name__}): killed, or out of memory; to go"
            f" on: --resume {study.run.quoted}"
        ) from error


def _stage(run: Folder) -> bytes | None:
    """What a final job that runs writes again and again; None where there is nothing."""
    with contextlib.suppress(FileNotFoundError):
        return run.read(STAGE)
    return None


def _judge(
    settings: dict[str, Any], run_uri: str, data_uri: str, trial_uri: str, *, best_trial: dict[str, Any], device: str,
    threads: int,
) -> dict[str, Any]:  # fmt: skip
    import torch

    from oneshot.evaluation import modelcard
    from oneshot.evaluation.evaluate import evaluate
    from oneshot.network.worker import pick_device
    from oneshot.training.train import finish

    torch.set_num_threads(threads)
    chosen = parse(settings, "the run's settings")
    # Addresses, not folders: each node has credentials of its own.
    run, data, trial = Folder.of(run_uri), Folder.of(data_uri), Folder.of(trial_uri)
    with staging(run) as progress:
        finish(
            chosen, run, device=pick_device(device), data=data, trial=trial, best_trial=best_trial, progress=progress
        )  # fmt: skip
        if result := result_of(run):
            return result
        result = evaluate(
            run, data, dataset=chosen.data.dataset, split=chosen.data.split, how=chosen.evaluate, device=device,
            keep=True, progress=progress,
        )  # fmt: skip
    run.write_json(RESULT, result)
    modelcard.write(run)
    return result
