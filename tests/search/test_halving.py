"""Which trials of a study go on, by asynchronous successive halving (Li et al. 2020, algorithm 2)."""

import itertools
from collections.abc import Container
from typing import Any

import pytest

from oneshot.base.settings import Search, Settings, Train
from oneshot.search.halving import Halving


def halving(*, epochs: int = 9, grace: int = 1, reduction: int = 3) -> Halving:
    return Halving(Settings(train=Train(epochs=epochs), search=Search(grace=grace, reduction=reduction)))


def trial(number: int, *losses: float, status: str = "stopped") -> dict[str, Any]:
    """A trial with these losses after its first epochs."""
    rows = [{"epoch": epoch, "val_loss": loss} for epoch, loss in enumerate(losses, 1)]
    return {"id": f"{number:03d}", "status": status, "epochs": len(losses), "history": rows}


def name(found: dict[str, Any] | None) -> str | None:
    return found and found["id"]


@pytest.mark.parametrize(
    ("epochs", "grace", "reduction", "rungs"),
    [(9, 1, 3, [1, 3]), (10, 1, 3, [1, 3, 9]), (9, 2, 3, [2, 6]), (8, 2, 2, [2, 4]), (9, 0, 3, []), (3, 3, 3, [])],
)
def test_rungs_lie_before_the_last_epoch(epochs: int, grace: int, reduction: int, rungs: list[int]) -> None:
    assert halving(epochs=epochs, grace=grace, reduction=reduction).rungs == rungs


def test_a_trial_goes_to_the_next_rung_and_from_the_last_to_its_end() -> None:
    made = halving()
    assert [made.until(trial(0, *[1.0] * epochs)) for epochs in range(9)] == [1, 3, 3, 9, 9, 9, 9, 9, 9]
    assert halving(grace=0).until(trial(0)) == 9


def test_one_in_three_goes_on_the_best_first() -> None:
    made, losses = halving(), [0.5, 0.3, 0.4, 0.2, 0.6, 0.1]
    due = [name(made.due([trial(i, loss) for i, loss in enumerate(losses[:count])])) for count in range(1, 7)]
    assert due == [None, None, "001", "003", "003", "005"]


def test_a_study_is_over_when_nobody_waits_and_nobody_is_to_go_on() -> None:
    over = [trial(0, *[0.1] * 9, status="finished"), trial(1, 0.5)]
    assert halving().over(over)
    for status in ("pending", "running"):
        assert not halving().over([*over, trial(2, 0.6, status=status)])
    assert not halving().over([trial(0, 0.4), trial(1, 0.5)])  # the best has not run to the end
    assert halving().over([over[0], over[1] | {"history": []}])  # a lost history cannot be due


def test_who_went_on_keeps_a_place() -> None:
    others = [trial(i, 0.5 + i / 10) for i in range(1, 5)]
    assert halving().due([trial(0, 0.1, 0.1, 0.1, status="finished"), *others]) is None  # one of five, and it went on
    assert halving().due([trial(0, 0.1), *others], busy={"000"}) is None
    assert name(halving().due([trial(0, 0.9, 0.8), *others])) == "001"  # 000 went on when there was nothing better


def test_the_higher_rung_comes_first() -> None:
    high = [trial(i, 0.5, 0.4, 0.3 + i / 10) for i in range(3)]
    low = [trial(i, 0.1 + i / 100) for i in range(3, 12)]
    assert name(halving().due([*low, *high])) == "000"
    assert name(halving().due([*low, *high], busy={"000"})) == "003"


def test_equal_losses_let_no_more_go_on() -> None:
    """The loss of every dead network is the logarithm of 2."""
    trials, gone = [trial(i, 0.693) for i in range(9)], set()
    while found := halving().due(trials, busy=gone):
        gone.add(found["id"])
    assert gone == {"000", "001", "002"}


def test_what_diverged_on_the_way_to_a_rung_counts_there_as_the_worst() -> None:
    broken = [{**trial(i, status="diverged"), "history": [{"epoch": 1, "val_loss": None}]} for i in (1, 2)]
    assert name(halving().due([trial(0, 0.5), *broken])) == "000"
    above = [trial(i, 0.1 * i, status="diverged") for i in (4, 5)]  # in their second epoch: on the way to the third
    high = trial(3, 0.5, 0.4, 0.3)
    assert name(halving().due([high, *above])) == "003"
    assert halving().due([high, *broken]) is None  # they were never on the way to that rung


def test_what_finished_on_the_way_to_a_rung_counts_there_with_the_loss_of_the_network_it_kept() -> None:
    made = halving(epochs=200, grace=3)  # rungs 3, 9, 27, 81
    tired = [trial(i, *[0.6] * 8, low, *[0.7] * 15, status="finished") for i, low in ((1, 0.50), (2, 0.52))]
    assert name(made.due([trial(0, *[0.30] * 27), *tired])) == "000"
    assert made.due([trial(0, *[0.51] * 27), *tired]) is None  # the one place is the better one's
    assert made.due([trial(0, *[0.30] * 27), *tired[:1]]) is None


