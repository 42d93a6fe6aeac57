"""Scaling policies: how many workers a training has, fixed or elastic, and whether an autoscaler hears of it."""

import abc
import math
import time
from typing import Any

import ray
from ray._private.state import available_resources_per_node
from ray.train import ScalingConfig
from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError
from ray.train.v2._internal.execution.controller.state import (
    ReschedulingState,
    RunningState,
    SchedulingState,
    TrainControllerState,
)
from ray.train.v2._internal.execution.scaling_policy import (
    ElasticScalingPolicy,
    FixedScalingPolicy,
    NoopDecision,
    ResizeDecision,
    ScalingPolicy,
)
from ray.train.v2._internal.execution.worker_group import WorkerGroupState

from oneshot.base.errors import NoRoom, RunFailed, last_line
from oneshot.cluster.packing import Node, Packing, room

MONITOR = 10.0  # seconds between two looks at whether a training could have more workers
AGAIN = 600.0  # seconds before a training whose growth found no room tries to grow again


def policy(
    scaling: ScalingConfig, *, packing: Packing, numbers: list[int], restarts: int, grows: bool
) -> ScalingPolicy:
    """The scaling policy of a training that may have any of these numbers of workers. `restarts`: how many more starts
    may follow a failed one before the training is given up; `grows`: an autoscaler may bring nodes for it."""
    if len(numbers) == 1:
        return Fixed(scaling, tries=1 + restarts, grows=grows)
    tries = 1 + max(restarts, 1)  # at least two, so that the least of the numbers is tried too
    return Elastic(scaling, packing=packing, numbers=numbers, tries=tries, grows=grows)


class _Starting(ScalingPolicy):
    """Gives a training up after `tries` failed starts in a row, and tells the autoscaler, if any, what it needs.

    Ray's own limit counts over a training's whole life: one of weeks would end at its third growth for which there was
    no room. Ray's own policies always tell the autoscaler, by an actor whose process has to start before a session's
    first training can.
    """

    def __init__(self, scaling: ScalingConfig, *, tries: int, grows: bool) -> None:
        super().__init__(scaling)
        self.tries, self.grows = tries, grows
        self.failed = 0  # starts since the last success

    def after_controller_state_update(self, before: TrainControllerState, now: TrainControllerState) -> None:
        if isinstance(before, SchedulingState) and isinstance(now, RunningState):
            self.failed = 0
        if isinstance(now, ReschedulingState):
            self.failed, self.why = self.failed + 1, now.training_failed_error

    def make_decision_for_non_running_worker_group(self) -> ResizeDecision:
        """Raises NoRoom, whose message is only the number of tries, or RunFailed if the workers did not start."""
        if self.failed >= self.tries:
            failure = getattr(self.why, "controller_failure", self.why)
            if isinstance(failure, WorkerGroupStartupTimeoutError):
                raise NoRoom(_times(self.tries))
            raise RunFailed(f"{last_line(str(failure))} ({_times(self.tries)})")
        self._maybe_send_resource_request()
        return ResizeDecision(self._number(), self.scaling_config._resources_per_worker_not_none)

    @abc.abstractmethod
    def _number(self) -> int:
        """The number of workers to start now."""

    def after_controller_start(self, train_run_context: Any) -> None:
        if self.grows:
            super().after_controller_start(train_run_context)

    def _maybe_send_resource_request(self) -> None:
        if self.grows:
            super()._maybe_send_resource_request()


class Fixed(_Starting, FixedScalingPolicy):
    """Always the same number of workers."""

    def _number(self) -> int:
        return self.scaling_config.num_workers


class Elastic(_Starting, ElasticScalingPolicy):
    """As many workers as a training's fair share of the current nodes holds, so far as that is one of `numbers`.

    Ray's own policy takes any number in the range, even one that does not share the batch evenly. It relies on a list
    of nodes that may be twenty seconds old, and gives all there is to the training that asked first.
    """

    def __init__(
        self, scaling: ScalingConfig, *, packing: Packing, numbers: list[int], tries: int, grows: bool
    ) -> None:
        super().__init__(scaling, tries=tries, grows=grows)
        self.packing, self.numbers = packing, numbers  # the allowed numbers of workers, ascending
        self.growing, self.content = False, -math.inf  # whether a growth is under way; until when none is tried

    def after_controller_state_update(self, before: TrainControllerState, now: TrainControllerState) -> None:
        super().after_controller_state_update(before, now)
        if isinstance(now, ReschedulingState) and self.growing:
            self.content = time.monotonic() + AGAIN
        if isinstance(now, ReschedulingState | RunningState):
            self.growing = False

    def _number(self) -> int:
        """The training's share. After a failed start, no more than what others leave free; at the last try, the least
        of the numbers."""
        if self.failed == self.tries - 1:
            return self.numbers[0]
        return self._able(min(self._share(), self._free()) if self.failed else self._share())[-1]

    def make_decision_for_running_worker_group(
        self, worker_group_state: WorkerGroupState, worker_group_status: object
    ) -> ResizeDecision | NoopDecision:
        self._maybe_send_resource_request()
        now = time.monotonic()
        if now - max(worker_group_state.start_time, self._latest_monitor_time) < MONITOR:
            return NoopDecision()
        self._latest_monitor_time = now
        have, share = worker_group_state.num_workers, self._able(self._share())[-1]
        more = self._able(min(share, have + self._free()))[-1]
        if more > have and now >= self.content:
            self.growing = True
            return self._get_resize_decision(more)
        return self._get_resize_decision(share) if share < have and _somebody_waits() else NoopDecision()

    def _able(self, share: int) -> list[int]:
        """The allowed numbers up to a share; if there are none, the least, for which the training then waits."""
        return [number for number in self.numbers if number <= share] or self.numbers[:1]

    def _share(self) -> int:
        alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        return sum(map(self._room, alive)) // self.packing.concurrent

    def _free(self) -> int:
        return sum(self._room(resources) for resources in available_resources_per_node().values())

    def _room(self, resources: dict[str, float]) -> int:
        if not self.packing.kind.keys() <= resources.keys():
            return 0
        node = Node("", resources.get("CPU", 0), resources.get("GPU", 0))
        return room(node, self.packing.cpus, self.packing.gpus)


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _somebody_waits() -> bool:
    """Whether any workers on the cluster wait for room."""
    return any(group["state"] == "PENDING" for group in ray.util.placement_group_table().values())
