"""Refusals on the command line, one of each kind: one sentence, exit code 2, and nothing new on the disk.

Other cases of a kind are tested with the module that refuses them; requests that need no files, in test_cli.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
from command import ROOT, environment, refused, settings
from malice import older
from web import Site, serve
from zips import made_archives, zip_of

from oneshot.base.jobs import job_file, override, read
from oneshot.base.storage import Folder
from oneshot.data.archives import content_digest
from oneshot.data.png import encode
from oneshot.data.store import TRIALS
from oneshot.run.opened import EXPERIMENT

BACKGROUND = "images_background.zip"


def found(folder: Path) -> dict[str, bytes]:
    """All files and folders in a folder, with the files' contents."""
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in sorted(folder.rglob("*"))}


def refused_untouched(folder: Path, *arguments: str, **variables: str) -> str:
    """The sentence that refuses a request. Everything in the folder must be as before."""
    before = found(folder)
    said = refused(*arguments, **variables)
    assert found(folder) == before
    return said


def test_an_archive_that_reaches_out_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    zip_of(tmp_path / "given" / BACKGROUND, {"../../evil.png": b"x"})
    said = refused_untouched(
        tmp_path, "data", "--dataset", "omniglot", "--source", str(tmp_path / "given"), "--data", str(tmp_path / "root")
    )
    assert said == (
        f"{tmp_path}/given/{BACKGROUND}: the member '../../evil.png' has a path that leaves the archive;"
        " do not trust this archive, get another"
    )


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({}, "does not exist (HTTP 404); give the folder or address"),
        ({f"/{BACKGROUND}": b"<html>log in first</html>"}, "did not send Omniglot's images_background"),
    ],
)
def test_a_server_that_has_no_archive(tmp_path: Path, files: dict[str, bytes], sentence: str) -> None:
    with serve(Site(files)) as site:
        said = refused("data", "--dataset", "omniglot", "--source", site.url, "--data", str(tmp_path))
    assert said.startswith(site.url) and sentence in said
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [f"{BACKGROUND}.lock"]


