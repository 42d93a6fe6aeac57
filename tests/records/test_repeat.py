"""One job with several seeds: training goes on where it stopped, each seed is judged once, README shows the record."""

import contextlib
import itertools
import json
import math
import os
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from command import ROOT, TINY, refused
from tiny import Killed, Killer

from oneshot.base.errors import RunFailed, UserError
from oneshot.base.jobs import job_file, override, parse, read
from oneshot.base.storage import Folder
from oneshot.cli import repeat as verb
from oneshot.cli.repeat import run as run_verb
from oneshot.evaluation.spread import difference, over_groups, spread_of
from oneshot.records import pages, record, repeat
from oneshot.report import ladder
from oneshot.screen.console import console
from oneshot.screen.results import seeds_text

SHORT = [f"{key}={value}" for key, value in (TINY | {"train.precision": "fp32", "train.ema": "0.9"}).items()]

TINY_TREE = {key: int(value) if value.isdigit() else value for key, value in TINY.items()}


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(record, "records_folder", lambda: tmp_path / "records")
    return tmp_path / "records"


def call(run: Path, root: Path, *, seeds: str = "1..2", minutes: float | None = None, **changes: str) -> None:
    extra = [f"{key.replace('__', '.')}={value}" for key, value in changes.items()]
    run_verb(
        console(), jobs=["quick"], seeds=seeds, minutes=minutes, device="cpu", folder=str(run), changes=SHORT + extra,
        root=str(root), source=None,
    )  # fmt: skip


def ends_in_time(run: Path, root: Path, minutes: int) -> list[str]:
    """What is in the first seed's folder when so many minutes are over; each look at the clock takes one minute."""
    looks = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: 60.0 * next(looks), perf_counter=time.perf_counter)
    with patch.object(verb, "time", clock), patch.object(repeat, "time", clock):
        with pytest.raises(RunFailed, match="the time is up; to go on: the same command again"):
            call(run, root, minutes=minutes)
    there = run / "seed-1"
    return sorted({"history.jsonl", "time.json", "best", "result.json"} & {path.name for path in there.glob("*")})


def test_seeds_are_trained_and_judged_once_however_often_it_is_called(
    tmp_path: Path, data_root: Path, records: Path
) -> None:
    run = tmp_path / "run"
    assert ends_in_time(run, data_root, 0) == []
    assert ends_in_time(run, data_root, 1) == ["history.jsonl"]
    assert [row["epoch"] for row in history(run / "seed-1")] == [1]  # the epoch that was begun is finished and kept
    assert ends_in_time(run, data_root, 1) == ["history.jsonl", "time.json"]  # trained; there is no time to calibrate
    assert ends_in_time(run, data_root, 1) == ["best", "history.jsonl", "time.json"]  # no time to judge
    (run / "seed-1/best/model.json").unlink()  # as after a kill
    assert ends_in_time(run, data_root, 1) == ["best", "history.jsonl", "time.json"]
    assert (run / "seed-1/best/model.json").exists() and not (run / "record.json").exists()
    assert "result.json" in ends_in_time(run, data_root, 1)
    part = json.loads((run / "record.json").read_text())  # a judged network is in the record at once
    assert (part["asked"], [row["seed"] for row in part["seeds"]]) == ([1, 2], [1])
    assert seeds_text(part) == "1 (of 2)" and not (run / "seed-2/history.jsonl").exists()
    call(run, data_root)
    made = json.loads((run / "record.json").read_text())
    assert made["seeds"][0] == part["seeds"][0]
    call(run, data_root)
    assert json.loads((run / "record.json").read_text()) == made
    assert not records.exists()  # changed with --set, it is not the record of the job
    card = (run / "seed-2/best/README.md").read_text()
    assert (
        "Not judged yet" not in card
        and f"| {100 * made['seeds'][1]['result']['protocols']['within']['accuracy']:.1f} % |" in card
    )
    assert [row["seed"] for row in made["seeds"]] == [1, 2] and made["test_evaluations"] == 2
    assert [row["interrupted"] for row in made["seeds"]] == [True, False]
    assert all(row["seconds"] > sum(each["seconds"] for each in history(run / f"seed-{row['seed']}"))
               for row in made["seeds"])  # fmt: skip
    values = [row["result"]["protocols"]["within"]["accuracy"] for row in made["seeds"]]
    assert made["summary"]["within"]["mean"] == pytest.approx(sum(values) / 2)
    assert {"within_fixed", "verification", "verification_at_threshold"} < set(made["summary"])
    assert made["seeds"][0]["result"]["sha256"] != made["seeds"][1]["result"]["sha256"]
    assert parse_experiment(made).train.seed == 1


