"""Which points a study tries: the named ones, then points inside the ranges, the same whenever they are asked for."""

import math
from typing import Any

import numpy as np
import pytest

from oneshot.errors import UserError
from oneshot.search import OptunaPoints, RandomPoints, check, points
from oneshot.settings import Search, Settings, parse

SPACE: dict[str, Any] = {
    "trials": 16,
    "lr": {"sgd": [1e-3, 2e-1], "adam": [1e-4, 1e-2]},
    "batch": [64, 128],
    "choices": {"model.name": ["koch", "conv4"], "train.clip": [0.0, 1.0, 10.0]},
    "first": [{"optimizer": "sgd", "lr": 1e-2, "batch": 128}, {"optimizer": "adam", "lr": 0.5, "batch": 32}],
}


def space(**changes: Any) -> Search:
    return parse({"search": SPACE | changes}, "the test").search


def inside(point: dict[str, Any], search: Search) -> bool:
    low, high = search.lr[point["optimizer"]]
    chosen = all(point[key] in values for key, values in search.choices.items())
    return low <= point["lr"] <= high and point["batch"] in search.batch and chosen


# Random points


def test_a_random_point_depends_on_seed_and_index_alone() -> None:
    one, other = RandomPoints(space()), RandomPoints(space())
    forwards = [one.ask(index) for index in range(20)]
    backwards = [other.ask(index) for index in reversed(range(20))]
    assert forwards == backwards[::-1]
    assert len({str(point) for point in forwards}) == 20
    assert RandomPoints(space(seed=1)).ask(5) != one.ask(5)


def test_random_points_lie_inside_the_ranges() -> None:
    search = space(lr={"sgd": [1.2349e-3, 1.2356e-3], "adam": [1e-4, 1e-4]})  # narrower than three digits
    source = RandomPoints(search)
    assert all(inside(source.ask(index), search) for index in range(2, 500))


def test_random_learning_rates_are_log_uniform_in_the_range_of_their_optimizer() -> None:
    source = RandomPoints(space())
    drawn = [source.ask(index) for index in range(2, 4002)]
    for name, (low, high) in source.search.lr.items():
        place = np.array([math.log(p["lr"] / low) / math.log(high / low) for p in drawn if p["optimizer"] == name])
        assert 1_800 < len(place) < 2_200
        assert np.abs(np.quantile(place, [0.1, 0.25, 0.5, 0.75, 0.9]) - [0.1, 0.25, 0.5, 0.75, 0.9]).max() < 0.04
    for key, options in {"batch": source.search.batch, **source.search.choices}.items():
        share = np.array([sum(point[key] == option for point in drawn) for option in options]) / 4000
        assert np.abs(share - 1 / len(options)).max() < 0.04


def test_a_learning_rate_has_three_digits_so_that_what_is_shown_is_what_was_run() -> None:
    source = RandomPoints(space())
    for index in range(2, 200):
        lr = source.ask(index)["lr"]
        assert float(f"{lr:.3g}") == lr


@pytest.mark.parametrize("searcher", ["random", "optuna"])
def test_named_points_come_first_as_they_are_named(searcher: str) -> None:
    search = space(searcher=searcher)
    source = points(search)
    assert type(source) is (OptunaPoints if searcher == "optuna" else RandomPoints)
    assert [source.ask(0), source.ask(1)] == search.first
    assert inside(source.ask(2), search)
    source.ask(0)["lr"] = 7.0  # a point that is handed out is the asker's own
    assert source.ask(0) == search.first[0]


# Optuna


def valley(point: dict[str, Any]) -> float:
    """A loss whose only valley is Adam at 1e-3."""
    return abs(math.log10(point["lr"]) + 3) + (0.0 if point["optimizer"] == "adam" else 2.0)


def searched(count: int, **changes: Any) -> list[dict[str, Any]]:
    source = OptunaPoints(space(searcher="optuna", **changes))
    asked = []
    for index in range(count):
        asked.append(source.ask(index))
        source.tell(asked[-1], valley(asked[-1]))
    return asked


def test_optuna_proposes_inside_the_ranges() -> None:
    search = space()
    assert all(inside(point, search) for point in searched(30)[2:])


def test_optuna_concentrates_where_the_loss_is_low() -> None:
    drawn = searched(60)
    late = drawn[35:]
    assert sum(point["optimizer"] == "adam" for point in late) > 0.7 * len(late)
    assert np.median([valley(point) for point in late]) < 0.6 * np.median([valley(point) for point in drawn[2:12]])


