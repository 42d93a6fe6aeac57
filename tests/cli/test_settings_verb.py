"""`oneshot settings` shows all settings: in a table of any width, as JSON for a script, and as a TOML file."""

import io
import json
from pathlib import Path

import pytest
import runs
import tiny
from command import refused, run
from rich.console import Console

from oneshot.base.jobs import changed, job_file, read
from oneshot.base.meanings import explained
from oneshot.base.settings import Settings
from oneshot.cli.settings import show
from oneshot.network.models import build


def shown(width: int, *changes: str) -> list[str]:
    made = Console(width=width, file=io.StringIO(), color_system=None, highlight=False)
    show(made, explained(changed(Settings(), changes)), of_job=bool(changes))
    return [line.rstrip() for line in made.file.getvalue().splitlines()]


@pytest.mark.parametrize("width", [80, 120, 160])
def test_the_table_fits_and_cuts_nothing(width: int) -> None:
    lines = shown(width, "train.lr=0.5")
    assert max(map(len, lines)) <= width
    for each in explained(Settings()):
        (row,) = (number for number, line in enumerate(lines) if line.startswith(f"{each.key} "))
        assert "…" not in lines[row] and each.meaning.split()[0] in lines[row]
    assert any("a number above 0" in line for line in lines)


@pytest.mark.parametrize("width", [80, 160])
def test_what_is_not_the_default_is_marked_and_the_default_said(width: int) -> None:
    lines = shown(width, "train.lr=0.5", "data.size=28", "model.name=conv4")
    marked = [line.split()[0] for line in lines if " * " in f"{line} " and not line.startswith("*")]
    assert marked == ["data.size", "model.name", "train.lr"]
    (row,) = (number for number, line in enumerate(lines) if line.startswith("train.lr "))
    assert "0.01" in " ".join(lines[row : row + 2])


def test_without_a_job_there_are_the_defaults_alone() -> None:
    text = "\n".join(shown(120))
    assert "default" in text and "value  " not in text and " *" not in text


def test_a_script_is_told_of_every_setting() -> None:
    told = json.loads(run("settings", "quick", "--set", "scale.workers=2", "--json"))
    assert {each["key"]: each["value"] for each in told}["scale.workers"] == 2
    quick = read(job_file("quick"))
    assert {each["key"]: each["value"] for each in told}["search.lr"] == quick.search.lr
    assert all(list(each) == ["key", "value", "default", "takes", "meaning"] for each in told)


def test_settings_are_printed_as_a_job_that_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(run("settings", "quick", "--set", "search.searcher=optuna", "--toml"))
    assert read(tmp_path / "mine.toml") == read(job_file("quick"), ["search.searcher=optuna"])


def test_the_settings_of_a_run_are_those_of_its_network(tmp_path: Path) -> None:
    given = tiny.settings(lr=0.003)  # as the best trial of a search may have
    where = tiny.network(tmp_path / "run", build(given.model, size=28), given)
    (where / "experiment.toml").write_text(tiny.settings().to_toml())
    (tmp_path / "again.toml").write_text(run("settings", str(where), "--set", "train.seed=7", "--toml"))
    assert read(tmp_path / "again.toml") == tiny.settings(lr=0.003, seed=7)
    told = {each["key"]: each["value"] for each in json.loads(run("settings", str(where), "--json"))}
    assert (told["train.lr"], told["data.size"]) == (0.003, 28)
    assert "train.lr " in run("settings", str(where))


def test_wrong_requests_are_refused(tmp_path: Path) -> None:
    assert "leave one of them out" in refused("settings", "--toml", "--json")
    assert "did you mean 'lr'?" in refused("settings", "--set", "train.lrr=1")
    assert "did you mean 'quick'?" in refused("settings", "quik")
    assert "holds no network" in refused("settings", str(tmp_path))
    waiting = runs.study(tmp_path / "run", over=False)
    assert f"python -m oneshot.tune --resume {waiting} continues it" in refused("settings", str(waiting), "--toml")
