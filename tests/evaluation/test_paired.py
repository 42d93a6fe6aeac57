"""Two networks on the same trials: which trials count as the same, and how the accuracies of two networks differ."""

import math
from dataclasses import replace

import numpy as np
import pytest
import tiny

from oneshot.base.errors import UserError
from oneshot.data.drawings import Drawings
from oneshot.evaluation.paired import hits_of, kept_hits, mcnemar, newcombe, paired, same_trials
from oneshot.evaluation.scoring import Trials, judge, wilson
from oneshot.evaluation.trials import within

TABLES = [(36, 2, 12, 0), (350, 20, 5, 25), (0, 7, 3, 0), (9_000, 310, 240, 450), (20, 0, 0, 3), (1, 1, 7, 12)]


def hits(both: int, only_first: int, only_second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """The hits of two networks, from how many trials there are of each kind."""
    kinds = np.repeat([0, 1, 2, 3], [both, only_first, only_second, neither])
    return kinds < 2, kinds % 2 == 0


# How far two networks are apart


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [(1, 9, 0.021484375), (9, 1, 0.021484375), (0, 6, 0.03125), (5, 5, 1.0), (5, 6, 1.0), (0, 0, 1.0), (2, 3, 1.0)],
)
def test_the_p_value_is_that_of_a_fair_coin(only_first: int, only_second: int, p: float) -> None:
    assert mcnemar(only_first, only_second) == p


@pytest.mark.parametrize(("fewer", "more"), [(4_800, 5_200), (90, 9_910), (0, 10_000), (4_999, 5_001)])
def test_the_p_value_of_ten_thousand_trials_is_exact(fewer: int, more: int) -> None:
    """Compared with the sum of the terms, computed from their logarithms."""
    trials = fewer + more
    of = [math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1) for k in range(fewer + 1)]
    logarithm = max(of) + math.log(math.fsum(math.exp(each - max(of)) for each in of)) + (1 - trials) * math.log(2)
    expected = math.exp(logarithm) if logarithm > -700 else 0.0
    assert mcnemar(fewer, more) == pytest.approx(expected, rel=1e-8, abs=1e-300)


# e, g, f, h are Newcombe's names of the counts; he subtracts the second from the first.
@pytest.mark.parametrize(
    ("e", "g", "f", "h", "low", "high"),
    [
        (36, 2, 12, 0, 0.0569, 0.3404),  # these four are from Newcombe 1998, method 10
        (18, 2, 12, 18, 0.0562, 0.3290),
        (53, 0, 0, 1, -0.0729, 0.0729),
        (0, 0, 30, 0, 0.8395, 1.0),
        (59, 16, 6, 80, -0.1186, -0.0046),  # Cavo et al. 2012, computed by Fagerland, Lydersen & Laake 2017
    ],
)
def test_the_interval_is_that_of_published_examples(e: int, g: int, f: int, h: int, low: float, high: float) -> None:
    assert newcombe(e, g, f, h) == pytest.approx((low, high), abs=5.1e-5)


@pytest.mark.parametrize("table", TABLES)
def test_who_comes_first_changes_the_sign_alone(table: tuple[int, int, int, int]) -> None:
    one, two = hits(*table)
    there, back = paired(one, two), paired(two, one)
    assert there["difference"] == -back["difference"] and there["p"] == back["p"]
    assert there["interval"] == pytest.approx([-end for end in reversed(back["interval"])])
    assert (there["only_first"], there["only_second"]) == (back["only_second"], back["only_first"]) == table[1:3]
    assert there["accuracy"] == back["accuracy"][::-1] == [one.mean(), two.mean()]
    assert sum(there[key] for key in ("both", "only_first", "only_second", "neither")) == there["trials"] == len(one)
    low, high = there["interval"]
    assert -1 <= low < there["difference"] < high <= 1


def test_a_network_does_not_differ_from_itself() -> None:
    one, _ = hits(380, 6, 4, 10)
    found = paired(one, one)
    assert (found["difference"], found["p"], found["only_first"], found["only_second"]) == (0, 1, 0, 0)
    assert found["interval"][0] == -found["interval"][1] < 0, "nothing is so certain that it has no width"


def test_networks_that_err_on_the_same_trials_are_told_apart_better() -> None:
    alike, apart = newcombe(370, 2, 10, 18), newcombe(353, 19, 27, 1)  # both: 93.0 and 95.0 % of 400
    assert alike[1] - alike[0] < 0.6 * (apart[1] - apart[0])
    assert alike[0] > 0 > apart[0]
    assert wilson(372, 400)[1] > wilson(380, 400)[0], "where the two intervals alone say nothing"


