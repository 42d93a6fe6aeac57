"""What is shown when a study is over: the table of its trials, the result beside published ones, the alphabets."""

import re
from typing import Any

import pytest
from samples import glyphs_result, outcome, result, small_study, study, trial, verification
from terminals import drawn, row_of, view_of

from oneshot.screen.console import loss
from oneshot.screen.results import PROTOCOLS, alphabet_table, result_panel, seeds_table
from oneshot.screen.tables import study_table, trial_rows

pytestmark = pytest.mark.usefixtures("plain_terminal")


def repeated(dataset: str) -> dict[str, Any]:
    """A record of several seeds, with all protocols."""
    summary = {name: {"mean": 0.981, "interval": [0.97, 0.99], "seeds": 5} for name in PROTOCOLS}
    seeds = [{"seed": seed, "interrupted": False} for seed in range(1, 6)]
    return {"job": "quick", "dataset": dataset, "split": "lake", "seconds": 9.0, "seeds": seeds, "summary": summary}


class TestStudyTable:
    def test_the_best_comes_first_and_only_the_top_is_shown(self):
        trials = [trial(f"{i:03}", "stopped", 3, floor=0.9 - i / 100) for i in range(20)]
        lines = drawn(study_table(study(*trials), top=4), 100)
        assert [line.split()[0] for line in lines if " stopped " in line] == ["★", "018", "017", "016"]
        assert "  and 16 more" in lines

    def test_it_says_what_early_stopping_saved(self):
        trials = [
            trial("000", "finished", 30),
            trial("001", "stopped", 1),
            trial("002", "stopped", 21),
            trial("003", "stopped", 9),
        ]
        assert row_of(
            drawn(study_table(study(*trials)), 100), "ran 61 of 120 epochs in 2:05: 49 % saved by early stopping"
        )

    def test_epochs_lost_to_broken_trials_are_no_saving(self):
        lines = drawn(study_table(study(trial("000", "finished", 30), trial("001", "failed", 15, error="no"))), 100)
        assert row_of(lines, "ran 45 of 60 epochs in 2:05: 25 % not run by trials that broke")

    def test_on_the_narrowest_terminal_trials_and_losses_are_whole(self):
        for record in (small_study(), study(trial("000", "running", 130, lr=1.23e-4, optimizer="adamw"), epochs=200)):
            for view in (study_table(record), view_of(record)):
                lines = drawn(view, 40)
                for row in trial_rows(record):
                    if row.best_loss is not None:
                        assert row_of(lines, f" {row.id} ", f" {row.status} ", f" {loss(row.best_loss)}")

    def test_where_there_is_room_for_more_the_settings_go_first_and_the_accuracy_last(self):
        heads = {width: " ".join(drawn(study_table(small_study()), width)[1].split()) for width in (20, 40, 56, 64, 80)}
        assert list(heads.values()) == [
            "trial val loss",
            "trial status val loss accuracy",
            "trial status lr run val loss accuracy",
            "trial status optim lr run val loss accuracy",
            "trial status optim lr batch run val loss accuracy time",
        ]

    def test_broken_trials_are_named_with_the_reason_they_share(self):
        broken = [trial(f"{i:03}", "failed", error="CUDA out of memory") for i in range(3)]
        lines = drawn(study_table(study(*broken, trial("003", "diverged", 1, error="not finite"))), 100)
        assert row_of(lines, "failed 000 001 002: CUDA out of memory")
        assert row_of(lines, "diverged 003: not finite")
        assert row_of(lines, "1 diverged · 3 failed")

    def test_settings_that_differ_have_a_column(self):
        trials = [trial(f"{i:03}", "finished", 3, weight_decay=i / 100, **{"model.name": "conv4"}) for i in range(2)]
        text = "\n".join(drawn(study_table(study(*trials)), 140))
        assert re.search(r"001 .* 1e-2 ", text) and "decay" in text
        assert "conv4" not in text

    def test_a_record_without_histories_has_no_column_of_them(self):
        record = study(trial("000", "finished", 3))
        assert "one-shot" in "".join(drawn(study_table(record), 100))
        del record["trials"][0]["history"]
        assert "one-shot" not in "".join(drawn(study_table(record), 100))

    def test_a_study_in_which_nothing_worked_says_so(self):
        lines = drawn(study_table(study(trial("000", "failed", error="boom"))), 80)
        assert lines[0] == "No trial got as far as a validation loss."


