"""How many workers a training gets over time. The cluster is made up; tests/faults uses real hosts."""

import time
from types import SimpleNamespace

import pytest
import ray
from ray.train import ScalingConfig
from ray.train.v2._internal.exceptions import WorkerGroupStartupFailedError, WorkerGroupStartupTimeoutError
from ray.train.v2._internal.execution.controller.state import ReschedulingState, RunningState, SchedulingState
from ray.train.v2._internal.execution.scaling_policy import ResizeDecision
from ray.train.v2.api.exceptions import ControllerError

from oneshot.base.errors import NoRoom, RunFailed
from oneshot.cluster import elastic
from oneshot.cluster.elastic import Elastic
from oneshot.cluster.packing import Packing


class Cluster:
    """A made-up cluster: `alive` lists the cores of the living nodes, `free` the free cores."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.alive, self.free, self.waiting = [4.0, 4.0], [0.0], False
        patch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": cpus}} for cpus in self.alive])
        free = lambda: {str(n): {"CPU": cpus} for n, cpus in enumerate(self.free)}  # noqa: E731
        patch.setattr(elastic, "available_resources_per_node", free)
        patch.setattr(elastic, "_somebody_waits", lambda: self.waiting)

    def policy(
        self, *, numbers: list[int], concurrent: int = 1, restarts: int = 2, accelerator: str = ""
    ) -> Elastic:  # fmt: skip
        packing = Packing(numbers[-1], cpus=1, gpus=0, concurrent=concurrent, accelerator=accelerator)
        scaling = ScalingConfig(num_workers=(numbers[0], numbers[-1]) if len(numbers) > 1 else numbers[0])
        return elastic.policy(scaling, packing=packing, numbers=numbers, restarts=restarts, grows=False)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    return Cluster(monkeypatch)


def running(policy: Elastic, workers: int) -> int | None:
    """How many workers a training that has run for a while shall get instead of these; None for no change."""
    policy._latest_monitor_time = -1e9
    group = SimpleNamespace(num_workers=workers, start_time=time.monotonic() - 2 * elastic.MONITOR)
    decision = policy.make_decision_for_running_worker_group(group, None)
    return decision.num_workers if isinstance(decision, ResizeDecision) else None


def start(policy: Elastic, failure: Exception | None = None) -> int:
    """With how many workers a training is started, as Ray Train's controller does it. The start fails if `failure`."""
    decision = policy.make_decision_for_non_running_worker_group()
    to = ReschedulingState(training_failed_error=ControllerError(failure)) if failure else RunningState()
    policy.after_controller_state_update(SchedulingState(decision), to)
    return decision.num_workers


def starts(policy: Elastic, times: int) -> list[int]:
    """With how many workers each of several starts is tried, if none finds room."""
    return [start(policy, WorkerGroupStartupTimeoutError(1)) for _ in range(times)]


def test_a_training_starts_with_its_share_of_what_is_there_rounded_to_what_shares_the_batch(cluster: Cluster) -> None:
    assert starts(cluster.policy(numbers=[1, 2, 4, 8]), 1) == [8]
    assert starts(cluster.policy(numbers=[1, 2, 4, 8], concurrent=2), 1) == [4]
    assert starts(cluster.policy(numbers=[1, 2, 4, 8], concurrent=3), 1) == [2]
    cluster.alive = [4.0, 3.0]
    assert starts(cluster.policy(numbers=[1, 2, 4, 8]), 1) == [4]


def test_nodes_with_another_kind_of_gpu_are_no_room(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = [{"CPU": 4.0, "accelerator_type:H100": 1.0}, {"CPU": 8.0, "accelerator_type:T4": 1.0}, {"CPU": 8.0}]
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": each} for each in kinds])
    monkeypatch.setattr(elastic, "available_resources_per_node", lambda: dict(enumerate(kinds[1:])))
    policy = cluster.policy(numbers=[1, 2, 4, 8])
    assert starts(policy, 1) == [8]
    policy = cluster.policy(numbers=[1, 2, 4, 8], accelerator="H100")
    assert starts(policy, 2) == [4, 1]
    assert running(cluster.policy(numbers=[1, 2, 4, 8], accelerator="H100"), 2) is None


def test_with_less_than_the_least_it_waits_for_the_least(cluster: Cluster) -> None:
    cluster.alive = [1.0]
    assert starts(cluster.policy(numbers=[2, 4]), 1) == [2]


def test_where_others_have_the_room_it_takes_what_is_free_and_at_last_the_least(cluster: Cluster) -> None:
    cluster.free = [3.0]
    policy = cluster.policy(numbers=[1, 2, 4, 8])
    assert starts(policy, 3) == [8, 2, 1]
    with pytest.raises(NoRoom, match="3 times"):
        start(policy)
    assert starts(cluster.policy(numbers=[1, 2, 4, 8], restarts=4), 5) == [8, 2, 2, 2, 1]
    assert starts(cluster.policy(numbers=[1, 2, 4, 8], restarts=0), 2) == [8, 1]
    alone = cluster.policy(numbers=[2], restarts=0)
    assert starts(alone, 1) == [2]
    with pytest.raises(NoRoom, match=r"^once$"):
        start(alone)


def test_failed_starts_are_counted_anew_after_one_that_succeeded(cluster: Cluster) -> None:
    for numbers in ([4], [1, 2, 4, 8]):
        policy = cluster.policy(numbers=numbers)
        for _ in range(5):
            starts(policy, 2)
            start(policy)
        assert start(policy) == numbers[-1]


def test_workers_that_die_while_they_start_are_no_want_of_room(cluster: Cluster) -> None:
    policy = cluster.policy(numbers=[1, 2], restarts=1)
    for _ in range(2):
        start(policy, WorkerGroupStartupFailedError("a worker failed to initialize"))
    with pytest.raises(RunFailed, match=r"a worker failed to initialize \(2 times\)"):
        start(policy)


def test_it_grows_only_into_what_is_free(cluster: Cluster) -> None:
    policy = cluster.policy(numbers=[1, 2, 4, 8])
    assert running(policy, 4) is None
    cluster.free = [3.0]
    assert running(policy, 4) is None  # seven is not one of the numbers
    cluster.free = [3.0, 1.0]
    assert running(policy, 4) == 8
    policy._latest_monitor_time = -1e9
    young = SimpleNamespace(num_workers=4, start_time=time.monotonic())
    assert not isinstance(policy.make_decision_for_running_worker_group(young, None), ResizeDecision)


def test_a_growth_that_found_no_room_is_not_tried_again_at_once(cluster: Cluster) -> None:
    cluster.free = [4.0]
    policy = cluster.policy(numbers=[1, 2, 4, 8])
    assert running(policy, 4) == 8
    policy.after_controller_state_update(
        SchedulingState(ResizeDecision(8, {})),
        ReschedulingState(training_failed_error=ControllerError(WorkerGroupStartupTimeoutError(8))),
    )
    assert start(policy) == 4  # what is free, as its former workers are gone
    assert running(policy, 4) is None
    policy.content -= elastic.AGAIN
    assert running(policy, 4) == 8


def test_it_gives_way_only_where_somebody_waits(cluster: Cluster) -> None:
    policy = cluster.policy(numbers=[1, 2, 4], concurrent=2)
    cluster.alive = [4.0]
    assert running(policy, 4) is None
    cluster.waiting = True
    assert running(policy, 4) == 2
    assert running(policy, 2) is None
