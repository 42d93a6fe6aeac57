"""Calibration of scores: known curves are recovered, and a limit accepts the stated share."""

import math

import numpy as np
import pytest

from oneshot.answers import calibration
from oneshot.answers.calibration import Calibration, ece, evidence, fit, platt, softmax, temperature

GROUP = np.arange(4_000) % 6  # alphabets


def scores(trials: int = 4_000, ways: int = 21, *, gap: float = 3.0, seed: int = 0, alike: float = 0) -> np.ndarray:
    """Trials whose true class, the first, scores `gap` better on average than the others. `alike`: the correlation of
    the scores within a trial."""
    generator = np.random.default_rng(seed)
    drawn = math.sqrt(1 - alike) * generator.normal(size=(trials, ways))
    drawn += math.sqrt(alike) * generator.normal(size=(trials, 1))
    drawn[:, 0] += gap
    return drawn


@pytest.fixture(scope="module")
def record() -> dict:
    found = fit({1: scores(), 2: scores(gap=4), 5: scores(gap=5)}, GROUP)
    assert found is not None
    return found


@pytest.mark.parametrize(("slope", "offset"), [(1.0, 0.0), (0.4, -1.5), (3.0, 2.0)])
def test_the_curve_that_made_the_pairs_is_found_again(slope: float, offset: float) -> None:
    rng = np.random.default_rng(7)
    values = rng.normal(scale=2 / slope, size=200_000)
    same = rng.random(len(values)) < calibration.sigmoid(slope * values + offset)
    assert platt(values, same) == pytest.approx((slope, offset), rel=0.05, abs=0.05)


@pytest.mark.parametrize("heat", [0.3, 1.0, 2.5])
def test_the_temperature_that_made_the_trials_is_found_again(heat: float) -> None:
    rng = np.random.default_rng(7)
    logits = rng.normal(scale=2, size=(20_000, 5))
    chosen = (softmax(logits).cumsum(axis=1) > rng.random((20_000, 1))).argmax(axis=1)
    order = np.argsort(np.arange(5) != chosen[:, None], axis=1, kind="stable")
    assert temperature(heat * np.take_along_axis(logits, order, axis=1)) == pytest.approx(heat, rel=0.05)


def test_scores_that_never_err_do_not_make_it_sure_of_everything() -> None:
    perfect = np.tile([5.0, -5.0, -5.0], (50, 1))
    assert softmax(perfect / temperature(perfect)).max() == pytest.approx(51 / 52, abs=1e-6)
    slope, offset = platt(np.array([-3.0, -2.0, 2.0, 3.0]), np.array([False, False, True, True]))
    assert 0 < slope < 5 and np.isfinite(offset)


def test_the_error_is_how_far_confidence_is_from_the_share_of_hits() -> None:
    hits = np.arange(1_000) % 2 == 0
    assert ece(np.full(1_000, 0.9), hits) == pytest.approx(0.4)
    assert ece(np.full(1_000, 0.5), hits) == pytest.approx(0)
    assert ece(np.ones(10), np.ones(10, bool)) == 0


def test_the_probability_of_a_pair_rises_with_its_score(record: dict) -> None:
    for k_shot in (1, 2, 3, 5, 50):
        probabilities = Calibration(record).pair(np.linspace(-4, 4, 400), k_shot=k_shot)
        assert (np.diff(probabilities) > 0).all() and (0 < probabilities).all() and (probabilities < 1).all()


def test_the_probabilities_of_the_classes_sum_to_one_and_keep_their_order(record: dict) -> None:
    given = scores(100, 7)
    for k_shot in (1, 4):
        probabilities = Calibration(record).classes(given, k_shot=k_shot)
        assert probabilities.sum(axis=1) == pytest.approx(np.ones(100))
        assert (probabilities.argsort(axis=1) == given.argsort(axis=1)).all()


