"""One training under Ray Train: DDP over its workers, which run the same loop as everybody.

The processes that lead to a worker, a trial's actor or Ray Train's controller, start before it and multiply nothing:
this module, which all import, stays free of torch, whose import would be half of what they do. That is why it extends
Ray Train's DataParallelTrainer, as Ray's own TorchTrainer does, and starts the process group by the functions of that
one, called in the workers.
"""

import asyncio
import contextlib
import os
import shutil
import uuid
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import ray
import ray.train
from ray.exceptions import RayActorError
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train._internal.utils import get_address_and_port
from ray.train.backend import Backend, BackendConfig
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.exceptions import WorkerGroupStartupFailedError
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from oneshot.base.errors import DiskFull, NoRoom, RunFailed, UserError, last_line
from oneshot.base.settings import Scale, Settings
from oneshot.base.storage import Folder
from oneshot.cluster import ahead, elastic
from oneshot.cluster.packing import Packing
from oneshot.run.history import FAILURE, read_failure, start
from oneshot.run.watchdog import still

# Each starts an actor for a training: one for Ray Data, which nothing here reads by; one for what `reclaim` does.
NEEDLESS = (DatasetsCallback, PlacementGroupCleanerCallback)
LEAVE = 5.0  # seconds that workers have to leave their process group before they are ended


def train_on_ray(
    settings: Settings,
    data: Folder,
    run: Folder,
    packing: Packing,
    *,
    name: str,
    known: int = 0,
    until: int | None = None,
    callbacks: list[Any] | None = None,
    followed: bool = False,
) -> None:
    """Train with Ray Train on a connected cluster; what came of it lies in `run`.

    `name`: in Ray's dashboard. `callbacks`: Ray Train's, as the one that hands each report on to Tune, to which the
    first `known` epochs are no news. `until`: the epoch to end with, where it is not the settings' last. `followed`:
    this process, a trial's, and the workers have processes started ahead for the trial that follows. A lost, silent
    or homeless worker restarts the training from its last checkpoint, `scale.max_failures` times; so does the loss of
    Ray Train's controller. Raises RunFailed where it ends without a result, NoRoom where that is for want of room,
    UserError where a worker refused its input.
    """
    trainer = partial(
        _trainer, settings, data, run, packing, known=known, until=until, name=name, callbacks=callbacks or [],
        followed=followed, mark=start(run),
    )  # fmt: skip
    if run.has(FAILURE):
        run.write_json(FAILURE, None)
    for left in reversed(range(1 + settings.scale.max_failures)):
        try:
            trainer().fit()
            break
        except Exception as error:
            if not (isinstance(error, RayActorError) and left):  # the controller copes with all but its own death
                raise _explained(error, run, settings.scale) from error
    if failure := read_failure(run):
        raise UserError(failure)


def _explained(error: Exception, run: Folder, scale: Scale) -> Exception:
    """What Ray Train ended a training with, as an error that says what happened."""
    for failed in getattr(error, "worker_failures", {}).values():
        if isinstance(failed, DiskFull):
            return failed
    if failure := read_failure(run):  # of rank 0 alone: the others waited for it
        return UserError(failure)
    if isinstance(homeless := getattr(error, "controller_failure", None), NoRoom):
        return NoRoom(
            f"the training in {run} failed: the cluster had no room for its {scale.least} worker(s) for"
            f" {scale.timeout:g} s, {homeless}: a node is lost, or others use it; started again, it goes on from its"
            " last checkpoint"
        )
    told = last_line(str(error)).removeprefix(f"{RunFailed.__module__}.{RunFailed.__name__}: ")
    return RunFailed(f"the training in {run} failed: {told or type(error).__name__}")


def _trainer(
    settings: Settings, data: Folder, run: Folder, packing: Packing, *, known: int, until: int | None, name: str,
    callbacks: list[Any], followed: bool, mark: str,
) -> Any:  # fmt: skip
    scale = settings.scale
    # Handed on to Ray Train's controller. Who does not come to a report is ended by its own watchdog before.
    limits = {
        "WORKER_HEALTH_CHECK": scale.timeout,
        "WORKER_GROUP_START": scale.timeout,
        "COLLECTIVE": 2 * still(scale),
    }
    for variable, seconds in limits.items():
        os.environ[f"RAY_TRAIN_{variable}_TIMEOUT_S"] = str(seconds)
    resources = {"CPU": packing.cpus} | ({"GPU": packing.gpus} if packing.gpus else {}) | packing.kind
    numbers = scale.numbers(settings.train.batch)
    workers = numbers[0] if len(numbers) == 1 else (numbers[0], numbers[-1])
    scaling = ScalingConfig(num_workers=workers, use_gpu=bool(packing.gpus), resources_per_worker=resources)
    # What Ray Train notes of a training is not read again: it goes with the training. Its controller runs on this node
    # and puts it to Ray's logs.
    session = ray.get_runtime_context()
    notes = f"{session.get_temp_dir()}/{session.get_session_name()}/trainings"
    return Trainer(
        _train_worker,
        train_loop_config={
            "settings": settings.model_dump(), "data": data.uri, "run": run.uri, "mark": mark,
            "cpus": packing.cpus, "gpus": packing.gpus, "known": known, "until": until,
            "followed": ahead.this_process() if followed else None,
        },
        backend_config=ProcessGroup(seconds=scale.timeout),
        scaling_config=scaling,
        policy=elastic.policy(
            scaling, packing=packing, numbers=numbers, restarts=scale.max_failures, grows=bool(scale.autoscaler)
        ),
        run_config=RunConfig(
            name=f"{name}-{uuid.uuid4().hex[:8]}", storage_path=notes,
            worker_runtime_env=ahead.environment(ahead.WORKER),
            failure_config=FailureConfig(max_failures=scale.max_failures),  # failed starts are counted by the policy
            callbacks=callbacks,
        ),
    )  # fmt: skip


