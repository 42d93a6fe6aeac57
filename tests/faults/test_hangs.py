"""A worker that hangs in a save, while the thread that answers Ray still runs, is ended and started again."""

import subprocess
import sys
from pathlib import Path

import pytest
from command import ROOT, environment, settings
from outcome import history

from oneshot.base.storage import Folder
from oneshot.run.history import read_notes

pytestmark = pytest.mark.ray

# `train` with a worker that hangs at the first save of a checkpoint.
HANGS = """
import sys
from oneshot.cli import main as cli
from oneshot.cluster import trainer

def hanging(config, flag=sys.argv.pop(1)):
    import os, time
    from oneshot.cluster import trainer
    from oneshot.run import checkpoint, watchdog

    save = checkpoint.save

    def once(*given, **named):
        if not os.path.exists(flag):
            open(flag, "w").close()
            time.sleep(600)
        save(*given, **named)

    checkpoint.save = once
    watchdog.LEAST = 0
    trainer._train_worker(config)

trainer._train_worker = hanging
cli.main()
"""


def test_a_worker_that_hangs_while_it_saves_is_noticed_and_the_training_goes_on(
    tmp_path: Path, data_root: Path
) -> None:
    arguments = ["train", "quick", "--run", str(tmp_path / "run"), *settings(scale__timeout="5")]
    done = subprocess.run(
        [sys.executable, "-c", HANGS, str(tmp_path / "hung"), *arguments],
        cwd=ROOT, env=environment(ONESHOT_DATA=str(data_root)), text=True, capture_output=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert [row["epoch"] for row in history(tmp_path / "run")] == [1, 2]
    notes = read_notes(Folder.of(tmp_path / "run"))  # on a slow machine, it may stand still elsewhere too
    assert any("stood still for 5 s in _save (training/loop.py:" in note for note in notes), notes
    assert all("stood still for 5 s in " in note for note in notes), notes
