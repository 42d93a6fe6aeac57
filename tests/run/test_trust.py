"""A run folder that another user owns, or can change, is refused."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command import ROOT, environment, refused, settings

from oneshot.base.errors import UserError
from oneshot.base.storage import Folder
from oneshot.run import trust

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    checkpoint = tmp_path / "run/trials/000/checkpoints/epoch-0001"
    checkpoint.mkdir(parents=True)
    for name in ("training.safetensors", "state.json", "model.safetensors"):
        (checkpoint / name).touch()
    return tmp_path / "run"


def said(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        trust.check(Folder.of(folder))
    return str(caught.value)


def test_ones_own_is_trusted(run_folder: Path) -> None:
    trust.check(Folder.of(run_folder))
    trust.check(Folder.of(run_folder / "not yet there"))


@pytest.mark.parametrize(
    "part", [".", "trials/000/checkpoints", "trials/000/checkpoints/epoch-0001/training.safetensors"]
)
def test_what_others_can_write_is_named_with_what_to_do(run_folder: Path, part: str) -> None:
    (run_folder / part).chmod(0o777)
    assert said(run_folder) == (
        f"{run_folder / part} can be written by other users (mode 777): run chmod -R go-w {run_folder}"
        " and set umask 022"
    )


@as_root
@pytest.mark.parametrize("part", [".", "trials/000", "trials/000/checkpoints/epoch-0001/training.safetensors"])
def test_what_belongs_to_another_user_is_named(run_folder: Path, part: str) -> None:
    os.chown(run_folder / part, 65534, -1)
    assert f"{run_folder / part} belongs to the user nobody: go on in a copy" in said(run_folder)


@as_root
def test_the_group_of_ones_own_may_write_and_another_may_not(run_folder: Path) -> None:
    run_folder.chmod(0o775)
    trust.check(Folder.of(run_folder))
    os.chown(run_folder, -1, 65534)
    assert "can be written by other users (mode 775)" in said(run_folder)


def test_a_run_is_refused_at_its_beginning_where_it_could_not_go_on(tmp_path: Path, data_root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "oneshot.train", "quick", "--local", "--run", str(tmp_path / "run"), *settings()],
        cwd=ROOT, env=environment(ONESHOT_DATA=str(data_root)), umask=0, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2 and "can be written by other users (mode 777)" in done.stderr + done.stdout
    assert not list((tmp_path / "run").glob("*.toml"))


def test_neither_a_training_nor_a_study_goes_on_there(run_folder: Path, data_root: Path) -> None:
    run_folder.chmod(0o777)
    for command in (["train", "quick", "--local"], ["tune", "quick"]):
        sentence = refused(*command, "--run", str(run_folder), *settings(), ONESHOT_DATA=str(data_root))
        assert sentence.startswith(f"{run_folder} can be written by other users")
