"""How many workers a training has, that may have fewer or more of them or not; whether an autoscaler hears of it."""

import time
from typing import Any

import ray
from ray._private.state import available_resources_per_node
from ray.train import ScalingConfig
from ray.train.v2._internal.execution.scaling_policy import (
    ElasticScalingPolicy,
    FixedScalingPolicy,
    NoopDecision,
    ResizeDecision,
    ScalingPolicy,
)
from ray.train.v2._internal.execution.worker_group import WorkerGroupState

from oneshot.cluster.packing import Node, Packing, room

MONITOR = 10.0  # seconds between two looks at whether a training could have more workers


def policy(scaling: ScalingConfig, *, packing: Packing, numbers: list[int], grows: bool) -> ScalingPolicy:
    """Of a training that may have any of these numbers of workers; `grows`: an autoscaler may bring nodes for it."""
    if len(numbers) == 1:
        return Fixed(scaling, grows=grows)
    return Elastic(scaling, packing=packing, numbers=numbers, grows=grows)


class _Asking(ScalingPolicy):
    """Tells the autoscaler what it needs, where there is one. Ray's own policies always do: by an actor, whose process
    has to start before a session's first training can."""

    def __init__(self, scaling: ScalingConfig, *, grows: bool) -> None:
        super().__init__(scaling)
        self.grows = grows

    def after_controller_start(self, train_run_context: Any) -> None:
        if self.grows:
            super().after_controller_start(train_run_context)

    def _maybe_send_resource_request(self) -> None:
        if self.grows:
            super()._maybe_send_resource_request()


class Fixed(_Asking, FixedScalingPolicy):
    """Always the same number."""


class Elastic(_Asking, ElasticScalingPolicy):
    """How many workers a training has now: its fair share of the nodes that are there, as far as it can be made.

    Ray's own policy takes any number of the range, also one that does not share the batch evenly, goes by a list of
    nodes that may be twenty seconds old, and gives all there is to the training that asked first.
    """

    def __init__(self, scaling: ScalingConfig, *, packing: Packing, numbers: list[int], grows: bool) -> None:
        super().__init__(scaling, grows=grows)
        self.packing, self.numbers = packing, numbers  # which numbers of workers there may be, ascending
        self.starts = 0  # without success

    def make_decision_for_non_running_worker_group(self) -> ResizeDecision:
        """Where its share was not to be had, as others use the cluster too, each further try is with less."""
        self._maybe_send_resource_request()
        able = self._able(self._share())
        number = able[max(len(able) - 1 - self.starts, 0)]
        self.starts += 1
        return self._get_resize_decision(number)

    def make_decision_for_running_worker_group(
        self, worker_group_state: WorkerGroupState, worker_group_status: object
    ) -> ResizeDecision | NoopDecision:
        self._maybe_send_resource_request()
        self.starts, now = 0, time.monotonic()
        if now - max(worker_group_state.start_time, self._latest_monitor_time) < MONITOR:
            return NoopDecision()
        self._latest_monitor_time = now
        have, share = worker_group_state.num_workers, self._able(self._share())[-1]
        free = sum(self._room(resources) for resources in available_resources_per_node().values())
        more = self._able(min(share, have + free))[-1]
        if more > have:
            return self._get_resize_decision(more)
        return self._get_resize_decision(share) if share < have and _somebody_waits() else NoopDecision()

    def _able(self, share: int) -> list[int]:
        """The numbers of workers up to a share; at least the least, for which the training then waits."""
        return [number for number in self.numbers if number <= share] or self.numbers[:1]

    def _share(self) -> int:
        alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        return sum(map(self._room, alive)) // self.packing.concurrent

    def _room(self, resources: dict[str, float]) -> int:
        node = Node("", resources.get("CPU", 0), resources.get("GPU", 0))
        return room(node, self.packing.cpus, self.packing.gpus)


def _somebody_waits() -> bool:
    """Whether workers anywhere on the cluster have no room."""
    return any(group["state"] == "PENDING" for group in ray.util.placement_group_table().values())
