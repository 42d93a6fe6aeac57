"""The report says what the records of a run say, in every state of the run, and nothing else."""

import io
import json
import os
import re
import shutil
import time
import xml.etree.ElementTree as xml
from pathlib import Path

import pytest
import runs
import samples
from PIL import Image
from rich.console import Console

from oneshot.base.errors import UserError
from oneshot.base.jobs import job_file, override, read
from oneshot.base.settings import Settings
from oneshot.base.storage import Folder
from oneshot.cli import report as reporting
from oneshot.evaluation import outcomes
from oneshot.report import axes, canvas, ladder, making, parallel, reading
from oneshot.report.page import page


def text_of(run: Folder) -> str:
    return page(reading.read(run))[0]


def words(html: str) -> str:
    """The text that a reader sees, in one line."""
    plain = re.sub(r"<(style|script)>.*?</\1>|<[^>]*>", " ", html, flags=re.DOTALL)
    return " ".join(plain.replace("\u00a0", " ").split())


def job(name: str) -> Settings:
    return read(job_file(name), ["train.epochs=8"])


def own(run: Folder, split: str = "own") -> Folder:
    """The same run, as if it were on a user's own images."""
    run.write("experiment.toml", override(job("quick"), {"data.split": split}, source="the test").to_toml().encode())
    return run


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Folder, Path]:
    """A finished study, and the folder with its report."""
    run, out = runs.study(tmp_path_factory.mktemp("run")), tmp_path_factory.mktemp("out")
    making.make(run, Folder.of(out))
    return run, out


def test_a_setting_that_only_some_trials_have_stands_in_the_order_of_its_numbers() -> None:
    axis = parallel._Axis([0.05, None, 0.0002, 0.9], False, 100.0, 0.0)
    labels = sorted(axis.labels(4), key=lambda label: -label[1])
    assert [value for value, _ in labels] == [None, 0.0002, 0.05, 0.9]


def test_the_answer_comes_first_then_how_it_was_found(whole: tuple[Folder, Path]) -> None:
    run, out = whole
    html = (out / "report.html").read_text()
    result = run.read_json("result.json")
    first = f"{100 * result['protocols']['lake400']['accuracy']:.1f} %"
    seen = words(html)
    assert f"{first} of Lake’s 400 one‑shot trials are right" in seen
    for one in result["protocols"].values():
        low, high = one["interval"]
        assert f"{100 * one['accuracy']:.1f} % {100 * low:.1f}–{100 * high:.1f} %" in seen
    headings = re.findall(r"<h2[^>]*>(.*?)</h2>", html)
    assert headings == [
        "Among the published figures", "The search", "The winner’s training", "By alphabet", "Same or different",
        "Trials, as they came", "Errors", "Most confused characters", "Map of the embeddings", "To reproduce it",
    ]  # fmt: skip


def test_what_pixels_alone_get_right_stands_beside_an_accuracy(whole: tuple[Folder, Path], tmp_path: Path) -> None:
    assert "by pixels alone" not in words((whole[1] / "report.html").read_text()), "older results do not know it"
    run = runs.study(tmp_path, outcome=False)
    result = run.read_json("result.json")
    result["protocols"]["within"]["pixels"] = 0.5849
    run.write_json("result.json", result)
    assert words(text_of(run)).count("by pixels alone: 58.5 %") == 1


def test_the_errors_of_verification_are_those_of_the_result(tmp_path: Path) -> None:
    run = runs.study(tmp_path, verification=samples.verification())
    seen = words(text_of(run))
    assert "is 2.3 % for any two characters (area under the ROC curve 0.9968), 6.2 % for" in seen
    assert "any two 1 % 1.34 % 4.10 %" in seen and "4,990 any two and 4,700 in one alphabet, each counted once" in seen
    assert "in one alphabet 0.1 % 0.16 % 12.60 %" in seen
    assert "in one group 0.1 % 0.16 % 12.60 %" in words(text_of(own(run)))
    kept = run.read_json("outcomes.json")
    del kept["curves"]  # older files have none
    run.write_json("outcomes.json", kept)
    without = text_of(run)
    assert "Same or different" in without and 'id="verification"' not in without
    older = samples.verification()
    del older["errors"]
    run.write_json("result.json", run.read_json("result.json") | {"verification": older})
    assert "Same or different" not in text_of(run)


