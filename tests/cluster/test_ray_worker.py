"""What one of Ray Train's workers does about what goes wrong, run in this process without Ray."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray.train
import ray.train.torch
import tiny
import torch
from torch import distributed as dist

from oneshot.base.errors import RunFailed, UserError
from oneshot.base.storage import Folder
from oneshot.cluster import ahead, trainer
from oneshot.run.history import read_notes
from oneshot.training import loop, parts


@pytest.fixture
def run(tmp_path: Path) -> Folder:
    return Folder.of(tmp_path / "run")


def work(run: Folder, rank: int, monkeypatch: pytest.MonkeyPatch, *, followed: Any = None) -> None:
    """Be the worker of this rank of two."""
    monkeypatch.setattr(ray.train, "get_context", lambda: SimpleNamespace(get_world_rank=lambda: rank))
    monkeypatch.setattr(ray.train.torch, "get_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(dist, "get_rank", lambda: rank)
    monkeypatch.setattr(dist, "get_world_size", lambda: 1)  # none waits for another
    settings = tiny.settings().model_dump()
    trainer._train_worker(
        {
            "settings": settings, "data": "/nowhere", "run": run.uri, "cpus": torch.get_num_threads(), "known": 0,
            "until": None, "followed": followed,
        }
    )  # fmt: skip


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The input of the worker is refused."""

    def refuse(*_: object) -> None:
        raise UserError("there are no such drawings")

    monkeypatch.setattr(parts, "load_parts", refuse)


@pytest.mark.usefixtures("refused")
def test_of_what_every_worker_refuses_the_first_says_why_and_all_return(
    run: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        if now > 1:
            work(run, 0, monkeypatch)  # it is slower

    monkeypatch.setattr(trainer, "time", SimpleNamespace(monotonic=lambda: now, sleep=sleep))
    work(run, 1, monkeypatch)
    assert 1 < now < trainer.ALONE
    assert trainer.read_failure(run) == "there are no such drawings"


@pytest.mark.usefixtures("refused")
def test_a_worker_that_refuses_alone_fails_and_names_its_node(run: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "ALONE", 0.0)
    monkeypatch.setattr(trainer.socket, "gethostname", lambda: "node7")
    with pytest.raises(RunFailed, match=r"^on the node node7: there are no such drawings$"):
        work(run, 1, monkeypatch)
    assert trainer.read_failure(run) is None


def test_what_was_refused_before_a_restart_is_not_tried_again(run: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    run.write_json(trainer.FAILURE, {"error": "there are no such drawings"})
    monkeypatch.setattr(parts, "load_parts", lambda *_: pytest.fail("it is tried again"))
    work(run, 1, monkeypatch)
    assert trainer.read_failure(run) == "there are no such drawings"


@pytest.mark.parametrize(("rank", "notes"), [(0, 1), (1, 0)])
def test_processes_that_cannot_be_started_ahead_are_noted_once(
    rank: int, notes: int, run: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Nowhere:
        asked = 0

        def start_another(self) -> None:
            Nowhere.asked += 1
            raise RuntimeError("10.0.0.7:1: UNAVAILABLE")

    def fit(*_: object, watch: Any, **__: object) -> None:
        for done in (1, 2):
            watch.step(done, 0.5, 100.0)

    monkeypatch.setattr(parts, "load_parts", lambda *_: None)
    monkeypatch.setattr(loop, "fit", fit)
    monkeypatch.setattr(ahead, "this_process", Nowhere)
    work(run, rank, monkeypatch, followed=Nowhere())
    assert Nowhere.asked == 1
    said = "the next trial's processes cannot be started ahead (10.0.0.7:1: UNAVAILABLE)"
    assert [said in str(note) for note in read_notes(run)] == [True] * notes
