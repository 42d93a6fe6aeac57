"""Same or different: accuracy and errors on pairs, and the thresholds chosen on validation pairs."""

import io
from collections.abc import Callable

import numpy as np
import pytest
import samples
import tiny
from rich.console import Console

from oneshot.answers.matching import RATES
from oneshot.data.drawings import Drawings
from oneshot.evaluation.scoring import Similarity
from oneshot.evaluation.verification import KINDS, PAIRS, Scored, pairs_of, threshold, verification
from oneshot.run import formats
from oneshot.screen.results import result_panel

TEST = tiny.drawings({"Tifinagh": 6, "Ogham": 5}, seed=1)
VALIDATION = tiny.drawings({"Greek": 6, "Kana": 5}, seed=2)


def knowing(drawings, *, shift: float = 0.0, noise: float = 0.0):
    """Logits of 1 for two drawings of one character and -1 for others, plus a shift and noise."""
    generator = np.random.default_rng(0)

    def logits(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        same = drawings.character[left] == drawings.character[right]
        return np.where(same, 1.0, -1.0) + shift + noise * generator.standard_normal(len(left))

    return logits


def measured(**options: float) -> dict:
    return verified(lambda drawings: knowing(drawings, **options))


def verified(of: Callable[[Drawings], Similarity]) -> dict:
    """The result of a scorer, `of(drawings)` for each of the two parts."""
    test, validation = (pairs_of(drawings, of(drawings)) for drawings in (TEST, VALIDATION))
    assert tuple(test) == tuple(validation) == KINDS
    found = verification(test, validation)
    assert found is not None
    formats.check(formats.Verification, found)
    return found


def answering(value: float) -> Callable[[Drawings], Similarity]:
    return lambda _: lambda left, right: np.full(len(left), value)


def test_who_knows_is_right_always_and_who_answers_a_constant_half_the_time() -> None:
    assert measured() == measured() and measured()["accuracy"] == 1.0 and measured()["pairs"] == PAIRS
    constant = verified(answering(1.0))
    assert constant["accuracy"] == constant["at_threshold"] == 0.5
    for found, equal, area in ((measured(), 0.0, 1.0), (constant, 0.5, 0.5)):
        for errors in found["errors"].values():
            assert (errors["eer"], errors["auc"]) == (equal, area)


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
    found = verified(answering(value))
    assert found["accuracy"] == found["at_threshold"] == 0.5 and 0 <= found["threshold"] <= 1
    for errors in found["errors"].values():
        assert errors["eer"] == errors["auc"] == 0.5
        assert all((at["false_match"], at["false_non_match"]) == (0, 1) for at in errors["at_false_match"])


def test_a_logit_that_is_no_number_has_no_say_in_the_threshold() -> None:
    logits, same = np.array([0.0, 1.0, 2.0, 3.0]), np.array([False, False, True, True])
    mixed = np.insert(logits, [0, 2, 4], np.nan), np.insert(same, [0, 2, 4], True)
    assert threshold(*mixed) == threshold(logits, same) == 1.5
    assert threshold(np.array([-np.inf, -np.inf, np.inf]), np.array([False, False, True])) == 0.0


def test_drawings_that_make_no_pairs_are_not_verified() -> None:
    lonely = tiny.drawings({"Ogham": 4}, drawers=1)
    assert pairs_of(lonely, knowing(lonely)) == {}
    assert verification({}, pairs_of(VALIDATION, knowing(VALIDATION))) is None


def test_different_pairs_of_one_alphabet_are_asked_about_where_there_are_others() -> None:
    """They are left out if there is only one group, or if a group has a single class."""
    asked: list[tuple[np.ndarray, np.ndarray]] = []

    def asking(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        asked.append((left, right))
        return np.zeros(len(left))

    found = pairs_of(TEST, asking)
    for (kind, scored), (left, right) in zip(found.items(), asked, strict=True):
        assert (scored.same == (TEST.character[left] == TEST.character[right])).all() and scored.same.mean() == 0.5
        assert (left != right).all()
        others = {frozenset(pair) for pair in zip(left[~scored.same], right[~scored.same], strict=True)}
        assert scored.different == len(others) < PAIRS / 2
        inside = (TEST.alphabet[left] == TEST.alphabet[right])[~scored.same]
        assert inside.all() if kind == "within" else 0.3 < inside.mean() < 0.7
    assert tuple(found) == KINDS
    for sizes in ({"Ogham": 4}, {"a": 1, "b": 1, "c": 3}):
        assert tuple(pairs_of(tiny.drawings(sizes), asking)) == ("any",)


def test_thresholds_are_those_of_validation_and_the_errors_those_of_test() -> None:
    """Test logits are 1 higher than validation logits, so the thresholds let more pass than they were chosen for."""
    same = np.repeat([True, False], 5_000)
    logits = np.where(same, 4.0, 0.0) + np.random.default_rng(4).standard_normal(10_000)
    found = verification({"any": Scored(logits + 1, same, 5_000)}, {"any": Scored(logits, same, 5_000)})
    assert found is not None and list(found["errors"]) == ["any"]
    at = found["errors"]["any"]["at_false_match"]
    assert [one["rate"] for one in at] == list(RATES)
    for one, expected in zip(at, (1.2816, 2.3263, 3.0902), strict=True):  # quantiles of the normal distribution
        cut = np.log(one["similarity"] / (1 - one["similarity"]))
        assert cut == pytest.approx(expected, abs=0.2)
        assert one["false_match"] == ((logits[~same] + 1) > cut).mean() > 2 * one["rate"]
        assert one["false_non_match"] == ((logits[same] + 1) <= cut).mean()
    alike = verification({"any": Scored(logits, same, 5_000)}, {"any": Scored(logits, same, 5_000)})
    assert alike is not None
    kept = [one["false_match"] for one in alike["errors"]["any"]["at_false_match"]]
    assert kept == pytest.approx(RATES, abs=1e-9), "on the pairs that it was chosen on it is the rate"
    assert alike["errors"]["any"]["eer"] == pytest.approx(0.0228, abs=0.003)  # means 4 apart, spread 1
    assert alike["errors"]["any"]["auc"] == pytest.approx(0.9977, abs=0.001)


@pytest.mark.parametrize("width", [80, 140])
def test_it_stands_beside_the_protocols_on_one_line(width: int) -> None:
    fixed = samples.outcome(8_611, 10_000, 0.854, 0.868, alphabets=10)
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(result_panel(samples.result(within_fixed=fixed, verification=measured(shift=3.0))))
    text = console.export_text()
    assert "verification: 50.0 % of 10,000 pairs (100.0 % at validation's threshold)" in text
    assert "equal error rate: 0.0 % of any two, 0.0 % of two in one alphabet" in text
    assert "within, on the 10 alphabets of Lake's runs alone: 86.1 % (85.4–86.8 %)" in text
