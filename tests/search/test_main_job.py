"""The main job as a user runs it: Ray Tune over Ray Train on this machine's cores, then the final job."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from command import ROOT, environment, run, settings
from outcome import history

import oneshot
from oneshot.base.jobs import parse_toml, with_point
from oneshot.base.storage import Folder
from oneshot.cluster.connection import FAST, QUIET
from oneshot.search.points import OptunaPoints, RandomPoints

pytestmark = pytest.mark.ray


# A point that the drawings cannot feed is refused before a search begins; here it must fail in its worker.
UNCHECKED = """
from oneshot.cli import main as cli
from oneshot.training import parts

parts.check_each = lambda settings, data, points: []
cli.main()
"""


def ended(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run Python with these arguments; it must succeed. Returns the ended process with both of its outputs."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment(**variables), text=True, capture_output=True,
        timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def printed(*arguments: str, **variables: str) -> str:
    """Like `ended`, but returns only the standard output."""
    return ended(*arguments, **variables).stdout


def test_a_study_ends_with_a_judged_network_whatever_becomes_of_single_trials(tmp_path: Path, data_root: Path) -> None:
    """One trial is fine, one diverges, one fails in its worker, one is drawn at random."""
    unfillable = '{batch=512, "data.alphabets"=1}'  # an episode of 128 characters of one alphabet
    first = f'[{{optimizer="adam", lr=3e-3, batch=64}}, {{optimizer="sgd", lr=1e7, batch=64}}, {unfillable}]'
    arguments = [
        "tune", "quick", "--run", str(tmp_path / "run"),
        *settings(
            search__first=first, search__trials="4", search__batch="[64]", train__examples="512", model__views="4"
        ),
    ]  # fmt: skip
    text = printed("-c", UNCHECKED, *arguments, ONESHOT_DATA=str(data_root), **FAST, **QUIET)
    assert "\x1b" not in text and "glyphs (generated)" in text

    study = json.loads((tmp_path / "run/study.json").read_text())
    statuses = {trial["id"]: trial["status"] for trial in study["trials"]}
    assert statuses["000"] in ("finished", "stopped") and statuses["003"] in ("finished", "stopped")
    assert (statuses["001"], statuses["002"]) == ("diverged", "failed")
    assert study["trials"][2]["error"].startswith("train.batch = 512: an episode needs 1 alphabets of 128 characters")

    result = json.loads((tmp_path / "run/result.json").read_text())
    best = min((trial for trial in study["trials"] if trial["val_loss"]), key=lambda trial: trial["val_loss"])
    assert result["best_trial"]["id"] == best["id"]
    assert result["best_trial"]["val_loss"] == best["val_loss"]
    assert (result["views"], result["test_evaluations"]) == (4, 1)
    assert "warning: 1 of 4 trials failed, study.json says why: --resume tries it again" in text
    begun = parse_toml((tmp_path / "run/experiment.toml").read_bytes(), "the run")
    chosen = parse_toml(run("settings", str(tmp_path / "run"), "--toml").encode(), "what is printed")
    assert chosen == with_point(begun, best["settings"]), "what the search chose is a job again"
    assert f"report: {tmp_path / 'run/report.html'}" in text
    page = (tmp_path / "run/report.html").read_text()
    assert "Trials, as they came" in page and study["trials"][2]["error"] in page
    net = oneshot.load(tmp_path / "run")
    assert net.card["sha256"] == result["sha256"] and net.calibration is not None
    within = result["protocols"]["within"]["accuracy"]
    assert f"| {100 * within:.1f} % |" in (tmp_path / "run/best/README.md").read_text()
    left = {path.suffix or path.name for path in (tmp_path / "run").rglob("*") if path.is_file()}
    shown = {".html", ".svg", ".png", ".md"}
    assert left == {".toml", ".json", ".jsonl", ".safetensors", ".oneshot", ".lock", *shown}  # and nothing pickled

    text = run("tune", "--resume", str(tmp_path / "run"), ONESHOT_DATA=str(data_root))
    again = [line for line in text.splitlines() if " started" in line or " goes on" in line]
    assert len(again) == 1 and "trial 002" in again[0]  # what failed gets another try, nothing else is run again
    assert json.loads((tmp_path / "run/result.json").read_text()) == result


def test_a_search_that_is_over_is_given_more_trials_and_the_same_winner_is_judged_once(
    tmp_path: Path, data_root: Path
) -> None:
    """The point that is drawn at random diverges."""
    where = tmp_path / "run"
    changes = settings(
        search__trials="1", search__grace="0", search__first='[{optimizer="adam", lr=3e-3, batch=64}]',
        search__lr="{sgd=[1e7, 1e7]}", search__batch="[64]",
    )  # fmt: skip
    done = ended(
        "-m", "oneshot.tune", "quick", "--json", "--run", str(where), *changes, ONESHOT_DATA=str(data_root)
    )  # fmt: skip
    counts = {"finished": 1, "stopped": 0, "diverged": 0, "failed": 0, "pending": 0}
    assert json.loads(done.stdout)["trials"] == counts and done.stderr == ""
    result, before = (where / "result.json").read_bytes(), history(where / "trials/000")

    text = run("tune", "--resume", str(where), "--set", "search.trials=2", ONESHOT_DATA=str(data_root))
    assert "1 trial more, 2 in all" in text and "warning: " not in text
    again = [line for line in text.splitlines() if " started" in line or " goes on" in line]
    assert len(again) == 1 and "trial 001 started" in again[0]
    study = json.loads((where / "study.json").read_text())
    assert [trial["status"] for trial in study["trials"]] == ["finished", "diverged"]
    assert history(where / "trials/000") == before
    assert (where / "result.json").read_bytes() == result
    assert len((where / "evaluations.jsonl").read_text().splitlines()) == 1


# The limit is reached when the first trial has finished an epoch, however fast this machine is.
LIMITED = """
import pathlib, sys
from oneshot.cli import main as cli
from oneshot.search import tuning

