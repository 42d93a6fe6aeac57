"""The state of runs, for scripts and for people: of one, of several, or of all that a folder holds."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import runs
import samples
from objects import ObjectStore
from rich.console import Console

from oneshot.base.errors import UserError
from oneshot.base.storage import Folder
from oneshot.cli import report as reporting
from oneshot.report import listing, reading
from oneshot.run import owner
from oneshot.run.history import DIVERGED, FAILURE
from oneshot.screen.console import console

HALF = [
    samples.trial("000", "finished", 8, floor=0.21),
    samples.trial("001", "running", 3, floor=0.4),
    samples.trial("002", "failed", 0, error="OutOfMemoryError: no memory"),
    samples.trial("003", "pending", 0) | {"settings": {}},
]
BROKEN = [
    samples.trial("000", "failed", 0, error="no memory"),
    samples.trial("001", "diverged", 0, error="the loss was not finite in epoch 1"),
]


def told(capsys: pytest.CaptureFixture[str], *where: object) -> list[dict[str, Any]]:
    """The rows that a script gets for these runs."""
    capsys.readouterr()
    reporting.report(console(quiet=True), runs=[str(each) for each in where], out=None, as_json=True)
    return json.loads(capsys.readouterr().out)["runs"]


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """When called, it sets the clock two hours ahead: no run here is silent for so long while it runs."""

    def pass_() -> None:
        now = time.time() + 7200
        monkeypatch.setattr(time, "time", lambda: now)

    return pass_


def training(where: Path, last: dict[str, Any], **more: object) -> Folder:
    """A single training of three epochs; `last` changes the last row of its history, `more` is its error.json."""
    run = runs.training(where, epochs=3)
    rows = run.read_lines("history.jsonl")
    rows[-1] |= last
    run.write("history.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows).encode())
    if more:
        run.write_json(FAILURE, more)
    return run


def test_a_study_that_a_process_holds_runs_however_long_it_is_silent(
    tmp_path: Path, later: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    run = runs.study(tmp_path / "run", trials=HALF, over=False)
    with owner.sole(run):
        later()
        (row,) = told(capsys, run)
        assert (row["state"], row["over"], row["kind"]) == ("running", False, "study")
        assert row["trials"] == {
            "pending": 1, "running": 1, "finished": 1, "stopped": 0, "diverged": 0, "failed": 1
        }  # fmt: skip
        assert (row["planned"], row["epochs"], row["most_epochs"], row["judged"]) == (10, 11, 80, 0)
        assert row["failures"] == [{"trial": "002", "status": "failed", "error": "OutOfMemoryError: no memory"}]
    (row,) = told(capsys, run)
    assert (row["state"], row["trials"]["pending"], row["trials"]["running"]) == ("interrupted", 2, 0)


@pytest.mark.usefixtures("no_locks")
def test_where_a_file_system_has_no_locks_the_note_says_that_a_study_runs(
    tmp_path: Path, later: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    run = runs.study(tmp_path / "run", trials=HALF, over=False)
    later()
    with owner.sole(run):
        assert told(capsys, run)[0]["state"] == "running"
        note = run.read_json(owner.NOTE)
        run.write_json(owner.NOTE, note | {"time": time.time() - owner.FRESH - 1})  # as if its owner was killed
        os.utime(run.file(owner.NOTE), (0, 0))
        assert told(capsys, run)[0]["state"] == "interrupted"


@pytest.mark.parametrize("left", ["", "1234567 on elsewhere", "{} on elsewhere"])
def test_a_lock_file_that_nobody_holds_says_nothing(tmp_path: Path, left: str) -> None:
    (tmp_path / owner.NOTE).write_text(left.format(os.getpid()))
    assert not owner.is_held(Folder.of(tmp_path))


def test_each_state_is_told_with_its_counts_and_reasons(
    tmp_path: Path, later: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    made = {
        "judged": runs.study(tmp_path / "judged", outcome=False),
        "judged, others wait": runs.study(
            tmp_path / "limit", outcome=False, trials=[HALF[0], samples.trial("001", "pending", 1)]
        ),
        "failed": runs.study(tmp_path / "failed", trials=BROKEN, over=False),
        "finished": runs.training(tmp_path / "finished", epochs=8),
        "interrupted": runs.training(tmp_path / "interrupted", epochs=3),
        "diverged": training(tmp_path / "diverged", {"val_loss": None, "ended": "diverged", "best": False}),
    }
    later()
    rows = dict(zip(made, told(capsys, *made.values()), strict=True))
    assert {name: row["state"] for name, row in rows.items()} == {name: name.partition(",")[0] for name in made}
    assert {name for name, row in rows.items() if row["over"]} == {"judged", "finished", "diverged"}
    assert (rows["judged"]["judged"], rows["judged, others wait"]["trials"]["pending"]) == (1, 1)
    assert [each["error"] for each in rows["failed"]["failures"]] == [each["error"] for each in BROKEN]
    assert rows["diverged"]["failures"] == [
        {"trial": None, "status": "diverged", "error": DIVERGED.format(epoch=3)}
    ]  # fmt: skip
    alone = rows["interrupted"]
    assert (alone["kind"], alone["planned"], alone["epochs"], alone["most_epochs"]) == ("training", 1, 3, 8)
    assert alone["trials"]["pending"] == 1 and alone["failures"] == []


def test_a_training_that_failed_says_why_until_it_is_begun_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = training(tmp_path / "run", {}, error="the GPU has not enough memory")
    (row,) = told(capsys, run)
    assert (row["state"], row["over"]) == ("failed", False)
    assert row["failures"] == [{"trial": None, "status": "failed", "error": "the GPU has not enough memory"}]
    reporting.report(console(quiet=True), runs=[str(run)], out=None, as_json=False)
    assert "It failed: the GPU has not enough memory." in run.read("report.html").decode()
    before = time.time() - 60
    os.utime(run.file(FAILURE), (before, before))  # its settings were written later
    (row,) = told(capsys, run)
    assert (row["state"], row["failures"]) == ("running", [])


def test_to_ask_leaves_the_folder_untouched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = runs.study(tmp_path / "run", trials=HALF, over=False)
    found = lambda: {path: path.stat().st_mtime_ns for path in [tmp_path, *tmp_path.rglob("*")]}  # noqa: E731
    with owner.sole(run):
        before = found()
        told(capsys, run)
        told(capsys, tmp_path)
        assert found() == before


def test_a_folder_stands_for_the_runs_in_it_those_first_that_need_somebody(
    tmp_path: Path, later: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    runs.study(tmp_path / "a-judged", outcome=False)
    runs.study(tmp_path / "b-broken", trials=BROKEN, over=False)
    runs.study(tmp_path / "c-damaged").write("study.json", b"{")
    runs.training(tmp_path / "d-stopped", epochs=3)
    held = runs.study(tmp_path / "e-at-work", trials=HALF, over=False)
    (tmp_path / "notes.txt").write_text("none of ours")
    runs.study(tmp_path / "records" / "deeper")  # not directly in this folder
    later()
    with owner.sole(held):
        rows = told(capsys, tmp_path)
        assert [(row["run"], row["state"]) for row in rows] == [
            ("e-at-work", "running"), ("b-broken", "failed"), ("c-damaged", "unreadable"),
            ("d-stopped", "interrupted"), ("a-judged", "judged"),
        ]  # fmt: skip
        assert "study.json is not JSON" in rows[2]["error"]
        reporting.report(console(), runs=[str(tmp_path)], out=None, as_json=False)
    seen = capsys.readouterr()
    lines = [line.split() for line in seen.out.splitlines()]
    (at_work,) = (line for line in lines if line[:1] == ["e-at-work"])
    assert at_work[:8] == ["e-at-work", "running", "2/10", "1", "11", "0.2725", "81.1", "%"] and "ago" in at_work
    assert [line[0] for line in lines if line and line[0] in {row["run"] for row in rows}] == [
        row["run"] for row in rows
    ]  # fmt: skip
    assert "warning: " in seen.err + seen.out and "study.json is not JSON" in seen.err + seen.out
    assert not list(tmp_path.rglob("report.html"))


def test_the_list_fits_a_narrow_terminal_and_keeps_state_and_age(tmp_path: Path) -> None:
    runs.study(tmp_path / "a-run-whose-name-is-as-long-as-names-are", trials=HALF, over=False)
    rows = listing.listed(listing.runs_in(Folder.of(tmp_path)))
    screen = Console(width=60, force_terminal=True, color_system=None)
    with screen.capture() as seen:
        screen.print(listing.screen(rows))
    lines = seen.get().splitlines()
    assert max(map(len, lines)) <= 60
    assert "running" in lines[-1] and "0.2725" in lines[-1] and lines[-1].rstrip().endswith("ago")


def test_runs_that_are_named_beside_a_folder_are_listed_with_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs.study(tmp_path / "many" / "one", outcome=False)
    other = runs.study(tmp_path / "other", outcome=False)
    assert {row["where"] for row in told(capsys, tmp_path / "many", other)} == {f"{tmp_path}/many/one", str(other)}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"runs": ["{}"], "out": "x"}, "holds runs: leave it out"),
        ({"runs": ["{}/none"], "as_json": True}, "none holds no run: experiment.toml is missing; name a folder that"),
        ({"runs": ["{}", "{}/none"]}, "none holds no run"),
    ],
)
def test_what_cannot_be_listed_is_a_sentence(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    runs.study(tmp_path / "one", outcome=False)
    asked = {"out": None, "as_json": False} | options | {"runs": [each.format(tmp_path) for each in options["runs"]]}
    with pytest.raises(UserError, match=said):
        reporting.report(console(quiet=True), **asked)


def test_a_buckets_runs_are_listed_and_what_is_none_is_skipped(
    bucket: str, later: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    place = Folder.of(f"{bucket}/runs")
    runs.study(place / "judged", outcome=False)
    runs.study(place / "failed", trials=BROKEN, over=False)
    held = runs.study(place / "held", trials=HALF, over=False)
    place.write("stray.txt", b"none of ours")
    (place / "data").write("images.parquet", b"nor this")
    later()
    with owner.sole(held):
        rows = told(capsys, f"{bucket}/runs")
    assert [(row["run"], row["state"]) for row in rows] == [
        ("held", "running"), ("failed", "failed"), ("judged", "judged"),
    ]  # fmt: skip
    assert rows[0]["where"] == f"{bucket}/runs/held" and rows[0]["epochs"] == 11
    assert told(capsys, f"{bucket}/runs/held")[0]["state"] == "interrupted"


@pytest.mark.parametrize("closed", ["/runs/closed/", "/runs/closed/study.json"])
def test_a_run_of_a_bucket_that_nobody_may_read_does_not_hide_the_others(
    closed: str, bucket: str, object_store: ObjectStore, later: Callable[[], None],
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    place = Folder.of(f"{bucket}/runs")
    for name in ("closed", "open"):
        runs.study(place / name, outcome=False)
    later()
    monkeypatch.setattr(object_store, "refuse", lambda method, path, query: 403 if closed in path else None)
    unreadable, judged = told(capsys, place)
    assert (judged["run"], judged["state"]) == ("open", "judged")
    assert (unreadable["run"], unreadable["state"]) == ("closed", "unreadable")
    assert "ACCESS_DENIED" in unreadable["error"]


def test_a_script_that_names_runs_gets_a_row_of_one_that_cannot_be_read_too(
    tmp_path: Path, later: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    made = [runs.study(tmp_path / name, outcome=name != "a") for name in ("c", "b", "a")]
    later()
    made[1].write("study.json", b"{")
    rows = told(capsys, *made)
    assert [(row["run"], row["state"]) for row in rows] == [("c", "judged"), ("b", "unreadable"), ("a", "judged")]
    assert rows[1].keys() == {"run", "where", "state", "error"} and "study.json is not JSON" in rows[1]["error"]
    assert told(capsys, made[1]) == [rows[1]]
    made[0].write("outcomes.json", b"{")  # which only a comparison reads
    assert [row["state"] for row in told(capsys, made[0], made[2])] == ["unreadable", "judged"]
    with pytest.raises(UserError, match=r"outcomes\.json is not JSON"):  # for people it is an error at once
        reporting.report(console(quiet=True), runs=list(map(str, made)), out=None, as_json=False)


def test_a_study_that_was_given_more_trials_is_not_over_before_it_has_them(
    tmp_path: Path, later: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """As if its session was killed after it had written the settings and nothing else."""
    run = runs.study(tmp_path / "run", outcome=False)
    assert told(capsys, run)[0]["over"]
    runs.changed(run, search__trials=64)
    (row,) = told(capsys, run)
    assert (row["state"], row["over"], row["planned"]) == ("running", False, 64)
    later()
    (row,) = told(capsys, run)
    assert (row["state"], row["over"]) == ("judged", False)


def test_diverged_trials_are_not_counted_as_failed(tmp_path: Path) -> None:
    runs.study(tmp_path / "both", trials=BROKEN, over=False)
    runs.study(tmp_path / "only", trials=[HALF[0], BROKEN[1] | {"id": "001"}], over=False)
    screen = Console(width=140, force_terminal=True, color_system=None)
    with screen.capture() as seen:
        screen.print(listing.screen(listing.listed(listing.runs_in(Folder.of(tmp_path)))))
    lines = {line.split()[0]: line.split() for line in seen.get().splitlines() if line.split()}
    assert lines["both"][2:5] == ["2/10", "1", "0"] and lines["only"][2:4] == ["2/10", "8"]


def test_a_list_reads_no_single_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """outcomes.json is the largest file of a run, and reading it checks every picture in it."""
    runs.study(tmp_path / "one").write("outcomes.json", b"{")
    assert [row["state"] for row in listing.listed([Folder.of(tmp_path / "one")])] == ["judged"]
    with pytest.raises(UserError, match=r"outcomes\.json is not JSON"):
        reading.read(Folder.of(tmp_path / "one"))
