"""The bench: its rows run, its record holds the results, and a row that cannot be measured stops no other."""

import copy
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import command
import numpy as np
import pytest
import torch
from terminals import drawn

from oneshot.base.errors import UserError
from oneshot.base.settings import Model
from oneshot.base.storage import Folder
from oneshot.bench import data, flops, gpu, learning, rows, run, scaling, source, steps, studies, timing
from oneshot.bench.rows import NAMES, OF_MATMUL, ROWS, Measured, Request, chosen, in_todays_words
from oneshot.data import store
from oneshot.network import models
from oneshot.records.pages import bench_tables
from oneshot.screen.bench import bench_table, changes_table, times


def made(name: str, found: dict[str, Any]) -> dict[str, Any]:
    return run._row(chosen([name])[0], found) | {"seconds": 1.0, "commit": "abc"}


def found(value: list[float], reference: list[float], **shares: float) -> dict[str, Any]:
    return vars(Measured(value, reference, "a note", shares))


def record(*made_rows: dict[str, Any]) -> dict[str, Any]:
    hardware = {"cpu": "a CPU", "cores": 2, "memory_gib": 8.0, "gpus": []}
    settings = {"data": "omniglot", "repeats": 3, "cap": 1800.0, "quick": False}
    environment = {"hardware": hardware, "commit": "abc", "versions": {"torch": "2.99"}}
    return {"kind": "bench", "environment": environment, "settings": settings, "rows": list(made_rows)}


def test_what_rows_train_is_a_job_with_changes_that_fit_it() -> None:
    """A later change to the job could conflict with what the bench sets, and would then be refused here."""
    assert (steps.small_settings().model.name, steps.koch_settings(pairs=4).train.batch) == ("conv4", 4)


def test_every_row_names_a_measure_that_exists() -> None:
    import importlib

    for row in ROWS:
        module, function = row.measure.split(":")
        assert callable(getattr(importlib.import_module(f"oneshot.bench.{module}"), function)), row.name


def test_rows_are_chosen_by_name_and_long_ones_only_so() -> None:
    assert {row.name for row in ROWS} - {row.name for row in chosen(None)} == {"early_stopping"}
    assert [row.name for row in chosen(["load", "pairs"])] == ["pairs", "load"]
    with pytest.raises(UserError, match="there is no row 'pears'; did you mean 'pairs'"):
        chosen(["pears"])


def test_a_row_of_hours_goes_on_with_the_studies_it_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from oneshot.bench import studies

    asked: list[Path] = []

    def searched(request: Request, run: Path, *, seed: int, early: bool) -> dict[str, object]:
        asked.append(run)
        return {"epochs": 3 if early else 9, "oneshot": 0.5, "trials": 100, "histories": {}}

    monkeypatch.setattr(studies, "_searched", searched)
    for quick, folder in ((False, "whole"), (True, "quick")):
        asked.clear()
        measured = studies.early_stopping(Request("data", quick=quick, keep=str(tmp_path)))
        again = list(asked)
        studies.early_stopping(Request("data", quick=quick, keep=str(tmp_path)))
        assert asked == again * 2 and len(set(again)) == len(again)  # each study has its own folder, the same each time
        assert {run.parent for run in again} == {tmp_path / folder}
        assert (measured.value, measured.reference) == ([3] * len(measured.value), [9] * len(measured.value))
    asked.clear()
    studies.early_stopping(Request("data"))
    assert len(set(asked)) == 6 and not any(run.parent.exists() for run in asked)  # removed, as they are not to be kept


def test_studies_of_a_changed_source_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import oneshot.base.environment
    from oneshot.cli.bench import bench

    for commit in ("0123456789ab+changes", None):
        monkeypatch.setattr(oneshot.base.environment, "commit", lambda commit=commit: commit)
        with pytest.raises(UserError, match="commit them first"):
            bench(rows="early_stopping", keep=tmp_path)
    with pytest.raises(UserError, match="which is not among the rows"):
        bench(rows="load", keep=tmp_path)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(oneshot.base.environment, "commit", lambda: "0123456789ab")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file is not a folder"):
        bench(rows="early_stopping", keep=tmp_path / "file")


def test_a_ratio_above_one_is_always_in_our_favour() -> None:
    faster = made("pairs", found([900.0, 1000.0, 950.0], [1.0, 2.0, 1.0]))
    assert (faster["value"], faster["reference"], faster["ratio"], faster["met"]) == (950.0, 1.0, 950.0, True)
    assert faster["spread"] == {"value": [900.0, 1000.0], "reference": [1.0, 2.0]}
    sooner = made("load", found([0.1], [3.0]))
    assert sooner["ratio"] == pytest.approx(30) and sooner["met"] is False


