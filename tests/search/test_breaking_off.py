"""How the search and the final job end when Ray gives up, and what this program says then; Ray's part is faked."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from oneshot.base.errors import DiskFull, NoRoom, RunFailed, UserError
from oneshot.base.jobs import parse
from oneshot.base.storage import Folder
from oneshot.cli import tune as verb
from oneshot.cluster.packing import Packing
from oneshot.search import final, tune
from oneshot.search.study import Study

SETTINGS = parse({"search": {"trials": 2, "grace": 0}, "scale": {"timeout": 30, "max_failures": 1}}, "the test")
PACKING = Packing(workers=1, cpus=1, gpus=0, concurrent=1)


class View:
    def update(self, shown: dict[str, Any]) -> None: ...

    def say(self, text: str) -> None: ...


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """A study of two trials; the first has finished an epoch."""
    header = {"job": "quick", "started": 0.0, "epochs": SETTINGS.train.epochs}
    made = Study(Folder.of(tmp_path / "run"), trials=2, header=header)
    made.start("000", {"lr": 1e-3})
    made.row("000", {"epoch": 1, "val_loss": 0.5, "best": True})
    return made


def searched(study: Study, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the search; Tune ends it with this error."""

    def fit() -> None:
        raise error

    tuner = SimpleNamespace(fit=fit), SimpleNamespace(why_over="", why_broken="")
    monkeypatch.setattr(tune, "_tuner", lambda *_, **__: tuner)
    tune.tune(SETTINGS, study, study.run, PACKING, View())


def test_a_search_that_breaks_off_says_why_and_how_to_go_on(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    said = rf"^the search broke off: the GCS is gone; to go on: --resume {study.run.quoted}$"
    with pytest.raises(RunFailed, match=said):
        searched(study, RuntimeError("Tune failed:\n  the GCS is gone"), monkeypatch)
    assert study.run.read_json("study.json")["trials"][0]["status"] == "pending"  # no trial runs any more


def test_a_full_disk_that_ends_the_search_is_said_to_be_one(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    error = RuntimeError("Tune failed")
    error.__context__ = DiskFull("no room in run")
    with pytest.raises(DiskFull, match="no room in run"):
        searched(study, error, monkeypatch)


def test_a_search_whose_trials_fail_one_after_the_other_is_a_failed_run(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if one trial has a result: many of the others were never trained."""
    search = SimpleNamespace(fit=lambda: study.end("000")), SimpleNamespace(why_over="", why_broken="8 of 9 failed")
    monkeypatch.setattr(tune, "_tuner", lambda *_, **__: search)
    with pytest.raises(RunFailed, match=rf"^8 of 9 failed; .*; to go on: --resume {study.run.quoted}$"):
        tune.tune(SETTINGS, study, study.run, PACKING, View())


def test_it_is_said_how_a_search_ended_and_how_many_trials_are_tried_again() -> None:
    assert verb._to_try_again(1, of=4) == "1 of 4 trials failed, study.json says why: --resume tries it again"
    assert verb._to_try_again(3, of=32) == "3 of 32 trials failed, study.json says why: --resume tries them again"


def test_a_search_that_ended_at_its_time_limit_says_so(study: Study) -> None:
    assert verb._how_it_ended(study, None).startswith("the search is over; judging the best")
    assert "of 1:00 is reached: 2 of 2 trials are saved and wait; judging" in verb._how_it_ended(study, 60)
    study.end("000"), study.end("001", error="no")
    assert "of 1:00 is reached: the best trials would go on; judging" in verb._how_it_ended(study, 60)


@pytest.fixture
def given_up(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The jobs that are given up; this Ray starts none."""
    found: list[str] = []
    monkeypatch.setattr(ray, "remote", lambda **_: lambda _: SimpleNamespace(remote=lambda *_, **__: "the job"))
    monkeypatch.setattr(ray, "cancel", found.append)
    return found


def judged(study: Study) -> None:
    final.judge_best(SETTINGS, study, study.run, PACKING, progress=lambda *_: None)


def test_the_final_job_is_on_a_node_with_the_kind_of_gpu_that_is_asked_for(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}
    job = SimpleNamespace(remote=lambda *_, **__: "the job")
    monkeypatch.setattr(ray, "remote", lambda **options: asked.update(options) or (lambda _: job))
    monkeypatch.setattr(ray, "wait", lambda jobs, **_: (jobs, []))
    monkeypatch.setattr(ray, "get", lambda _: {"the": "result"})
    packing = Packing(workers=2, cpus=3, gpus=1, concurrent=1, accelerator="H100")
    found = final.judge_best(SETTINGS, study, study.run, packing, progress=lambda *_: None)
    assert found == {"the": "result"}
    assert (asked["num_cpus"], asked["num_gpus"]) == (3, 1)
    assert asked["resources"] == {"accelerator_type:H100": 0.001}


def ended(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the final job start and end with this error."""

    def get(job: str) -> None:
        raise error

    monkeypatch.setattr(ray, "wait", lambda jobs, **_: (jobs, []))
    monkeypatch.setattr(ray, "get", get)


def test_a_final_job_for_which_there_is_no_room_is_given_up(
    study: Study, given_up: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "wait", lambda jobs, **_: ([], jobs))
    with pytest.raises(NoRoom, match="the cluster had no room for the final job within 60 s: a node was lost"):
        judged(study)
    assert given_up == ["the job"]


def test_a_final_job_is_waited_for_as_long_as_it_runs_and_no_longer(
    study: Study, given_up: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When its node is lost, the file with its progress stays, and Ray may have no room to run the job again."""
    looks = []

    def wait(jobs: list[str], **_: Any) -> tuple[list[str], list[str]]:
        looks.append(len(looks))
        study.run.write_json("stage.json", {"what": "", "done": 0, "total": 0, "beat": min(len(looks), 4)})
        return [], jobs

    monkeypatch.setattr(ray, "wait", wait)
    monkeypatch.setattr(ray, "get", lambda _: pytest.fail("it is waited for without end"))
    with pytest.raises(NoRoom, match="the cluster had no room for the final job within 60 s"):
        judged(study)
    assert len(looks) == 5 and given_up == ["the job"]


@pytest.mark.parametrize("kind", [ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError])
def test_a_final_job_whose_process_dies_says_how_to_go_on(
    kind: type[Exception], study: Study, given_up: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = rf"the process of the final job died, or its node \({kind.__name__}\): .* --resume {study.run.quoted}$"
    with pytest.raises(RunFailed, match=said):
        ended(kind("gone"), monkeypatch)
        judged(study)


def test_what_the_final_job_itself_says_is_heard_as_it_says_it(
    study: Study, given_up: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    error = ray.exceptions.RayTaskError("_judge", "a traceback", UserError("no one-shot trial can be made"))
    with pytest.raises(UserError, match=r"^no one-shot trial can be made$"):
        ended(error, monkeypatch)
        judged(study)
