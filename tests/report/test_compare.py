"""Several runs side by side."""

import json
from pathlib import Path

import pytest
import runs
import samples
from command import refused
from rich.console import Console

from oneshot.cli import report as reporting
from oneshot.report import compare, reading
from oneshot.screen.console import console


@pytest.fixture
def three(tmp_path: Path) -> list[reading.Run]:
    """A finished study, one with another `train.clip`, and one that is not judged; the last has the lowest loss."""
    better = samples.trial("000", "finished", 8, floor=0.1, optimizer="sgd", lr=3e-2)
    return [
        reading.read(runs.study(tmp_path / "first")),
        reading.read(runs.changed(runs.study(tmp_path / "second"), train__clip=5.0)),
        reading.read(runs.study(tmp_path / "third", over=False, trials=[better])),
    ]


def text(runs: list[reading.Run], width: int) -> str:
    screen = Console(width=width, force_terminal=True, color_system=None)
    with screen.capture() as seen:
        screen.print(compare.screen(compare.compared(runs)))
    return seen.get()


def test_each_run_says_what_it_came_to_and_in_what_the_networks_differ(three: list[reading.Run]) -> None:
    made = compare.compared(three)
    assert [row["run"] for row in made["runs"]] == ["first", "second", "third"]
    for row, run in zip(made["runs"], three, strict=True):
        best = run.best or {}
        assert (row["trial"], row["val_loss"], row["best_epoch"]) == ("000", best["val_loss"], best["best_epoch"])
        assert row["val_oneshot"] == best["history"][best["best_epoch"] - 1]["val_oneshot"]
    within = (three[0].result or {})["protocols"]["within"]["accuracy"]
    assert made["runs"][0]["accuracy"]["within"] == within and made["runs"][2]["accuracy"] == {}
    # The settings of a study's network are those of its best trial.
    assert made["settings"] == {"train.clip": [10.0, 5.0, 10.0], "train.lr": [1e-2, 1e-2, 3e-2]}


@pytest.mark.parametrize("width", [80, 140])
def test_the_table_fits_and_keeps_what_decides(three: list[reading.Run], width: int) -> None:
    lines = text(three, width).splitlines()
    assert max(map(len, lines)) <= width
    assert {"run", "val", "loss", "epochs"} < set(" ".join(lines[:2]).split())
    assert any(line.split() == ["train.clip", "10.0", "·", "5.0", "·", "10.0"] for line in lines)


def test_runs_of_the_same_settings_say_so(three: list[reading.Run]) -> None:
    assert "their networks were taught by the same settings" in text([three[0], three[0]], 80)


def test_it_is_said_where_figures_do_not_compare(three: list[reading.Run], tmp_path: Path) -> None:
    assert compare.doubts([three[0], three[2]]) == []
    assert [each[-20:] for each in compare.doubts(three)] == ["choose by validation"]  # two are judged
    other = reading.read(runs.changed(runs.study(tmp_path / "other", over=False), data__split="koch"))
    assert "different data sets or splits" in compare.doubts([three[2], other])[0]
    pairs = reading.read(runs.changed(runs.study(tmp_path / "pairs", over=False), train__val_pairs=500))
    assert "validated on other pairs" in compare.doubts([three[2], pairs])[0]


def test_a_script_gets_plain_values_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [str(runs.study(tmp_path / name)) for name in ("a", "b")]
    reporting.report(console(quiet=True), runs=names, out=None, as_json=True)
    assert [row["where"] for row in json.loads(capsys.readouterr().out)["runs"]] == names


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["a", "b", "--out", "x"], "--out goes with one run and its page; all else is printed: leave it out"),
        (["a", "--json", "--out", "x"], "--out goes with one run and its page; all else is printed"),
        (["ladder", "--json"], "--json goes with runs; the ladder is of records, which are JSON: leave it out"),
        (["no/such/run", "b"], "no/such/run holds no run"),
    ],
)
def test_what_cannot_be_compared_is_a_sentence(options: list[str], said: str) -> None:
    assert said in refused("report", *options)
