"""One training under Ray Train: DDP over its workers, which run the same loop as a training without Ray.

The processes that lead to a worker, a trial's actor or Ray Train's controller, start before it and compute nothing. All
of them import this module, so it stays free of torch, whose import would be half of their work. That is why it extends
Ray Train's DataParallelTrainer, as Ray's own TorchTrainer does, and starts the process group by TorchTrainer's
functions, called in the workers.
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

# Each starts an actor for a training: one for Ray Data, which is not used here; one for what `reclaim` does.
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
    """Train with Ray Train on a connected cluster; the results lie in `run`.

    `name`: the training's, in Ray's dashboard. `callbacks`: Ray Train's, such as the one that hands each report on to
    Tune. `known`: how many epochs have been reported already, and are not reported again. `until`: the epoch to end
    with, if not the settings' last. `followed`: a trial follows this one, so this process and the workers have
    processes started ahead for it. If a worker is lost, silent or without room, the training restarts from its last
    checkpoint, `scale.max_failures` times; so it does if Ray Train's controller is lost. Raises RunFailed if the
    training ends without a result, NoRoom if that is for want of room, UserError if a worker refused its input.
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
    """Turn the error with which Ray Train ended a training into one that says what happened."""
    for failed in getattr(error, "worker_failures", {}).values():
        if isinstance(failed, DiskFull):
            return failed
    if failure := read_failure(run):  # written by rank 0 alone: the others waited for it
        return UserError(failure)
    if isinstance(homeless := getattr(error, "controller_failure", None), NoRoom):
        return NoRoom(
            f"the training in {run} failed: the cluster had no room for its {scale.least} worker(s) within"
            f" {scale.timeout:g} s, {homeless}: a node was lost, or others use it; started again, it goes on from its"
            " last checkpoint"
        )
    told = last_line(str(error)).removeprefix(f"{RunFailed.__module__}.{RunFailed.__name__}: ")
    return RunFailed(f"the training in {run} failed: {told or type(error).__name__}")


def _trainer(
    settings: Settings, data: Folder, run: Folder, packing: Packing, *, known: int, until: int | None, name: str,
    callbacks: list[Any], followed: bool, mark: str,
) -> Any:  # fmt: skip
    scale = settings.scale
    # Handed on to Ray Train's controller. The watchdog of a worker that misses a report ends it before COLLECTIVE does.
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
    # What Ray Train notes of a training is not read again, and is removed at its end. The controller runs on this node,
    # so the notes lie beside Ray's logs.
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
    """Run in each of Ray Train's workers. The processes that lead to one do without the imports of `worker`."""
    from oneshot.cluster import worker

    worker.train(config)


class Trainer(DataParallelTrainer):
    """Starts no actor that is not needed: none for the callbacks in NEEDLESS, and none for Ray Train's controller if
    this process is an actor itself.

    Interrupts are left to this program: Ray's own handler would end the process as if all were done.
    """

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
    """Joins the workers: several with GPUs by nccl, else by gloo. `seconds`: how long an operation waits for the other
    workers. `kind`: the backend to use instead."""

    def __init__(self, seconds: float, kind: str | None = None) -> None:
        self.seconds, self.kind = int(seconds), kind

    @property
    def backend_cls(self) -> type[Backend]:
        return _Joining


class _Joining(Backend):
    share_cuda_visible_devices = True  # nccl between the GPUs of a node needs each worker to see them all

    def on_start(self, worker_group: Any, config: ProcessGroup) -> None:
        several, gpus = len(worker_group) > 1, worker_group.get_resources_per_worker().get("GPU")
        kind = config.kind or ("nccl" if several and gpus else "gloo")
        ranks = range(len(worker_group))
        try:
            address, port = worker_group.execute_single(0, get_address_and_port)
            group = kind, len(worker_group), address, port, config.seconds
            ray.get([worker_group.execute_single_async(rank, _join, rank, *group) for rank in ranks])
        except ray.exceptions.RayError as error:
            # Ray Train itself starts again only after a worker's death, and by then has dropped the group: its cores
            # would stay held, and the next group would wait for them.
            worker_group._worker_group_state.shutdown()
            died = isinstance(error, RayActorError)
            why = "the process of one died: killed, or out of memory" if died else last_line(str(error))
            raise WorkerGroupStartupFailedError(f"the workers did not join: {why}") from error

    def on_shutdown(self, worker_group: Any, config: ProcessGroup) -> None:
        with contextlib.suppress(ray.exceptions.GetTimeoutError):
            ray.get(worker_group.execute_async(_leave), timeout=LEAVE)


def _join(rank: int, kind: str, world_size: int, address: str, port: int, seconds: int) -> None:
    """A worker's part: set the variables that torch and its users expect in the environment, and join the group."""
    from ray.train.torch import config

    # Gloo listens where the host's own name points. On many machines that is loopback, which no other node reaches.
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