def test_a_goal_reads_every_condition_it_names() -> None:
    assert made("koch_cpu", found([60.0], [20.0], **{"of the matmul rate": 0.85}))["met"] is True
    assert made("koch_cpu", found([60.0], [20.0], **{"of the matmul rate": 0.75}))["met"] is False
    assert made("distort", found([60.0], [2.0]))["met"] is True
    assert made("distort", found([60.0], [2.0], **{"of a GPU step": 0.05}))["met"] is False
    alone = made("startup", found([11.0], []))
    assert alone["met"] is True and alone["ratio"] is None and alone["reference"] is None
    assert made("turnaround", found([7.0], [15.0]))["met"] is False


def test_a_row_that_is_not_run_or_fails_says_why() -> None:
    left_out, broken = made("koch_gpu", {"not_run": "no GPU"}), made("load", {"failed": "no room"})
    assert (left_out["met"], left_out["value"], left_out["note"]) == (None, None, "not run: no GPU")
    assert (broken["met"], broken["value"], broken["note"]) == (False, None, "failed: no room")
    for width in (80, 140):
        lines = drawn(bench_table(record(left_out, broken)), width)
        text = "\n".join(lines)
        assert "not run" in text and "failed" in text and "no room" in text
        assert max(map(len, lines)) <= width


def test_sides_are_measured_in_turns() -> None:
    calls: list[str] = []
    sides = timing.in_turns(
        lambda: calls.append("a") or float(len(calls)), lambda: calls.append("b") or 0.0, repeats=2
    )  # fmt: skip
    assert "".join(calls) == "ababab"
    assert sides == [[3.0, 5.0], [0.0, 0.0]]  # the first call of each side is not counted


def test_changes_since_a_record_are_shown_by_row() -> None:
    before = record(made("pairs", found([400.0], [1.0])), made("startup", found([20.0], [])))
    now = record(
        made("pairs", found([900.0], [1.0])), made("startup", found([10.0], [])), made("load", {"failed": "no room"})
    )
    lines = {line.split()[0]: line for line in drawn(changes_table(now, before), 120) if line.split()}
    assert "400 x" in lines["pairs"] and "900 x" in lines["pairs"] and "+125 %" in lines["pairs"]
    assert "+100 %" in lines["startup"] and "not met" in lines["startup"]
    assert "%" not in lines["load"]
    now, before = (record(made("memory", found([megabytes], [100.0]))) for megabytes in (300.0, 150.0))
    dearer = "\n".join(drawn(changes_table(now, before), 120))
    assert "-50 %" in dearer and "not met" in dearer