class TestResult:
    def test_this_run_stands_in_its_place_on_the_ladder_of_its_protocol(self):
        lines = drawn(result_panel(result()), 140)
        start = next(i for i, line in enumerate(lines) if re.match(r"│  lake400 +│", line))
        names = [re.split(r"  +", line.strip("│ ▶"))[0].strip() for line in lines[start + 1 : start + 10]]
        assert names[5] == "this run"  # 90.8 %
        assert names[4] == "convolutional Siamese net"  # 92.0 %
        assert names[6] == "deep convnet"  # 86.5 %

    def test_several_views_are_named(self):
        assert row_of(drawn(result_panel(result(views=4)), 140), "the mean of 4 views: both drawings turned alike")
        assert "views" not in "\n".join(drawn(result_panel(result()), 140))

    def test_the_source_documents_figure_is_compared_with_its_own_protocol_only(self):
        lines = drawn(result_panel(result()), 140)
        headings = [(i, m[1]) for i, line in enumerate(lines) if (m := re.match(r"│  (\w+) +│$", line))]
        at = row_of(lines, "source document  ", "91.2 %")
        assert [name for i, name in headings if i < at][-1] == "seed352"

    def test_data_set_split_network_and_every_interval_are_named(self):
        text = "\n".join(drawn(result_panel(result()), 140))
        for words in ("omniglot", "split lake", "trial 007 at epoch 27", "87.5–93.2 %", "83.5–84.9 %", "92.6–93.6 %"):
            assert words in text

    def test_glyphs_have_no_ladder(self):
        text = "\n".join(drawn(result_panel(glyphs_result()), 140))
        assert "not comparable with glyphs (generated)" in text
        assert "BPL" not in text and "▶" not in text

    @pytest.mark.parametrize("dataset", ["Omniglot (own images)", "omniglot (own images)"])
    def test_own_images_that_are_called_so_are_not_omniglot(self, dataset: str):
        text = "\n".join(drawn(result_panel(result() | {"dataset": dataset, "split": "own"}), 140))
        assert f"not comparable with {dataset}" in text and "Koch" not in text and "ARC" not in text

    def test_the_fixed_trials_of_glyphs_are_not_called_lakes(self):
        fixed = outcome(900, 1_000, 0.88, 0.92, alphabets=3)
        for dataset, own in (("omniglot", True), ("glyphs (generated)", False)):
            text = "\n".join(drawn(result_panel(result(dataset=dataset, within_fixed=fixed)), 140))
            assert ("Lake's 20 fixed runs" in text) == ("alphabets of Lake's runs alone" in text) == own
            assert ("fixed trials, made like Lake's" in text) == ("alphabets of the fixed trials alone" in text) != own
        assert row_of(drawn(seeds_table(repeated("glyphs (generated)")), 140), "fixed trials, made like Lake's")

    @pytest.mark.parametrize("split", ["own", "own-all"])
    def test_of_own_images_no_protocol_speaks_of_alphabets(self, split: str):
        own = result(dataset="coins (own images)", split=split, verification=verification())
        del own["protocols"]["lake400"]
        assert "alphabet" not in "\n".join([*drawn(result_panel(own), 140), *drawn(alphabet_table(own), 80)])

    def test_on_the_narrowest_terminal_protocols_and_accuracies_are_whole(self):
        lines = drawn(result_panel(result()), 40)
        for name, one in result()["protocols"].items():
            assert row_of(lines, f"{name} ", f"{100 * one['accuracy']:.1f} % ", "–")
        lines = drawn(seeds_table(repeated("omniglot")), 40)
        assert all(row_of(lines, f" {name} ", "98.1 %") for name in PROTOCOLS)

    def test_another_number_of_ways_has_no_ladder(self):
        five = result(protocols={"within": outcome(9_500, 10_000, 0.945, 0.954, n_way=5)})
        text = "\n".join(drawn(result_panel(five), 140))
        assert "5-way 1-shot" in text
        assert "not comparable with within here" in text
        assert "▶" not in text

    def test_a_network_that_fails_still_lies_on_the_scale(self):
        dead = result(protocols={"lake400": outcome(20, 400, 0.033, 0.076)})
        lines = drawn(result_panel(dead), 140)
        assert "●" in lines[row_of(lines, "this run", "5.0 %")]

    def test_what_was_not_measured_is_said_with_the_reason(self):
        skipped = {"lake400": "this dataset has no fixed trials"}
        text = "\n".join(drawn(result_panel(glyphs_result() | {"skipped": skipped}), 140))
        assert "not measured: lake400: this dataset has no fixed trials" in text

    @pytest.mark.parametrize(("classes", "few"), [(9, True), (10, False)])
    def test_that_few_classes_were_asked_is_said_beside_the_intervals(self, classes: int, few: bool):
        text = "\n".join(drawn(result_panel(result(test={"classes": classes, "images": 54})), 140))
        assert ("only 9 classes with 54 images were tested: the accuracy on other classes may lie far" in text) == few

    def test_figures_on_alphabets_that_are_not_new_stand_beside_no_published_ones(self):
        said = "2 of the 20 test alphabets are not new to this network"
        text = "\n".join(drawn(result_panel(result(overlap=said)), 140))
        assert said in text and "not comparable here" in text and "▶" not in text

    def test_judging_more_than_once_is_said(self):
        assert "judged 3 times" in "\n".join(drawn(result_panel(result(test_evaluations=3)), 140))
        assert "judged" not in "\n".join(drawn(result_panel(result(test_evaluations=1)), 140))

    def test_a_single_training_has_no_trial_to_name(self):
        alone = {"id": None, "settings": {}, "epoch": 4, "val_loss": 0.5}
        assert "the network at epoch 4, val loss 0.5000" in "\n".join(drawn(result_panel(result(best_trial=alone)), 80))

    def test_alphabets_go_from_the_best_to_the_worst(self):
        lines = drawn(alphabet_table(result()), 80)
        assert [line.split("  ")[0] for line in lines[3:]] == ["Old Church Slavonic (Cyrillic)", "Tengwar", "Gurmukhi"]
