"""How many workers a training has now. The cluster is made up; on real hosts it is shown in tests/faults."""

import time
from types import SimpleNamespace

import pytest
import ray
from ray.train import ScalingConfig
from ray.train.v2._internal.execution.scaling_policy import ResizeDecision

from oneshot.cluster import elastic
from oneshot.cluster.elastic import Elastic
from oneshot.cluster.packing import Packing


class Cluster:
    """Nodes of so many cores: those that are alive, and what is free of them."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.alive, self.free, self.waiting = [4.0, 4.0], [0.0], False
        patch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": cpus}} for cpus in self.alive])
        free = lambda: {str(n): {"CPU": cpus} for n, cpus in enumerate(self.free)}  # noqa: E731
        patch.setattr(elastic, "available_resources_per_node", free)
        patch.setattr(elastic, "_somebody_waits", lambda: self.waiting)

    def policy(self, *, numbers: list[int], concurrent: int = 1) -> Elastic:
        packing = Packing(workers=numbers[-1], least=numbers[0], cpus=1, gpus=0, concurrent=concurrent)
        return Elastic(
            ScalingConfig(num_workers=(numbers[0], numbers[-1])), packing=packing, numbers=numbers, grows=False
        )


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    return Cluster(monkeypatch)


def running(policy: Elastic, workers: int) -> int | None:
    """What a training of so many workers, that has run for a while, shall have instead."""
    policy._latest_monitor_time = -1e9
    group = SimpleNamespace(num_workers=workers, start_time=time.monotonic() - 2 * elastic.MONITOR)
    decision = policy.make_decision_for_running_worker_group(group, None)
    return decision.num_workers if isinstance(decision, ResizeDecision) else None


def starts(policy: Elastic, times: int) -> list[int]:
    return [policy.make_decision_for_non_running_worker_group().num_workers for _ in range(times)]


def test_a_training_starts_with_its_share_of_what_is_there_rounded_to_what_shares_the_batch(cluster: Cluster) -> None:
    assert starts(cluster.policy(numbers=[1, 2, 4, 8]), 1) == [8]
    assert starts(cluster.policy(numbers=[1, 2, 4, 8], concurrent=2), 1) == [4]
    assert starts(cluster.policy(numbers=[1, 2, 4, 8], concurrent=3), 1) == [2]
    cluster.alive = [4.0, 3.0]
    assert starts(cluster.policy(numbers=[1, 2, 4, 8]), 1) == [4]


def test_with_less_than_the_least_it_waits_for_the_least(cluster: Cluster) -> None:
    cluster.alive = [1.0]
    assert starts(cluster.policy(numbers=[2, 4]), 1) == [2]


def test_where_others_have_the_room_each_try_is_with_less_until_it_runs(cluster: Cluster) -> None:
    policy = cluster.policy(numbers=[1, 2, 4, 8])
    assert starts(policy, 5) == [8, 4, 2, 1, 1]
    assert running(policy, 1) is None
    assert starts(policy, 1) == [8]


def test_it_grows_only_into_what_is_free(cluster: Cluster) -> None:
    policy = cluster.policy(numbers=[1, 2, 4, 8])
    assert running(policy, 4) is None
    cluster.free = [3.0]
    assert running(policy, 4) is None  # seven are none of the numbers
    cluster.free = [3.0, 1.0]
    assert running(policy, 4) == 8
    policy._latest_monitor_time = -1e9
    young = SimpleNamespace(num_workers=4, start_time=time.monotonic())
    assert not isinstance(policy.make_decision_for_running_worker_group(young, None), ResizeDecision)


def test_it_gives_way_only_where_somebody_waits(cluster: Cluster) -> None:
    policy = cluster.policy(numbers=[1, 2, 4], concurrent=2)
    cluster.alive = [4.0]
    assert running(policy, 4) is None
    cluster.waiting = True
    assert running(policy, 4) == 2
    assert running(policy, 2) is None