def test_a_curve_of_verification_without_errors_of_both_kinds_is_not_drawn(tmp_path: Path) -> None:
    run = runs.study(tmp_path, verification=samples.verification())
    kept = run.read_json("outcomes.json")
    kept["curves"] = {"any": [[1, 0], [0, 0], [0, 1]], "within": [[1, 0], [0.5, 0.01], [0.01, 0.5], [0, 1]]}
    run.write_json("outcomes.json", kept)
    html = text_of(run)
    assert "different: two characters of one alphabet" in html and "different: any two" not in html


def test_pairs_taken_for_each_other_are_counted_in_words_that_fit(whole: tuple[Folder, Path]) -> None:
    run, out = whole
    counted = [sum(pair["counts"]) for pair in run.read_json("outcomes.json")["confused"]["pairs"]]
    assert 1 in counted and max(counted) > 1
    for place in ("report.html", "figures/confused.svg"):
        seen = (out / place).read_text()
        assert ">1 time" in seen and "1 times" not in seen and f">{max(counted)} times" in seen


def test_settings_and_environment_to_reproduce_are_there(whole: tuple[Folder, Path]) -> None:
    run, out = whole
    html = (out / "report.html").read_text()
    assert "python -m oneshot.tune " in html and "git checkout 0123456789ab\n" in html
    seen = words(html)
    for part in ("Files differed from that commit", "Some CPU", "torch 2.99", "train 0, search 0", runs.SHA):
        assert part in seen
    for line in run.read("experiment.toml").decode().split("\n"):
        assert line.replace('"', "&quot;") in html


def test_the_page_needs_nothing_else_and_is_small(whole: tuple[Folder, Path]) -> None:
    html = (whole[1] / "report.html").read_text()
    sources = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert all(source.startswith(("data:", "#", "figures/")) for source in sources)
    assert "url(" not in html and "@import" not in html and len(html) < 3_000_000


def test_every_figure_is_there_as_svg_and_as_png(whole: tuple[Folder, Path]) -> None:
    out = whole[1]
    linked = set(re.findall(r'href="figures/([^"]*)"', (out / "report.html").read_text()))
    assert linked == {path.name for path in (out / "figures").iterdir()}
    assert {name.partition(".")[0] for name in linked} == making.NAMES
    for name in linked:
        if name.endswith(".svg"):
            root = xml.parse(out / "figures" / name).getroot()
            assert float(root.get("width") or 0) > 300 and "var(" not in (out / "figures" / name).read_text()
        else:
            with Image.open(out / "figures" / name) as image:
                assert image.width > 600 and len(image.convert("RGB").getcolors(1 << 24) or []) > 2


def test_epochs_of_trials_that_broke_are_no_saving(whole: tuple[Folder, Path]) -> None:
    seen = words((whole[1] / "report.html").read_text())
    assert "10 epochs of 24, 25 % saved by early stopping, 33 % not run by trials that broke." in seen


@pytest.mark.parametrize(
    ("named", "searcher", "said"),
    [
        (0, "random", "Points drawn at random: sgd lr 1e-3 to 2e-1, adam lr"),
        (0, "optuna", "Optuna’s TPE proposed the points: sgd lr 1e-3 to 2e-1, adam lr"),
        (1, "random", "1 point named in the job, then 2 drawn at random: sgd lr"),
        (2, "optuna", "2 points named in the job, then 1 that Optuna’s TPE proposed: sgd lr"),
        (3, "random", "3 points, named in the job; chosen by validation loss."),
    ],
)
def test_it_is_said_where_the_points_of_a_search_come_from(
    tmp_path: Path, named: int, searcher: str, said: str
) -> None:  # fmt: skip
    run = runs.study(tmp_path, outcome=False)
    first = [{"optimizer": "sgd", "lr": 1e-2, "batch": 128}] * named
    settings = override(job("quick"), {"search.first": first, "search.searcher": searcher}, source="the test")
    run.write("experiment.toml", settings.to_toml().encode())
    seen = words(text_of(run))
    assert said in seen and ("at random" in seen) == ("at random" in said)
    assert "weight decay" not in seen  # none of these trials has one
    study = run.read_json("study.json")
    study["trials"][-1]["settings"] = {"optimizer": "adamw", "lr": 1e-3, "batch": 32, "weight_decay": 1e-2}
    run.write_json("study.json", study)
    assert ("adamw weight decay 1e-4 to 1e-1" in words(text_of(run))) == (named < 3)


