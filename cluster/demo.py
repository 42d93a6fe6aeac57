"""`make cluster-demo`: a Ray head on this machine that asks for a token, and a study submitted to it as a job.

Nothing of the head is left at the end. Arguments go to `python -m oneshot.tune`; without any it is the job `quick`.
"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import requests

ROOT = Path(__file__).resolve().parent.parent
RAY = str(Path(sys.executable).with_name("ray"))
START = 120  # seconds a head may take on a busy machine


@dataclass(frozen=True)
class Head:
    """A Ray head on this machine: its Jobs API, the environment in which commands reach it, Ray's own files."""

    url: str
    environment: dict[str, str]
    folder: Path

    def api(self, method: str, path: str) -> requests.Response:
        """Ask the Jobs API, as whoever knows the token."""
        token = {"Authorization": f"Bearer {self.environment['RAY_AUTH_TOKEN']}"}
        return requests.request(method, f"{self.url}/api/{path}", headers=token, timeout=30)


@contextlib.contextmanager
def head() -> Iterator[Head]:
    """A head on free ports, with a token and a temporary folder of its own, for the time of the block.

    Its Jobs API listens on the loopback; Ray's other ports do not keep to it, and ask for the token. Its processes are
    ended by number: `ray stop` would end every Ray of this machine. Raises RuntimeError where it does not come up.
    """
    gcs, dashboard, client = _free_ports(3)
    # Not $TMPDIR, which may be long: the paths of Ray's sockets have at most 107 characters. Ray opens its own folder
    # to every user of the machine; the one around it is closed.
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    temp = folder / "ray"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")} | {
        # A job says `python`: it has to be this one, wherever the shell's own would be found.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ADDRESS": f"http://127.0.0.1:{dashboard}",
        "RAY_JOB_STOP_WAIT_TIME_S": "30",  # else a job that is told to stop is killed after 3 s, while it saves
    }  # fmt: skip
    command = [
        RAY, "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={gcs}", f"--temp-dir={temp}",
        "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}",
        "--dashboard-agent-listen-port=0", "--min-worker-port=0", "--max-worker-port=0", "--log-color=false",
    ]  # fmt: skip
    with open(folder / "start.log", "w+") as log:
        # A session of its own: Ctrl-C is for the demo, which then takes the head down in order.
        started = {key: value for key, value in environment.items() if key != "RAY_ADDRESS"}
        process = subprocess.Popen(command, env=started, stdout=log, stderr=log, start_new_session=True)
        try:
            up = Head(environment["RAY_ADDRESS"], environment, temp)
            if not _answers(up, process):
                log.seek(0)
                raise RuntimeError(f"Ray's head does not come up:\n{log.read()}")
            yield up
        finally:
            _end(process)
            shutil.rmtree(folder, ignore_errors=True)


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [each.getsockname()[1] for each in sockets]


def _answers(up: Head, process: "subprocess.Popen[bytes]") -> bool:
    deadline = time.monotonic() + START
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(requests.ConnectionError, requests.Timeout):
            if up.api("GET", "jobs/").ok:
                return True
        time.sleep(0.5)
    return False


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is not None:
        return  # it has ended its children itself
    head = psutil.Process(process.pid)
    processes = [head, *head.children(recursive=True)]
    for end in (psutil.Process.terminate, psutil.Process.kill):
        for each in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                end(each)
        _, processes = psutil.wait_procs(processes, timeout=10)
    process.wait()


def submit(up: Head, arguments: list[str]) -> int:
    """Submit `python -m oneshot.tune ARGUMENTS` and follow its log to the end; the job's own exit code.

    An interrupt stops the job, which saves its study, and is then raised.
    """
    name = f"study-{secrets.token_hex(4)}"
    command = ["python", "-m", "oneshot.tune", *arguments]
    process = subprocess.Popen(
        [RAY, "job", "submit", "--log-color=false", f"--submission-id={name}", "--working-dir=.", "--", *command],
        cwd=ROOT, env=up.environment, start_new_session=True,
    )  # fmt: skip
    try:
        process.wait()
    except KeyboardInterrupt:
        up.api("POST", f"jobs/{name}/stop")
        process.wait()
        raise
    return process.returncode and (up.api("GET", f"jobs/{name}").json().get("driver_exit_code") or 1)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def main() -> int:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    arguments = sys.argv[1:] or ["quick"]
    if not any(argument.startswith(("--run", "--resume")) for argument in arguments):
        # Absolute: the job's working directory is a copy, which Ray removes.
        arguments += ["--run", str(ROOT / "runs" / time.strftime("cluster-demo-%Y%m%d-%H%M%S"))]
    try:
        with head() as up:
            print(f"a Ray head listens at {up.url} and asks for a token; the study is submitted to it", flush=True)
            return submit(up, arguments)
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
