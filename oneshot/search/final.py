"""The final job: it judges the network of a search's best trial once. The process that waits for it is free of
torch."""

import contextlib
from functools import partial
from typing import Any

from oneshot.base.environment import cores
from oneshot.base.errors import NoRoom, RunFailed
from oneshot.base.jobs import parse
from oneshot.base.settings import Settings
from oneshot.base.storage import Folder
from oneshot.cluster.packing import Packing, patience
from oneshot.run.watch import STAGE, Showing, staged, staging
from oneshot.search.study import Study

START = 60.0  # seconds for the final job's process to start, besides those to find room


def judge_best(
    settings: Settings, study: Study, data: Folder, packing: Packing, *, progress: Showing, alone: bool = False
) -> dict[str, Any]:  # fmt: skip
    """Run the final job, a task on the cluster: the best trial's network goes to `best/` and is judged on the test
    alphabets, and its result is written to `result.json`.

    A network that has its result is not judged again: the test alphabets are touched once. `alone`: nobody else uses
    the cluster, so the job uses all cores of this machine. Raises NoRoom if the job found no room for as long as a
    training waits for it, RunFailed if its process died, and the job's own errors, such as UserError.
    """
    import ray

    from oneshot.cluster import ahead

    best = study.best()
    assert best is not None
    job = ray.remote(
        num_cpus=packing.cpus, num_gpus=packing.gpus, resources=packing.kind, max_retries=2,
        runtime_env=ahead.environment(ahead.OTHER),
    )(_judge)  # fmt: skip
    known = {"id": best["id"], "settings": best["settings"]}
    threads = cores() if alone else packing.cpus
    waits = patience(settings.scale)
    study.run.remove(STAGE)  # left by a session that was killed
    try:
        with staged(study.run, progress):
            judging = job.remote(
                settings.model_dump(), study.run.uri, data.uri, study.folder(best["id"]).uri, best_trial=known,
                device=packing.device, threads=threads,
            )  # fmt: skip
            seen = None
            while not ray.wait([judging], timeout=START + waits)[0]:
                stage = study.patiently(partial(_stage, study.run))
                if stage == seen:  # none, or left by a process that died: Ray waits for room
                    ray.cancel(judging)
                    raise NoRoom(
                        f"the cluster had no room for the final job within {waits:g} s: a node was lost, or others use"
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
    """What a running final job writes again and again; None if there is nothing."""
    with contextlib.suppress(FileNotFoundError):
        return run.read(STAGE)
    return None


def _judge(
    settings: dict[str, Any], run_uri: str, data_uri: str, trial_uri: str, *, best_trial: dict[str, Any], device: str,
    threads: int,
) -> dict[str, Any]:  # fmt: skip
    import torch

    from oneshot.evaluation.once import judge_once
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
        return judge_once(run, data, chosen, device=device, progress=progress)