def stop_all(limit):
    return pathlib.Path(sys.argv[sys.argv.index("--run") + 1], "trials/000/history.jsonl").exists()

tuning.TimeLimit.stop_all = stop_all
cli.main()
"""


@pytest.mark.long
def test_at_its_time_limit_a_study_judges_what_is_there_and_can_go_on(tmp_path: Path, data_root: Path) -> None:
    changes = settings(search__trials="2", search__grace="0", train__epochs="8", train__examples="512")
    limits = ["--max-time", "1h30m", "--max-concurrent", "1"]
    arguments = ["tune", "quick", "--run", str(tmp_path / "run"), *changes, *limits]
    text = printed("-c", LIMITED, *arguments, ONESHOT_DATA=str(data_root), **FAST, **QUIET)
    assert "1 trial at once" in text
    assert "the time limit of 1:30:00 is reached: 2 of 2 trials are saved and wait" in text
    assert f"to go on with the search: python -m oneshot.tune --resume {tmp_path / 'run'}" in text
    first, second = json.loads((tmp_path / "run/study.json").read_text())["trials"]
    assert (first["status"], second["status"]) == ("pending", "pending")
    assert 1 <= first["epochs"] < 8 and second["epochs"] == 0
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert (result["best_trial"]["id"], result["test_evaluations"]) == ("000", 1)

    text = run("tune", "--resume", str(tmp_path / "run"), ONESHOT_DATA=str(data_root))
    assert "trial 000 epoch 1/8" not in text and "the search is over" in text
    trials = json.loads((tmp_path / "run/study.json").read_text())["trials"]
    assert [(trial["status"], trial["epochs"]) for trial in trials] == [("finished", 8), ("finished", 8)]


@pytest.mark.parametrize(
    ("sampling", "batch"), [("episodes", "64"), pytest.param("pairs", "32", marks=pytest.mark.long)]
)
def test_two_workers_under_ray_train_equal_one_process(
    sampling: str, batch: str, tmp_path: Path, data_root: Path
) -> None:
    changes = settings(
        train__precision="fp32", train__lr="1e-3", train__batch=batch, data__sampling=sampling, train__objective="bce"
    )
    run("train", "quick", "--local", "--run", str(tmp_path / "one"), *changes, ONESHOT_DATA=str(data_root))
    run("train", "quick", "--workers", "2", "--run", str(tmp_path / "two"), *changes, ONESHOT_DATA=str(data_root))
    one, two = history(tmp_path / "one"), history(tmp_path / "two")
    assert [row["epoch"] for row in one] == [row["epoch"] for row in two] == [1, 2]
    for alone, shared in zip(one, two, strict=True):
        for key in ("train_loss", "train_accuracy", "val_loss"):
            assert shared[key] == pytest.approx(alone[key], abs=1e-5)


@pytest.mark.long
def test_optuna_proposes_the_points(tmp_path: Path, data_root: Path) -> None:
    changes = settings(search__searcher="optuna", search__trials="2", search__first="[]", train__epochs="1")
    arguments = ["quick", "--json", "--run", str(tmp_path / "run"), *changes]
    told = json.loads(printed("-m", "oneshot.tune", *arguments, ONESHOT_DATA=str(data_root)))
    assert told["over"] and told["run"] == str(tmp_path / "run")
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert {key: told[key] for key in result} == result
    study = json.loads((tmp_path / "run/study.json").read_text())
    assert [trial["status"] for trial in study["trials"]] == ["finished"] * 2
    # One trial's first epoch may end before the other begins, so only the point that is proposed before any loss is
    # known is certain.
    given = parse_toml((tmp_path / "run/experiment.toml").read_bytes(), "the run")
    asked = OptunaPoints(given.search).ask(0)
    assert {key: study["trials"][0]["settings"][key] for key in asked} == asked != RandomPoints(given.search).ask(0)


def test_a_study_of_nothing_but_divergence_fails_and_says_why(tmp_path: Path, data_root: Path) -> None:
    changes = settings(search__first='[{optimizer="sgd", lr=1e7, batch=64}]', search__trials="1")
    text = run("tune", "quick", "--run", str(tmp_path / "run"), *changes, code=1, ONESHOT_DATA=str(data_root))
    assert "diverged" in text and "error: no trial of" in text and "Traceback" not in text
    assert not (tmp_path / "run/result.json").exists()


@pytest.mark.long
def test_the_main_job_reaches_its_goals_on_omniglot(omniglot: Folder, tmp_path: Path) -> None:
    run(
        "tune", "quick", "--run", str(tmp_path / "run"), "--set", "data.dataset=omniglot", timeout=1800,
        ONESHOT_DATA=str(Path(omniglot.path).parent),
    )  # fmt: skip
    study = json.loads((tmp_path / "run/study.json").read_text())
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert len(study["trials"]) >= 8
    assert sum(trial["status"] == "stopped" for trial in study["trials"]) * 3 >= len(study["trials"])
    assert study["epochs_run"] * 2 < study["epochs_if_all_had_finished"]
    assert result["protocols"]["lake400"]["accuracy"] >= 0.85
