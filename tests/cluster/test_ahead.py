"""Processes started ahead: the next trial gets those that were started while the previous one trained."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from command import ROOT, environment, settings, start
from ray import cloudpickle
from ray._private.ray_constants import WORKER_PROCESS_SETUP_HOOK_ENV_VAR
from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR
from ray.runtime_env.runtime_env import _merge_runtime_env
from rich.console import Console

from oneshot.base import garbage
from oneshot.base.errors import UserError
from oneshot.base.storage import Folder
from oneshot.cluster import ahead, connection
from oneshot.run.history import read_history, read_notes

TRIALS, WORKERS = "ray::Trial", "ray::RayTrainWorker"


def appearances(run: Path, data_root: Path, trials: int, **changes: str) -> dict[str, list[float]]:
    """Run a study of `trials` trials, one after the other. When each process that became a trial's or a worker's was
    first seen, under whatever name: {name: times in the order of their work}."""
    arguments = settings(
        search__trials=str(trials), search__grace="0", search__batch="[64]", scale__max_concurrent="1",
        train__epochs="4", train__examples="1024", **changes,
    )  # fmt: skip
    seen: dict[int, float] = {}
    found: dict[str, dict[int, float]] = {TRIALS: {}, WORKERS: {}}
    with start("tune", "quick", "--run", str(run), *arguments, ONESHOT_DATA=str(data_root)) as study:
        while study.poll() is None:
            for process in psutil.Process(study.pid).children(recursive=True):
                first = seen.setdefault(process.pid, time.time())
                with contextlib.suppress(psutil.Error):
                    title = " ".join(process.cmdline())
                    for name, times in found.items():
                        if title.startswith(name):
                            times.setdefault(process.pid, first)
            time.sleep(0.05)
        text = study.communicate()[0]
    assert study.returncode == 0, text
    return {name: list(times.values()) for name, times in found.items()}


def ends(run: Path) -> list[float]:
    """When each trial's last epoch was recorded."""
    return [path.stat().st_mtime for path in sorted(run.glob("trials/*/history.jsonl"))]


@pytest.mark.ray
@pytest.mark.long
def test_a_trials_processes_are_started_while_the_one_before_it_trains(tmp_path: Path, data_root: Path) -> None:
    seen = appearances(tmp_path / "run", data_root, 3)
    first, second, _ = ends(tmp_path / "run")
    for name in (TRIALS, WORKERS):
        assert len(seen[name]) == 3, seen
        assert seen[name][1] < first < second and seen[name][2] < second
    assert not [note for number in range(3) for note in read_notes(Folder.of(tmp_path / f"run/trials/00{number}"))]


@pytest.mark.ray
@pytest.mark.long
def test_without_it_they_are_started_when_they_are_wanted(tmp_path: Path, data_root: Path) -> None:
    seen = appearances(tmp_path / "run", data_root, 2, scale__ahead="false")
    first, second = ends(tmp_path / "run")
    for name in (TRIALS, WORKERS):
        assert len(seen[name]) == 2, seen
        assert first < seen[name][1] < second
    assert all(len(read_history(Folder.of(tmp_path / f"run/trials/00{number}"))) == 4 for number in range(2))


def test_a_node_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "PATIENCE", 2.0)
    with pytest.raises(RuntimeError, match=r"^127\.0\.0\.1:1: (UNAVAILABLE|DEADLINE_EXCEEDED)$"):
        ahead.Process("127.0.0.1:1", b"1234", "{}").start_another()


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        (ahead.WORKER, "oneshot.training.loop torch"),
        (ahead.DRIVER, "oneshot.search.trial"),
        (ahead.OTHER, ""),
        (None, "oneshot.search.trial"),
    ],
)
def test_each_kind_of_process_imports_what_it_needs(kind: str | None, found: str) -> None:
    script = (
        "import gc, sys; from oneshot.cluster import ahead; ahead.prepare()\n"
        "seen = {'oneshot.training.loop', 'oneshot.search.trial', 'torch'} & sys.modules.keys()\n"
        "print(gc.get_threshold()[0], *sorted(seen))"
    )
    variables = {ahead.KIND: kind} if kind else {}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment() | variables, text=True, capture_output=True
    )
    assert done.stdout.strip() == f"{garbage.NEW} {found}".strip(), done.stderr


def test_where_this_program_is_not_installed_a_process_starts_all_the_same() -> None:
    """Code that needs the program reports that it is missing. If the setup ended the process, Ray would restart it
    for ever."""
    script = (
        "import sys; sys.modules['oneshot'] = None\n"
        "from ray import cloudpickle\n"
        "cloudpickle.loads(sys.stdin.buffer.read())()\n"
        "print('started')"
    )
    code = cloudpickle.dumps(ahead.preparing())
    done = subprocess.run([sys.executable, "-c", script], input=code, capture_output=True)
    assert done.stdout == b"started\n", done.stderr


@pytest.fixture
def handed_on(monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, Any]]:
    """A function that returns the runtime environment given to Ray for a study. Ray is not started."""
    given: dict[str, Any] = {}

    def init(**options: Any) -> None:
        given.update(options)
        raise RuntimeError("not today")

    monkeypatch.setattr(ray, "init", init)

    def ask() -> dict[str, Any]:
        with pytest.raises(UserError, match="not today"), connection.connect("auto", console=Console(), trials=True):
            pass
        return given["runtime_env"]

    return ask


@pytest.mark.parametrize("own", [False, True])
def test_a_submitted_jobs_own_preparation_stays(
    own: bool, handed_on: Callable[[], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray refuses a second setup hook."""
    monkeypatch.delenv(WORKER_PROCESS_SETUP_HOOK_ENV_VAR, raising=False)
    if own:
        monkeypatch.setenv(WORKER_PROCESS_SETUP_HOOK_ENV_VAR, "theirs.prepare")
    assert ("worker_process_setup_hook" in handed_on()) is not own


def test_what_a_submitted_job_says_of_the_environment_is_not_said_twice(
    handed_on: Callable[[], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray refuses a variable that is given twice, even with equal values."""
    job = {"runtime_env": {"env_vars": {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "1", "NCCL_DEBUG": "INFO"}}}
    monkeypatch.setenv(RAY_JOB_CONFIG_JSON_ENV_VAR, json.dumps(job))
    environment = handed_on()
    assert "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S" not in environment["env_vars"]
    assert environment["env_vars"].keys() >= connection.QUIET.keys()
    monkeypatch.delenv("RAY_OVERRIDE_JOB_RUNTIME_ENV", raising=False)
    assert _merge_runtime_env(job["runtime_env"], environment) is not None