@pytest.mark.parametrize("rate", calibration.RATES)
@pytest.mark.parametrize("ways", [1, 2, 3, 5, 8, 20, 60])
def test_of_images_of_no_class_the_stated_share_passes(record: dict, rate: float, ways: int) -> None:
    """For numbers of classes that were measured, between them, and beyond them, where fewer may pass."""
    absent = scores(40_000, ways + 1, seed=1)[:, 1:]
    passed = Calibration(record).known(absent, rate=rate).mean()
    assert passed == pytest.approx(rate, rel=0.35, abs=0.01) or (ways == 60 and passed < rate)


@pytest.mark.parametrize("alike", [0, 0.3, 0.6])
@pytest.mark.parametrize("validated", [2, 3, 5, 21])
def test_however_few_ways_were_measured_no_more_than_stated_pass(validated: int, alike: float) -> None:
    """Correlated scores, which give fewer independent chances than there are classes, do not make it refuse all."""
    found = fit({1: scores(ways=validated, alike=alike)}, GROUP)
    assert found is not None
    fresh = scores(10_000, 51, seed=1, alike=alike)
    for ways in (2, 5, 10, 20, 50):
        passed, kept = (Calibration(found).known(part).mean() for part in (fresh[:, 1 : ways + 1], fresh[:, :ways]))
        assert passed < 1.25 * calibration.RATE, ways
        assert kept > 0.3, ways


def test_the_record_says_what_the_limit_costs(record: dict) -> None:
    cell = next(cell for cell in record["shots"][0]["none"] if cell["n_way"] == 5)
    fresh = scores(40_000, 6, seed=2)
    known = Calibration(record)
    assert cell["false_accept"] == pytest.approx(known.known(fresh[:, 1:]).mean(), abs=0.03)
    assert cell["refused"] == pytest.approx(1 - known.known(fresh[:, :5]).mean(), abs=0.03)
    more = [shot["none"][-1]["refused"] for shot in record["shots"]]
    assert more == sorted(more, reverse=True)  # with better scores fewer are refused


def test_a_rate_of_one_refuses_nothing(record: dict) -> None:
    assert Calibration(record).known(np.full((3, 4), -1e9), rate=1).all()


def test_the_lead_counts_where_there_is_a_second_class() -> None:
    assert evidence(np.array([[3.0, 1.0, 2.0]]), 0.5).tolist() == [3.5]
    assert evidence(np.array([[3.0]]), 0.5).tolist() == [3.0]
    assert evidence(np.array([[3.0, 3.0]]), 0.5).tolist() == [3.0]


def test_how_good_it_is_is_measured_on_alphabets_that_were_not_fitted() -> None:
    """With two kinds of alphabets whose scores differ, a fit to one is wrong for the other, and the record says so."""
    group = np.arange(4_000) % 2
    apart = scores() + 6.0 * group[:, None]
    found, alike = fit({1: apart}, group), fit({1: scores()}, group)
    assert found is not None and alike is not None
    assert found["shots"][0]["pair"]["ece_after"] > 0.2 > 0.05 > alike["shots"][0]["pair"]["ece_after"]
    assert found["shots"][0]["none"][2]["false_accept"] > 0.4


def test_two_fits_of_the_same_scores_are_equal(record: dict) -> None:
    assert fit({1: scores(), 2: scores(gap=4), 5: scores(gap=5)}, GROUP) == record


@pytest.mark.parametrize("dead", [np.zeros((40, 5)), np.tile([-1.0, 1.0, 1.0], (40, 1))])
def test_scores_that_tell_no_classes_apart_are_not_calibrated(dead: np.ndarray) -> None:
    assert fit({1: dead}, np.zeros(40, dtype=int)) is None


def test_two_classes_and_one_alphabet_are_enough() -> None:
    found = fit({1: scores(50, 2)}, np.zeros(50, dtype=int))
    assert found is not None and [cell["n_way"] for cell in found["shots"][0]["none"]] == [1]
    assert Calibration(found).known(scores(10, 30)).shape == (10,)
