"""A real head as `make cluster-demo` starts it: who has access, what a submitted study prints, and what is left."""

import contextlib
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
import requests
from command import ROOT, environment, settings
from ray.core.generated.gcs_service_pb2 import InternalKVKeysRequest
from ray.core.generated.gcs_service_pb2_grpc import InternalKVGcsServiceStub
from ray.core.generated.node_manager_pb2 import GetNodeStatsRequest
from ray.core.generated.node_manager_pb2_grpc import NodeManagerServiceStub
from ray.core.generated.ray_client_pb2 import ClusterInfoRequest, ClusterInfoType
from ray.core.generated.ray_client_pb2_grpc import RayletDriverStub

from cluster import demo

pytestmark = pytest.mark.ray


@pytest.mark.long
def test_interrupted_the_demo_saves_the_study_and_leaves_no_process(tmp_path: Path, data_root: Path) -> None:
    where = ["--run", str(tmp_path / "run"), "--data", str(data_root)]
    arguments = ["quick", *where, *settings(search__trials="2", train__epochs="50", train__examples="1024")]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "cluster/demo.py"), *arguments], cwd=tmp_path, env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    seen, started = "", []
    for line in process.stdout or []:
        seen += line
        if re.search(r"epoch +2/50", line):
            started = psutil.Process(process.pid).children(recursive=True)
            os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C
            break
    rest, _ = process.communicate(timeout=300)
    assert process.returncode == 130, seen + rest
    assert f"--resume {tmp_path / 'run'}" in rest
    assert len(started) > 5 and not [each for each in started if each.is_running()]
    statuses = {trial["status"] for trial in json.loads((tmp_path / "run/study.json").read_text())["trials"]}
    assert "running" not in statuses


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[demo.Head]:
    """A head, started from a shell whose `python` is another one that does not work."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "python").write_text("#!/bin/sh\necho the wrong python >&2\nexit 1\n")
    (folder / "python").chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{folder}{os.pathsep}{os.defpath}")
        patch.setenv("CUDA_VISIBLE_DEVICES", "")  # as for the commands of the other tests
        with demo.head() as up:
            yield up


@pytest.fixture(scope="module")
def submitted(head: demo.Head, tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Path:
    """A folder with `run`, the folder of a finished study that was submitted to the head, and `output`, its output."""
    folder = tmp_path_factory.mktemp("submitted")
    changes = settings(search__trials="1", search__first="[]", search__grace="0", train__epochs="1")
    script = (
        "import json, sys; from pathlib import Path; from cluster import demo\n"
        "url, environment, folder, *arguments = json.load(sys.stdin)\n"
        "sys.exit(demo.submit(demo.Head(url, environment, Path(folder)), arguments))"
    )
    study = ["quick", "--run", str(folder / "run"), "--data", str(data_root), *changes]
    given = json.dumps([head.url, head.environment, str(head.folder), *study])
    with open(folder / "output", "w") as output:
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, cwd=ROOT, input=given, text=True, stdout=output, timeout=600)
    assert done.returncode == 0, (folder / "output").read_text()
    return folder


def test_rays_own_folder_is_open_to_all_and_the_one_around_it_closed(head: demo.Head) -> None:
    assert stat.S_IMODE(head.folder.stat().st_mode) == 0o777  # otherwise the closed folder would not be needed
    assert stat.S_IMODE(head.folder.parent.stat().st_mode) == 0o700


def test_without_the_token_the_jobs_api_answers_401(head: demo.Head) -> None:
    before = head.api("GET", "jobs/").json()
    jobs, run = f"{head.url}/api/jobs/", {"entrypoint": "touch /tmp/shadow"}
    assert requests.get(jobs, timeout=300).status_code == 401
    assert requests.post(jobs, json=run, timeout=300).status_code == 401
    assert requests.get(f"{head.url}/api/version", timeout=300).status_code == 401
    wrong = {"Authorization": "Bearer " + "0" * 64}
    assert requests.post(jobs, json=run, headers=wrong, timeout=300).status_code == 403
    assert head.api("GET", "jobs/").status_code == 200
    assert head.api("GET", "jobs/").json() == before  # and nothing was started


def places(process: psutil.Process) -> list[Any]:
    """Where a process listens. Nowhere if it is gone by now."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [each.laddr for each in process.net_connections(kind="inet") if each.status == psutil.CONN_LISTEN]
    return []


def test_the_jobs_api_listens_on_the_loopback_and_no_other_port_takes_an_order(head: demo.Head) -> None:
    """Ray's other ports listen on every interface, whatever address the head is given."""
    listening = [address for process in psutil.Process().children(recursive=True) for address in places(process)]
    dashboard = int(head.url.rpartition(":")[2])
    assert {address.ip for address in listening if address.port == dashboard} == {"127.0.0.1"}
    before, answers = head.api("GET", "jobs/").json(), set()
    for address in listening:
        host = "127.0.0.1" if address.ip in ("0.0.0.0", "::") else address.ip.removeprefix("::ffff:")
        patience = 300 if address.port == dashboard else 5
        for path in ("jobs/", "job_agent/jobs/"):
            url, order = f"http://{host}:{address.port}/api/{path}", {"entrypoint": "true"}
            with contextlib.suppress(requests.RequestException):  # not every port speaks HTTP
                answers.add(requests.post(url, json=order, timeout=patience).status_code)
    assert 401 in answers and min(answers) >= 400
    assert head.api("GET", "jobs/").json() == before  # no order was accepted without an answer either


