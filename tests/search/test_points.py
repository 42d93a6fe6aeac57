"""Which points a study tries: the named ones, then points inside the ranges, the same whenever they are asked for."""

import math
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oneshot.base.errors import UserError
from oneshot.base.jobs import parse
from oneshot.base.settings import Search, Settings, Train
from oneshot.search.points import OptunaPoints, RandomPoints, check, completed, proposer

JOBS = Path(__file__).parents[2] / "tune_jobs"
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
    source = proposer(search)
    assert type(source) is (OptunaPoints if searcher == "optuna" else RandomPoints)
    assert [source.ask(0), source.ask(1)] == search.first
    assert inside(source.ask(2), search)
    source.ask(0)["lr"] = 7.0  # whoever asked may change the point
    assert source.ask(0) == search.first[0]


DECAYED = {"lr": {"adam": [1e-4, 1e-2], "adamw": [1e-4, 1e-2]}, "weight_decay": [1e-3, 1e-1]}


def test_each_point_with_adamw_draws_a_weight_decay_log_uniformly_and_no_other_does() -> None:
    source = RandomPoints(space(**DECAYED))
    drawn = [source.ask(index) for index in range(2, 2002)]
    assert all(("weight_decay" in point) == (point["optimizer"] == "adamw") for point in drawn)
    place = np.array([math.log10(point["weight_decay"]) for point in drawn if "weight_decay" in point]) / 2 + 1.5
    assert 900 < len(place) < 1_100 and 0 <= place.min() and place.max() <= 1
    assert np.abs(np.quantile(place, [0.1, 0.5, 0.9]) - [0.1, 0.5, 0.9]).max() < 0.06
    of_lr = np.array([math.log10(point["lr"]) for point in drawn if "weight_decay" in point])
    assert abs(np.corrcoef(place, of_lr)[0, 1]) < 0.1


def test_the_range_of_weight_decay_changes_nothing_else_of_a_search() -> None:
    one, other = (RandomPoints(space(**DECAYED | {"weight_decay": ends})) for ends in ([1e-3, 1e-1], [0.5, 0.5]))
    for index in range(2, 100):
        point, again = one.ask(index), other.ask(index)
        assert ("weight_decay" in point) == ("weight_decay" in again) == (point["optimizer"] == "adamw")
        assert point.pop("weight_decay", 0) < again.pop("weight_decay", 1)
        assert point == again


@pytest.mark.parametrize("kind", [RandomPoints, OptunaPoints])
def test_a_weight_decay_among_the_choices_is_drawn_from_these_alone(kind: type) -> None:
    choices = {"train.weight_decay": [0.0, 0.01], "model.name": ["conv4"]}
    source = kind(space(**DECAYED | {"lr": {"adamw": [1e-4, 1e-2]}, "choices": choices}))
    drawn = [source.ask(index) for index in range(2, 12)]
    assert not any("weight_decay" in point for point in drawn)
    assert {point["train.weight_decay"] for point in drawn} == {0.0, 0.01}


# Optuna


def test_optuna_learns_the_weight_decay_of_adamw_and_gives_it_to_no_other() -> None:
    source = OptunaPoints(space(searcher="optuna", **DECAYED))
    drawn = []
    for index in range(2, 42):
        drawn.append(source.ask(index))
        far = abs(math.log10(drawn[-1]["weight_decay"]) + 1.5) if "weight_decay" in drawn[-1] else 3.0
        source.tell(index, drawn[-1], far)
    assert all(("weight_decay" in point) == (point["optimizer"] == "adamw") for point in drawn)
    late = [abs(math.log10(point["weight_decay"]) + 1.5) for point in drawn[20:] if "weight_decay" in point]
    assert len(late) > 10 and np.median(late) < 0.25


def test_a_trial_of_a_study_before_adamw_had_a_weight_decay_is_told_without_one() -> None:
    given = study(searcher="optuna", **DECAYED)
    made = completed({"optimizer": "adamw", "lr": 1e-3, "batch": 64}, given)
    assert made["weight_decay"] == given.train.weight_decay == 0
    source = OptunaPoints(given.search)
    source.tell(0, made, 0.3)
    assert "weight_decay" not in source.told[0].params
    source.tell(1, source.ask(1), 0.2)
    assert "lr" in source.ask(2)


def valley(point: dict[str, Any]) -> float:
    """A loss with a single minimum: Adam at 1e-3."""
    return abs(math.log10(point["lr"]) + 3) + (0.0 if point["optimizer"] == "adam" else 2.0)


def searched(count: int, **changes: Any) -> list[dict[str, Any]]:
    source = OptunaPoints(space(searcher="optuna", **changes))
    asked = []
    for index in range(count):
        asked.append(source.ask(index))
        source.tell(index, asked[-1], valley(asked[-1]))
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
        source.tell(index, point, loss if index % 2 else valley(point))
    assert inside(source.ask(25), search)


def place(point: dict[str, Any], search: Search) -> float:
    """Where a point's learning rate lies in the range of its optimizer, by its logarithm, from 0 to 1."""
    low, high = search.lr[point["optimizer"]]
    return math.log(point["lr"] / low) / math.log(high / low)


