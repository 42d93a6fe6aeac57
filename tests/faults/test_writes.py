"""A training is killed while it writes a checkpoint, at every stage of it: the one before is whole and used."""

from pathlib import Path

import psutil
import pytest
from command import run, settings
from driver import Driver, checkpoints, stop_while
from outcome import history, weights

CHANGES = settings(train__epochs="3", train__examples="1024", scale__checkpoint_steps="1")

STAGES = {  # of a checkpoint's write, by the files of its folder
    "its first file half written": lambda names: bool(names) and all(name.startswith(".partial-") for name in names),
    "its second file half written": lambda names: any(name.endswith("-training.safetensors") for name in names),
    "its last file missing": lambda names: {"model.safetensors", "training.safetensors"} == set(names),
}


def at(stage: str, folder: Path) -> bool:
    """Whether the newest checkpoint, and not the first, is at this stage of its write."""
    found = checkpoints(folder)
    return len(found) > 1 and STAGES[stage](_names(found[-1]))


def _names(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir()] if folder.exists() else []


def variables(data_root: Path) -> dict[str, str]:
    return {"ONESHOT_DATA": str(data_root), "OMP_NUM_THREADS": "1"}  # a core is left to who watches the files


@pytest.fixture(scope="module")
def whole(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The training to which nothing happens."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run("train", "quick", "--local", "--run", str(folder), *CHANGES, **variables(data_root))
    return folder


def test_a_training_killed_at_every_stage_of_a_write_ends_bit_for_bit_as_an_undisturbed_one(
    whole: Path, tmp_path: Path, data_root: Path
) -> None:
    arguments = ["train", "quick", "--local", "--run", str(tmp_path / "run"), *CHANGES]
    left = ""
    for stage in STAGES:
        driver = Driver(*arguments, **variables(data_root))
        try:
            stop_while(psutil.Process(driver.process.pid), lambda stage=stage: at(stage, tmp_path / "run"))
        finally:
            driver.kill()
        if left:
            assert f"{left} is unfinished: state.json is missing or unreadable; using the one before it" in driver.text
        *_, before, newest = checkpoints(tmp_path / "run")
        assert (before / "state.json").exists() and not (newest / "state.json").exists()
        left = newest.name
    text = run(*arguments, **variables(data_root))
    assert f"{left} is unfinished" in text
    assert history(tmp_path / "run") == history(whole)
    assert weights(tmp_path / "run") == weights(whole)