def test_the_dashboard_tells_without_the_token_only_that_it_lives_and_asks_for_one(head: demo.Head) -> None:
    for path in ("gcs_healthz", "authentication_mode"):
        assert requests.get(f"{head.url}/api/{path}", timeout=300).status_code == 200, path


@pytest.mark.parametrize(
    ("part", "stub", "method", "order"),
    [
        ("gcs_server", InternalKVGcsServiceStub, "InternalKVKeys", InternalKVKeysRequest()),
        ("raylet", NodeManagerServiceStub, "GetNodeStats", GetNodeStatsRequest()),
        ("ray.util.client.server", RayletDriverStub, "ClusterInfo", ClusterInfoRequest(type=ClusterInfoType.PING)),
    ],
)
def test_without_the_token_grpc_is_refused(
    head: demo.Head, part: str, stub: Callable[[grpc.Channel], Any], method: str, order: Any
) -> None:
    """One port of a part serves this method. The others do not speak gRPC or serve other methods."""

    def of_part(process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):
            return part == process.name() or part in process.cmdline()
        return False

    def codes(metadata: list[tuple[str, str]]) -> set[grpc.StatusCode]:
        found = set()
        for process in psutil.Process().children(recursive=True):
            if of_part(process):
                for port in {address.port for address in places(process)}:
                    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                        call = getattr(stub(channel), method).future(order, timeout=30, metadata=metadata)
                        found.add(call.code())
        return found

    token, deadline = head.environment["RAY_AUTH_TOKEN"], time.monotonic() + 120
    while grpc.StatusCode.OK not in codes([("authorization", f"Bearer {token}")]):  # the part may still be starting
        assert time.monotonic() < deadline
        time.sleep(0.5)
    for metadata in ([], [("authorization", "Bearer " + "0" * 64)]):
        answers = codes(metadata)
        assert grpc.StatusCode.UNAUTHENTICATED in answers and grpc.StatusCode.OK not in answers, answers


def test_a_submitted_study_shows_its_table_in_plain_text(submitted: Path) -> None:
    text = (submitted / "output").read_text()
    assert "\x1b" not in text and "★ 000" in text and "lake400" in text
    assert json.loads((submitted / "run/result.json").read_text())["best_trial"]["id"] == "000"


@pytest.mark.usefixtures("submitted")
def test_the_dashboard_knew_the_trial_by_its_name(head: demo.Head) -> None:
    """Asked like the dashboard's own pages, which ask again if there is no answer."""

    def ask(path: str) -> dict[str, Any]:
        for _ in range(5):
            with contextlib.suppress(requests.Timeout):
                return head.api("GET", path).json()
        raise AssertionError(f"{path} is not answered")

    actors = ask("v0/actors?detail=true&limit=1000")["data"]["result"]["result"]
    assert "trial-000" in {actor["repr_name"] for actor in actors}
    runs = ask("train/v2/runs/v1")["train_runs"]
    assert {run["name"].rpartition("-")[0] for run in runs} == {"trial-000"}  # of all studies so far


@pytest.mark.usefixtures("submitted")
def test_the_upload_is_the_program_and_its_jobs_and_nothing_large(head: demo.Head) -> None:
    """The package that is uploaded with a study, as unpacked on the node. There is one for all submissions."""
    (package,) = head.folder.glob("session_2*/runtime_resources/working_dir_files/_ray_pkg_*/")
    files = [path for path in package.rglob("*") if path.is_file()]
    assert (package / "oneshot/tune.py") in files and (package / "tune_jobs/quick.toml") in files
    assert not {".git", ".venv", "runs"} & {path.name for path in package.iterdir()}
    assert sum(path.stat().st_size for path in files) < 5e6


def test_a_stopped_job_leaves_a_study_that_goes_on(
    head: demo.Head, tmp_path: Path, data_root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    where = ["--run", str(tmp_path / "run"), "--data", str(data_root)]
    changes = settings(
        search__trials="1", search__first="[]", search__grace="0", train__epochs="24", train__examples="1024"
    )
    study = ["python", "-m", "oneshot.tune", "quick", *where, *changes]
    process = subprocess.Popen(
        [demo.RAY, "job", "submit", "--submission-id=stopped", "--working-dir=.", "--", *study],
        cwd=ROOT, env=head.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    text = ""
    for line in process.stdout or []:
        text += line
        if re.search(r"trial 000 epoch +1/24", line):
            assert head.api("POST", "jobs/stopped/stop").ok  # the request of `ray job stop`, which starts slowly
    assert process.wait(timeout=300) == 0  # for Ray's client a stopped job has not failed
    assert head.api("GET", "jobs/stopped").json()["status"] == "STOPPED"
    assert f"to go on: python -m oneshot.tune --resume {tmp_path / 'run'}" in text and "Traceback" not in text
    (trial,) = json.loads((tmp_path / "run/study.json").read_text())["trials"]
    assert trial["status"] == "pending" and 1 <= trial["epochs"] < 24

    capfd.readouterr()
    assert demo.submit(head, ["--resume", str(tmp_path / "run"), "--data", str(data_root)]) == 0
    text = capfd.readouterr().out
    assert "trial 000 goes on after epoch" in text and not re.search(r"trial 000 epoch +1/24", text)
    (trial,) = json.loads((tmp_path / "run/study.json").read_text())["trials"]
    assert (trial["status"], trial["epochs"]) == ("finished", 24)


def test_a_refused_study_gives_its_own_exit_code(head: demo.Head, capfd: pytest.CaptureFixture[str]) -> None:
    assert demo.submit(head, ["quick", "--set", "train.momentun=1"]) == 2
    assert "error: --set: 'train.momentun' names no setting" in capfd.readouterr().out