def test_optuna_with_the_same_seed_and_the_same_losses_proposes_the_same() -> None:
    assert searched(15, seed=4) == searched(15, seed=4)
    assert searched(15, seed=4) != searched(15, seed=5)


@pytest.mark.parametrize("loss", [None, math.nan, math.inf])
def test_failed_and_diverged_trials_do_not_break_the_search(loss: float | None) -> None:
    search = space(searcher="optuna")
    source = OptunaPoints(search)
    for index in range(25):
        point = source.ask(index)
        source.tell(point, loss if index % 2 else valley(point))
    assert inside(source.ask(25), search)


def test_a_search_of_failures_alone_goes_on() -> None:
    search = space(searcher="optuna")
    source = OptunaPoints(search)
    for index in range(15):
        source.tell(source.ask(index), None)
    assert inside(source.ask(15), search)


@pytest.mark.parametrize(
    "point", [{}, {"optimizer": "adamw", "lr": 1e-3}, {"optimizer": "adam", "lr": 5.0, "batch": 64}, {"lr": 1e-3}]
)
def test_a_point_outside_the_searched_space_is_told_without_harm(point: dict[str, Any]) -> None:
    source = OptunaPoints(space(searcher="optuna"))
    source.tell(point, 0.1)
    assert inside(source.ask(2), source.search)


def test_losses_are_told_in_any_order_and_by_trials_that_were_not_asked_for() -> None:
    """A study that goes on tells what an earlier session ran."""
    source = OptunaPoints(space(searcher="optuna"))
    for point in reversed(searched(20)):
        source.tell(point, valley(point))
    drawn = [source.ask(index) for index in range(20, 40)]
    assert sum(point["optimizer"] == "adam" for point in drawn) > 12


def test_what_is_told_of_a_point_again_replaces_what_was_told_before() -> None:
    """A trial that goes on from a rung is known by its newest loss, and among others only once."""
    source = OptunaPoints(space(searcher="optuna"))
    points = [source.ask(index) for index in range(2, 5)]
    for point in points:
        source.tell(point, 0.5)
    source.tell(points[1], 0.2)
    source.tell(source.ask(5), 0.4)
    assert sorted(trial.value for trial in source.study.trials if trial.value) == [0.2, 0.4, 0.5, 0.5]


# What is refused before anything runs


def study(**changes: Any) -> Settings:
    return parse({"search": SPACE | {"first": []} | changes, "model": {"name": "conv4"}}, "the test")


def test_a_sound_search_is_accepted() -> None:
    check(study())
    check(study(first=SPACE["first"]))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"first": [{"optimizer": "adm"}]}, r"train\.optimizer = 'adm': must be 'sgd', 'adam' or 'adamw'"),
        ({"first": [{"lr": -1.0}]}, r"train\.lr = -1\.0: must be greater than 0"),
        ({"first": [{"rate": 1.0}]}, r"'train\.rate' names no setting"),
        ({"first": [{"batch": 127}]}, r"train\.batch = 127: must be even"),
        ({"batch": [64, 99]}, r"train\.batch = 99: must be even"),
        ({"choices": {"model.nam": ["koch"]}}, r"'model\.nam' names no setting; did you mean 'name'\?"),
        ({"choices": {"model.name": ["koch", "vgg"]}}, r"model\.name = 'vgg': must be 'koch', 'conv4' or 'resnet'"),
        (
            {"choices": {"data.sampling": ["episodes", "pairs"], "train.objective": ["bce", "both"]}},
            r"train\.objective = 'both': needs data\.sampling = 'episodes'",  # each fits alone, not every two together
        ),
        (
            {"choices": {"data.sampling": ["episodes"], "data.drawers": [2, 5]}, "batch": [64]},
            r"train\.batch = 64: an episode needs a multiple of .* = 20 drawings",
        ),
        ({"trials": 1, "first": SPACE["first"]}, r"search\.trials = 1: less than the 2 points of search\.first"),
        (
            {"choices": {f"train.{key}": [n / 100 for n in range(1, 60)] for key in ("clip", "momentum", "head_lr")}},
            r"search\.choices: 205379 combinations, and 2 batch sizes with each; the most is 100000 together",
        ),
    ],
)
def test_a_search_that_holds_an_impossible_point_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        check(study(**changes))