def test_every_trial_has_its_row_and_its_fate(whole: tuple[Folder, Path]) -> None:
    html = (whole[1] / "report.html").read_text()
    rows = re.findall(r'<tr data-of="(\d+)" class="(\w*)">', html)
    assert rows == [("000", "best"), ("001", "faded"), ("002", "")]
    assert "002: OutOfMemoryError: &lt;b&gt;no&lt;/b&gt; memory" in html


def test_an_alphabet_may_have_any_name(tmp_path: Path) -> None:
    name = '<script>alert("1")</script>'
    run = runs.study(tmp_path / "run", names=(name, "Latin", "&amp;"))
    out = Folder.of(tmp_path / "out")
    making.make(run, out)
    html = out.read("report.html").decode()
    assert "<script>alert" not in html and "&lt;script&gt;alert(&quot;1&quot;)" in html and "&amp;amp;" in html
    for figure in (tmp_path / "out/figures").glob("*.svg"):
        xml.parse(figure)


def test_a_running_study_is_shown_as_far_as_it_is(tmp_path: Path) -> None:
    trials = [
        samples.trial("000", "finished", 8, floor=0.3),
        samples.trial("001", "running", 5, floor=0.2),
        samples.trial("002", "running", 0),
        samples.trial("003", "pending", 0) | {"settings": {}},
    ]
    trials[1]["epochs"], trials[1]["val_loss"] = 2, 0.6  # its record is older than its history
    run = runs.study(tmp_path, trials=trials, over=False)
    html = text_of(run)
    seen = words(html)
    assert "This study is running Trial 001 leads: validation loss 0.3000 at epoch 5" in seen
    assert "1 of 4 trials are over, 2 are running, 1 waiting." in seen
    assert f"python -m oneshot.report {tmp_path}" in seen
    assert "Among the published" not in html and 'class="cards"' not in html and "Errors" not in html
    assert "The leading trial’s training" in html


def test_a_study_that_has_been_silent_is_not_called_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = runs.study(tmp_path, trials=[samples.trial("000", "running", 2)], over=False)
    later = time.time() + 7200
    monkeypatch.setattr(time, "time", lambda: later)
    seen = words(text_of(run))
    assert "This study is not over" in seen and "silent for 2:00:" in seen
    assert f"To go on: python -m oneshot.tune --resume {tmp_path}" in seen


def test_a_study_that_was_judged_at_its_time_limit_is_said_to_go_on(tmp_path: Path) -> None:
    trials = [samples.trial("000", "finished", 8, floor=0.21), samples.trial("001", "pending", 1)]
    seen = words(text_of(runs.study(tmp_path, trials=trials)))
    assert "of Lake’s 400 one‑shot trials are right" in seen
    assert "1 of 2 trials are over, 0 are running, 1 waiting. Last written" in seen and f"--resume {tmp_path}" in seen


def test_between_two_trials_a_study_runs_and_after_a_silence_it_was_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = [samples.trial("000", "stopped", 2), samples.trial("001", "pending", 1)]
    for trial in trials:
        for row in trial["history"]:
            row["seconds"] = 600.0  # the change from one trial to the next never takes so long
    run = runs.study(tmp_path, trials=trials, over=False)
    assert "This study is running" in words(text_of(run))
    later = time.time() + 90
    monkeypatch.setattr(time, "time", lambda: later)
    seen = words(text_of(run))
    assert "This study is not over" in seen and "1 of 2 trials are over, 0 are running, 1 waiting." in seen


