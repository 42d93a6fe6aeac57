"""The model card of a network: its front matter can be parsed, and its figures are those of the records."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import samples
import yaml

from oneshot.answers.calibration import Calibration
from oneshot.base.errors import UserError
from oneshot.base.storage import Folder
from oneshot.evaluation import modelcard
from oneshot.run import cards

MATCH = {
    "rates": [0.1, 0.01], "limits": [0.5, 2.0], "false_match": [0.1, 0.01], "false_non_match": [0.0, 0.2], "pairs": 9,
}  # fmt: skip


def made(run: Path) -> dict[str, Any]:
    return json.loads((run / "best" / "model.json").read_text())


def front(text: str) -> dict[str, Any]:
    return yaml.safe_load(text.split("---")[1])


def test_a_training_writes_the_card(trained_run: Path) -> None:
    text = (trained_run / "best" / "README.md").read_text()
    assert text == modelcard.render(made(trained_run), None)
    assert front(text)["library_name"] == "oneshot" and front(text)["metrics"] == ["accuracy"]
    assert "Not judged yet" in text and "Limits" in text


def test_the_figures_are_those_of_the_result(trained_run: Path) -> None:
    text = modelcard.render(made(trained_run), samples.result())
    assert "| `within` | 20-way 1-shot | 10,000 | 84.2 % | 83.5–84.9 % |" in text
    (index,) = front(text)["model-index"]
    values = {each["dataset"]["name"]: each["metrics"][0]["value"] for each in index["results"]}
    assert values["omniglot, lake400"] == 363 / 400 and len(values) == 4


def test_the_calibration_is_that_of_the_network(trained_run: Path) -> None:
    card = made(trained_run)
    pair = card["calibration"]["shots"][0]["pair"]
    row = f"| 1 | {100 * pair['ece_before']:.1f} %, {100 * pair['ece_after']:.1f} % |"
    assert row in modelcard.render(card, None)
    assert "They are not calibrated" in modelcard.render(card | {"calibration": None}, None)


def test_the_thresholds_of_verification_are_those_of_the_network(trained_run: Path) -> None:
    card = made(trained_run)
    match, pair = card["calibration"]["match"], Calibration(card["calibration"]).pair
    text = modelcard.render(card, None)
    for rate, limit, *errors in zip(*(match[key] for key in list(match)[:4]), strict=True):
        shares = [f"{100 * float(share):.2f} %" for share in (pair(np.array(limit)), *errors)]
        assert f"| {rate:g} | {' | '.join(shares)} |" in text
    del card["calibration"]["match"]  # older cards lack it
    cards.Card.model_validate(card)
    assert "--false-match" not in modelcard.render(card, None)


def test_it_says_on_which_trials_it_was_calibrated(trained_run: Path) -> None:
    card = made(trained_run)
    assert card["calibration"]["measured_on"]["protocol"] == "within"
    assert "2,000 trials that are each inside one of the validation alphabets" in modelcard.render(card, None)
    card["calibration"]["measured_on"]["protocol"] = "between"  # if no two classes share a group
    assert "2,000 trials between the validation alphabets" in modelcard.render(card, None)
    del card["calibration"]["measured_on"]["protocol"]  # older cards lack it
    cards.Card.model_validate(card)
    assert "2,000 trials on the validation alphabets, of which there are" in modelcard.render(card, None)


@pytest.mark.parametrize("split", ["own", "own-all"])
def test_of_own_images_it_speaks_of_classes_and_groups(trained_run: Path, split: str) -> None:
    card, flatters = made(trained_run), split == "own-all"
    card["provenance"]["settings"]["data"] |= {"dataset": "coins@01234567", "split": split}
    card["calibration"]["measured_on"] |= {"alphabets": 1, "characters": 12, "drawings": 36, "taught": flatters}
    card["calibration"]["views"] = {"positions": 8, "accuracy": 0.9366, "one": 0.9267}
    start = {"sha256": "0" * 64, "settings": {"data": {"dataset": "coins@01234567", "split": "own"}}}
    card["provenance"]["start"], card["calibration"]["start"] = [start], {"accuracy": 0.9, "before": 0.8}
    card["views"] = 8
    result = samples.result() | {"dataset": "coins (own images)", "split": split}
    for judged in (None, result):
        text = modelcard.render(card, judged)
        assert "alphabet" not in text and "character" not in text
        assert ("This network was also trained on the validation classes on which its proba" in text) == flatters
        assert ("(the validation data was trained on: these figures are too good)" in text) == flatters
    assert (
        "2,000 trials that are each inside one group of the validation classes, of which there are 12 in 1 group"
        " (36 images). Each figure is measured on one half of the trials" in text
    )
    assert f"On the test classes of coins (own images), split `{split}`" in text
    assert "On the test alphabets of omniglot" in modelcard.render(card, samples.result()), "which judged it elsewhere"


def test_a_network_of_several_views_says_so_and_what_they_are_worth(trained_run: Path) -> None:
    card = made(trained_run)
    assert "views" not in modelcard.render(card, None)
    card["views"], card["calibration"]["views"] = 8, {"positions": 8, "accuracy": 0.9366, "one": 0.9267}
    text = modelcard.render(card, None)
    assert "the mean of 8 views: both drawings turned or mirrored alike, which gets 93.7 % of the trials" in text
    assert "one view gets 92.7 %." in text
    assert "the mean of 8 views: both drawings turned or mirrored alike." in modelcard.render(
        card | {"calibration": None}, None
    )


def test_validation_alphabets_that_were_taught_are_told(trained_run: Path) -> None:
    card = made(trained_run)
    assert card["calibration"]["measured_on"]["taught"] is False
    assert "trained on the validation alphabets on which" not in modelcard.render(card, None)
    card["provenance"]["settings"]["data"]["split"] = "lake-all"
    assert "trained on the validation alphabets on which" in modelcard.render(card, None)


def test_alphabets_that_episodes_left_out_are_told(trained_run: Path) -> None:
    card = made(trained_run)
    assert card["provenance"]["untaught"] == ""
    card["provenance"]["untaught"] = "episodes of 16 characters an alphabet: 1 of 4 alphabets has fewer"
    assert "Episodes of 16 characters an alphabet: 1 of 4 alphabets has fewer." in modelcard.render(card, None)
    del card["provenance"]["untaught"]  # older cards lack it
    cards.Card.model_validate(card)
    modelcard.render(card, None)


def test_limits_that_few_classes_gave_are_doubted(trained_run: Path) -> None:
    card = made(trained_run)
    assert "measured on only" not in modelcard.render(card, None)
    card["calibration"]["measured_on"]["characters"] = 2
    assert 'The limits for "none of these" were measured on only 2 validation classes' in modelcard.render(card, None)


@pytest.mark.parametrize(
    ("dataset", "name", "licence", "sentence"),
    [
        ("omniglot", "omniglot", "mit", "Brenden Lake, MIT licence"),
        ("glyphs-80-seed7", "glyphs", "mit", "the program drew itself"),
        ("glyphset-a@12345678", "glyphset-a", "unknown", "`glyphset-a@12345678`: images of whoever"),
        ("signatures: 'mine' # no\n", "signatures: 'mine' # no\n", "unknown", "images of whoever trained this network"),
    ],
)
def test_the_licence_is_that_of_the_data(
    trained_run: Path, dataset: str, name: str, licence: str, sentence: str
) -> None:  # fmt: skip
    card = made(trained_run)
    card["provenance"]["settings"]["data"]["dataset"] = dataset
    text = modelcard.render(card, samples.result())
    assert front(text)["license"] == licence and sentence in text
    assert front(text)["datasets"] == [name]


def test_a_result_of_another_network_is_not_shown(trained_run: Path, tmp_path: Path) -> None:
    best = tmp_path / "best"
    best.mkdir()
    (best / "model.json").write_text((trained_run / "best" / "model.json").read_text())
    environment = {"hardware": {"cpu": "x", "cores": 2, "gpus": []}, "commit": None}
    for sha256, judged in (("0" * 64, False), (made(trained_run)["sha256"], True)):
        result = samples.result(environment=environment, sha256=sha256)
        (tmp_path / "result.json").write_text(json.dumps(result))
        modelcard.write(Folder.of(tmp_path))
        assert ("84.2 %" in (best / "README.md").read_text()) == judged


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("shots", [], "shots"),
        ("rates", [0.1], "each of none.limits needs one number for each of the rates"),
        ("lead", -1, "lead = -1: must be greater than or equal to 0"),
        ("lead", None, "lead = None"),
        ("match", MATCH | {"limits": [1.0]}, "each list of match needs one number for each of its rates"),
        ("match", MATCH | {"rates": [0.1, 1.0]}, "rates.1 = 1.0: must be less than 1"),
    ],
)
def test_a_damaged_calibration_is_refused(
    trained_run: Path, tmp_path: Path, key: str, value: Any, sentence: str
) -> None:
    card = made(trained_run)
    card["calibration"][key] = value
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "model.json").write_text(json.dumps(card))
    with pytest.raises(UserError, match=sentence):
        modelcard.write(Folder.of(tmp_path))


def test_a_probability_that_would_fall_with_similarity_is_refused(trained_run: Path, tmp_path: Path) -> None:
    card = made(trained_run)
    card["calibration"]["shots"][0]["pair"]["slope"] = -0.5
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "model.json").write_text(json.dumps(card))
    with pytest.raises(UserError, match=r"slope = -0\.5: must be greater than 0"):
        modelcard.write(Folder.of(tmp_path))
