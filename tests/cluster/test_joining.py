"""By what the workers of a training join."""

from typing import Any

import pytest
import ray

from oneshot.cluster.trainer import ProcessGroup, _Joining


class Group:
    """Workers of Ray Train, that note by what they are told to join."""

    def __init__(self, workers: int, **resources: float) -> None:
        self.workers, self.resources = workers, resources
        self.told: list[str] = []

    def __len__(self) -> int:
        return self.workers

    def get_resources_per_worker(self) -> dict[str, float]:
        return self.resources

    def execute_single(self, *_: Any) -> tuple[str, int]:
        return "host", 1

    def execute_single_async(self, rank: int, join: Any, its_rank: int, kind: str, *_: Any) -> None:
        self.told.append(kind)


@pytest.mark.parametrize(
    ("workers", "gpus", "kind"), [(2, 1.0, "nccl"), (1, 1.0, "gloo"), (1, 0.5, "gloo"), (2, 0.0, "gloo")]
)
def test_only_several_gpus_join_by_nccl(
    workers: int, gpus: float, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(ray, "get", lambda found: found)
    group = Group(workers, CPU=1.0, GPU=gpus)
    _Joining().on_start(group, ProcessGroup(seconds=5.0))
    assert group.told == [kind] * workers
