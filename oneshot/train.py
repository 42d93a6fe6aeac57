"""One training: alone in this process, or under Ray Train. Both build a Worker and call the same loop."""

import contextlib
import fcntl
import json
import os
import threading
from collections.abc import Iterator
from typing import Any

import torch

from oneshot import artifact, checkpoint, formats
from oneshot.batches import dataset
from oneshot.checkpoint import Progress
from oneshot.cluster import Packing
from oneshot.data import splits, store
from oneshot.environment import environment
from oneshot.errors import RunFailed, UserError
from oneshot.loop import DIVERGED, HISTORY, Parts, Watch, fit
from oneshot.settings import Settings, check_same, parse, parse_toml
from oneshot.storage import Folder
from oneshot.worker import ProcessGroupWorker, Worker

EXPERIMENT, FAILURE = "experiment.toml", "error.json"


def load_parts(data: Folder, split: str) -> Parts:
    """The training and validation drawings of a split; the test alphabets' pixels are not read. Raises UserError."""
    parts = splits.split(split, store.describe(data))
    return Parts(splits.load_part(data, parts.train), splits.load_part(data, parts.validation))


def check(settings: Settings, data: Folder) -> None:
    """Raises UserError where the training drawings cannot give the batches that the settings ask for. No pixel is
    read."""
    part = splits.split(settings.data.split, store.describe(data)).train
    dataset(splits.load_part(data, part, pixels=False), data=settings.data, train=settings.train)


def train_here(
    settings: Settings, data: Folder, run: Folder, *, device: torch.device, watch: Watch | None = None
) -> Progress:
    """Train in this process: one worker, no Ray, every core. Raises UserError."""
    worker = Worker(device, precision=settings.train.precision)
    return fit(worker, settings, load_parts(data, settings.data.split), run, watch=watch)


def train_on_ray(
    settings: Settings,
    data: Folder,
    run: Folder,
    packing: Packing,
    *,
    known: int = 0,
    callbacks: list[Any] | None = None,
) -> None:
    """Train with Ray Train on a connected cluster; what came of it lies in `run`.

    `callbacks`: Ray Train's, as the one that hands each report on to Tune, to which the first `known` epochs are no
    news. A lost worker or node restarts the training from its last checkpoint, `scale.max_failures` times. Raises
    RunFailed where it ends without a result, UserError where a worker refused its input.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    if run.has(FAILURE):
        run.write_json(FAILURE, None)
    resources = {"CPU": packing.cpus} | ({"GPU": packing.gpus} if packing.gpus else {})
    trainer = TorchTrainer(
        _train_worker,
        train_loop_config={
            "settings": settings.model_dump(),
            "data": data.uri,
            "run": run.uri,
            "cpus": packing.cpus,
            "known": known,
        },
        scaling_config=ScalingConfig(
            num_workers=packing.workers, use_gpu=bool(packing.gpus), resources_per_worker=resources
        ),
        run_config=RunConfig(
            name="ray",
            storage_path=run.path,
            storage_filesystem=None if run.is_local else run.filesystem,
            failure_config=FailureConfig(max_failures=settings.scale.max_failures),
            callbacks=callbacks or [],
        ),
    )
    try:
        trainer.fit()
    except Exception as error:
        raise RunFailed(f"the training in {run} failed: {last_line(str(error)) or type(error).__name__}") from error
    failure = run.read_json(FAILURE) if run.has(FAILURE) else None
    if failure:
        raise UserError(failure["error"])


def _train_worker(config: dict[str, Any]) -> None:
    """What each of Ray Train's workers runs."""
    from ray import train
    from ray.train.torch import get_device

    class RayWorker(ProcessGroupWorker):
        def report(self, row: dict[str, Any]) -> None:
            train.report(row)

    torch.set_num_threads(config["cpus"])  # not more than its share: oversubscribed cores are the usual loss on CPU
    settings, run = parse(config["settings"], "the run's settings"), Folder.of(config["run"])
    try:
        worker = RayWorker(get_device(), precision=settings.train.precision)
        parts = load_parts(Folder.of(config["data"]), settings.data.split)
        fit(worker, settings, parts, run, known=config["known"])
    except UserError as error:
        # Raising would make Ray Train restart what can only fail again. Every rank meets the same input and returns.
        if train.get_context().get_world_rank() == 0:
            run.write_json(FAILURE, {"error": str(error)})


def last_line(text: str) -> str:
    """The last line that is not blank, where Ray puts the cause of a remote failure; empty where there is none."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def open_run(settings: Settings, run: Folder, *, fixed: tuple[str, ...]) -> None:
    """Make the run folder and write the resolved settings. Raises UserError where it holds something else, or a run
    whose `fixed` sections are others."""
    if run.has(EXPERIMENT):
        check_same(read_experiment(run).model_dump(), settings, f"{run} holds a run", fixed=fixed)
    elif run.names():
        raise UserError(f"{run} is not empty and holds no run; name another --run")
    run.write(EXPERIMENT, settings.to_toml().encode())


@contextlib.contextmanager
def sole_owner(run: Folder) -> Iterator[None]:
    """Hold a run folder for the time of the block, so that no second process trains in it. Raises UserError.

    A lock of the operating system: it goes with the process, however that ends. Object stores have none; there the two
    would overwrite each other's files.
    """
    if not run.is_local:
        yield
        return
    with open(run.file(".lock"), "a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            raise UserError(
                f"{run} is in use by process {lock.read().strip() or '?'}: wait for it or stop it"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def read_experiment(run: Folder) -> Settings:
    """The settings as a run resolved them. Raises UserError where the file is damaged."""
    return parse_toml(run.read(EXPERIMENT), run.file(EXPERIMENT))


def finish(
    settings: Settings, run: Folder, *, trial: Folder | None = None, best_trial: dict[str, Any] | None = None
) -> None:
    """Write `best/`: the best epoch's network and where it is from. Raises RunFailed where no epoch was finished."""
    found = checkpoint.best((trial or run) / "checkpoints")
    if found is None:
        raise RunFailed(f"no epoch of {trial or run} was finished: there is no network to keep")
    best_trial = best_trial or {"id": None, "settings": {}}
    provenance = {
        "best_trial": best_trial | {"epoch": found.progress.epoch, "val_loss": found.progress.best_loss},
        "settings": found.settings,
        "environment": environment(),
    }
    artifact.save(run / "best", data=found, provenance=provenance)


@contextlib.contextmanager
def following(run: Folder, watch: Watch, *, seconds: float = 0.5) -> Iterator[None]:
    """Show a training that runs in other processes, for the time of the block: each new row of its history."""
    over, shown = threading.Event(), len(read_history(run))

    def show() -> None:
        nonlocal shown
        rows = read_history(run)
        for row in rows[shown:]:
            if row["val_loss"] is None:
                watch.note(DIVERGED.format(epoch=row["epoch"]))
            else:
                watch.epoch(row, row["best"])
        shown = max(shown, len(rows))

    def loop() -> None:
        while not over.wait(seconds):
            show()

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        show()


def read_history(run: Folder) -> list[dict[str, Any]]:
    """The rows of a training's history, one an epoch; none where it has not finished one. Raises UserError."""
    if not run.has(HISTORY):
        return []
    try:
        rows = [json.loads(line) for line in run.read(HISTORY).splitlines()]
        for row in rows:
            formats.check(formats.Row, row)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{run.file(HISTORY)} is damaged ({error}); restore it or remove its folder") from None
    return rows


if __name__ == "__main__":
    from oneshot.cli import main

    main(["train"])
