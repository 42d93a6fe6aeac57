"""A training killed while it writes a checkpoint, at any stage, resumes from the one before, which is intact."""

from pathlib import Path

import pytest
from command import run, settings, struck
from driver import checkpoints
from outcome import history, weights

CHANGES = settings(train__epochs="3", train__examples="1024", scale__checkpoint_steps="1")

# A training that is killed when the given file of a checkpoint, not of the first one, is half written: at the same
# point on any machine.
STRUCK = """
import os, signal, sys
from oneshot.cli.main import main

name, fsync = sys.argv.pop(1), os.fsync

def strike(number):
    folder, file = os.path.split(os.readlink(f"/proc/self/fd/{number}"))
    place = os.path.dirname(folder)
    if file.endswith(f"-{name}") and os.path.basename(place) == "checkpoints" and len(os.listdir(place)) > 1:
        os.ftruncate(number, os.fstat(number).st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(number)

os.fsync = strike
main()
"""
STAGES = {  # of writing a checkpoint: the file that is half written, and those that are complete by then
    "model.safetensors": set(),
    "training.safetensors": {"model.safetensors"},
    "state.json": {"model.safetensors", "training.safetensors"},
}


@pytest.fixture(scope="module")
def whole(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The undisturbed training."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run("train", "quick", "--local", "--run", str(folder), *CHANGES, ONESHOT_DATA=str(data_root))
    return folder


def test_a_training_killed_at_every_stage_of_a_write_ends_bit_for_bit_as_an_undisturbed_one(
    whole: Path, tmp_path: Path, data_root: Path
) -> None:
    arguments = ["train", "quick", "--local", "--run", str(tmp_path / "run"), *CHANGES]
    left = ""
    for file, whole_by_then in STAGES.items():
        _, text = struck(STRUCK, file, *arguments, ONESHOT_DATA=str(data_root))
        if left:
            assert f"{left} is unfinished: state.json is missing or unreadable; using the one before it" in text
        *_, before, newest = checkpoints(tmp_path / "run")
        names = {each.name for each in newest.iterdir()}
        assert (before / "state.json").exists() and not (newest / "state.json").exists()
        assert whole_by_then < names and len(names) == len(whole_by_then) + 1
        left = newest.name
    text = run(*arguments, ONESHOT_DATA=str(data_root))
    assert f"{left} is unfinished" in text
    assert history(tmp_path / "run") == history(whole)
    assert weights(tmp_path / "run") == weights(whole)
