"""`cluster/slurm.sbatch`: a study on a real SLURM whose two workers need two hosts; without SLURM, its messages."""

import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import slurm
from command import ROOT, settings

a_slurm = pytest.mark.skipif(bool(slurm.why_not()), reason=slurm.why_not())
OPEN = "import urllib.request as r; print(r.urlopen(r.Request('http://127.0.0.1:8265/api/jobs/')).status)"


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a short path, as it will contain sockets."""
    with tempfile.TemporaryDirectory(prefix="os-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.mark.ray
@a_slurm
@pytest.mark.parametrize("launch", ["manual", pytest.param("symmetric", marks=pytest.mark.long)])
def test_a_slurm_job_trains_on_two_hosts(launch: str, short: Path, tmp_path: Path, data_root: Path) -> None:
    changes = settings(
        search__trials="1", search__first="[]", search__grace="0", scale__workers="2", train__epochs="1",
        train__precision="fp32",
    )  # fmt: skip
    variables = {
        "LAUNCH": launch, "ONESHOT_DATA": str(data_root), "PYTHONPATH": str(ROOT), "NODE_TMP": "/tmp/ray",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip
    own = [short / "slurm" / f"ray-{host}" for host in slurm.HOSTS]  # each host's /tmp/ray
    with slurm.cluster(short / "slurm") as cluster:
        script = [str(ROOT / "cluster/slurm.sbatch"), "quick", "--run", str(tmp_path / "run"), *changes]
        job = cluster.command("sbatch", "--parsable", "--nodes=2", *script, cwd=tmp_path, **variables).strip()
        log = tmp_path / f"oneshot-{job}.log"
        try:
            cluster.wait(job, lambda: log.exists() and "trial 000 started" in log.read_text())
            assert "401" in cluster.command(sys.executable, "-c", OPEN, check=False)
            closed = [path for folder in own for path in folder.iterdir()]
            assert [path.name for path in closed] == [f"oneshot-{job}"] * 2
            assert {stat.S_IMODE(path.stat().st_mode) for path in closed} == {0o700}
            assert all(list(path.glob("ray/session_2*/sockets/raylet")) for path in closed)
            cluster.wait(job)
            assert cluster.field(job, "JobState") == "COMPLETED" and cluster.field(job, "ExitCode") == "0:0"
            assert not [path for folder in own for path in folder.iterdir()]
        except AssertionError as error:
            raise AssertionError("\n".join(path.read_text() for path in sorted(tmp_path.glob("*.log")))) from error
    text = log.read_text()
    assert f"launch {launch}" in text and "2 cpu workers each" in text
    assert "★ 000" in text and "lake400" in text and "\x1b" not in text
    assert json.loads((tmp_path / "run/result.json").read_text())["best_trial"]["id"] == "000"


@pytest.mark.parametrize("step", ["exec sleep 60", "exit 1"])  # it still runs when the job ends, or has ended by then
@pytest.mark.parametrize(
    ("patience", "said"),
    [
        ('case "$*" in *bash*) exit 124 ;; esac', "error: Ray's head did not listen at "),
        ('case "$*" in *python*) exit 124 ;; esac', "error: not all of the 2 nodes came within 300 s, see "),
    ],
)
def test_a_manual_launch_that_comes_to_nothing_says_so_and_names_rays_log(
    patience: str, said: str, step: str, tmp_path: Path
) -> None:
    """Without SLURM: the commands that the script calls are replaced, and one of its two waits times out."""
    commands = {
        "srun": f'case "$*" in *" ray "*) {step} ;; esac', "timeout": patience, "python": "echo token",
        "hostname": "echo 10.0.0.1",
    }  # fmt: skip
    for name, does in commands.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    variables = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}", "LAUNCH": "manual", "SLURM_SUBMIT_DIR": str(tmp_path),
        "SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2", "SLURM_CPUS_ON_NODE": "1", "SLURM_JOB_NODELIST": "n[1-2]",
        "SLURMD_NODENAME": "n1", "NODE_TMP": str(tmp_path),
    }  # fmt: skip
    script = ["bash", str(ROOT / "cluster/slurm.sbatch"), "quick"]
    done = subprocess.run(script, cwd=tmp_path, env=variables, text=True, capture_output=True, timeout=60)
    assert done.returncode == 1
    assert said in done.stderr and done.stderr.endswith("within 300 s, see oneshot-7-ray.log\n")


def test_the_heads_address_is_the_first_of_the_network_that_is_asked_for(tmp_path: Path) -> None:
    """Without SLURM: an unknown launch ends the script before it starts anything, after it has named the address."""
    for name, says in {"python": "token", "hostname": "172.17.0.1 10.1.0.7 fd00::7"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\necho {says}\n")
        (tmp_path / name).chmod(0o755)
    variables = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}", "LAUNCH": "none", "SLURM_SUBMIT_DIR": str(tmp_path),
        "SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2", "SLURM_CPUS_ON_NODE": "1", "SLURM_JOB_NODELIST": "n[1-2]",
        "SLURMD_NODENAME": "n1",
    }  # fmt: skip

    def said(**more: str) -> str:
        script = ["bash", str(ROOT / "cluster/slurm.sbatch")]
        done = subprocess.run(script, cwd=tmp_path, env=variables | more, text=True, capture_output=True, timeout=60)
        assert done.returncode == 2
        return done.stdout + done.stderr

    assert "Ray's head at 172.17.0.1:20007" in said()
    assert "Ray's head at 10.1.0.7:20007" in said(HEAD_IP="10.1.")
    assert said(HEAD_IP="10.2.").startswith("error: no address of n1 begins with '10.2.': 172.17.0.1 10.1.0.7 fd00::7")
