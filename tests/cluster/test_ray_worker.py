"""What a worker of Ray Train does about failures and what it reports, run in this process without Ray."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray.train
import tiny
import torch
from torch import distributed as dist

from oneshot.base.errors import RunFailed, UserError
from oneshot.base.storage import Folder
from oneshot.cluster import ahead, worker
from oneshot.run.history import FAILURE, STARTED, read_failure, read_notes


@pytest.fixture
def run(tmp_path: Path) -> Folder:
    folder = Folder.of(tmp_path / "run")
    folder.write_json(STARTED, {"mark": "by the driver"})
    return folder


def work(
    run: Folder, rank: int, monkeypatch: pytest.MonkeyPatch, *, followed: Any = None, name: str = "trial-000-1",
    mark: str = "by the driver", gpus: float = 0.0,
) -> None:  # fmt: skip
    """Run the worker of this rank, of two, in a training of this name."""
    context = SimpleNamespace(get_world_rank=lambda: rank, get_experiment_name=lambda: name)
    monkeypatch.setattr(ray.train, "get_context", lambda: context)
    monkeypatch.setattr(worker, "get_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(dist, "get_rank", lambda: rank)
    monkeypatch.setattr(dist, "get_world_size", lambda: 1)  # so no worker waits for another
    settings = tiny.settings().model_dump()
    worker.train(
        {
            "settings": settings, "data": "/nowhere", "run": run.uri, "cpus": torch.get_num_threads(), "known": 0,
            "until": None, "followed": followed, "mark": mark, "gpus": gpus,
        }
    )  # fmt: skip


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the worker refuse its input."""

    def refuse(*_: object, **__: object) -> None:
        raise UserError("there are no such drawings")

    monkeypatch.setattr(worker, "load_parts", refuse)


