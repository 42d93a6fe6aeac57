"""Records: which runs are kept as one. README and the other pages show what the records hold."""

import json
from pathlib import Path

import pytest
from runs import finished

from oneshot.base.errors import UserError
from oneshot.base.storage import Folder
from oneshot.records import pages, record
from oneshot.report import ladder


@pytest.mark.parametrize("page", [*pages.blocks()], ids=lambda page: page.relative_to(pages.README.parent).as_posix())
def test_pages_are_rendered_from_the_records(page: Path) -> None:
    text = page.read_text()
    assert pages.render(text, pages.blocks()[page]) == text, "run `python -m oneshot.record`"


def test_epochs_of_trials_that_broke_are_no_saving() -> None:
    kept = record.read_all()["quick"]
    study = json.loads(json.dumps(kept["study"])) | {"epochs": 10, "epochs_run": 14, "epochs_if_all_had_finished": 40}
    study["trials"] = [
        study["trials"][number] | {"status": status, "epochs": epochs}
        for number, (status, epochs) in enumerate([("finished", 10), ("stopped", 2), ("failed", 0), ("diverged", 2)])
    ]
    table = pages.results_table({"quick": kept | {"study": study}})
    assert "14 epochs (20% saved by early stopping, 45% not run by trials that broke)" in table
    study["trials"] = study["trials"][:1]
    assert "14 epochs |" in pages.results_table({"quick": kept | {"study": study}})


def test_screens_are_drawn_from_the_records() -> None:
    for name, kept in record.read_all().items():
        for file, svg in record.screens(name, kept).items():
            assert (record.records_folder() / file).read_text() == svg, "run `make screenshots`"


def test_the_main_jobs_record_holds_its_goals() -> None:
    kept = record.read_all()["quick"]
    study, result = kept["study"], kept["result"]
    assert result["dataset"] == "omniglot" and result["environment"]["commit"]
    assert result["test_evaluations"] == 1
    assert result["protocols"]["lake400"]["accuracy"] >= 0.85
    assert len(study["trials"]) >= 8 and study["seconds"] <= 600
    assert sum(trial["status"] == "stopped" for trial in study["trials"]) * 3 >= len(study["trials"])
    best = min((trial for trial in study["trials"] if trial["val_loss"]), key=lambda trial: trial["val_loss"])
    assert result["best_trial"]["id"] == best["id"]


def test_a_study_that_is_not_over_leaves_no_record(tmp_path: Path) -> None:
    (tmp_path / "experiment.toml").write_text("")
    (tmp_path / "study.json").write_text(json.dumps({}))
    with pytest.raises(UserError, match=r"result\.json is missing"):
        record.keep(Folder.of(tmp_path), name="unfinished")
    assert not (record.records_folder() / "unfinished.json").exists()


