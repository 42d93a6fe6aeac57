"""`cluster/slurm.sbatch` on a real SLURM: a study whose two workers do not fit on one host."""

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import slurm
from command import ROOT, settings

pytestmark = [pytest.mark.ray, pytest.mark.skipif(bool(slurm.why_not()), reason=slurm.why_not())]
OPEN = "import urllib.request as r; print(r.urlopen(r.Request('http://127.0.0.1:8265/api/jobs/')).status)"


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose path is short: sockets are among its files."""
    with tempfile.TemporaryDirectory(prefix="os-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.mark.parametrize("launch", ["manual", pytest.param("symmetric", marks=pytest.mark.long)])
def test_a_slurm_job_trains_on_two_hosts(launch: str, short: Path, tmp_path: Path, data_root: Path) -> None:
    changes = settings(
        search__trials="1", search__first="[]", search__grace="0", scale__workers="2", train__epochs="1",
        train__precision="fp32",
    )  # fmt: skip
    variables = {
        "LAUNCH": launch, "ONESHOT_DATA": str(data_root), "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip
    with slurm.cluster(short / "slurm") as cluster:
        script = [str(ROOT / "cluster/slurm.sbatch"), "quick", "--run", str(tmp_path / "run"), *changes]
        job = cluster.command("sbatch", "--parsable", "--nodes=2", *script, cwd=tmp_path, **variables).strip()
        log = tmp_path / f"oneshot-{job}.log"
        try:
            cluster.wait(job, lambda: log.exists() and "trial 000 started" in log.read_text())
            assert "401" in cluster.command(sys.executable, "-c", OPEN, check=False)
            cluster.wait(job)
            assert cluster.field(job, "JobState") == "COMPLETED" and cluster.field(job, "ExitCode") == "0:0"
        except AssertionError as error:
            raise AssertionError("\n".join(path.read_text() for path in sorted(tmp_path.glob("*.log")))) from error
    text = log.read_text()
    assert f"launch {launch}" in text and "2 cpu workers each" in text
    assert "★ 000" in text and "lake400" in text and "\x1b" not in text
    assert json.loads((tmp_path / "run/result.json").read_text())["best_trial"]["id"] == "000"