def test_what_finished_on_the_way_to_a_rung_was_never_on_its_way_to_the_next() -> None:
    """Otherwise every trial that lives would go on where most of the others end early."""
    made = halving(epochs=27)  # rungs 1, 3, 9
    tired = [trial(i, 0.6, 0.6, status="finished") for i in range(3, 9)]
    assert made.due([trial(0, *[0.3] * 9), *tired]) is None
    assert made.due([trial(0, *[0.3] * 9), *(trial(i, *[0.6] * 3, status="finished") for i in range(3, 9))]) is None


def test_at_the_end_only_a_better_one_goes_on_after_those_that_finished_for_lack_of_progress() -> None:
    made, tired = halving(reduction=4), trial(0, 0.4, 0.3, 0.5, 0.5, 0.5, status="finished")
    assert name(made.due([tired, trial(1, 0.29)], last=True)) == "001"
    assert made.due([tired, trial(1, 0.3)], last=True) is None
    assert name(made.due([tired, trial(1, 0.9, 0.8, 0.7, 0.7), trial(2, 0.29)], last=True)) == "002"
    assert name(made.due([tired, trial(1, 0.9, 0.2, 0.7, 0.7), trial(2, 0.29)], last=True)) == "001"  # by its best loss
    assert made.due([trial(0, *[0.4] * 9, status="finished"), trial(1, 0.29)], last=True) is None  # 000 ran to the end


def test_at_the_end_somebody_runs_to_the_end() -> None:
    made = halving()
    few = [trial(0, 0.5), trial(1, 0.4)]
    assert made.due(few) is None and name(made.due(few, last=True)) == "001"
    few[1] = trial(1, 0.4, 0.3, 0.2)
    assert name(made.due(few, last=True)) == "001"
    few[1] = trial(1, 0.4, 0.3, 0.2, status="diverged")
    assert name(made.due(few, last=True)) == "000"
    few[1] = trial(1, 0.4, 0.3, 0.2, 0.2, status="finished")  # for example for lack of progress
    assert made.due(few, last=True) is None


def test_at_the_end_those_who_are_due_come_before() -> None:
    """One of six is at the second rung and a second one is due to go there: the two are to be compared."""
    high, low = trial(0, 0.5, 0.4, 0.3), [trial(i, 0.1 * i) for i in range(1, 6)]
    assert name(halving().due([high, *low], last=True)) == "001"


def test_without_early_stopping_nobody_is_ever_due() -> None:
    assert halving(grace=0).due([trial(i, 0.1 * i) for i in range(9)], last=True) is None


def searched(order: tuple[int, ...], *, tire: Container[int] = ()) -> list[dict[str, Any]]:
    """The trials of a search over nine epochs. A trial's loss is its height plus a part that falls with the epochs; if
    its height is in `tire`, the loss rises instead: the first epoch is the best, and the trial ends with the second."""
    made, trials = halving(), []
    waiting = [trial(place) | {"height": height} for place, height in enumerate(order)]
    while (found := made.due(trials)) or waiting or (found := made.due(trials, last=True)):
        if found is None:
            found = waiting.pop(0)
            trials.append(found)
        until, ended, falls = made.until(found), "stopped", found["height"] not in tire
        if until > 1 and not falls:
            until, ended = 2, "finished"
        rows = [{"epoch": n, "val_loss": found["height"] + (1 / n if falls else n)} for n in range(1, until + 1)]
        found |= {"history": rows, "epochs": until, "status": "finished" if until == 9 else ended}
    return trials


def test_a_search_finds_the_best_with_half_of_the_epochs_at_most_in_whatever_order_they_come() -> None:
    for order in itertools.permutations(range(6)):
        trials = searched(order)
        assert min(trials, key=lambda each: each["history"][-1]["val_loss"])["height"] == 0
        assert any(each["height"] == 0 and each["epochs"] == 9 for each in trials)
        assert sum(each["epochs"] for each in trials) <= 6 * 9 / 2


@pytest.mark.parametrize("tire", [(1,), (1, 2, 3, 4, 5), (0, 1, 2)])
def test_the_best_is_not_left_half_trained_where_others_finish_for_lack_of_progress(tire: tuple[int, ...]) -> None:
    for order in itertools.permutations(range(6)):
        trials = searched(order, tire=tire)
        best = min(trials, key=lambda each: min(row["val_loss"] for row in each["history"]))
        assert best["status"] == "finished"
        assert sum(each["epochs"] for each in trials) <= 6 * 9 / 2
