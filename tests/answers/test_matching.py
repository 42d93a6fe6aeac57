"""Same or different by a threshold: error rates match counts by hand, thresholds keep the stated rate."""

import numpy as np
import pytest

from oneshot.answers import calibration, matching
from oneshot.answers.calibration import Calibration
from oneshot.base.errors import UserError

# Scores of same and of different pairs; the equal error rate and the area under the curve, counted by hand.
BY_HAND = {
    "parted": ([3, 4], [1, 2], 0.0, 1.0),
    "the wrong way round": ([1, 2], [3, 4], 1.0, 0.0),
    "one inversion": ([0.9, 0.8, 0.4], [0.5, 0.3, 0.2], 1 / 3, 8 / 9),
    "a constant": ([1, 1, 1], [1, 1], 0.5, 0.5),
    "no number": ([np.nan, np.nan], [np.nan], 0.5, 0.5),
    "ties": ([1, 1, 0], [1, 0, 0], 1 / 3, 6 / 9),
    "a tie to be cut": ([1, 1], [1, 0], 1 / 3, 3 / 4),  # a third of the way from (1/2, 0) to (0, 1)
    "no number among them": ([2, np.nan], [1, np.nan], 0.5, 5 / 8),  # two of four pairs, and a tie at the bottom
    "infinite": ([np.inf, 0], [-np.inf, 1], 0.5, 3 / 4),
}


def pairs(alike: list[float], different: list[float]) -> tuple[np.ndarray, np.ndarray]:
    return np.array(alike + different, dtype=float), np.repeat([True, False], [len(alike), len(different)])


@pytest.mark.parametrize("case", BY_HAND)
def test_the_errors_are_those_that_are_counted_by_hand(case: str) -> None:
    alike, different, equal, area = BY_HAND[case]
    curve = matching.curve(*pairs(alike, different))
    assert matching.equal_error(*curve) == pytest.approx(equal)
    assert matching.area(*curve) == pytest.approx(area)


def test_a_curve_has_every_threshold_once_and_runs_from_end_to_end() -> None:
    false_match, false_non_match = matching.curve(*pairs([0.9, 0.8, 0.4], [0.5, 0.4, 0.2]))
    assert false_match.tolist() == pytest.approx([1, 2 / 3, 1 / 3, 0, 0, 0])
    assert false_non_match.tolist() == pytest.approx([0, 0, 1 / 3, 1 / 3, 2 / 3, 1])


def test_the_area_is_the_share_of_pairs_of_pairs_in_the_right_order_and_half_of_the_ties() -> None:
    generator = np.random.default_rng(0)
    same = generator.random(600) < 0.3
    scores = np.round(generator.normal(size=600) + same, 1)  # many ties
    alike, different = scores[same][:, None], scores[~same]
    share = (alike > different).mean() + (alike == different).mean() / 2
    assert matching.area(*matching.curve(scores, same)) == pytest.approx(share, abs=1e-12)


@pytest.mark.parametrize(
    ("different", "rate", "threshold"),
    [
        (range(10), 0.1, 8),
        (range(10), 0.01, 9),
        (range(1_000), 0.001, 998),
        ([1, 1, 2, 2], 0.25, 2),  # of two equal scores both are above the threshold or neither
        ([1, 1, 2, 2], 0.5, 1),
        ([7], 0.1, 7),
        ([np.nan, np.nan, 3, np.inf], 0.25, 3),
    ],
)
def test_a_threshold_is_the_lowest_that_keeps_the_rate(different: list[float], rate: float, threshold: float) -> None:
    assert matching.threshold(np.random.default_rng(0).permutation(np.array(different, dtype=float)), rate) == threshold


def trials(count: int = 6_000, ways: int = 11, *, seed: int = 0) -> np.ndarray:
    """Scores of one-shot trials. The true class, the first, scores 3 better on average than the others."""
    drawn = np.random.default_rng(seed).normal(size=(count, ways))
    drawn[:, 0] += 3
    return drawn


def test_a_rate_is_kept_by_other_pairs_and_its_errors_are_measured_on_other_alphabets() -> None:
    group = np.arange(6_000) % 6
    found, fresh = matching.fit(trials(), group), trials(20_000, seed=1)
    assert found["rates"] == list(matching.RATES)
    for rate, limit, *across in zip(*found.values(), strict=True):
        errors = [(fresh[:, 1:] > limit).mean(), (fresh[:, 0] <= limit).mean()]
        assert errors[0] == pytest.approx(rate, rel=0.2)
        assert across == pytest.approx(errors, rel=0.3, abs=0.01)
    apart = matching.fit(trials() + 3.0 * (group % 2)[:, None], group)  # a threshold that keeps the rate in one half
    assert apart["false_match"][1] > 0.2, "does not in the other"


@pytest.fixture(scope="module")
def record() -> dict:
    fitted = calibration.fit({1: trials()}, np.arange(6_000) % 6)
    assert fitted is not None
    return fitted | {"match": matching.fit(trials(), np.arange(6_000) % 6)}


def test_the_rate_s_threshold_is_a_probability_of_verify(record: dict) -> None:
    fresh = trials(20_000, seed=2)
    found = Calibration(record)
    for rate in matching.RATES:
        passed = found.pair(fresh[:, 1:]) > matching.limit(found, rate)
        assert passed.mean() == pytest.approx(rate, rel=0.2)


def test_a_rate_that_was_not_measured_is_refused_with_those_that_were(record: dict) -> None:
    for rate in (0.0, 0.02, 1.0, float("nan")):
        with pytest.raises(UserError, match=r"rate of \S+ was not measured; use one of 0.1, 0.01, 0.001$"):
            matching.limit(Calibration(record), rate)


def test_a_network_without_thresholds_refuses(record: dict) -> None:
    older = {key: value for key, value in record.items() if key != "match"}
    for found in (None, Calibration(older), Calibration(older | {"match": None})):
        with pytest.raises(UserError, match=r"has no thresholds for false match rates: .* leave out --false-match"):
            matching.limit(found, 0.01)
