"""One training: alone in this process, or under Ray Train. Both build a Worker and call the same loop."""

import contextlib
import json
import os
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import torch

from oneshot import artifact, checkpoint, formats, modelcard, owner, trust
from oneshot.checkpoint import Progress, check_same
from oneshot.environment import environment
from oneshot.errors import DiskFull, RunFailed, UserError
from oneshot.loop import DIVERGED, HISTORY, NOTES, Watch, fit, write_history
from oneshot.packing import Packing
from oneshot.parts import load_parts
from oneshot.settings import Settings, parse, parse_toml
from oneshot.storage import Folder
from oneshot.worker import ProcessGroupWorker, Worker

EXPERIMENT, FAILURE = "experiment.toml", "error.json"


def train_here(
    settings: Settings, data: Folder, run: Folder, *, device: torch.device, watch: Watch | None = None
) -> Progress:
    """Train in this process: one worker, no Ray, every core. Raises UserError."""
    worker = Worker(device, precision=settings.train.precision)
    return fit(worker, settings, load_parts(data, settings.data), run, watch=watch)


def train_on_ray(
    settings: Settings,
    data: Folder,
    run: Folder,
    packing: Packing,
    *,
    name: str,
    known: int = 0,
    callbacks: list[Any] | None = None,
) -> None:
    """Train with Ray Train on a connected cluster; what came of it lies in `run`.

    `name`: in Ray's dashboard. `callbacks`: Ray Train's, as the one that hands each report on to Tune, to which the
    first `known` epochs are no news. A lost, silent or homeless worker restarts the training from its last checkpoint,
    `scale.max_failures` times; so does the loss of Ray Train's controller. Raises RunFailed where it ends without a
    result, UserError where a worker refused its input.
    """
    from ray.exceptions import RayActorError

    from oneshot.trainer import no_room

    scale = settings.scale
    if run.has(FAILURE):
        run.write_json(FAILURE, None)
    for left in reversed(range(1 + scale.max_failures)):
        try:
            trainer = _trainer(settings, data, run, packing, known=known, name=name, callbacks=callbacks or [])
            trainer.fit()
            break
        except Exception as error:
            if isinstance(error, RayActorError) and left:
                continue  # the controller itself; it copes with the death of its workers
            for failed in getattr(error, "worker_failures", {}).values():
                if isinstance(failed, DiskFull):
                    raise failed from None
            reason = no_room(error, scale) or last_line(str(error)) or type(error).__name__
            raise RunFailed(f"the training in {run} failed: {reason}") from error
    if failure := read_failure(run):
        raise UserError(failure)


def read_failure(run: Folder) -> str | None:
    """Why a training under Ray ended without a result, as it was written down."""
    failure = run.read_json(FAILURE) if run.has(FAILURE) else None
    return str(failure.get("error")) if isinstance(failure, dict) else None


def _trainer(
    settings: Settings, data: Folder, run: Folder, packing: Packing, *, known: int, name: str, callbacks: list[Any]
) -> Any:  # fmt: skip
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig

    from oneshot.trainer import Config, Elastic, Trainer

    scale = settings.scale
    for variable in ("WORKER_HEALTH_CHECK", "WORKER_GROUP_START"):  # handed on to Ray Train's controller
        os.environ[f"RAY_TRAIN_{variable}_TIMEOUT_S"] = str(scale.timeout)
    resources = {"CPU": packing.cpus} | ({"GPU": packing.gpus} if packing.gpus else {})
    numbers = scale.numbers(settings.train.batch)
    workers = numbers[0] if len(numbers) == 1 else (numbers[0], numbers[-1])
    scaling = ScalingConfig(num_workers=workers, use_gpu=bool(packing.gpus), resources_per_worker=resources)
    # What Ray Train notes of a training is not read again. Its controller runs on this node and puts it to Ray's logs.
    session = ray.get_runtime_context()
    notes = f"{session.get_temp_dir()}/{session.get_session_name()}/trainings"
    return Trainer(
        _train_worker,
        train_loop_config={
            "settings": settings.model_dump(), "data": data.uri, "run": run.uri, "cpus": packing.cpus, "known": known,
        },
        torch_config=Config(timeout_s=int(scale.timeout)),
        scaling_config=scaling,
        elastic=Elastic(scaling, packing=packing, numbers=numbers) if len(numbers) > 1 else None,
        run_config=RunConfig(
            name=f"{name}-{uuid.uuid4().hex[:8]}", storage_path=notes,
            failure_config=FailureConfig(max_failures=scale.max_failures, controller_failure_limit=scale.max_failures),
            callbacks=callbacks,
        ),
    )  # fmt: skip


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
        fit(worker, settings, load_parts(Folder.of(config["data"]), settings.data), run, known=config["known"])
    except UserError as error:
        # Raising would make Ray Train restart what can only fail again. Every rank meets the same input and returns.
        if train.get_context().get_world_rank() == 0:
            run.write_json(FAILURE, {"error": str(error)})