@pytest.mark.parametrize("status", ["pending", "running"])
def test_of_a_search_that_was_broken_off_there_is_no_record_yet(
    status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the end another network may be the best, and it would be judged, too."""
    kept = record.read_all()["quick"]
    run = finished(tmp_path / "run", kept)
    monkeypatch.setattr(record, "records_folder", lambda: tmp_path / "records")
    for broken_off in (True, False):
        first, *others = kept["study"]["trials"]
        first = first | {"status": status} if broken_off else first
        run.write_json("study.json", kept["study"] | {"trials": [first, *others]})
        if broken_off:
            with pytest.raises(UserError, match=r"the search in .* is not over.*oneshot\.tune --resume"):
                record.keep(run)
            assert not (tmp_path / "records").exists()
    assert record.keep(run) == tmp_path / "records" / "quick.json"


def test_of_a_search_that_was_given_more_trials_there_is_a_record_when_they_are_over_and_by_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = record.read_all()["quick"]
    monkeypatch.setattr(record, "records_folder", lambda: tmp_path / "records")
    run = finished(tmp_path / "run", kept, **{"search.trials": len(kept["study"]["trials"]) + 1})
    with pytest.raises(UserError, match=r"has search\.trials = 11, unlike tune_jobs/quick\.toml: .* another --name"):
        record.keep(run)
    with pytest.raises(UserError, match=r"the search in .* is not over"):
        record.keep(run, name="more")
    last = kept["study"]["trials"][-1] | {"id": "010", "status": "failed", "epochs": 0, "val_loss": None}
    last |= {"best_epoch": None, "history": [], "error": "no"}
    run.write_json("study.json", kept["study"] | {"trials": [*kept["study"]["trials"], last]})
    record.keep(run, name="more")
    assert record.read_all()["more"]["changes"] == {"search.trials": 11}


def test_a_result_of_another_network_is_no_record(
    tmp_path: Path, trained_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    kept = record.read_all()["quick"]
    run, folder = finished(tmp_path / "run", kept), tmp_path / "records"
    monkeypatch.setattr(record, "records_folder", lambda: folder)
    (run / "best").write("model.json", (trained_run / "best/model.json").read_bytes())
    with pytest.raises(UserError, match=r"result\.json is not for the network in best/"):
        record.keep(run)
    assert not folder.exists()


def test_a_record_that_cannot_be_shown_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = record.read_all()["quick"]
    run, folder = finished(tmp_path / "run", kept), tmp_path / "records"
    monkeypatch.setattr(record, "records_folder", lambda: folder)
    for change, sentence in (
        ({"epochs_if_all_had_finished": 0}, "epochs_if_all_had_finished = 0: must be greater"),
        ({"job": "../quick"}, r"job = '\.\./quick'"),
        ({"trials": [kept["study"]["trials"][0] | {"id": "../.."}]}, r"trials\.0\.id = '\.\./\.\.'"),
    ):
        run.write_json("study.json", kept["study"] | change)
        with pytest.raises(UserError, match=rf"study\.json is damaged .*{sentence}"):
            record.keep(run)
    run.write_json("study.json", kept["study"])
    run.write_json("result.json", kept["result"] | {"protocols": {"within": {}}})
    with pytest.raises(UserError, match=r"result\.json is damaged .*'protocols\.within\.trials' is missing"):
        record.keep(run)
    assert not folder.exists()


@pytest.mark.parametrize("name", ["cpu2", "chaos", "bench-mine"])
def test_a_record_takes_no_place_of_another_kind(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    kept, seeds = record.read_all()["quick"], (record.records_folder() / "cpu2.json").read_bytes()
    run, folder = finished(tmp_path / "run", kept), Folder.of(tmp_path / "records")
    folder.write("cpu2.json", seeds)
    monkeypatch.setattr(record, "records_folder", lambda: tmp_path / "records")
    with pytest.raises(UserError, match=rf"{name}\.json is for another kind of record"):
        record.keep(run, name=name)
    assert folder.names() == ["cpu2.json"] and folder.read("cpu2.json") == seeds


def test_a_study_takes_no_place_of_one_on_other_data_and_readme_shows_omniglot_alone_where_it_was_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, five, chaos = record.read_all()["quick"], record.read_repeated()["cpu5"], record.read_chaos()
    monkeypatch.setattr(record, "records_folder", lambda: tmp_path / "records")
    run, folder = finished(tmp_path / "run", kept), Folder.of(tmp_path / "records")
    folder.write_json("quick.json", kept)
    folder.write_json("chaos.json", chaos)
    better = kept["result"]["protocols"] | {"lake400": kept["result"]["protocols"]["lake400"] | {"accuracy": 1.0}}
    run.write_json("result.json", kept["result"] | {"dataset": "glyphs (generated)", "protocols": better})
    with pytest.raises(UserError, match=r"is a record on omniglot, and this one is on glyphs .* another --name"):
        record.keep(run)
    record.keep(run, name="drawn")
    for seed in five["seeds"]:
        seed["result"]["dataset"] = "glyphs (generated)"
    folder.write_json("cpu5.json", five)
    known = kept["result"] | {"protocols": better, "overlap": "10 of the 20 test alphabets are not new to this network"}
    folder.write_json("known.json", kept | {"result": known})
    shown = record.read()
    assert set(record.read_all()) == {"quick", "drawn", "known"} and set(shown.networks) == {"quick"}
    assert ladder.best(shown.networks) == "quick"


def test_a_run_with_changed_settings_is_not_the_record_of_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = record.read_all()["quick"]
    monkeypatch.setattr(record, "records_folder", lambda: tmp_path / "records")
    run = finished(tmp_path / "run", kept, **{"train.lr": 0.5, "scale.workers": 2})
    with pytest.raises(UserError, match=r"has train\.lr = 0\.5, unlike tune_jobs/quick\.toml: .* another --name"):
        record.keep(run)
    with pytest.raises(UserError, match=r"unlike tune_jobs/koch\.toml"):
        record.keep(run, name="koch")
    assert not (tmp_path / "records").exists()
    record.keep(run, name="mine")
    assert record.read_all()["mine"]["changes"] == {"train.lr": 0.5}
    for file in ("mine.svg", "mine-live.svg"):
        svg = (tmp_path / "records" / file).read_text().replace("&#160;", " ").replace("&#x27;", "'")
        assert "make tune JOB=quick ARGS='--set train.lr=0.5'" in svg
    again = finished(tmp_path / "again", kept, **{"train.lr": 0.25})
    with pytest.raises(UserError, match="unlike the record mine"):
        record.keep(again, name="mine")
    record.keep(finished(tmp_path / "same", kept))
    assert record.read_all()["quick"]["changes"] == {}


def test_a_study_of_elastic_trainings_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = record.read_all()["quick"]
    monkeypatch.setattr(record, "records_folder", lambda: tmp_path / "records")
    run = finished(tmp_path / "run", kept, **{"scale.workers": "1..2"})
    run.write_json("study.json", run.read_json("study.json") | {"workers": "1..2"})
    record.keep(run, name="elastic")
    assert "1..2 workers" in (tmp_path / "records/elastic-live.svg").read_text().replace("&#160;", " ")


def test_how_often_a_network_was_judged_is_counted_when_its_record_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = record.read_all()["quick"]
    monkeypatch.setattr(record, "records_folder", lambda: tmp_path / "records")
    run = finished(tmp_path / "run", kept)
    run.append_json("evaluations.jsonl", {})
    record.keep(run)
    assert "judged 1" not in pages.results_table(record.read_all())
    run.append_json("evaluations.jsonl", {})
    record.keep(run)
    found = record.read_all()
    assert found["quick"]["judged"] == 2 and "| `quick`, 8 views, judged 2 times |" in pages.results_table(found)
    assert any("judged 2 times" in rung.source for rung in ladder.rungs(found))


def test_tables_of_20_way_one_shot_trials_hold_no_others() -> None:
    kept = json.loads(json.dumps(record.read_all()["quick"]))
    row = {"seed": 1, "interrupted": False, "result": kept["result"]}
    mean = {"mean": 0.5, "interval": [0.4, 0.6], "spread": 0.1, "seeds": 2}
    five = {"split": "x", "seconds": 1.0, "seeds": [row, row], "summary": {"lake400": mean, "within": mean}}
    records = record.Records(studies={"gpu": kept}, repeated={"cpu5": five}, chaos={})
    fixed = 100 * kept["result"]["protocols"]["lake400"]["accuracy"]
    shown = pages.seeds_table(records)
    assert "| 50.0 (40.0–60.0) | – | 50.0 (40.0–60.0) |" in shown
    assert f"| {fixed:.1f} |" in shown and f"{fixed:.1f} (" not in shown  # one network has no interval over seeds
    assert f"| {fixed:.1f} (" in pages.results_table({"quick": kept})
    kept["result"]["protocols"]["lake400"] |= {"k_shot": 5}
    shown = pages.seeds_table(records)
    assert "| – | – | 50.0 (40.0–60.0) |" in shown and f"| {fixed:.1f} |" not in shown
    assert f"| {fixed:.1f} (" not in pages.results_table({"quick": kept})


def test_a_row_names_every_machine_and_commit_and_a_judgement_elsewhere() -> None:
    result = record.read_all()["quick"]["result"]

    def trained(cpu: str, commit: str | None) -> dict:
        where = result["environment"]
        return where | {"hardware": where["hardware"] | {"cpu": cpu}, "commit": commit}

    rows = [
        {"seed": seed, "interrupted": seed == 2, "result": result | {"trained": trained(cpu, commit)}}
        for seed, cpu, commit in ((1, "one", "aaa"), (2, "other", None), (3, "one", "aaa"))
    ]
    five = {"split": "x", "seconds": 5741.0, "seeds": rows, "summary": {}}
    (row,) = [line for line in pages.seeds_table(record.Records({}, {"cpu5": five}, {})).splitlines() if "aaa" in line]
    judged = result["environment"]
    assert "| 5741 s, interrupted |" in row
    assert f"| 2 cores, one; 2 cores, other; judged: 2 cores, {judged['hardware']['cpu']} |" in row
    assert row.endswith(f"| `aaa`; `unknown`; judged: `{judged['commit']}` |")
    (rung,) = [rung for rung in ladder.rungs({"five": five}) if rung.ours]
    assert rung.source.endswith(f"commit aaa, unknown; judged by {judged['commit']}")


def test_a_kept_record_that_is_damaged_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Folder.of(tmp_path).write_json("quick.json", {"study": {}, "result": {}})
    monkeypatch.setattr(record, "records_folder", lambda: tmp_path)
    with pytest.raises(UserError, match=r"quick\.json is damaged"):
        record.read_all()


def test_readme_without_its_blocks_is_named() -> None:
    with pytest.raises(UserError, match="has no block 'headline'"):
        pages.render("# oneshot\n", pages.blocks()[pages.README])
