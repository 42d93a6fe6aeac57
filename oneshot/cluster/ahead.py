"""Starts the processes of the next trial ahead of time, while the current one trains.

Importing Python packages, the first thing a Ray process does, takes longer than anything else between two trials. So
each process of a trial that another will follow has Ray start one more process like it on its node. The new process
imports what its kind needs and waits. Ray gives it to the first actor of the same environment, or ends it with the job.
"""

import contextlib
import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import ray
from ray._private.grpc_utils import init_grpc_channel
from ray._private.ray_constants import GLOBAL_GRPC_OPTIONS
from ray.core.generated import common_pb2, node_manager_pb2, node_manager_pb2_grpc
from ray.experimental import internal_kv

from oneshot.base import garbage, memory

KIND, DRIVER, WORKER, OTHER = "ONESHOT_PROCESS", "driver", "worker", "other"  # in a process's environment
IMPORTS = {DRIVER: ["oneshot.search.trial"], WORKER: ["oneshot.cluster.worker"], OTHER: []}
HOURS = 24  # for which a process started ahead waits
PATIENCE = 5.0  # seconds for a node to answer


@dataclass(frozen=True)
class Process:
    """What Ray tells processes apart by: the node (its raylet's HOST:PORT), the job and the runtime environment."""

    raylet: str
    job: bytes
    environment: str

    def start_another(self) -> None:
        """Ask Ray to start one more, without waiting for it. Raises RuntimeError if the request fails."""
        request = node_manager_pb2.PrestartWorkersRequest(
            language=common_pb2.Language.PYTHON, job_id=self.job, num_workers=1,
            keep_alive_duration_secs=HOURS * 3600,
        )  # fmt: skip
        request.runtime_env_info.serialized_runtime_env = self.environment
        channel = init_grpc_channel(self.raylet, options=GLOBAL_GRPC_OPTIONS)
        try:
            node_manager_pb2_grpc.NodeManagerServiceStub(channel).PrestartWorkers(request, timeout=PATIENCE)
        except grpc.RpcError as error:
            raise RuntimeError(f"{self.raylet}: {error.code().name}") from None
        finally:
            channel.close()


def first(training: str) -> bool:
    """Whether this is the first call for a training, by its name. Raises RuntimeError if Ray does not answer."""
    try:
        return not internal_kv._internal_kv_put(f"oneshot-ahead-{training}", b"", overwrite=False)  # whether it existed
    except ray.exceptions.RayError as error:
        raise RuntimeError(f"Ray's head: {type(error).__name__}") from None


def environment(kind: str) -> dict[str, Any]:
    """The runtime environment of processes of a kind. A process without one is a trial's driver."""
    return {"env_vars": {KIND: kind} | (memory.ONE_ARENA if kind == WORKER else {})}  # it trains in a thread


def this_process() -> Process:
    """This process, which must be an actor of Ray."""
    context: Any = ray.get_runtime_context()
    here = next(node for node in ray.nodes() if node["NodeID"] == context.get_node_id())
    return Process(
        f"{here['NodeManagerAddress']}:{here['NodeManagerPort']}",
        ray.JobID.from_hex(context.get_job_id()).binary(),
        context.get_runtime_env_string(),
    )


def prepare() -> None:
    """Import what a process of this kind needs. Ray runs this in each process before there is work for it."""
    garbage.search_less()
    for name in IMPORTS[os.environ.get(KIND, DRIVER)]:
        importlib.import_module(name)


def preparing() -> Callable[[], None]:
    """`prepare`, in a form that Ray pickles by its code. On a node that lacks this program it does nothing: what needs
    the program reports that."""

    def prepare_by_name() -> None:
        with contextlib.suppress(ImportError):
            importlib.import_module("oneshot.cluster.ahead").prepare()

    return prepare_by_name
