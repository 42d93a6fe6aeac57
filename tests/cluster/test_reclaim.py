"""The cores of a training are freed when its controller is gone; what others use is not touched."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.util.placement_group import PlacementGroup

from oneshot.cluster import reclaim as reclaim_module
from oneshot.cluster.reclaim import reclaim, reclaiming

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


def controller() -> Any:
    """An actor that makes a placement group, as Ray Train's controller does."""

    class Controller:  # in a function, so Ray gets it by value: it cannot import this file
        def make(self) -> tuple[int, PlacementGroup]:
            group = ray.util.placement_group([{"CPU": 1}])
            ray.get(group.ready())
            return os.getpid(), group

    return ray.remote(num_cpus=0)(Controller).remote()


def states(groups: list[PlacementGroup]) -> list[str]:
    return [ray.util.placement_group_table(group)["state"] for group in groups]


def wait_until(true: Callable[[], bool], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_only_the_groups_of_dead_controllers_are_removed(cluster: None) -> None:
    own = ray.util.placement_group([{"CPU": 1}])  # the driver's, like Tune's for a trial
    ray.get(own.ready())
    controllers = [controller() for _ in range(2)]
    (pid, lost), (_, used) = ray.get([each.make.remote() for each in controllers])
    assert reclaim() == 0
    os.kill(pid, signal.SIGKILL)
    removed = []
    wait_until(lambda: removed.append(reclaim()) or sum(removed) == 1)
    wait_until(lambda: states([lost]) == ["REMOVED"])
    assert states([own, used]) == ["CREATED", "CREATED"]
    assert reclaim() == 0
    ray.util.remove_placement_group(own)


def test_a_stopped_actor_leaves_its_cores_to_who_waits_for_them(cluster: None) -> None:
    with reclaiming(seconds=0.05):
        for _ in range(6):  # one after the other: more than there are cores
            actor = controller()
            ray.get(actor.make.remote(), timeout=300)
            ray.kill(actor)


def test_who_has_much_to_look_through_looks_seldom_but_soon_after_a_death(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look costs 20 ms of CPU time here, and one is requested every quarter of a second."""
    clock = SimpleNamespace(now=0.0, spent=0.0)
    looked, asked = [], []

    def look() -> None:
        looked.append(clock.now)
        clock.spent += 0.02

    @contextlib.contextmanager
    def every(seconds: float, do: Callable[[], None], **_: Any) -> Iterator[None]:
        asked.append(do)
        yield

    times = SimpleNamespace(monotonic=lambda: clock.now, thread_time=lambda: clock.spent)
    for name, value in (("reclaim", look), ("every", every), ("time", times)):
        monkeypatch.setattr(reclaim_module, name, value)
    with reclaiming():
        for tick in range(60):
            clock.now = tick / 4
            if tick == 49:
                reclaim_module.soon()
            asked[0]()
    assert looked == [0, 0.25, 1, 2.75, 4.75, 6.75, 8.75, 10.75, 12.25, 12.5, 13.25]