def test_rows_that_were_not_run_again_stay_in_the_record(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    run.keep(record(made("load", found([0.1], [3.0])), made("pairs", found([1.0], [1.0]))), path)
    run.keep(record(made("pairs", found([2.0], [1.0]))), path)
    kept = run.read(path)
    assert [(row["name"], row["value"]) for row in kept["rows"]] == [("pairs", 2.0), ("load", 0.1)]
    other = record(made("pairs", found([2.0], [1.0])))
    other["environment"]["hardware"]["memory_gib"] = 7.9  # another machine of the same kind
    run.keep(other, path)
    other["environment"]["hardware"]["cores"] = 64
    with pytest.raises(UserError, match="figures of another machine"):
        run.keep(other, path)
    path.write_text(json.dumps({"study": {}}))
    with pytest.raises(UserError, match="is not a benchmark record"):
        run.read(path)


def test_a_row_that_failed_or_was_not_run_takes_no_measured_ones_place(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    for first in ({"failed": "no room"}, {"not_run": "no data"}, found([0.1], [3.0]), {"failed": "no room"}):
        run.keep(record(made("load", first)), path)
    assert [row["value"] for row in run.read(path)["rows"]] == [0.1]


def test_a_record_is_of_one_data_set_and_not_of_quick_looks_among_others(tmp_path: Path) -> None:
    path, first = tmp_path / "bench.json", record(made("load", found([0.1], [3.0])))
    run.keep(first, path)
    for key, value, sentence in (
        ("data", "glyphs", "on the data set omniglot, not glyphs"),
        ("quick", True, "a quick"),
    ):
        with pytest.raises(UserError, match=f"{sentence}.* name another --out"):
            run.keep(first | {"settings": first["settings"] | {key: value}}, path)
    assert run.read(path)["settings"] == first["settings"]


def test_every_row_says_what_it_was_measured_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that a later call leaves out keeps its own settings and versions."""
    monkeypatch.setattr(run, "_apart", lambda row, request: found([float(request.repeats)], [1.0]))
    versions = record()["environment"] | {"hardware": record()["environment"]["hardware"]}
    path = tmp_path / "bench.json"
    for name, repeats in (("load", 3), ("pairs", 7)):
        monkeypatch.setattr(run, "here", lambda repeats=repeats: versions | {"versions": {"torch": f"2.{repeats}"}})
        run.bench(chosen([name]), Request("data/omniglot", repeats=repeats), path=path)
    kept = {row["name"]: row for row in run.read(path)["rows"]}
    assert [kept[name]["settings"]["repeats"] for name in ("load", "pairs")] == [3, 7]
    assert [kept[name]["versions"]["torch"] for name in ("load", "pairs")] == ["2.3", "2.7"]


@pytest.mark.parametrize("key", ["environment", "settings", "goal", "what"])
def test_a_damaged_record_of_the_bench_is_named(key: str, tmp_path: Path) -> None:
    damaged = record(made("load", found([0.1], [3.0])))
    for part in (damaged, *damaged["rows"]):
        part.pop(key, None)
    (tmp_path / "bench.json").write_text(json.dumps(damaged))
    with pytest.raises(UserError, match=rf"bench\.json is damaged .*{key}"):
        run.read(tmp_path / "bench.json")


def test_a_reference_that_was_broken_off_is_shown_as_a_bound(tmp_path: Path) -> None:
    row = made("time_to_accuracy", found([12.0], [250.0]) | {"bound": True})
    for each, ours, met in ((row, "> 250 s | > 20.8 x", "yes"), (row | {"bound": False}, "| 250 s | 20.8 x", "yes"),
                            (row | {"ratio": 5.0, "met": False}, "> 250 s | > 5.00 x", "not shown")):  # fmt: skip
        (tmp_path / "bench.json").write_text(json.dumps(record(each)))
        read = run.read(tmp_path / "bench.json")
        text = bench_tables({"bench": read})
        assert f"{ours} | ≥ 20 x | {met} |" in text
        seen = " ".join("\n".join(drawn(bench_table(read), 200)).split())
        assert ours.replace(" |", "").strip("| ") in seen and ("not shown" in seen) == (met == "not shown")


def test_the_reference_of_the_time_to_accuracy_is_broken_off_or_arrives(
    small_glyphs: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []

    def judge(*_: object) -> Any:
        return lambda net: looks.append(0.1 * len(looks)) or looks[-1]

    clock = SimpleNamespace(perf_counter=iter(range(1000)).__next__)  # one second passes between two readings
    monkeypatch.setattr(learning, "time", clock)
    monkeypatch.setattr(learning, "_judge", judge)
    monkeypatch.setattr(source.Loop, "step", lambda *_: 0.0)
    parts = SimpleNamespace(train=store.load(small_glyphs), validation=None)
    asked = {"request": Request(small_glyphs.path), "parts": parts, "every": 2.0}
    assert learning._theirs(**asked, folder=tmp_path, goal=0.25, cap=20.0)[:2] == (8.0, pytest.approx(0.3))
    looks.clear()
    seconds, best, images = learning._theirs(**asked, folder=tmp_path, goal=0.9, cap=7.0)
    assert (seconds, best, len(looks), images) == (7.0, pytest.approx(0.3), 4, 7 * 256)


def test_what_was_measured_otherwise_stands_beside_no_goal_and_no_newer_figure() -> None:
    now = made("distort", found([900.0], [10.0]))
    then = now | {"what": "affine distortion, 28 px"}
    assert "90.0 x" in bench_tables({"bench": record(now)})
    text = bench_tables({"bench": record(then)})
    assert "90.0 x" not in text and "| measured differently: to be measured again" in text
    assert "measured differently" in "\n".join(drawn(changes_table(record(now), record(then)), 160))
    assert "+0 %" in "\n".join(drawn(changes_table(record(now), record(now)), 160))


def test_what_is_described_in_other_words_and_is_the_same_keeps_its_ratio() -> None:
    now = made("load", found([0.1], [5.0]))
    then = now | {"what": "the data set from Parquet into memory, cold process", "against": "decoding its PNGs"}
    assert bench_tables({"bench": record(then)}) == bench_tables({"bench": record(now)})
    assert in_todays_words(then) == now


def test_readme_shows_what_else_a_goal_reads() -> None:
    text = bench_tables({"bench": record(made("koch_cpu", found([60.0], [20.0], **{OF_MATMUL: 0.783})))})
    assert "| 3.00 x; of the matmul rate 78.3 % |" in text
    text = bench_tables({"bench": record(made("driver", found([33.0], [30.0], **{"growth of memory": 1.073})))})
    assert "| 1.10 x; growth of memory 1.07 x |" in text


def test_a_row_that_failed_is_not_said_to_be_slow_and_an_unknown_commit_is_said_to_be() -> None:
    text = bench_tables({"bench": record(made("load", {"failed": "no room"}) | {"commit": None})})
    assert "| failed |" in text and "commit `unknown`" in text


def test_both_sides_distort_images_of_one_size(small_glyphs: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = set(), set()
    monkeypatch.setattr(data, "part", lambda request: store.load(small_glyphs))
    monkeypatch.setattr(data, "distort", lambda images, maps: ours.add(images.shape[-1]))
    original = source.distorted

    def distorted(image: Any) -> Any:
        made = original(image)
        assert made.size == image.size
        theirs.add(image.width)
        return made

    monkeypatch.setattr(source, "distorted", distorted)
    data.distortion(Request(small_glyphs.path, repeats=1, quick=True))
    assert ours == theirs == {28, 105}


def test_more_repeats_may_take_longer() -> None:
    row = chosen(["load"])[0]
    assert row.limit(Request("data")) == row.limit(Request("data", repeats=1)) == row.seconds
    assert row.limit(Request("data", repeats=30)) == 10 * row.seconds
    assert row.limit(Request("data", cap=5000.0)) == row.seconds + 3200


def test_the_loss_of_early_stopping_is_set_against_the_spread_of_its_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    accuracies = iter([0.80, 0.81, 0.80, 0.83, 0.80, 0.80])  # with and without, seed by seed
    monkeypatch.setattr(
        studies, "_searched", lambda *_, early, **__: {"epochs": 1, "oneshot": next(accuracies), "trials": 100}
    )  # fmt: skip
    shown = studies.early_stopping(Request("data"))
    assert shown.shares == {"loss of accuracy": pytest.approx(0.04 / 3), "its noise": pytest.approx(0.00882, abs=1e-5)}
    assert "1.3 points lost on average, standard error over seeds 0.9, 95 % interval -2.5 to +5.1" in shown.note


def test_readme_shows_every_row_of_a_record() -> None:
    text = bench_tables(
        {"bench-2-cores": record(made("pairs", found([2000.0], [2.0])), made("koch_gpu", {"not_run": "no GPU"}))}
    )
    assert "| `pairs` |" in text and "2,000 pairs/s | 2 pairs/s | 1,000 x | ≥ 800 x | yes |" in text.replace(
        "2.00", "2"
    )
    assert "| not run |" in text and "2 cores, a CPU, commit `abc`" in text
    assert "Not measured yet" in bench_tables({})


@pytest.mark.parametrize(
    ("ratio", "goal", "text"),
    [
        (None, "≤ 12 s", "–"),
        (0.987, "≥ 98 %", "98.7 %"),
        (2.41, "≥ 2.4 x and ≥ 80 % of", "2.41 x"),
        (1.2, "≤ 2 x", "1.20 x"),
        (999.4, "≥ 800 x", "999 x"),
        (999.7, "≥ 800 x", "1,000 x"),
    ],
)
def test_ratios_are_shares_where_the_goal_is_one(ratio: float | None, goal: str, text: str) -> None:
    assert times({"ratio": ratio, "goal": goal}) == text


def test_a_row_that_hangs_or_dies_ends_in_time(monkeypatch: pytest.MonkeyPatch, small_glyphs: Folder) -> None:
    slow = rows.Row("pairs", "", "", "", "", lambda *_: True, "data:pairs", seconds=0.01)
    assert run._apart(slow, Request(small_glyphs.path))["failed"] == "it did not finish within 0.01 s"
    broken = chosen(["evaluate"])[0]
    assert "/nowhere" in run._apart(broken, Request("/nowhere"))["failed"]


def test_the_reference_reads_the_same_drawings(small_glyphs: Folder, tmp_path: Path) -> None:
    drawings = store.load(small_glyphs)
    frame = source.unpack(small_glyphs, tmp_path, alphabets=drawings.alphabets[:2])
    few = store.load(small_glyphs, alphabets=drawings.alphabets[:2])
    assert len(frame) == len(few) and set(frame["alphabet"]) == set(few.alphabets)
    assert np.array_equal(np.stack([source.decode(path) for path in frame["path"]]), few.pixels())
    left, right, same = next(source.batches(frame, batch=8, size=28))
    assert left.shape == right.shape == (8, 1, 28, 28) and same.tolist() == [0.0, 1.0] * 4
    assert 0 <= left.min() < 0.5 < left.max() <= 1


def test_the_reference_makes_its_batches_for_the_steps_it_is_timed_with(
    small_glyphs: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = source.unpack(small_glyphs, tmp_path, alphabets=store.describe(small_glyphs).alphabets[:1])
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(source.Loop, "step", lambda self, left, right, same: seen.append(left))
    step = steps.document_loop(frame, pairs=2, device=torch.device("cpu"))
    assert [step(), step()] == [4, 4]
    assert seen[0].shape == (2, 1, 105, 105) and not torch.equal(*seen)


@pytest.mark.parametrize("error", [torch.cuda.OutOfMemoryError("out of memory"), RuntimeError("an error\nof CUDA")])
def test_a_batch_that_the_gpu_does_not_do_is_named_and_those_before_it_count(
    error: RuntimeError, monkeypatch: pytest.MonkeyPatch
) -> None:
    def training(_: object, settings: Any, device: torch.device) -> int:
        if settings.train.batch == 512:
            raise error
        return settings.train.batch

    monkeypatch.setattr(gpu, "training", training)
    monkeypatch.setattr(gpu, "fed", lambda pairs: lambda: 2 * pairs)
    rates, note = gpu._larger(None, torch.device("cpu"), (128, 256, 512, 1024), seconds=0.0)  # type: ignore[arg-type]
    assert list(rates) == [128, 256] and note == f", 512 failed ({str(error).splitlines()[0]})"


def test_operations_are_counted_as_the_paper_has_them() -> None:
    koch = models.koch(105)
    whole, first = flops.forward(koch, size=105)
    assert first == 2 * 64 * 100 * 96 * 96
    layers = [42 * 42 * 128 * 64 * 49, 18 * 18 * 128 * 128 * 16, 6 * 6 * 256 * 128 * 16, 9216 * 4096]
    assert whole == first + 2 * sum(layers)
    assert flops.training(koch, size=105) == 3 * whole - first


@pytest.mark.parametrize("net", scaling.NETS, ids=lambda net: net.name)
def test_the_paper_computation_stands_on_the_real_networks(net: scaling.Net) -> None:
    size = {"koch": 105, "conv4": 28}[net.name]
    real = models.build(Model(name=net.name), size=size)
    assert sum(value.numel() for value in real.parameters()) == net.parameters
    assert flops.training(real.encoder, size=size) == net.flops


def test_the_least_batch_is_the_one_at_which_scaling_holds() -> None:
    for net in scaling.NETS:
        for link in scaling.LINKS:
            for size in (4, 2):
                least = scaling.least_batch(net, link, bytes_each=size)
                spent = scaling.communication(net, link, bytes_each=size)
                shares = [busy / (busy + spent) for busy in (scaling.compute(net, n) for n in (least, least - 64))]
                assert shares[0] >= 0.9 > shares[1]
    slow, koch = scaling.LINKS[-1], scaling.NETS[0]
    assert scaling.least_batch(koch, slow, bytes_each=2) < scaling.least_batch(koch, slow, bytes_each=4)


def test_a_wrong_request_is_refused_in_a_sentence(tmp_path: Path) -> None:
    assert "there is no row 'pears'; did you mean 'pairs'?" in command.refused("bench", "--rows", "pears")
    assert "no such file" in command.refused("bench", "--rows", "pairs", "--against", str(tmp_path / "none.json"))
    run.keep(record(made("pairs", found([1.0], [1.0]))), other := tmp_path / "other.json")
    said = command.run("bench", "--rows", "pairs", "--out", str(other), code=2)
    assert "figures of another machine" in said and "measuring" not in said


def test_a_study_is_drawn_now_and_then_written_whole_and_leaves_little_in_memory(tmp_path: Path) -> None:
    """The view is drawn at intervals only, however many reports come, to spare the driver of many trials."""
    from ray.tune.trainable.metadata import _TrainingRunMetadata

    from oneshot.search.study import STUDY, Study
    from oneshot.search.tuning import Recorder

    drawn_at: list[int] = []

    class View:
        def update(self, shown: dict[str, Any]) -> None:
            drawn_at.append(shown["epochs_run"])

    run_ = Folder.of(tmp_path)
    study = Study(run_, trials=30, header={"epochs": 2})
    recorder = Recorder(study, View(), seconds=3600)
    for index in range(30):
        config = {"trial": f"{index:03d}", "point": {"lr": 1e-3 * (index + 1)}, "folder": str(tmp_path / "none")}
        trial = SimpleNamespace(config=config, run_metadata=_TrainingRunMetadata(), last_result={})
        recorder.on_trial_start(0, [], trial)
        for epoch in (1, 2):
            row = {"epoch": epoch, "val_loss": 1 / epoch, "best": True, "ended": "epochs" if epoch == 2 else ""}
            trial.run_metadata.update_metric("val_loss", row["val_loss"])
            recorder.on_trial_result(0, [], trial, row)
        recorder.on_trial_complete(0, [], trial)
        assert trial.run_metadata.get_json_state() == _TrainingRunMetadata().get_json_state()
        written = run_.read_json(STUDY)["trials"]
        assert written == [{k: v for k, v in each.items() if k != "history"} for each in study.trials]
        assert [each["status"] for each in written] == ["finished"] * (index + 1) + ["pending"] * (29 - index)
    recorder.on_experiment_end([])
    assert drawn_at == [0, 60]


@pytest.mark.long
@pytest.mark.ray
def test_the_driver_of_many_trials_keeps_its_memory() -> None:
    marks = studies.driven(120, epochs=3, at_once=4)
    assert marks[-1].reports >= 120
    assert marks[-1].memory < 1.2 * marks[2].memory


@pytest.mark.long
@pytest.mark.ray
def test_every_row_runs(tmp_path: Path, data_root: Path) -> None:
    text = command.run(
        "bench", "--quick", "--repeats", "1", "--dataset", "glyphs-10", "--rows", ",".join(NAMES),
        "--out", str(tmp_path / "all.json"), "--data", str(data_root), timeout=900,
    )  # fmt: skip
    kept = run.read(tmp_path / "all.json")
    assert [row["name"] for row in kept["rows"]] == list(NAMES)
    broken = {row["name"]: row["note"] for row in kept["rows"] if row["value"] is None and row["met"] is not None}
    assert not broken, text
    assert torch.cuda.is_available() or [row["name"] for row in kept["rows"] if row["met"] is None] == ["koch_gpu"]


def test_a_chosen_row_is_measured_and_compared(tmp_path: Path, data_root: Path) -> None:
    """As a user does it: once for a record, once against it, and once as JSON."""
    out = str(tmp_path / "some.json")
    asked = [
        "bench",
        "--quick",
        "--repeats",
        "1",
        "--dataset",
        "glyphs-10",
        "--data",
        str(data_root),
        "--rows",
        "pairs",
    ]
    text = command.run(*asked, "--out", out)
    assert "measuring pairs" in text and f"record: {out}" in text
    text = command.run(*asked, "--against", out)
    assert "ratio then" in text and "record:" not in text  # chosen rows and quick runs write a record only on request
    printed = json.loads(command.run(*asked, "--json"))
    row = printed["rows"][0]
    assert {"name", "value", "unit", "reference", "ratio", "goal", "met", "note"} <= row.keys()
    assert row["value"] > 0 and row["ratio"] == pytest.approx(row["value"] / row["reference"])
    assert printed["settings"]["repeats"] == 1 and printed["environment"]["versions"]["torch"]


@pytest.mark.parametrize("name", ["koch", "conv4"])
def test_the_documents_network_is_ours_of_torchs_own_layers_in_their_usual_order(name: str) -> None:
    torch.manual_seed(0)
    ours = models.ENCODERS[name](65)
    theirs = source.Net(copy.deepcopy(ours)).encoder
    x_B1SS = torch.rand(4, 1, 65, 65)
    assert {type(each).__module__.split(".")[0] for each in theirs.children()} == {"torch"}
    kinds = [type(each).__name__ for each in theirs.children()]
    assert "Conv2d ReLU MaxPool2d" in " ".join(kinds).replace("BatchNorm2d ", "")
    assert "MaxPool2d ReLU" not in " ".join(kinds)
    assert torch.allclose(theirs(x_B1SS), ours(x_B1SS), rtol=1e-3, atol=1e-3)
