"""Hosts of a cluster on one machine: network namespaces with their own addresses, joined by a bridge, each with a Ray
node. A link can be cut and a host lost, and no other host is notified."""

import contextlib
import itertools
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from command import ROOT, environment

PORT = 6379  # each host has its own
RAY = str(Path(sys.executable).with_name("ray"))


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


def need_namespaces() -> None:
    """Skip the test if this machine does not allow network namespaces."""
    if not shutil.which("ip"):
        pytest.skip("no iproute2 (the command ip) on this machine")
    name = f"oneshot-{secrets.token_hex(3)}"
    try:
        ip("netns", "add", name)
        ip("netns", "delete", name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces are not allowed here: {error.stderr.strip()}")


class Host:
    """A network namespace with one address."""

    def __init__(self, name: str, address: str, bridge: str) -> None:
        self.name, self.address = name, address
        self.link = f"{name}v"
        self.node: subprocess.Popen[bytes] | None = None
        ip("netns", "add", name)
        ip("link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("link", "set", self.link, "master", bridge, "up")
        self.inside("ip", "addr", "add", f"{address}/24", "dev", "eth0").wait()
        self.inside("ip", "link", "set", "eth0", "up").wait()
        self.inside("ip", "link", "set", "lo", "up").wait()

    def inside(self, *command: str, **variables: str) -> "subprocess.Popen[bytes]":
        """Start a command on this host, in a session of its own."""
        return subprocess.Popen(
            ["ip", "netns", "exec", self.name, *command], cwd=ROOT, env=environment(**variables),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def pids(self) -> list[int]:
        done = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True)
        return [int(word) for word in done.stdout.split()]

    def cut(self) -> None:
        """Take the link down; the processes keep running and are not notified."""
        ip("link", "set", self.link, "down")

    def lose(self) -> None:
        """Cut the link and kill everything that runs on the host."""
        self.cut()
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def end(self) -> None:
        self.lose()
        ip("link", "delete", self.link)
        ip("netns", "delete", self.name)
        if self.node:
            self.node.wait()


class Cluster:
    """Ray on several hosts, the first of which is the head. Its files are in `folder`, whose path must be short because
    some of them are sockets. `new` makes a host."""

    def __init__(self, new: Callable[[], Host], number: int, folder: Path) -> None:
        self.new, self.folder = new, folder
        self.hosts = [new() for _ in range(number)]
        self.address = f"{self.hosts[0].address}:{PORT}"
        self.variables = {
            "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16),
            # A node that does not answer counts as dead after seconds, not after half a minute.
            "RAY_health_check_period_ms": "1000", "RAY_health_check_timeout_ms": "2000",
            "RAY_health_check_failure_threshold": "3",
        }  # fmt: skip

    def begin(self, cores: list[int]) -> None:
        """Start Ray on each host, with this number of cores."""
        for host, count in zip(self.hosts, cores, strict=True):
            self._begin(host, count)
        self._wait()

    def _begin(self, host: Host, cores: int) -> None:
        where = ["--head", f"--port={PORT}", "--include-dashboard=false"]
        where = where if host is self.hosts[0] else [f"--address={self.address}"]
        host.node = host.inside(
            RAY, "start", *where, f"--node-ip-address={host.address}", f"--num-cpus={cores}", "--block",
            "--disable-usage-stats", "--object-store-memory=100000000", f"--temp-dir={self.folder / host.name}",
            **self.variables,
        )  # fmt: skip

    def add(self, cores: int) -> Host:
        """Add a host; it joins when its Ray is up."""
        self.hosts.append(self.new())
        self._begin(self.hosts[-1], cores)
        return self.hosts[-1]

    def _wait(self) -> None:
        """Wait until all hosts have joined. A node that finds no head tries again by itself."""
        script = (
            "import ray, time\n"
            "for _ in range(60):\n"
            "    try:\n        ray.init(log_to_driver=False, logging_level='CRITICAL'); break\n"
            "    except Exception:\n        time.sleep(1)\n"
            f"while sum(node['Alive'] for node in ray.nodes()) < {len(self.hosts)}:\n    time.sleep(0.2)"
        )
        waiting = self.hosts[0].inside(sys.executable, "-c", script, RAY_ADDRESS=self.address, **self.variables)
        assert waiting.wait(timeout=300) == 0, "the nodes do not find each other"

    def start(self, *arguments: str, **variables: str) -> "subprocess.Popen[str]":
        """Start `python -m oneshot.VERB ...` on the head; its output can be read from `stdout`."""
        verb, *rest = arguments
        return subprocess.Popen(
            ["ip", "netns", "exec", self.hosts[0].name, sys.executable, "-m", f"oneshot.{verb}", *rest],
            cwd=ROOT, env=environment(**self.variables, RAY_ADDRESS=self.address, **variables), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def workers(self) -> dict[str, list[int]]:
        """The process ids of a training's workers, by host."""
        found: dict[str, list[int]] = {}
        for host in self.hosts:
            for pid in host.pids():
                with contextlib.suppress(psutil.NoSuchProcess):
                    if "RayTrainWorker" in "".join(psutil.Process(pid).cmdline()):
                        found.setdefault(host.name, []).append(pid)
        return found


@contextlib.contextmanager
def cluster(cores: list[int]) -> Iterator[Cluster]:
    """Hosts with these numbers of cores, the head first, while the block runs."""
    need_namespaces()
    bridge, subnet = f"os{secrets.token_hex(2)}", secrets.randbelow(250) + 1
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="os-", dir="/tmp")))
        ip("link", "add", bridge, "type", "bridge")
        stack.callback(ip, "link", "delete", bridge)
        ip("link", "set", bridge, "up")
        count = itertools.count(1)

        def new() -> Host:
            n = next(count)
            host = Host(f"{bridge}{n}", f"10.77.{subnet}.{n}", bridge)
            stack.callback(host.end)
            return host

        made = Cluster(new, len(cores), folder)
        made.begin(cores)
        yield made