@pytest.mark.parametrize("there", [None, {"mark": "of a session before"}])
def test_a_node_that_has_another_disk_at_the_runs_place_is_named(
    there: dict[str, str] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For example a node that joined after the others were asked: nobody would see what it wrote there."""
    own = Folder.of(tmp_path / "own")
    if there:
        own.write_json(STARTED, there)
    monkeypatch.setattr(worker, "SHOWN", 0.0)
    monkeypatch.setattr(worker.socket, "gethostname", lambda: "node7")
    with pytest.raises(RunFailed, match=r"^the node node7 does not see the run folder .*own: that path is another"):
        work(own, 0, monkeypatch)
    assert own.names() == [STARTED] * bool(there)  # nothing was written


def test_what_another_node_wrote_may_be_shown_late(
    run: Folder, stepping: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run.write_json(STARTED, {"mark": "of a session before"})
    waited = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            run.write_json(STARTED, {"mark": "by the driver"})

    monkeypatch.setattr(worker, "time", SimpleNamespace(monotonic=lambda: sum(waited), sleep=sleep))
    monkeypatch.setattr(worker, "near", lambda data: data)
    work(run, 0, monkeypatch)
    assert len(waited) == 3 and len(stepping) == 2


@pytest.mark.parametrize(("gpus", "error"), [(1.0, None), (0.5, torch.OutOfMemoryError)])
def test_a_gpu_that_is_too_small_is_not_tried_again_and_a_shared_one_is(
    gpus: float, error: type[Exception] | None, run: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("Tried to allocate 9 TiB")

    monkeypatch.setattr(worker, "near", lambda data: data)
    monkeypatch.setattr(worker, "load_parts", lambda *_, **__: None)
    monkeypatch.setattr(worker, "fit", fit)
    with pytest.raises(error) if error else contextlib.nullcontext():
        work(run, 0, monkeypatch, gpus=gpus)
    said = "the GPU is out of memory: make train.batch or data.size smaller (Tried to allocate 9 TiB)"
    assert read_failure(run) == (None if error else said)


@pytest.mark.usefixtures("refused")
def test_of_what_every_worker_refuses_the_first_says_why_and_all_return(
    run: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        if now > 1:
            work(run, 0, monkeypatch)  # the first worker is slower

    monkeypatch.setattr(worker, "time", SimpleNamespace(monotonic=lambda: now, sleep=sleep))
    work(run, 1, monkeypatch)
    assert 1 < now < worker.ALONE
    assert read_failure(run) == "there are no such drawings"


@pytest.mark.usefixtures("refused")
def test_a_worker_that_refuses_alone_fails_and_names_its_node(run: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "ALONE", 0.0)
    monkeypatch.setattr(worker.socket, "gethostname", lambda: "node7")
    with pytest.raises(RunFailed, match=r"^on the node node7: there are no such drawings$"):
        work(run, 1, monkeypatch)
    assert read_failure(run) is None


def test_what_was_refused_before_a_restart_is_not_tried_again(run: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    run.write_json(FAILURE, {"error": "there are no such drawings"})
    monkeypatch.setattr(worker, "load_parts", lambda *_, **__: pytest.fail("it is tried again"))
    work(run, 1, monkeypatch)
    assert read_failure(run) == "there are no such drawings"


class Process:
    """A process like which others are to be started; `asked` counts how often."""

    asked = 0

    def start_another(self) -> None:
        self.asked += 1


@pytest.fixture
def stepping(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Replace the training by two epochs of two steps, and Ray's key-value store by a dict; what is reported."""
    kept: dict[str, bytes] = {}
    reported: list[dict[str, Any]] = []

    def put(key: str, value: bytes, overwrite: bool) -> bool:
        assert not overwrite
        return key in kept or bool(kept.update({key: value}))

    def fit(worker: Any, *_: object, watch: Any, **__: object) -> None:
        for epoch in (1, 2):
            for done in (1, 2):
                watch.step(done, 0.5, 100.0)
            worker.report({"epoch": epoch})

    monkeypatch.setattr("ray.experimental.internal_kv._internal_kv_put", put)
    monkeypatch.setattr(ray.train, "report", reported.append)
    monkeypatch.setattr(worker, "load_parts", lambda *_, **__: None)
    monkeypatch.setattr(worker, "fit", fit)
    return reported


@pytest.mark.parametrize(("rank", "notes"), [(0, 1), (1, 0)])
def test_processes_that_cannot_be_started_ahead_are_noted_once(
    rank: int, notes: int, stepping: list[Any], run: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Nowhere:
        asked = 0

        def start_another(self) -> None:
            Nowhere.asked += 1
            raise RuntimeError("10.0.0.7:1: UNAVAILABLE")

    monkeypatch.setattr(ahead, "this_process", Nowhere)
    work(run, rank, monkeypatch, followed=Nowhere())
    assert Nowhere.asked == 1
    said = "the next trial's processes cannot be started ahead (10.0.0.7:1: UNAVAILABLE)"
    assert [said in str(note) for note in read_notes(run)] == [True] * notes


def test_a_training_that_is_restarted_has_one_driver_started_ahead_and_workers_each_time(
    stepping: list[Any], run: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restart replaces the workers, but not the driver."""
    driver, worker = Process(), Process()
    monkeypatch.setattr(ahead, "this_process", lambda: worker)
    for _ in range(3):
        work(run, 0, monkeypatch, followed=driver)
        work(run, 1, monkeypatch, followed=driver)
    assert (driver.asked, worker.asked) == (1, 6)
    work(run, 0, monkeypatch, followed=driver, name="trial-000-2")  # its driver died and was replaced
    assert driver.asked == 2


def test_a_report_says_whether_notes_may_have_come_since_the_last(
    stepping: list[Any], run: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first report always says so: notes from before it, also of replaced processes, are in no other report."""
    work(run, 0, monkeypatch)
    assert stepping == [{"epoch": 1, "noted": True}, {"epoch": 2, "noted": False}]
    stepping.clear()

    def late(worker: Any, *_: object, watch: Any, **__: object) -> None:
        worker.report({"epoch": 1})  # an earlier epoch of which the search has not heard
        watch.step(1, 0.5, 100.0)
        worker.report({"epoch": 2})

    monkeypatch.setattr(worker, "fit", late)
    monkeypatch.setattr(ahead, "first", lambda _: (_ for _ in ()).throw(RuntimeError("no answer")))
    work(run, 0, monkeypatch, followed=Process())
    assert [row["noted"] for row in stepping] == [True, True]


def test_a_report_tells_the_search_to_look_for_what_the_training_noted(
    stepping: list[Any], run: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(worker: Any, *_: object, watch: Any, **__: object) -> None:
        worker.report({"epoch": 1})
        watch.note("every pair gets the same score")
        worker.report({"epoch": 2})
        worker.report({"epoch": 3})

    monkeypatch.setattr(worker, "fit", fit)
    work(run, 0, monkeypatch)
    assert [row["noted"] for row in stepping] == [True, True, False]


def test_a_worker_is_watched_from_the_first_file_that_it_reads(run: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise it would hold its GPU for ever if a disk does not answer."""
    watched, seen = False, []

    @contextlib.contextmanager
    def watching(moves: Any, **_: object) -> Iterator[None]:
        nonlocal watched
        watched = True
        yield
        watched = False

    def load(*_: object, moved: Callable[[], None]) -> None:
        seen.append(watched)
        moved()  # this work may take longer than a step may

    def fit(*_: object, watch: Any, **__: object) -> None:
        seen.append(watch.count > 1)

    monkeypatch.setattr(worker, "watchdog", watching)
    monkeypatch.setattr(worker, "read_failure", lambda run: seen.append(watched) or read_failure(run))
    monkeypatch.setattr(Folder, "write_json", lambda *_: seen.append(watched))
    monkeypatch.setattr(worker, "load_parts", load)
    monkeypatch.setattr(worker, "fit", fit)
    work(run, 0, monkeypatch)
    assert seen == [True] * 4 and not watched