def _train_worker(config: dict[str, Any]) -> None:
    """What each of Ray Train's workers runs. By this name: the processes that lead to one do without its imports."""
    from oneshot.cluster import worker

    worker.train(config)


class Trainer(DataParallelTrainer):
    """Starts no actor that it can do without: none that is NEEDLESS, and none for Ray Train's controller where it is
    in an actor itself. An interrupt is this program's to handle: Ray's own handler would end the process as if all were
    done."""

    def __init__(self, *arguments: Any, policy: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.policy = policy

    def fit(self) -> Any:
        try:
            return super().fit()
        finally:  # a search of weeks would leave thousands of folders
            shutil.rmtree(Path(self.run_config.storage_path, self.run_config.name), ignore_errors=True)

    def _initialize_and_run_controller(self, **given: Any) -> Any:
        given["scaling_policy"] = self.policy
        if ray.get_runtime_context().get_actor_id() is None:
            return super()._initialize_and_run_controller(**given)
        controller = TrainController(**given)  # in a trial's own actor: it has nothing else to do
        asyncio.run(controller.run())
        return controller.get_result()

    def _register_sigint_handler(self, controller: object) -> None: ...

    def _create_default_callbacks(self) -> list[object]:
        callbacks = super()._create_default_callbacks()
        return [each for each in callbacks if not isinstance(each, NEEDLESS)]


class ProcessGroup(BackendConfig):
    """Joins the workers: several with GPUs by nccl, else gloo. `seconds`: how long an operation waits for the others.
    `kind`: instead of these."""

    def __init__(self, seconds: float, kind: str | None = None) -> None:
        self.seconds, self.kind = int(seconds), kind

    @property
    def backend_cls(self) -> type[Backend]:
        return _Joining


class _Joining(Backend):
    share_cuda_visible_devices = True  # nccl between the GPUs of a node wants each worker to see them all

    def on_start(self, worker_group: Any, config: ProcessGroup) -> None:
        several, gpus = len(worker_group) > 1, worker_group.get_resources_per_worker().get("GPU")
        kind = config.kind or ("nccl" if several and gpus else "gloo")
        ranks = range(len(worker_group))
        try:
            address, port = worker_group.execute_single(0, get_address_and_port)
            group = kind, len(worker_group), address, port, config.seconds
            ray.get([worker_group.execute_single_async(rank, _join, rank, *group) for rank in ranks])
        except ray.exceptions.RayError as error:
            # Ray Train starts again after a worker's death alone, and by then forgets the group: its cores would stay
            # held, and the next one wait for them.
            worker_group._worker_group_state.shutdown()
            died = isinstance(error, RayActorError)
            why = "the process of one died: killed, or out of memory" if died else last_line(str(error))
            raise WorkerGroupStartupFailedError(f"the workers did not join: {why}") from error

    def on_shutdown(self, worker_group: Any, config: ProcessGroup) -> None:
        with contextlib.suppress(ray.exceptions.GetTimeoutError):
            ray.get(worker_group.execute_async(_leave), timeout=LEAVE)


def _join(rank: int, kind: str, world_size: int, address: str, port: int, seconds: int) -> None:
    """A worker's part: what torch and its users expect in the environment, and the group."""
    from ray.train.torch import config

    # Gloo listens where the host's own name points, which on many machines is loopback: no other node gets there.
    here = ray.util.get_node_ip_address()
    names = [name for name, found in psutil.net_if_addrs().items() if any(each.address == here for each in found)]
    if names:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", names[0])
    os.environ.update(MASTER_ADDR=address, MASTER_PORT=str(port))
    config._set_torch_distributed_env_vars()
    config._setup_torch_process_group(kind, rank, world_size, "env://", seconds)


def _leave() -> None:
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()
