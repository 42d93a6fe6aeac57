"""Runs are compared with the first of them, trial by trial, or the reason why not is given."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runs
from rich.console import Console

from oneshot.base.errors import UserError
from oneshot.base.storage import Folder
from oneshot.cli import report as reporting
from oneshot.evaluation.paired import paired
from oneshot.evaluation.scoring import judge
from oneshot.report import against, reading
from oneshot.screen.console import console

OUTCOMES = "outcomes.json"


def entries(*folders: Folder) -> list[dict[str, Any]]:
    return against.against([reading.read(folder) for folder in folders])


def older(run: Folder) -> Folder:
    """The run, as if it had been judged before hits were kept."""
    kept = run.read_json(OUTCOMES)
    del kept["hits"]
    run.write_json(OUTCOMES, kept)
    return run


def lines(found: list[dict[str, Any]], width: int) -> list[str]:
    screen = Console(width=width, force_terminal=True, color_system=None)
    with screen.capture() as seen:
        screen.print(against.screen(found))
    return [line.rstrip() for line in seen.get().splitlines()]


@pytest.fixture
def first(tmp_path: Path) -> Folder:
    return runs.study(tmp_path / "first")


def test_each_run_is_compared_with_the_first_by_every_protocol(first: Folder, tmp_path: Path) -> None:
    found = entries(first, runs.study(tmp_path / "better", boost=2.3), runs.study(tmp_path / "same"))
    assert [(entry["first"], entry["run"], entry["notes"]) for entry in found] == [
        ("first", "better", []), ("first", "same", []),
    ]  # fmt: skip
    test = runs.drawings()
    for (trials, scores), (_, others) in zip(runs.judged(test), runs.judged(test, boost=2.3), strict=True):
        expected = paired(judge(trials, scores).hits, judge(trials, others).hits)
        assert found[0]["protocols"][trials.name] == expected and expected["interval"][0] > 0
        same = found[1]["protocols"][trials.name]
        assert (same["difference"], same["p"], same["only_first"]) == (0, 1, 0)
    assert list(found[0]["protocols"]) == ["lake400", "within", "between"]


@pytest.mark.parametrize("width", [80, 140])
def test_a_terminal_is_told_who_is_ahead_by_how_much_and_what_that_says(width: int) -> None:
    one, two = np.arange(10_000) < 4_000, np.arange(10_000) < 5_234
    two[:37] = False
    found = paired(one, two)
    of = {"first": "first", "run": "a_run_with_a_name_of_some_length", "protocols": {"within": found}, "notes": []}
    shown = lines([of], width)
    assert max(map(len, shown)) <= width
    assert "on the same trials: A is first, B is a_run_with_a_name_of_some_length" in shown
    row = next(line for line in shown if line.startswith("within")).split()
    expected = "40.0 % 52.0 % +11.97 (+11.31 to +12.63) 37 1,234 <0.001"
    assert row == ["within", *(["10,000"] if width > 80 else []), *expected.split()]
    text = " ".join(" ".join(shown).split())
    assert "compares two networks, not the settings that made them" in text
    assert "so the interval is, if anything, too narrow, and p too small" in text


def test_trials_that_were_not_the_same_are_left_out_and_told_with_their_settings(first: Folder, tmp_path: Path) -> None:
    other = runs.changed(runs.study(tmp_path / "other"), evaluate__seed=1, train__lr=0.5)
    kept = other.read_json(OUTCOMES)
    for name in ("within", "between"):
        kept["hits"][name]["digest"] = "0" * 64
    other.write_json(OUTCOMES, kept)
    (entry,) = entries(first, other)
    assert list(entry["protocols"]) == ["lake400"]
    (note,) = entry["notes"]
    assert note.startswith(
        "first and other were not asked the same in within, between: they differ in evaluate.seed. A run"
    )
    runs.changed(other, evaluate__seed=0)
    (note,) = entries(first, other)[0]["notes"]
    assert "though their settings ask for the same: the data, or the code that makes trials, changed" in note


def test_drawings_that_are_others_are_not_the_same_trials(first: Folder, tmp_path: Path) -> None:
    names = {name: 22 for name in runs.NAMES}
    other = runs.study(tmp_path / "other")
    test = runs.tiny.drawings(names, seed=1)
    other.write_json(OUTCOMES, runs.outcomes(runs.seen(test, runs.judged(test)), sha256=runs.SHA))
    (entry,) = entries(first, other)
    assert entry["protocols"] == {} and "were not asked the same in lake400, within, between" in entry["notes"][0]
    assert not any(line.startswith("lake400") for line in lines([entry], 80))


def test_a_run_without_hits_is_told_how_to_have_them_and_that_it_counts(first: Folder, tmp_path: Path) -> None:
    before = older(runs.study(tmp_path / "before"))
    without = runs.study(tmp_path / "with out", outcome=False)
    for run, where in ((before, before.path), (without, f"'{without.path}'")):
        (entry,) = entries(first, run)
        assert entry["protocols"] == {} and entry["notes"] == [
            f"{run.name} has no hits: it was judged before they were kept, or has lost them. To get them: python -m"
            f" oneshot.evaluate {where}, which scores the test alphabets once more and is counted."
        ]
        assert entries(run, first)[0]["notes"] == entry["notes"]
    shown = lines(entries(before, first, first), 80)
    assert " ".join(shown).count("has no hits") == 1, "what lacks in the first is said once"


def test_a_run_that_is_not_judged_is_told_how_it_will_be(first: Folder, tmp_path: Path) -> None:
    single = runs.training(tmp_path / "single", epochs=8)
    half = runs.training(tmp_path / "half", epochs=3)
    searching = runs.study(tmp_path / "searching", over=False)
    notes = [entry["notes"] for entry in entries(first, single, half, searching)]
    assert notes == [
        [
            f"single is not judged. To judge it: python -m oneshot.evaluate {single.path}, which scores the test"
            " alphabets and is counted."
        ],
        ["half is running and not judged: it can be compared once it is over and judged."],
        ["searching is running and not judged: it can be compared once it is over and judged."],
    ]
    told = {note for entry in entries(half, single) for note in entry["notes"]}
    assert told == {"None of them is judged, so nothing is compared trial by trial: choose by validation, then judge."}


def test_a_run_that_can_never_be_judged_is_to_be_left_out(first: Folder, tmp_path: Path) -> None:
    diverged = runs.training(tmp_path / "diverged", epochs=0)
    runs.write_history(diverged, [{**row, "best": False, "ended": "diverged"} for row in runs.samples.history(1)])
    assert entries(first, diverged)[0]["notes"] == ["diverged is diverged and can no longer be judged: leave it out."]


def test_runs_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    folders = [runs.study(tmp_path / job / "seed-1") for job in ("cpu5", "cpu20")] + [runs.study(tmp_path / "quick")]
    names = [run.name for run in reading.told_apart([reading.read(folder) for folder in folders])]
    assert names == ["cpu5/seed-1", "cpu20/seed-1", "quick"]
    alone = reading.read(folders[2])
    assert reading.told_apart([alone, alone]) == [alone, alone]


def test_a_search_that_was_interrupted_is_told_to_go_on(
    first: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = runs.study(tmp_path / "waiting", over=False)
    later = reading.time.time() + 7200
    monkeypatch.setattr(reading.time, "time", lambda: later)
    (note,) = entries(first, waiting)[0]["notes"]
    assert f"python -m oneshot.tune --resume {waiting.path}" in note


def test_alphabets_that_are_not_new_to_one_of_the_two_are_told(first: Folder, tmp_path: Path) -> None:
    taught = "3 of the 20 test alphabets are not new to this network"
    other = runs.study(tmp_path / "other", overlap=taught)
    assert entries(first, other)[0]["notes"] == [f"other: {taught}."]


def test_a_script_gets_the_same_figures(
    first: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    other = runs.study(tmp_path / "other", boost=1.9)
    reporting.report(console(quiet=True), runs=[first.path, other.path], out=None, as_json=True)
    made = json.loads(capsys.readouterr().out)
    assert made["same_trials"] == entries(first, other)
    reporting.report(console(quiet=True), runs=[first.path], out=None, as_json=True)
    assert json.loads(capsys.readouterr().out)["same_trials"] == []


def test_a_person_sees_it_below_the_runs(first: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reporting.report(console(), runs=[first.path, runs.study(tmp_path / "other").path], out=None, as_json=False)
    out = capsys.readouterr().out
    assert out.index("taught by the same settings") < out.index("on the same trials: A is first, B is other")
    assert out.index("on the same trials") < out.index("choosing a run by its figures on the test alphabets is")


def test_damaged_hits_are_refused_in_a_sentence(first: Folder, tmp_path: Path) -> None:
    other = runs.study(tmp_path / "other")
    kept = other.read_json(OUTCOMES)
    kept["hits"]["within"]["hits"] = kept["hits"]["within"]["hits"][:-8]
    other.write_json(OUTCOMES, kept)
    said = (
        r"other/outcomes\.json is damaged or of another version \(hits: 45 bytes, and the bits of 400 trials take 50\)"
    )
    with pytest.raises(UserError, match=said):
        reporting.report(console(quiet=True), runs=[first.path, other.path], out=None, as_json=False)