def tried(search: Search, *, top: float, told: float | None = math.inf) -> list[float]:
    """The losses of a whole search in which what lies above `top` of each range diverges, which is told as `told`. The
    lowest loss, 0.1, is just below."""
    source, losses = OptunaPoints(search), []
    for index in range(search.trials):
        point = source.ask(index)
        at = place(point, search)
        losses.append(0.1 + abs(at - (top - 0.05)) if at <= top else math.inf)
        source.tell(index, point, told if losses[-1] == math.inf else losses[-1])
    return losses


def quick(seed: int) -> Search:
    """The space of the job `quick`, 40 points of it."""
    with open(JOBS / "quick.toml", "rb") as file:
        search = tomllib.load(file)["search"]
    return parse({"search": search | {"searcher": "optuna", "trials": 40, "seed": seed}}, "the test").search


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_search_keeps_away_from_learning_rates_that_diverge(seed: int) -> None:
    learned, untold = (tried(quick(seed), top=0.6, told=told) for told in (math.inf, None))
    assert untold.count(math.inf) >= 28
    assert learned.count(math.inf) <= 20
    assert min(learned) < 0.115


@pytest.mark.parametrize("seed", range(6))
def test_a_search_nearly_all_of_which_diverges_finds_what_does_not(seed: int) -> None:
    """Optuna's own share of good trials, a tenth, would hold some that diverged: with seed 5 all forty do then."""
    losses = tried(quick(seed), top=0.05)
    assert losses.count(math.inf) < 36
    assert min(losses) < 0.11


def test_none_that_diverged_is_taken_for_a_good_one() -> None:
    source = OptunaPoints(space(searcher="optuna"))
    for index in range(2, 32):
        source.tell(index, {"optimizer": "adam", "lr": 1e-3}, math.inf)
    assert source._good(30) == 0
    source.tell(32, {"optimizer": "adam", "lr": 1e-3}, 0.5)
    assert source._good(31) == 1
    for index in range(33, 333):
        source.tell(index, {"optimizer": "adam", "lr": 1e-3}, 0.5)
    assert [source._good(count) for count in (1, 10, 11, 331)] == [1, 1, 2, 25]


def test_only_what_diverged_is_told_without_a_loss() -> None:
    source = OptunaPoints(space(searcher="optuna"))
    for index, loss in enumerate([math.inf, None, math.nan, 0.3]):
        source.tell(index, {"optimizer": "adam", "lr": 1e-3, "batch": 64}, loss)
    assert {index: trial.value for index, trial in source.told.items()} == {0: math.inf, 3: 0.3}
    source.tell(0, {"optimizer": "adam", "lr": 1e-3, "batch": 64}, math.inf)
    assert sorted(source.told) == [0, 3]  # not twice


def test_a_search_of_trials_that_diverge_alone_goes_on() -> None:
    search = space(searcher="optuna")
    source = OptunaPoints(search)
    for index in range(30):
        source.tell(index, source.ask(index), math.inf)
    assert inside(source.ask(30), search)


def test_a_search_of_failures_alone_goes_on() -> None:
    search = space(searcher="optuna")
    source = OptunaPoints(search)
    for index in range(15):
        source.tell(index, source.ask(index), None)
    assert inside(source.ask(15), search)


@pytest.mark.parametrize(
    "point", [{}, {"optimizer": "adamw", "lr": 1e-3}, {"optimizer": "adam", "lr": 5.0, "batch": 64}, {"lr": 1e-3}]
)
def test_a_point_outside_the_searched_space_is_told_without_harm(point: dict[str, Any]) -> None:
    source = OptunaPoints(space(searcher="optuna"))
    source.tell(0, point, 0.1)
    assert inside(source.ask(2), source.search)


def test_losses_are_told_in_any_order_and_by_trials_that_were_not_asked_for() -> None:
    """A resumed study tells what an earlier session ran."""
    source = OptunaPoints(space(searcher="optuna"))
    for index, point in reversed(list(enumerate(searched(20)))):
        source.tell(index, point, valley(point))
    drawn = [source.ask(index) for index in range(20, 40)]
    assert sum(point["optimizer"] == "adam" for point in drawn) > 12


@pytest.mark.parametrize("begun", [2, 6, 14])
def test_a_resumed_search_proposes_what_an_uninterrupted_one_would_have(begun: int) -> None:
    """It is told the finished trials in the order of their numbers, not in the order in which they ended."""
    going, resumed = (OptunaPoints(space(searcher="optuna")) for _ in range(2))
    before = [going.ask(index) for index in range(begun)]
    for index in reversed(range(begun)):
        going.tell(index, before[index], valley(before[index]))
    for index, point in enumerate(before):
        resumed.tell(index, point, valley(point))
    after = [going.ask(index) for index in range(begun, begun + 8)]
    assert [resumed.ask(index) for index in range(begun, begun + 8)] == after
    assert len({str(point) for point in before + after}) == begun + 8


