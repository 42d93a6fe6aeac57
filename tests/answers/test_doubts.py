"""A calibration measured on too little, or on what was trained on, is doubted, in words that fit the data set."""

from typing import Any

import pytest

from oneshot.answers import doubts
from oneshot.screen.words import OF_OWN, Words


def record(**changes: Any) -> dict[str, Any]:
    """A calibration without doubts, except for changes to what it was measured on or to its thresholds."""
    about = {"characters": 50, "alphabets": 8, "taught": False}
    match = {"rates": [0.1, 0.01, 0.001], "false_match": [0.1, 0.01, 0.001], "pairs": 60_000}
    return {"measured_on": about | changes, "match": match | changes}


def test_a_record_of_few_classes_says_that_the_rates_are_rough() -> None:
    said = [doubts.false_accept(record(characters=classes), Words()) for classes in (2, 9, 10)]
    assert "measured on only 2 validation classes" in said[0] and said[1] and not said[2]


@pytest.mark.parametrize(("words", "held"), [(Words(), "validation alphabets"), (OF_OWN, "validation classes")])
def test_a_record_of_what_was_taught_says_that_it_flatters(words: Words, held: str) -> None:
    older = record()
    del older["measured_on"]["taught"]  # older records do not say
    assert doubts.false_accept(older, words) == ""
    said = f"was also trained on the {held} on which"
    taught, few = record(taught=True), record(taught=True, characters=2)
    assert said in doubts.false_accept(taught, words) and said in doubts.false_match(taught, 0.1, words)
    assert doubts.false_accept(few, words).startswith(doubts.flattered(taught, words))
    assert "only 2 validation classes" in doubts.false_accept(few, words)


@pytest.mark.parametrize(
    ("changes", "rate", "said"),
    [
        ({}, 0.001, ""),
        ({"pairs": 5_000}, 0.01, ""),
        ({"pairs": 5_000}, 0.001, "5,000 pairs of two classes, and 0.1 % of them are fewer than 30: the rate is rough"),
        ({"characters": 9}, 0.1, "measured on only 9 validation classes"),
        ({"false_match": [0.1, 0.0149, 0.001]}, 0.01, ""),
        (
            {"false_match": [0.1, 0.016, 0.001]},
            0.01,
            "1.6 % of the other half's pairs of two classes are called the same",
        ),
    ],
)
def test_rates_that_may_not_be_kept_are_doubted(changes: dict[str, Any], rate: float, said: str) -> None:
    doubted = doubts.false_match(record(**changes), rate, Words())
    assert said in doubted and bool(doubted) == bool(said)


@pytest.mark.parametrize(
    ("words", "groups", "halved"), [(Words(), 8, "alphabets"), (OF_OWN, 3, "groups"), (OF_OWN, 1, "trials")]
)
def test_what_was_halved_is_called_what_it_is(words: Words, groups: int, halved: str) -> None:
    said = doubts.false_match(record(false_match=[0.1, 0.016, 0.001], alphabets=groups), 0.01, words)
    assert said.startswith(f"with thresholds from one half of the validation {halved}, 1.6 %")
