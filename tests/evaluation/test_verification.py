"""Same or different: the accuracy on pairs, and the threshold that validation chooses."""

import io

import numpy as np
import pytest
import samples
import tiny
from rich.console import Console

from oneshot.evaluation.verification import PAIRS, threshold, verification
from oneshot.screen.results import result_panel

TEST = tiny.drawings({"Tifinagh": 6, "Ogham": 5}, seed=1)
VALIDATION = tiny.drawings({"Greek": 6, "Kana": 5}, seed=2)


def knowing(drawings, *, shift: float = 0.0, noise: float = 0.0):
    """Logits of 1 for two drawings of one character and -1 otherwise, shifted, with noise."""
    generator = np.random.default_rng(0)

    def logits(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        same = drawings.character[left] == drawings.character[right]
        return np.where(same, 1.0, -1.0) + shift + noise * generator.standard_normal(len(left))

    return logits


def measured(**options: float) -> dict:
    found = verification(
        knowing(TEST, **options), TEST, validation=VALIDATION, validation_logits_of=knowing(VALIDATION, **options)
    )
    assert found is not None
    return found


def test_who_knows_is_right_always_and_who_answers_a_constant_half_the_time() -> None:
    assert measured() == measured() and measured()["accuracy"] == 1.0 and measured()["pairs"] == PAIRS
    constant = verification(
        lambda left, right: np.ones(len(left)), TEST, validation=VALIDATION,
        validation_logits_of=lambda left, right: np.ones(len(left)),
    )  # fmt: skip
    assert constant is not None and constant["accuracy"] == constant["at_threshold"] == 0.5


def test_the_threshold_of_validation_mends_a_bias() -> None:
    found = measured(shift=3.0)
    assert found["accuracy"] == 0.5 and found["at_threshold"] == 1.0
    assert 0.88 < found["threshold"] < 0.99  # logits between 2 and 4


def test_no_threshold_does_better_on_the_pairs_it_was_chosen_on() -> None:
    generator = np.random.default_rng(3)
    same = generator.random(200) < 0.5
    logits = np.where(same, 1.0, -0.5) + generator.standard_normal(200)
    chosen = ((logits > threshold(logits, same)) == same).mean()
    assert chosen == max(((logits > cut) == same).mean() for cut in np.linspace(-6, 6, 5_000))


def test_no_threshold_parts_equal_logits() -> None:
    logits, same = np.array([0.0] * 8 + [1.0] * 2), np.array([False, True] * 3 + [True] * 4)
    assert threshold(logits, same) < 0, "all are called the same, which 7 of 10 are"


@pytest.mark.parametrize("same", [True, False])
def test_pairs_of_one_kind_have_a_threshold_too(same: bool) -> None:
    logits = np.array([-1.0, 0.0, 2.0])
    assert ((logits > threshold(logits, np.full(3, same))) == same).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_network_that_answers_no_number_is_right_half_the_time(value: float) -> None:
    found = verification(
        lambda left, right: np.full(len(left), value), TEST, validation=VALIDATION,
        validation_logits_of=lambda left, right: np.full(len(left), value),
    )  # fmt: skip
    assert found is not None and found["accuracy"] == found["at_threshold"] == 0.5 and 0 <= found["threshold"] <= 1


def test_a_logit_that_is_no_number_has_no_say_in_the_threshold() -> None:
    logits, same = np.array([0.0, 1.0, 2.0, 3.0]), np.array([False, False, True, True])
    mixed = np.insert(logits, [0, 2, 4], np.nan), np.insert(same, [0, 2, 4], True)
    assert threshold(*mixed) == threshold(logits, same) == 1.5
    assert threshold(np.array([-np.inf, -np.inf, np.inf]), np.array([False, False, True])) == 0.0


def test_drawings_that_make_no_pairs_are_not_verified() -> None:
    lonely = tiny.drawings({"Ogham": 4}, drawers=1)
    assert (
        verification(knowing(lonely), lonely, validation=VALIDATION, validation_logits_of=knowing(VALIDATION)) is None
    )


@pytest.mark.parametrize("width", [80, 140])
def test_it_stands_beside_the_protocols_on_one_line(width: int) -> None:
    fixed = samples.outcome(8_611, 10_000, 0.854, 0.868, alphabets=10)
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(result_panel(samples.result(within_fixed=fixed, verification=measured(shift=3.0))))
    text = console.export_text()
    assert "verification: 50.0 % of 10,000 pairs (100.0 % at validation's threshold)" in text
    assert "within, on the 10 alphabets of Lake's runs alone: 86.1 % (85.4–86.8 %)" in text