def test_trials_that_run_at_once_are_asked_for_different_points() -> None:
    source = OptunaPoints(space(searcher="optuna"))
    for index, point in enumerate(searched(12)):
        source.tell(index, point, valley(point))
    assert len({str(source.ask(index)) for index in range(12, 20)}) == 8
    assert source.ask(12) == source.ask(12)


def test_what_is_told_of_a_trial_again_replaces_what_was_told_before() -> None:
    """A trial that goes on from a rung counts once, with its newest loss."""
    source = OptunaPoints(space(searcher="optuna"))
    points = {index: source.ask(index) for index in range(2, 7)}
    for index, point in points.items():
        source.tell(index, point, 0.5)
    source.tell(3, points[3], 0.2)
    source.tell(6, points[6], None)
    assert {index: trial.value for index, trial in source.told.items()} == {2: 0.5, 3: 0.2, 4: 0.5, 5: 0.5}


def test_two_trials_of_one_point_are_both_known() -> None:
    source = OptunaPoints(space(searcher="optuna"))
    source.tell(2, source.ask(2), 0.5)
    source.tell(3, source.ask(2), 0.2)
    assert [trial.value for trial in source.told.values()] == [0.5, 0.2]


@pytest.mark.parametrize(
    ("point", "told"),
    [
        ({}, {"optimizer": "adam", "lr": 2e-3, "batch": 128}),
        ({"lr": 5e-3}, {"optimizer": "adam", "lr": 5e-3, "batch": 128}),
        ({"train.lr": 5e-3, "batch": 64}, {"optimizer": "adam", "lr": 5e-3, "batch": 64}),
        ({"optimizer": "sgd", "train.clip": 1.0}, {"optimizer": "sgd", "lr": 2e-3, "batch": 128, "train.clip": 1.0}),
    ],
)
def test_a_named_point_is_told_with_what_it_leaves_to_the_settings(point: dict[str, Any], told: dict[str, Any]) -> None:
    given = study(first=[point], searcher="optuna").model_copy(
        update={"train": Train(optimizer="adam", lr=2e-3, batch=128)}
    )
    made = completed(point, given)
    assert made == {"model.name": "conv4", "train.clip": 0.0} | told
    source = OptunaPoints(given.search)
    source.tell(0, made, 0.3)
    (known,) = source.told.values()
    assert known.params == {f"lr.{told['optimizer']}" if key == "lr" else key: value for key, value in made.items()}


# What is refused before anything runs


def study(**changes: Any) -> Settings:
    return parse({"search": SPACE | {"first": []} | changes, "model": {"name": "conv4"}}, "the test")


def test_a_sound_search_is_accepted() -> None:
    check(study())
    check(study(first=SPACE["first"]))
    check(study(first=[{"optimizer": "adam", "clip": 1.0}, {"train.momentum": 0.5}]))
    check(study(first=SPACE["first"], trials=2, batch=[99]))  # nothing is drawn


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"first": [{"optimizer": "adm"}]}, r"train\.optimizer = 'adm': must be 'sgd', 'adam' or 'adamw'"),
        ({"first": [{"lr": -1.0}]}, r"train\.lr = -1\.0: must be greater than 0"),
        ({"first": [{"rate": 1.0}]}, r"'train\.rate' names no setting"),
        ({"first": [{"batch": 127}]}, r"train\.batch = 127: must be even"),
        ({"first": [{"epochs": 30}]}, r"'train\.epochs' cannot vary between trials, which could not be compared then"),
        ({"first": [{"train.epochs": 30}]}, r"'train\.epochs' cannot vary between trials"),
        ({"first": [{"lr": 1e-3, "val_pairs": 100}]}, r"'train\.val_pairs' cannot vary between trials"),
        ({"choices": {"epochs": [1, 2]}}, r"'epochs' cannot vary between trials"),
        ({"batch": [64, 99]}, r"train\.batch = 99: must be even"),
        ({"choices": {"model.nam": ["koch"]}}, r"'model\.nam' names no setting; did you mean 'name'\?"),
        ({"choices": {"model.name": ["koch", "vgg"]}}, r"model\.name = 'vgg': must be 'koch', 'conv4' or 'resnet'"),
        (
            {"choices": {"data.sampling": ["episodes", "pairs"], "train.objective": ["bce", "both"]}},
            r"train\.objective = 'both': needs data\.sampling = 'episodes'",  # each fits alone, but not every pair
        ),
        (
            {"choices": {"data.sampling": ["episodes"], "data.drawers": [2, 5]}, "batch": [64]},
            r"train\.batch = 64: an episode needs a multiple of .* = 20 drawings",
        ),
        ({"trials": 1, "first": SPACE["first"]}, r"search\.trials = 1: less than the 2 points of search\.first"),
        (
            {"choices": {"train.start": ["", "runs/x"]}},
            r"'train\.start' cannot vary between trials that all start from",
        ),
        (
            {"choices": {f"train.{key}": [n / 100 for n in range(1, 60)] for key in ("clip", "momentum", "head_lr")}},
            r"search\.choices: 205379 combinations, and 2 batch sizes with each; at most 100000 are allowed in all",
        ),
    ],
)
def test_a_search_that_holds_an_impossible_point_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        check(study(**changes))