def last_line(text: str) -> str:
    """The last line that is not blank, where Ray puts the cause of a remote failure; empty where there is none."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


@contextlib.contextmanager
def open_run(settings: Settings, run: Folder, *, fixed: tuple[str, ...]) -> Iterator[None]:
    """Make the run folder and write the resolved settings; for the time of the block no second process may train in it.

    Raises UserError where it holds something else, or a run whose `fixed` sections are others, or is in use, or is
    another user's.
    """
    trust.check(run)
    if run.has(EXPERIMENT):
        check_same(read_experiment(run).model_dump(), settings, f"{run} holds a run", fixed=fixed)
    elif set(run.names()) - {owner.NOTE}:
        raise UserError(f"{run} is not empty and holds no run; name another --run")
    run.make()
    with owner.sole(run):
        run.write(EXPERIMENT, settings.to_toml().encode())
        yield


def read_experiment(run: Folder) -> Settings:
    """The settings as a run resolved them. Raises UserError where the file is damaged."""
    return parse_toml(run.read(EXPERIMENT), run.file(EXPERIMENT))


def finish(
    settings: Settings,
    run: Folder,
    *,
    data: Folder | None = None,
    trial: Folder | None = None,
    best_trial: dict[str, Any] | None = None,
) -> None:
    """Write `best/`: the best epoch's network, where it is from, and its model card. On the validation part of `data`
    its probabilities are calibrated; without, they are not. Raises RunFailed where no epoch was finished."""
    found = checkpoint.best((trial or run) / "checkpoints")
    if found is None:
        raise RunFailed(f"no epoch of {trial or run} was finished: there is no network to keep")
    best_trial = best_trial or {"id": None, "settings": {}}
    provenance = {
        "best_trial": best_trial | {"epoch": found.progress.epoch, "val_loss": found.progress.best_loss},
        "settings": found.settings,
        "environment": environment(),
    }
    given = settings.data.model_copy(update={"extra_alphabets": 0})  # which are taught, not measured
    validation = load_parts(data, given).validation if data else None
    artifact.save(run / "best", data=found, provenance=provenance, validation=validation)
    modelcard.write(run)


@contextlib.contextmanager
def following(run: Folder, watch: Watch) -> Iterator[None]:
    """Show a training that runs in other processes, for the time of the block: each new note and row of its history."""
    seconds = 0.5 if run.is_local else 5.0  # to look costs requests
    over, shown, heard = threading.Event(), len(read_history(run)), len(read_notes(run))

    def show() -> None:
        nonlocal shown, heard
        notes, rows = read_notes(run), read_history(run)
        for note in notes[heard:]:
            watch.note(note)
        heard = len(notes)
        for row in rows[shown:]:
            if row["val_loss"] is None:
                watch.note(DIVERGED.format(epoch=row["epoch"]))
            else:
                watch.epoch(row, row["best"])
        shown = max(shown, len(rows))

    def loop() -> None:
        while not over.wait(seconds):
            with contextlib.suppress(RunFailed):  # its store is out of reach for a moment
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
        raise UserError(
            f"{run.file(HISTORY)} is damaged ({error}); restore it, or remove it: the checkpoints know it too"
        ) from None
    return rows


def restore_history(run: Folder) -> list[dict[str, Any]]:
    """Write a lost history again from the newest whole checkpoint, which holds it too; its rows, none without one."""
    found, _ = checkpoint.newest(run / "checkpoints")
    if found is None:
        return []
    write_history(run, found.progress.history)
    return found.progress.history


def read_notes(run: Folder) -> list[str]:
    """What befell a training, a sentence each. Raises UserError where the file is damaged."""
    if not run.has(NOTES):
        return []
    try:
        return [str(json.loads(line)["note"]) for line in run.read(NOTES).splitlines()]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{run.file(NOTES)} is damaged ({error!r}); restore it or remove it") from None


if __name__ == "__main__":
    from oneshot.cli import main

    main(["train"])