def test_a_drawing_without_ink(tmp_path: Path) -> None:
    """No archive with Omniglot's digest contains one, so the digests are replaced by those of made-up archives."""
    evaluation, runs = made_archives()
    blank = sorted(evaluation)[7]
    evaluation[blank] = encode(np.zeros((105, 105), dtype=bool))
    script = "from oneshot.data import omniglot\nfrom oneshot.cli.main import main\n"
    for constant, members in (("BACKGROUND", {}), ("EVALUATION", evaluation), ("RUNS", runs)):
        name = {"BACKGROUND": "images_background", "EVALUATION": "images_evaluation", "RUNS": "all_runs"}[constant]
        zip_of(tmp_path / f"{name}.zip", members)
        script += f"omniglot.{constant} = omniglot.Archive('{name}', '{content_digest(members)}', ('{name}.zip',))\n"
    before = found(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", f"{script}main()", "data", "--dataset", "omniglot", "--source", ".", "--data", "root"],
        cwd=tmp_path, env=environment(PYTHONPATH=str(ROOT)), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == (
        f"error: {blank} is blank, all of one colour, and not a drawing; get the archive it lies in again\n"
    )
    assert found(tmp_path) == before


def test_a_data_set_whose_trials_are_damaged_before_a_training_needs_hours(tmp_path: Path, data_root: Path) -> None:
    shutil.copytree(data_root / "glyphs-10", tmp_path / "root" / "glyphs-10")
    damaged = tmp_path / "root" / "glyphs-10" / TRIALS
    damaged.write_bytes(damaged.read_bytes()[:-50])
    said = refused_untouched(
        tmp_path, "train", "quick", "--local", "--data", str(tmp_path / "root"), "--run", str(tmp_path / "run"),
        *settings(),
    )  # fmt: skip
    assert said.startswith(f"{damaged} is damaged or not a Parquet file")
    assert said.endswith("remove it and run `python -m oneshot.data` again")


def test_a_job_that_contradicts_itself(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text("[train]\npatience = 9\nepochs = 3\n")
    said = refused_untouched(tmp_path, "tune", str(tmp_path / "job.toml"), "--run", str(tmp_path / "run"))
    assert said == f"{tmp_path}/job.toml: train.patience = 9: more than train.epochs = 3"


def test_a_checkpoint_of_an_older_version_whose_training_pt_would_run_code(tmp_path: Path) -> None:
    tiny.train(tmp_path / "run", tiny.settings(epochs=1))
    place = tmp_path / "run" / "checkpoints" / "epoch-0001"
    older(place, tmp_path / "owned")
    said = refused_untouched(tmp_path, "evaluate", str(place))
    assert said.startswith(f"checkpoint {place} is of an older version: its training.pt is a pickle")
    assert said.endswith("start the training again in another --run, or go on with the version that wrote it")


def test_a_run_of_an_older_version_is_not_taken_for_a_damaged_one_and_begun_again(
    tmp_path: Path, data_root: Path
) -> None:
    chosen = override(read(job_file("quick")), {"data.dataset": "glyphs-10"}, source="here")
    Folder.of(tmp_path / "run").write(EXPERIMENT, chosen.to_toml().encode())
    for where in ("run", "run/trials/000"):
        tiny.train(tmp_path / where, tiny.settings(epochs=1))
        place = tmp_path / where / "checkpoints" / "epoch-0001"
        older(place, tmp_path / "owned")
        for command in (["train", "quick", "--local"], ["tune", "quick"]):
            said = refused_untouched(
                tmp_path, *command, "--run", str(tmp_path / "run"), "--set", "data.dataset=glyphs-10",
                ONESHOT_DATA=str(data_root),
            )  # fmt: skip
            assert said.startswith(f"checkpoint {place} is of an older version")
        shutil.rmtree(tmp_path / where / "checkpoints")


def test_trials_that_no_alphabet_can_carry_before_a_search_needs_hours(tmp_path: Path, data_root: Path) -> None:
    said = refused_untouched(
        tmp_path, "tune", "quick", "--run", str(tmp_path / "run"), *settings(evaluate__k_shot="20"),
        ONESHOT_DATA=str(data_root),
    )  # fmt: skip
    assert said.startswith("no one-shot trial can be made")
    assert "has 20 drawers, and 20-shot needs 21 (one for the query)" in said and said.endswith(
        "ask for less or for other protocols"
    )


def test_a_training_that_its_drawings_cannot_feed(tmp_path: Path, data_root: Path) -> None:
    said = refused_untouched(
        tmp_path, "train", "quick", "--run", str(tmp_path / "run"), *settings(data__drawers="32", data__alphabets="0"),
        ONESHOT_DATA=str(data_root),
    )  # fmt: skip
    assert said == "data.drawers = 32: a character of the training set has only 20 drawings"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"search__batch": "[64, 512]"},
            "search.batch = 512: train.batch = 512: an episode needs 2 alphabets of 64 characters; the training set has"
            " 0; make the batch smaller or data.alphabets larger",
        ),
        (
            {"search__choices": '{"train.clip" = [1.0], "data.alphabets" = [2, 8]}', "search__batch": "[64]"},
            "search.batch = 64, train.clip = 1.0, data.alphabets = 8: train.batch = 64: an episode needs 8 alphabets of"
            " 2 characters; the training set has 4; make data.alphabets smaller",
        ),
        (
            {"search__first": '[{batch = 64}, {"data.drawers" = 32, "data.alphabets" = 0, batch = 64}]'},
            "search.first.1: data.drawers = 32: a character of the training set has only 20 drawings",
        ),
    ],
)
def test_a_search_of_which_some_trials_could_not_be_fed(
    tmp_path: Path, data_root: Path, changes: dict[str, str], sentence: str
) -> None:
    said = refused_untouched(
        tmp_path, "tune", "quick", "--run", str(tmp_path / "run"), *settings(train__examples="512", **changes),
        ONESHOT_DATA=str(data_root),
    )  # fmt: skip
    assert said == sentence


@pytest.mark.parametrize("where", ["file", "/proc/run"])
def test_a_run_folder_that_cannot_be(tmp_path: Path, data_root: Path, where: str) -> None:
    (tmp_path / "file").write_text("in the way")
    run = tmp_path / where
    said = refused_untouched(
        tmp_path, "train", "quick", "--local", "--run", str(run), *settings(), ONESHOT_DATA=str(data_root)
    )
    assert str(run) in said and ("name another" in said or "name one that can be written" in said)