@pytest.mark.parametrize(
    "shares", [(0.93, 0.015, 0.025, 0.03), (0.6, 0.1, 0.1, 0.2), (0.97, 0.01, 0.015, 0.005), (0.2, 0.3, 0.2, 0.3)]
)
def test_the_interval_covers_the_difference_nineteen_times_in_twenty(shares: tuple[float, ...]) -> None:
    """In 4,000 draws of 400 trials. Four standard errors of this share are 1.4 points. Since counts are whole numbers,
    the share may be above 95 %."""
    drawn = np.random.default_rng(0).multinomial(400, shares, size=4_000).tolist()
    ends = np.array([newcombe(*table) for table in drawn])
    right = shares[2] - shares[1]
    assert 0.936 < ((ends[:, 0] <= right) & (right <= ends[:, 1])).mean() < 0.975


@pytest.mark.parametrize("table", [(0, 0, 0, 0), (3, -1, 2, 0)])
def test_what_are_no_counts_is_refused(table: tuple[int, int, int, int]) -> None:
    with pytest.raises(UserError, match="are not counts of trials"):
        newcombe(*table)
    with pytest.raises(UserError, match="are not counts of trials"):
        mcnemar(-1, 4)


def test_other_numbers_of_trials_are_not_the_same_trials() -> None:
    with pytest.raises(UserError, match="3 and 4 trials are not the same trials"):
        paired(np.ones(3, dtype=bool), np.ones(4, dtype=bool))


# Which trials are the same


def drawn() -> Drawings:
    return tiny.drawings({"Greek": 6, "Latin": 8, "Runes": 7})


def digest(trials: Trials, drawings: Drawings) -> str:
    return kept_hits([(trials, np.zeros((len(trials), trials.n_way)))], drawings)[trials.name]["digest"]


@pytest.mark.parametrize("count", [1, 8, 397])
def test_hits_are_read_as_they_were_kept(count: int) -> None:
    test = drawn()
    trials = within(test, trials=count, n_way=5)
    scores = np.random.default_rng(1).normal(size=(count, 5))
    kept = kept_hits([(trials, scores)], test)["within"]
    assert (hits_of(kept) == judge(trials, scores).hits).all() and hits_of(kept).dtype == bool
    assert kept["trials"] == count and same_trials(kept, kept)
    assert not same_trials(kept, kept | {"trials": count + 1})


def test_the_same_questions_are_the_same_wherever_their_drawings_lie() -> None:
    """The digest is the same for another part of the data (as in splits that share alphabets) and for other names."""
    whole = drawn()
    part = whole.where(whole.alphabet != whole.alphabets.index("Greek"))
    trials = within(part, trials=50, n_way=5)
    at = np.flatnonzero(whole.alphabet != whole.alphabets.index("Greek"))
    moved = replace(trials, query=at[trials.query], support=at[trials.support])
    renamed = replace(part, characters=tuple(f"X/{name}" for name in part.characters))
    assert digest(trials, part) == digest(moved, whole) == digest(replace(trials, seed=7), renamed)


def test_another_question_is_another() -> None:
    test = drawn()
    trials = within(test, trials=50, n_way=5)
    packed = test.packed.copy()
    packed[trials.query[7], 3] ^= 1
    other = [
        digest(trials, replace(test, packed=packed)),  # a pixel
        digest(replace(trials, target=(trials.target + 1) % 5), test),
        digest(replace(trials, query=trials.query[::-1].copy()), test),
        digest(replace(trials, support=np.concatenate([trials.support] * 2, axis=2)), test),  # each shown twice
        digest(replace(trials, support=trials.support.reshape(50, 1, 5)), test),
        digest(within(test, trials=50, n_way=5, seed=1), test),
        digest(within(test, trials=50, n_way=4), test),
    ]
    assert len({digest(trials, test), *other}) == len(other) + 1


def test_a_digest_is_the_same_on_every_machine_and_stays() -> None:
    """Files hold it: if it changed, runs that were asked the same would no longer be comparable."""
    packed = (np.arange(84 * 98) % 251).astype(np.uint8).reshape(84, 98)
    query = np.arange(6)
    trials = Trials("within", query, (query[:, None] * 5 + np.arange(1, 4))[..., None], query % 3)
    known = "d88ec8c8cceaa1caaeaf5668cec4eaffda73a55df82f033ad0b402d4f996076e"
    assert digest(trials, replace(drawn(), packed=packed)) == known