def test_the_seconds_of_an_interrupted_epoch_count_with_those_of_its_earlier_part(
    tmp_path: Path, data_root: Path, records: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class View(Killer, contextlib.AbstractContextManager):
        def __exit__(self, *_: object) -> None: ...

    short = {"seeds": "1", "train__epochs": "1", "train__batch": "64", "scale__checkpoint_steps": "1"}
    with monkeypatch.context() as first:
        first.setattr(verb, "TrainView", lambda _: View(within=1, steps=2))
        with pytest.raises(Killed):
            call(tmp_path / "run", data_root, **short)
    seed = tmp_path / "run/seed-1"
    (state,) = seed.glob("checkpoints/*/state.json")
    kept = json.loads(state.read_text())
    assert kept["epoch"] == 0 and kept["step"] == 1 and kept["sums"][2] > 0
    kept["sums"][2] += 1000.0  # as if that part had taken so long
    state.write_text(json.dumps(kept))
    call(tmp_path / "run", data_root, **short)
    assert history(seed)[0]["seconds"] > 1000
    time_ = json.loads((seed / "time.json").read_text())
    assert time_["seconds"] > history(seed)[0]["seconds"] and time_["interrupted"]


def test_the_record_of_a_job_as_it_is_is_kept(tmp_path: Path, data_root: Path, records: Path) -> None:
    job = tmp_path / "small.toml"
    tree = override(read(job_file("quick")), TINY_TREE, source="the test")
    job.write_text(tree.to_toml())
    for _ in range(2):  # the same command goes on, and writes its record again
        as_it_is([job], data_root, tmp_path / "run")
        assert record.read_repeated()["small"]["seeds"][0]["seed"] == 4
    old = json.loads((records / "small.json").read_text())
    assert old["seeds"][0].pop("judged") == 1  # older records lack it
    (records / "small.json").write_text(json.dumps(old))
    first, picture = record.read_repeated()["small"]["seeds"][0], (records / "small-errors.png").read_bytes()
    as_it_is([job], data_root, tmp_path / "elsewhere", seeds="5")  # as on another machine, without seed 4
    made = record.read_repeated()["small"]
    assert (made["asked"], [row["seed"] for row in made["seeds"]]) == ([4, 5], [4, 5]) and made["seeds"][0] == first
    assert made["summary"]["within"]["seeds"] == made["test_evaluations"] == 2
    assert (records / "small-errors.png").read_bytes() == picture  # of the first network, as README says
    job.write_text(job.read_text().replace("epochs = 2", "epochs = 1"))
    with pytest.raises(UserError, match=rf"has a record small with other settings than {job}: rename the job's file"):
        as_it_is([job], data_root, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def as_it_is(jobs: list[Path], root: Path, run: Path | None = None, *, seeds: str = "4") -> None:
    run_verb(
        console(), jobs=list(map(str, jobs)), seeds=seeds, minutes=None, device="cpu", folder=run and str(run),
        changes=[], root=str(root), source=None,
    )  # fmt: skip


def test_a_record_takes_no_place_of_another_kind_or_job(
    tmp_path: Path, data_root: Path, records: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    kept = Path(record.__file__).parents[2] / "tune_jobs/records"
    for name in ("quick", "cpu5"):
        Folder.of(records).write(f"{name}.json", (kept / f"{name}.json").read_bytes())
    tree = override(read(job_file("quick")), TINY_TREE, source="the test").to_toml()
    for name in ("quick", "chaos", "bench-mine", "cpu2", "small"):
        (tmp_path / f"{name}.toml").write_text(tree)
    for name, sentence in (
        ("quick", r"quick\.json is for another kind of record: rename the job's file"),
        ("chaos", r"chaos\.json is for another kind of record"),
        ("bench-mine", r"bench-mine\.json is for another kind of record"),
        ("cpu2", r"cpu2\.toml has the same name as .*tune_jobs/cpu2\.toml and would replace its record"),
    ):
        with pytest.raises(UserError, match=sentence):
            as_it_is([tmp_path / "small.toml", tmp_path / f"{name}.toml"], data_root)
    assert Folder.of(records).names() == ["cpu5.json", "quick.json"] and not (tmp_path / "runs").exists()


def test_a_job_of_tune_jobs_takes_the_place_of_its_own_record_on_the_same_data(records: Path) -> None:
    kept = Path(record.__file__).parents[2] / "tune_jobs/records/cpu5.json"
    Folder.of(records).write("cpu5.json", kept.read_bytes())
    job = job_file("cpu5")
    repeat.check_record(job, read(job, ["train.lr=0.1"]), dataset="omniglot")  # as if it had been improved
    with pytest.raises(UserError, match=r"cpu5\.json is a record on omniglot, and this one is on glyphs \(generated\)"):
        repeat.check_record(job, read(job), dataset="glyphs (generated)")


def test_two_jobs_of_one_name_are_refused(tmp_path: Path) -> None:
    said = refused("repeat", "quick", str(tmp_path / "quick.toml"))
    assert f"tune_jobs/quick.toml and {tmp_path}/quick.toml are both called 'quick': rename one" in said


def test_a_record_that_lacks_seeds_takes_no_place_of_one_that_has_as_many(records: Path) -> None:
    def made(*seeds: int, asked: int) -> dict[str, Any]:
        return {"job": "cpu5", "asked": [*range(1, asked + 1)], "seeds": [{"seed": seed} for seed in seeds]}

    def kept() -> int:
        return len(json.loads((records / "cpu5.json").read_text())["seeds"])

    assert record.keep_seeds(made(1, asked=3), None) == records / "cpu5.json" and kept() == 1
    assert record.keep_seeds(made(1, 2, asked=3), None) and kept() == 2
    assert record.keep_seeds(made(1, asked=3), None) is None and kept() == 2  # from another run with fewer seeds
    assert record.keep_seeds(made(1, asked=1), None) and kept() == 1  # as many as this run asked for


def test_a_row_that_lacks_seeds_says_so() -> None:
    result = record.read_repeated()["cpu5-lake"]
    part = result | {"asked": [1, 2, 3, 4, 5], "seeds": result["seeds"][:2]}
    whole = part | {"seeds": result["seeds"]}
    for made, row, source in (
        (part, "| 1, 2 (of 5) |", "mean of 2 of 5 seeds"),
        (whole, "| 1, 2, 3, 4, 5 |", "mean of 5 seeds"),
    ):
        assert row in pages.seeds_table(record.Records(studies={}, repeated={"cpu5-lake": made}, chaos={}))
        assert source in ladder.markdown(ladder.rungs({"cpu5-lake": made}))


def history(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


def parse_experiment(made: dict[str, Any]):
    import tomllib

    return parse(tomllib.loads(made["experiment"]), "the record")


def test_another_setting_asks_for_another_folder(tmp_path: Path, data_root: Path, records: Path) -> None:
    call(tmp_path / "run", data_root, seeds="3", train__epochs="1")
    with pytest.raises(UserError, match=r"seed-3 holds a run with train\.lr = "):
        call(tmp_path / "run", data_root, seeds="3", train__epochs="1", train__lr="0.5")


@pytest.mark.parametrize(
    ("text", "seeds"), [("1..5", [1, 2, 3, 4, 5]), ("7", [7]), ("1,4..6,2", [1, 4, 5, 6, 2]), ("0", [0])]
)
def test_seeds_are_numbers_and_ranges(text: str, seeds: list[int]) -> None:
    assert repeat.parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "5..1", "1,1", "1..1000", "-1", "1...3"])
def test_what_is_no_list_of_seeds_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--seeds"):
        repeat.parse_seeds(text)


def test_the_interval_of_the_mean_is_students() -> None:
    found = spread_of([0.90, 0.92, 0.91, 0.93, 0.94])
    assert found["mean"] == pytest.approx(0.92) and found["spread"] == pytest.approx(0.0158114, abs=1e-6)
    low, high = found["interval"]
    assert (low, high) == pytest.approx((0.92 - 2.776 * 0.0158114 / math.sqrt(5), 0.92 + 0.01963), abs=1e-5)
    assert spread_of([0.9]) == {"mean": 0.9, "interval": None, "spread": None, "seeds": 1}


def test_seeds_that_agree_by_chance_are_not_certain() -> None:
    assert spread_of([0.9625] * 2) == {"mean": 0.9625, "interval": None, "spread": 0.0, "seeds": 2}


def test_the_interval_of_a_difference_is_welchs() -> None:
    one = {"mean": 0.95, "spread": 0.02, "seeds": 5}
    alike, certain = one | {"mean": 0.92}, one | {"mean": 0.96, "spread": 0.0}
    apart, (low, high) = difference(one, alike)  # equal spreads: Student's t with 8 degrees of freedom
    assert apart == pytest.approx(0.03) and high - apart == pytest.approx(apart - low)
    assert high - apart == pytest.approx(2.306 * 0.02 * math.sqrt(2 / 5))
    apart, (low, high) = difference(one, certain)  # only one has a spread: its 4 degrees of freedom
    assert apart == pytest.approx(-0.01) and high - apart == pytest.approx(2.776 * 0.02 / math.sqrt(5))


def test_of_other_alphabets_the_interval_is_by_how_much_those_measured_differ() -> None:
    said = over_groups([(accuracy, 500) for accuracy in (0.86, 0.88, 0.90, 0.92, 0.94)], "alphabet")
    half = 100 * 2.776 * math.sqrt(0.001) / math.sqrt(5)
    assert said.startswith("On average 90.0 %. If these 5 are a fair sample, the mean over all such alphabets lies")
    assert f"lies within {90 - half:.1f}–" in said
    assert "–100.0 %" in over_groups([(accuracy, 500) for accuracy in (0.7, 1.0, 1.0, 1.0, 1.0)], "group")
    assert over_groups([(accuracy, 500) for accuracy in (0.86, 0.94, 0.9, 0.88)], "group") == ""  # too few groups
    assert over_groups([(accuracy, 20) for accuracy in (0.86, 0.88, 0.90, 0.92, 0.94)], "group") == ""  # too few trials
    assert over_groups([(1.0, 500)] * 5, "group") == ""


def test_two_splits_are_compared_once_both_were_run() -> None:
    summary = {name: {"mean": 0.95, "spread": 0.01, "seeds": 5, "interval": [0.94, 0.96]}
               for name in ("lake400", "within_fixed")}  # fmt: skip
    better = {name: each | {"mean": 0.96} for name, each in summary.items()}
    row = {"seed": 1, "interrupted": False, "result": record.read_all()["quick"]["result"]}
    made = {job: {"split": "x", "seconds": 1.0, "seeds": [row] * 5, "summary": found}
            for job, found in (("cpu5-lake", summary), ("cpu5-koch", better))}  # fmt: skip
    text = pages.seeds_table(record.Records(studies={}, repeated=made, chaos={}))
    assert "+1.0 points (-0.5 to +2.5) on `lake400` and +1.0 points" in text and "8 validation alphabets" not in text
    text = pages.seeds_table(record.Records(studies={}, repeated=made | {"cpu5": made["cpu5-koch"]}, chaos={}))
    assert "in as many steps: +1.0 points (-0.5 to +2.5) on `lake400`" in text
    made["cpu5-koch"]["seeds"] = [row]  # one seed has no spread
    assert "points" not in pages.seeds_table(record.Records(studies={}, repeated=made, chaos={}))
    del made["cpu5-koch"]
    assert "points" not in pages.seeds_table(record.Records(studies={}, repeated=made, chaos={}))


def test_the_first_figure_of_the_front_page_is_that_of_its_record() -> None:
    shown = record.read()
    said = pages.headline(shown)
    assert f"**{100 * shown.repeated['cpu5']['summary']['lake400']['mean']:.1f} %**" in said and "People: 95.5;" in said
    assert f", {100 * shown.repeated['koch-cpu']['summary']['lake400']['mean']:.1f} by this project's recipe" in said
    alone = record.Records(studies={}, repeated={"cpu5": shown.repeated["cpu5"]}, chaos={})
    assert "the original Siamese network: 92.0; BPL" in pages.headline(alone)
    assert pages.headline(record.Records(studies={}, repeated={}, chaos={})) == ""


def test_one_run_folder_is_for_one_job() -> None:
    assert "a folder's name is empty" in refused("repeat", "quick", "--run", "")
    assert "--run x is for one job" in refused("repeat", "quick", "koch", "--run", "x")


def test_rows_that_were_not_run_say_what_runs_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chaos = record.read_chaos()
    monkeypatch.setattr(record, "records_folder", lambda: tmp_path)
    empty = record.Records(studies={}, repeated={}, chaos=chaos)
    table = pages.seeds_table(empty).splitlines()
    assert len(table) == 2 + len(pages.RUNGS)
    assert all("not run: `make records-" in row for row in table[2:])


def test_a_row_shows_means_and_intervals_as_they_were_recorded() -> None:
    quick = record.read_all()["quick"]
    rows = [{"seed": seed, "seconds": 100.0, "interrupted": False, "epochs": 3, "result": quick["result"]}
            for seed in (1, 2)]  # fmt: skip
    made = {
        "split": "lake", "seconds": 100.0, "seeds": rows,
        "summary": {"lake400": {"mean": 0.925, "interval": [0.91, 0.94], "spread": 0.01, "seeds": 2}},
    }  # fmt: skip
    table = pages.seeds_table(record.Records(studies={}, repeated={"cpu5": made}, chaos={}))
    (row,) = [line for line in table.splitlines() if "`cpu5`" in line]
    assert "92.5 (91.0–94.0)" in row and "100 s" in row and "| 1, 2 |" in row and "95.5 (humans)" in row


def test_a_record_that_will_name_no_commit_is_warned_of_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As if the files came without their repository."""
    monkeypatch.setattr(verb, "commit", lambda: None)
    with pytest.raises(UserError, match="'nosuch'"):
        run_verb(
            console(), jobs=["quick"], seeds="1", minutes=None, device="cpu", folder=None,
            changes=["data.dataset=nosuch"], root=str(tmp_path), source=None,
        )  # fmt: skip
    assert "the commit is not known, and the record will name none: set ONESHOT_COMMIT to it" in capsys.readouterr().out


def test_a_damaged_record_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Folder.of(tmp_path).write_json("cpu5.json", {"summary": {}})
    monkeypatch.setattr(record, "records_folder", lambda: tmp_path)
    with pytest.raises(UserError, match=r"cpu5\.json is damaged"):
        record.read_repeated()


def test_the_rows_of_a_gpu_are_made_by_any_python_and_the_search_is_judged_when_it_is_over(tmp_path: Path) -> None:
    """With --max-time the best network so far would be judged, and later perhaps a second one."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/said\n')
    python.chmod(0o755)
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    subprocess.run(["make", "records-gpu", f"BIN={tmp_path}"], cwd=ROOT, env=inherited, check=True, capture_output=True)
    said = (tmp_path / "said").read_text().splitlines()
    assert [line.split()[1:3] for line in said] == [  # nothing was installed before
        ["oneshot.repeat", "best-all"], ["oneshot.tune", "gpu"], ["oneshot.record", "runs/records/gpu"],
    ]  # fmt: skip
    assert "--max-time" not in said[1]
