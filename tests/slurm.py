"""A SLURM cluster of two one-core hosts on this machine, from Debian's packages.

Each host is a process in namespaces of its own: it has its own name, network card, process table and /tmp/ray. So the
Ray nodes on them are as separate as on two machines, and `ray stop` on one host ends no process of the other.
"""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

HOSTS = {"node1": "10.77.0.1", "node2": "10.77.0.2"}

_ALONE = ["unshare", "--net", "--pid", "--mount", "--uts", "--mount-proc", "--fork", "--kill-child"]
_CONF = """\
ClusterName=test
SlurmctldHost=node1({controller})
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
{nodes}
PartitionName=all Nodes=ALL Default=YES
"""

# The host's first process. When it ends, all processes of the host end, and it reaps orphaned processes. It waits for
# its network card.
_HOST = """\
set -e
hostname "$1"
mkdir -p "$3/ray-$1" /tmp/ray
mount --bind "$3/ray-$1" /tmp/ray
mount --bind "$3/hosts" /etc/hosts
ip link set lo up
read -r _
ip addr add "$2/24" dev card
ip link set card up
ip route add default dev card
if [ "$1" = node1 ]; then
  munged --force --foreground --key-file="$3/munge.key" --socket="$3/munge.socket" --pid-file="$3/munged.pid" \
    --seed-file="$3/munge.seed" --log-file="$3/munged.log" &
  slurmctld -D -i &
fi
while [ ! -S "$3/munge.socket" ]; do sleep 0.1; done
slurmd -D &
wait
"""


@dataclass
class Slurm:
    """A running cluster; commands run on its first host."""

    folder: Path
    first: int  # a process of the first host

    def command(self, *arguments: str, cwd: Path | None = None, check: bool = True, **variables: str) -> str:
        """Run a command on the first host and return its output. Raises CalledProcessError if it fails and `check` is
        set."""
        here = ["nsenter", "--target", str(self.first), "--net", "--uts", "--mount", f"--wdns={cwd or self.folder}"]
        plain = {key: value for key, value in os.environ.items() if not key.startswith(("ONESHOT_", "RAY_"))}
        done = subprocess.run(
            [*here, *arguments], env=plain | {"SLURM_CONF": str(self.folder / "slurm.conf")} | variables, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=check, timeout=300,
        )  # fmt: skip
        return done.stdout

    def field(self, job: str, name: str) -> str:
        """A field of `scontrol show job` for a job, such as JobState."""
        shown = self.command("scontrol", "show", "job", job, "--oneliner")
        return shown.partition(f" {name}=")[2].partition(" ")[0]

    def wait(self, job: str, until: Callable[[], bool] = lambda: False, *, seconds: float = 400) -> None:
        """Wait until `until` is true or the job has ended."""
        deadline = time.monotonic() + seconds
        while not until() and self.field(job, "JobState") in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING"):
            assert time.monotonic() < deadline, f"job {job} takes longer than {seconds} s"
            time.sleep(1)

    def idle(self) -> int:
        """How many hosts are idle."""
        try:
            return self.command("sinfo", "--noheader", "--Node", "--states=idle").count("\n")
        except subprocess.CalledProcessError:
            return 0


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[Slurm]:
    """Two hosts of one core each, idle and ready, while the block runs. `folder` must be new."""
    (folder / "state").mkdir(parents=True)
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o600)
    (folder / "hosts").write_text("127.0.0.1 localhost\n" + "".join(f"{ip} {name}\n" for name, ip in HOSTS.items()))
    nodes = "\n".join(f"NodeName={name} NodeAddr={ip} CPUs=1 RealMemory=1000" for name, ip in HOSTS.items())
    (folder / "slurm.conf").write_text(_CONF.format(folder=folder, controller=HOSTS["node1"], nodes=nodes))
    with contextlib.ExitStack() as stack:
        hosts = [stack.enter_context(_host(name, ip, folder)) for name, ip in HOSTS.items()]
        first, second = (f"card netns {host.pid}".split() for host in hosts)
        subprocess.run(["ip", "link", "add", *first, "type", "veth", "peer", "name", *second], check=True)
        for host in hosts:
            assert host.stdin
            host.stdin.write("go\n")
            host.stdin.close()
        slurm = Slurm(folder, hosts[0].pid)
        deadline = time.monotonic() + 300
        while slurm.idle() < len(HOSTS):
            assert time.monotonic() < deadline, "SLURM's hosts do not become idle"
            time.sleep(0.5)
        yield slurm


@contextlib.contextmanager
def _host(name: str, ip: str, folder: Path) -> Iterator["subprocess.Popen[str]"]:
    with open(folder / f"{name}.log", "w") as log:
        host = subprocess.Popen(
            [*_ALONE, "bash", "-c", _HOST, "host", name, ip, str(folder)], text=True,
            env=os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}, stdin=subprocess.PIPE, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        while not psutil.Process(host.pid).children():  # it makes its namespaces before its first child
            assert host.poll() is None, f"{name} does not start"
            time.sleep(0.05)
        yield host
    finally:
        for first in psutil.Process(host.pid).children():
            first.kill()  # which ends every other process of its namespace too
        host.wait()


def why_not() -> str:
    """Why this machine cannot run such a cluster; empty if it can."""
    missing = [name for name in ("slurmctld", "slurmd", "munged", "unshare", "ip") if shutil.which(name) is None]
    if missing:
        return f"no SLURM, or nothing to make hosts with: {', '.join(missing)} missing"
    tried = subprocess.run([*_ALONE, "true"], capture_output=True, text=True)
    return f"namespaces are not allowed here: {tried.stderr.strip()}" if tried.returncode else ""
