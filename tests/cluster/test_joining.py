"""The backend through which the workers of a training join, and what happens if they cannot."""

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from command import ROOT, environment
from ray.exceptions import ActorDiedError, RayTaskError
from ray.train.v2._internal.exceptions import WorkerGroupStartupFailedError

from oneshot.cluster.trainer import ProcessGroup, _Joining


class Group:
    """Workers of Ray Train that record the backend they are told to join through."""

    def __init__(self, workers: int, **resources: float) -> None:
        self.workers, self.resources = workers, resources
        self.told: list[str] = []
        self.ended = False
        self._worker_group_state = SimpleNamespace(shutdown=lambda: setattr(self, "ended", True))

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


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (
            RayTaskError("_join", "a traceback\nOSError: Address already in use\n", OSError("it is")),
            "Address already in",
        ),
        (ActorDiedError(), "the process of one died: killed, or out of memory"),
    ],
)
@pytest.mark.parametrize("where", ["execute_single", "execute_single_async"])
def test_workers_that_do_not_join_are_ended_and_started_again(
    error: Exception, why: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error raised is one after which Ray Train starts workers again. Left alone, it would fail after an error,
    and after a death it would wait for cores that it holds itself."""

    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(ray, "get", lambda found: found)
    group = Group(2, CPU=1.0)
    monkeypatch.setattr(group, where, fail)
    with pytest.raises(WorkerGroupStartupFailedError, match=f"^the workers did not join: .*{why}"):
        _Joining().on_start(group, ProcessGroup(seconds=5.0))
    assert group.ended


# Two trainings, one after the other, on a Ray with one core. The worker of each fails once while it joins.
JOINING = """
import os, pathlib, sys
import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.backend import BackendConfig
from oneshot.cluster import elastic, trainer
from oneshot.cluster.packing import Packing

class Once(trainer.ProcessGroup):
    @property
    def backend_cls(self):
        mark = pathlib.Path(self.kind)

        def join(*_):
            if not mark.exists():
                mark.touch()
                if mark.name == "die":
                    os._exit(1)
                raise OSError("Address already in use")

        class Joining(trainer._Joining):
            def on_start(self, group, config):
                from oneshot.cluster import trainer
                trainer._join = join
                super().on_start(group, config)

        return Joining

ray.init(address="local", num_cpus=1, include_dashboard=False, object_store_memory=80 * 2**20)
for kind in ("die", "raise"):
    scaling = ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1})
    packing = Packing(workers=1, cpus=1, gpus=0, concurrent=1)
    trainer.Trainer(
        lambda config: ray.train.report({"loss": 0.5}), train_loop_config={}, scaling_config=scaling,
        backend_config=Once(5.0, kind=f"{sys.argv[1]}/{kind}"),
        policy=elastic.policy(scaling, packing=packing, numbers=[1], restarts=1, grows=False),
        run_config=RunConfig(
            name=f"training-{kind}", storage_path=sys.argv[1], failure_config=FailureConfig(max_failures=1)
        ),
    ).fit()
print([group["state"] for group in ray.util.placement_group_table().values()])
"""


@pytest.mark.ray
@pytest.mark.long
def test_a_training_whose_workers_did_not_join_gets_its_own_cores_again(tmp_path: Any) -> None:
    variables = environment(RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S="60", RAY_TRAIN_HEALTH_CHECK_INTERVAL_S="0.2")
    done = subprocess.run(
        [sys.executable, "-c", JOINING, str(tmp_path)],
        cwd=ROOT, env=variables | {"PYTHONPATH": str(ROOT)}, text=True, capture_output=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == str(["REMOVED"] * 4)
    assert {path.name for path in tmp_path.iterdir()} == {"die", "raise"}  # each failed once
