"""Ray Train's TorchTrainer, with two of its parts exchanged."""

import os

import psutil
import ray
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.torch.config import _TorchBackend
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError

from oneshot.settings import Scale


class Trainer(TorchTrainer):
    """Its cores are given back by `reclaim.reclaiming`; it starts no actor for that, one process less a training. An
    interrupt is this program's to handle: Ray's own handler would end the process as if all were done."""

    def _register_sigint_handler(self, controller: object) -> None: ...

    def _create_default_callbacks(self) -> list[object]:
        callbacks = super()._create_default_callbacks()
        return [each for each in callbacks if not isinstance(each, PlacementGroupCleanerCallback)]


class Backend(_TorchBackend):
    """Workers meet at the addresses by which Ray knows their nodes."""

    def on_start(self, worker_group: object, backend_config: TorchConfig) -> None:
        worker_group.execute(use_own_interface)
        super().on_start(worker_group, backend_config)


class Config(TorchConfig):
    @property
    def backend_cls(self) -> type[Backend]:
        return Backend


def use_own_interface() -> None:
    """Gloo listens where the host's own name points, which on many machines is loopback: no other node gets there."""
    here = ray.util.get_node_ip_address()
    names = [name for name, found in psutil.net_if_addrs().items() if any(each.address == here for each in found)]
    if names:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", names[0])


def no_room(error: Exception, scale: Scale) -> str:
    """The sentence for a training that was given up because its workers found no room; empty for another error."""
    if not isinstance(getattr(error, "controller_failure", None), WorkerGroupStartupTimeoutError):
        return ""
    return (
        f"the cluster had no room for its {scale.workers} worker(s) for {scale.timeout:g} s,"
        f" {scale.max_failures + 1} times: a node is lost, or others use it; started again, it goes on from its last"
        " checkpoint"
    )