@pytest.mark.parametrize("file", ["trials/000/pulse.json", "stage.json"])
def test_what_says_how_far_work_is_says_that_a_study_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    run = runs.study(tmp_path, trials=[samples.trial("000", "running", 2)], over=False)
    later = time.time() + 7200
    monkeypatch.setattr(time, "time", lambda: later)
    assert "This study is not over" in words(text_of(run))
    (tmp_path / file).write_text("{}")
    os.utime(tmp_path / file, (later - 5, later - 5))
    assert "This study is running" in words(text_of(run))


def test_the_pulse_of_a_single_training_says_that_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = runs.training(tmp_path, epochs=3)
    later = time.time() + 7200
    monkeypatch.setattr(time, "time", lambda: later)
    run.write_json("pulse.json", {})
    os.utime(tmp_path / "pulse.json", (later - 5, later - 5))
    assert "This training is running" in words(text_of(run))


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_training_that_diverged_is_not_said_to_be_trained(tmp_path: Path, epochs: int) -> None:
    run = runs.training(tmp_path, epochs=epochs)
    rows = [json.loads(line) for line in run.read("history.jsonl").decode().splitlines()]
    rows[-1] |= {"val_loss": None, "ended": "diverged", "best": False}
    run.write("history.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows).encode())
    seen = words(text_of(run))
    assert f"This training diverged in epoch {epochs}" in seen and "is trained" not in seen
    assert ("no epoch was finished: try a lower learning rate" in seen) == (epochs == 1)
    assert ("has not been judged" in seen) == ("Best: validation loss" in seen) == (epochs == 3)


def test_generated_drawings_of_a_training_that_is_not_judged_are_said_to_be(tmp_path: Path) -> None:
    run = runs.training(tmp_path, epochs=8)
    assert "No published figure is comparable" not in words(text_of(run))
    settings = override(job("quick"), {"data.dataset": "glyphs-10"}, source="the test")
    run.write("experiment.toml", settings.to_toml().encode())
    assert "The drawings are glyphs (generated), not Omniglot. No published" in words(text_of(run))


def test_figures_that_the_page_has_no_more_go_and_nobody_elses(tmp_path: Path) -> None:
    run = runs.study(tmp_path)
    making.make(run)
    (tmp_path / "figures/mine.png").touch()
    run.remove("outcomes.json")
    making.make(run)
    linked = set(re.findall(r'href="figures/([^"]*)"', run.read("report.html").decode()))
    assert set((run / "figures").names()) == linked | {"mine.png"} and "errors.png" not in linked


def test_a_network_is_made_anew_by_the_commit_that_trained_it(tmp_path: Path) -> None:
    trained = {key: value for key, value in runs.ENVIRONMENT.items() if key not in ("seeds", "device")}
    trained |= {"commit": "aaaaaaaaaaaa", "hardware": trained["hardware"] | {"gpus": ["NVIDIA H100"]}}
    seen = words(text_of(runs.study(tmp_path / "apart", trained=trained)))
    assert "git checkout aaaaaaaaaaaa" in seen and "Files differed" not in seen and "NVIDIA H100" in seen
    assert "judged with commit 0123456789ab+changes; hardware 2 cores, Some CPU, 7.5 GiB, no GPU" in seen
    one = {key: value for key, value in runs.ENVIRONMENT.items() if key not in ("seeds", "device")}
    assert "judged with" not in words(text_of(runs.study(tmp_path / "one", trained=one)))


@pytest.mark.parametrize("trials", [[samples.trial("000", "pending", 0) | {"settings": {}}], [samples.trial("000")]])
def test_a_study_without_an_epoch_has_a_report(tmp_path: Path, trials: list) -> None:
    seen = words(text_of(runs.study(tmp_path, trials=trials, over=False)))
    assert "No epoch is finished yet." in seen and "0 of 1 trials are over" in seen


def test_the_history_of_a_trial_of_the_jobs_own_settings_is_read_and_not_called_lost(tmp_path: Path) -> None:
    """The settings of such a trial are {}, as with `search.first = [{}]`."""
    trial = samples.trial("000", "running", 3) | {"settings": {}}
    seen = reading.read(runs.study(tmp_path / "run", trials=[trial], over=False))
    assert len(seen.trials[0]["history"]) == 3 and not [each for each in seen.missing if "lost" in each]


def test_an_old_run_says_what_is_missing_and_how_to_have_it(tmp_path: Path) -> None:
    html = text_of(runs.study(tmp_path, outcome=False))
    assert "The judgement did not keep its single trials" in words(html)
    assert f"python -m oneshot.evaluate {tmp_path}, which scores the test alphabets once more" in words(html)
    assert "Errors</h2>" not in html and "By alphabet</h2>" in html


def test_trials_of_another_network_are_not_shown(tmp_path: Path) -> None:
    run = runs.study(tmp_path, sha256="0" * 64)
    assert "Errors</h2>" not in text_of(run)


def test_damaged_drawings_are_refused_in_a_sentence(tmp_path: Path) -> None:
    run = runs.study(tmp_path)
    kept = run.read_json(outcomes.OUTCOMES)
    kept["drawings"][5]["png"] = "AAAA"
    run.write_json(outcomes.OUTCOMES, kept)
    with pytest.raises(UserError, match=r"outcomes\.json is damaged: it holds an invalid drawing"):
        reading.read(run)


def test_figures_of_invented_drawings_stand_beside_no_published_ones(tmp_path: Path) -> None:
    run = runs.study(tmp_path, dataset="glyphs (generated)")
    html = text_of(run)
    assert "Among the published" not in html
    seen = words(html)
    assert "The drawings are glyphs (generated), not Omniglot. No published figure is comparable." in seen
    assert "of 400 fixed one‑shot trials, made like Lake’s, are right" in seen
    assert "of Lake’s 400" not in seen and "Lake's 20 fixed runs" not in seen


@pytest.mark.parametrize("split", ["own", "own-all"])
def test_of_own_images_the_page_speaks_of_groups_and_classes(tmp_path: Path, split: str) -> None:
    run = own(runs.study(tmp_path, dataset="coins (own images)", split=split), split)
    html, figures = page(reading.read(run))
    seen = words(html)
    flatters = "Split own-all: the validation classes were trained on too, so validation figures are optimistic."
    assert (flatters in seen) == (split == "own-all")
    assert "By group</h2>" in html and "alphabet, query" not in seen
    assert "trials on your own images are right" in seen and "On classes that neither training nor search" in seen
    assert "which of 20 classes is this" in seen and "Most confused classes</h2>" in html
    assert (
        "its colour stands for its class" in seen and "The other one" in seen and "test classes scored 1 time" in seen
    )
    answer = html.partition('id="reproduce"')[0].replace("alphabets.", "").replace("alphabets-", "")
    assert not re.search("[Cc]haracters (is|taken)|its character|drawer|test alphabets|other . alphabets", answer)
    drawn = " ".join(f"{each.title}: {each.description}" for each in figures.values())
    assert "Classes taken for each other" in drawn and "3 groups, each in the plane" in drawn
    assert not re.search("character|alphabet", drawn, re.IGNORECASE)


def test_intervals_over_trials_of_few_classes_are_said_to_be_too_narrow(tmp_path: Path) -> None:
    said = (
        "Only 6 classes with 36 images were tested: the accuracy on other classes may lie far outside these intervals."
    )
    for classes, few in ((6, True), (10, False)):
        run = runs.study(tmp_path / str(classes), outcome=False, test={"classes": classes, "images": 36})
        assert (said in words(text_of(own(run)))) == few
    assert "were tested" not in words(text_of(runs.study(tmp_path / "older", outcome=False)))


def test_own_classes_that_are_in_no_groups_are_called_by_their_names(tmp_path: Path) -> None:
    run = runs.study(tmp_path, names=("my-coins",), dataset="my-coins (own images)", split="own")
    changes = {"data.split": "own", "data.dataset": "my-coins@01234567"}
    run.write("experiment.toml", override(job("quick"), changes, source="the test").to_toml().encode())
    html, figures = page(reading.read(run))
    seen = words(html.partition('id="trials-title"')[2].partition('id="reproduce"')[0])
    assert re.search(r"chosen right \d\d, taken for \d\d right one \d+(st|nd|rd|th) · margin", seen)
    assert re.search(r"✗ wrong , \d\d: the right one came", seen) and re.search(r" \d\d and \d\d \d+ time", seen)
    assert 'alt="query: 01, image' in html
    assert seen.count("my-coins") == 2, "the map and its caption"
    texts = [mark.text for name in ("errors", "confused") for mark in figures[name].marks if mark.text]
    assert any(re.fullmatch(r"\d\d · \d+(st|nd|rd|th)", text) for text in texts)
    assert any(re.fullmatch(r"\d\d and \d\d", text) for text in texts) and "my-coins" not in " ".join(texts)


def test_of_own_images_that_are_not_judged_yet_the_page_speaks_of_classes_too(tmp_path: Path) -> None:
    run = own(runs.study(tmp_path, over=False))
    assert "Accuracy on the test classes comes at the end." in words(text_of(run))
    shutil.rmtree(tmp_path)
    run = own(runs.training(tmp_path, epochs=8))
    assert "This training has not been judged on the test classes" in words(text_of(run))


def test_of_one_map_only_nobody_can_say_that_it_is_the_easiest(tmp_path: Path) -> None:
    several = words(text_of(runs.study(tmp_path / "several")))
    assert ", the easiest," in several and ", the hardest," in several
    one = words(text_of(runs.study(tmp_path / "one", names=("Greek",))))
    assert "Map of Greek" in one and "the easiest" not in one and "the hardest" not in one


def test_errors_that_come_again_are_shown_once_and_that_is_said(whole: tuple[Folder, Path], tmp_path: Path) -> None:
    kept = whole[0].read_json("outcomes.json")
    different = kept["errors"][:5]
    missed, trials = kept["trials"] - kept["correct"], kept["trials"]
    run = runs.study(tmp_path, outcome=False)
    for again in (1, 6):  # older files hold each error as often as it occurred
        errors = [error for error in different for _ in range(again)]
        run.write_json("outcomes.json", kept | {"errors": errors})
        html, figures = page(reading.read(run))
        assert html.count('<li class="error">') == 5
        assert f"The 5 worst different ones of {missed} errors in {trials} trials of lake400" in words(html)
        assert "A query that was taken for the same character in several trials counts once." in words(html)
        assert figures["errors"].description.startswith(f"5 different ones of {missed} errors")
    every = kept | {"errors": different, "correct": trials - 5}
    run.write_json("outcomes.json", every)
    assert f"All 5 errors in {trials} trials of lake400" in words(text_of(run))


def test_a_network_without_an_error_is_said_to_have_none(tmp_path: Path) -> None:
    html = text_of(runs.study(tmp_path, boost=50.0))
    assert "None: all 400 trials of lake400 are right." in words(html) and "Most confused" not in html


def test_how_often_the_test_was_touched_is_said(tmp_path: Path) -> None:
    run = runs.study(tmp_path)
    assert "have been scored" not in words(text_of(run))
    run.append_json("evaluations.jsonl", {})
    assert "have been scored 2 times for this run; the figures are those of scoring 1." in words(text_of(run))
    # As if the search went on and found another winner, which was judged too.
    run.write_json("result.json", run.read_json("result.json") | {"test_evaluations": 2})
    assert "have been scored 2 times for this run; the figures are those of scoring 2." in words(text_of(run))
    run.write_json("result.json", run.read_json("result.json") | {"test_evaluations": None})
    assert "The test alphabets have been scored 2 times for this run." in words(text_of(run))


@pytest.mark.parametrize(
    ("epochs", "state"), [(0, "training is running"), (5, "training is running"), (8, "network is trained")]
)
def test_a_single_training_has_a_report(tmp_path: Path, epochs: int, state: str) -> None:
    html = text_of(runs.training(tmp_path, epochs=epochs))
    assert f"This {state}" in words(html) and "The search</h2>" not in html
    assert ("The training</h2>" in html) == (epochs > 1)


@pytest.mark.parametrize("epochs", [8, 10])
def test_a_training_that_was_judged_and_is_to_go_on_is_not_over(tmp_path: Path, epochs: int) -> None:
    run = runs.training(tmp_path, epochs=8)
    run.write("experiment.toml", override(job("quick"), {"train.epochs": epochs}, source="the test").to_toml().encode())
    run.write_json("result.json", samples.result(environment=runs.ENVIRONMENT, sha256=runs.SHA))
    seen = words(text_of(run))
    assert "of Lake’s 400 one‑shot trials are right" in seen, "of the network that is there the figures hold"
    assert (f"8 of {epochs} epochs done" in seen) == (epochs > 8)


def test_a_result_of_another_network_is_not_shown(tmp_path: Path, trained_run: Path) -> None:
    run = runs.study(tmp_path / "run")
    card = json.loads((trained_run / "best/model.json").read_text())
    for sha256, shown in ((runs.SHA, True), ("0" * 64, False)):
        (run / "best").write_json("model.json", card | {"sha256": sha256})
        html = text_of(run)
        assert ("of Lake’s 400 one‑shot trials are right" in words(html)) == ("Errors</h2>" in html) == shown
        assert ("result.json is not for the network that is now in best/" in html) == (not shown)
        assert ("the judgement on the test alphabets is missing" in html) == (not shown)


@pytest.mark.parametrize(("taught", "how"), [(False, ""), (True, "was trained"), ("perhaps", "may have been trained")])
def test_what_validates_may_have_been_taught_before(
    tmp_path: Path, trained_run: Path, taught: bool | str, how: str
) -> None:
    run, card = runs.training(tmp_path, epochs=8), json.loads((trained_run / "best/model.json").read_text())
    card["calibration"]["measured_on"]["taught"] = taught
    (run / "best").write_json("model.json", card)
    said = f"A network that this one started from {how} on the validation alphabets: validation figures are optimistic."
    assert (said in words(text_of(run))) == bool(how)
    assert ("validation figures are optimistic" in words(text_of(run))) == bool(how)


def test_figures_on_what_a_start_was_taught_stand_beside_no_published_ones(tmp_path: Path) -> None:
    seen = words(text_of(runs.study(tmp_path / "new")))
    assert "On alphabets that neither training nor search has seen." in seen and "Among the published figures" in seen
    known = "10 of the 20 test alphabets are not new to this network"
    seen = words(text_of(runs.study(tmp_path / "known", overlap=known)))
    assert f"{known}. No published figure is comparable." in seen and "has seen" not in seen
    assert "Among the published figures" not in seen


def test_a_report_lies_beside_a_run_on_an_object_store(bucket: str) -> None:
    run = runs.study(Folder.of(f"{bucket}/runs/one"), over=False)
    assert making.make(run) == f"{bucket}/runs/one/report.html"
    assert b"is running" in run.read("report.html") and (run / "figures").has("losses.png")


def test_a_report_that_fails_costs_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("no axis")

    monkeypatch.setattr(making, "make", fail)
    console = Console(file=io.StringIO(), width=200)
    reporting.at_the_end(console, Folder.of(tmp_path))
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert said.startswith("warning: no report (ZeroDivisionError: no axis)") and "python -m oneshot.report" in said


@pytest.mark.parametrize("theme", [canvas.LIGHT, canvas.DARK], ids=["light", "dark"])
def test_all_text_stands_out_from_its_paper(theme: dict[str, str]) -> None:
    def luminance(color: str) -> float:
        parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for name in ("ink", "muted", "ours", "good", "bad"):
        light, dark = sorted((luminance(theme[name]), luminance(theme["paper"])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, name  # WCAG 2.2, 1.4.3


@pytest.mark.parametrize("values", [[0.2, 0.3], [1e-4, 1e-1], [5.0], [0.0, 0.0], [-3.0, 2.0], [1e-300, 1e300]])
def test_a_scale_holds_its_values_and_marks_some_of_them(values: list[float]) -> None:
    scale = axes.spanning(values, 0.0, 100.0)
    assert all(0 <= scale(value) <= 100 for value in values)
    assert [scale(value) for value in sorted(values)] == sorted(scale(value) for value in values)
    ticks = scale.ticks(6)
    assert 1 <= len(ticks) <= 6 and all(0 <= scale(tick) <= 100 for tick in ticks)


@pytest.mark.parametrize("most", [4, 5, 6, 8])
def test_a_scale_whose_ends_are_marked_has_no_mark_more_than_asked(most: int) -> None:
    for low in range(10):
        ticks = axes.Scale(low / 10, 1.0, 0.0, 100.0).ticks(most)
        assert 2 <= len(ticks) <= most, low
    assert axes.Scale(0.5, 1.0, 0.0, 100.0).ticks(6) == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9, 1.0])


def test_in_the_ladder_each_protocol_keeps_to_its_own_column() -> None:
    result = samples.result(environment=runs.ENVIRONMENT)
    result["protocols"]["within"] |= {"n_way": 5}
    rungs = ladder.rungs({"ours": {"result": result}})
    cells = {rung.name: rung.cells for rung in rungs}
    assert list(cells["ours"]) == ["lake400", "between", "seed352"]  # 5-way is comparable with nothing here
    assert list(cells["BPL"]) == ["lake400"] and list(cells["matching nets"]) == ["between"]
    accuracies = [rung.cells["lake400"][0] for rung in rungs if "lake400" in rung.cells]
    assert accuracies == sorted(accuracies, reverse=True)
    row = next(line for line in ladder.markdown(rungs).splitlines() if "`ours`" in line)
    assert [cell.strip() for cell in row.split("|")[2:7]] == [
        "**90.8** (87.5–93.2)", "", "**93.1** (92.6–93.6)", "**93.5** (90.4–95.6)", "",
    ]  # fmt: skip


def test_a_record_of_several_seeds_stands_in_the_ladder_with_its_means() -> None:
    result = samples.result(environment=runs.ENVIRONMENT, verification={"accuracy": 0.9, "interval": [0.89, 0.91]})
    summary = {"lake400": {"mean": 0.99, "interval": [0.985, 0.995]}, "verification": {"mean": 0.95, "interval": None}}
    record = {"seeds": [{"seed": 1, "result": result}, {"seed": 2, "result": result}], "summary": summary}
    first = ladder.rungs({"five": record})[0]
    assert first.name == "five" and "mean of 2 seeds, interval over seeds, commit" in first.source
    assert any("interval over trials, commit" in rung.source for rung in ladder.rungs({"one": {"result": result}}))
    seen = {**record, "seeds": [{"seed": 1, "result": result | {"views": 8}}]}
    assert "8 views, commit" in ladder.rungs({"five": seen})[0].source
    seen = {**record, "seeds": [{"seed": 1, "result": result | {"start": "0" * 64}}]}
    assert "over seeds, started from another network, commit" in ladder.rungs({"five": seen})[0].source
    assert first.cells == {"lake400": (0.99, (0.985, 0.995)), "verification": (0.95, None)}
    assert ladder.best({"five": record, "one": {"result": result}}) == "five"
    fixed = lambda accuracy, n_way=20: {"within_fixed": {"accuracy": accuracy, "n_way": n_way, "k_shot": 1}}  # noqa: E731
    finer = {"five": {"seeds": [{"seed": 1, "result": result | fixed(0.7)}],
                      "summary": summary | {"within_fixed": {"mean": 0.8, "interval": None}}},
             "one": {"result": result | fixed(0.9)},
             "5-way": {"result": result | fixed(0.99, n_way=5)},
             "5-way too": {"seeds": [{"seed": 1, "result": result | fixed(0.99, n_way=5)}],
                           "summary": summary | {"within_fixed": {"mean": 0.99, "interval": None}}}}  # fmt: skip
    assert ladder.best(finer) == "one" and ladder.best({"none": {"result": result | {"protocols": {}}}}) is None
    assert "| Tengwar | 85.0 | 70.9–92.9 | 40 |" in ladder.alphabets("one", {"result": result})
    other = result | {"per_alphabet": result["per_alphabet"] | {"Tengwar": samples.outcome(36, 40, 0.7, 0.97)}}
    mean = ladder.alphabets("five", {"seeds": [{"seed": 1, "result": result}, {"seed": 2, "result": other}]})
    assert "`five`, mean of 2 seeds" in mean and "interval over seeds" in mean
    assert "| Tengwar | 87.5 | 55.7–100.0 | 40 |" in mean
