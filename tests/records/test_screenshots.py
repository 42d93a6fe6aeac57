"""The live view as a picture: a finished study, as it was at some moment."""

from typing import Any

import pytest
import samples

from oneshot.base.jobs import parse
from oneshot.records import screenshots
from oneshot.screen.console import duration
from oneshot.search.halving import Halving

SETTINGS = parse({"train": {"epochs": 9}, "search": {"trials": 9, "grace": 1, "reduction": 3}}, "the test")
HALVING = Halving(SETTINGS)


def _trial(number: int, epochs: int) -> dict[str, Any]:
    """A trial that paused at each of its rungs and was resumed."""
    trial = samples.trial(f"{number:03d}", "finished" if epochs == 9 else "stopped", epochs, floor=0.2 + number / 100)
    for row in trial["history"]:
        row["best"] = True  # its loss falls in every epoch
        if row["epoch"] - 1 in HALVING.rungs:
            row["resumed_at"] = 0
    return trial


# Nine trials, two at a time: all reach the first rung, the best three the second, and one the end.
KEPT = samples.study(*map(_trial, range(9), (9, 3, 3, 1, 1, 1, 1, 1, 1)), epochs=9)
RECORD = {"experiment": SETTINGS.to_toml(), "study": KEPT, "result": samples.result()}


@pytest.mark.parametrize("share", [0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
def test_no_more_trials_run_than_ran_at_once_and_none_after_the_end(share: float) -> None:
    then = screenshots.at(KEPT, share * KEPT["seconds"], HALVING)
    assert sum(each["status"] == "running" for each in then["trials"]) <= KEPT["concurrent"]
    for now, end in zip(then["trials"], KEPT["trials"], strict=True):
        assert now["history"] == end["history"][: len(now["history"])] and now["epochs"] <= end["epochs"]
        assert now["seconds"] <= end["seconds"] and (
            now["status"] in ("pending", "running") or now == end or _at_a_rung(now)
        )


def _at_a_rung(trial: dict[str, Any]) -> bool:
    return trial["status"] == "stopped" and trial["epochs"] in HALVING.rungs


def test_at_its_end_a_study_is_as_it_is_recorded() -> None:
    plan = {"rungs": HALVING.rungs, "reduction": HALVING.reduction}
    assert screenshots.at(KEPT, KEPT["seconds"] + 1, HALVING) == KEPT | plan | {"seconds": KEPT["seconds"] + 1}


def test_of_a_trial_whose_seconds_nobody_knows_the_epochs_are_shown() -> None:
    trials = [each | {"seconds": 0.0, "history": [row | {"seconds": None} for row in each["history"]]}
              for each in KEPT["trials"]]  # fmt: skip
    then = screenshots.at(KEPT | {"trials": trials}, KEPT["seconds"], HALVING)
    assert [each["epochs"] for each in then["trials"]] == [each["epochs"] for each in KEPT["trials"]]


def test_at_its_beginning_nothing_is_known() -> None:
    then = screenshots.at(KEPT, 0.0, HALVING)
    assert all(each["history"] == [] and each["val_loss"] is None for each in then["trials"])


def test_the_picture_shows_the_moment_and_says_that_it_is_a_replay() -> None:
    svg = screenshots.live(RECORD, command="make tune").replace("&#160;", " ")
    assert duration(0.6 * KEPT["seconds"]) in svg and "replayed from the record" in svg
    (longest,) = [each for each in KEPT["trials"] if each["epochs"] == KEPT["epochs"]]
    then = screenshots.at(KEPT, 0.6 * KEPT["seconds"], HALVING)["trials"][int(longest["id"])]["epochs"]
    assert 0 < then < KEPT["epochs"]
    assert f"{then}/{KEPT['epochs']}" in svg and f"{then + 1}/{KEPT['epochs']}" not in svg


def test_a_trial_leaves_its_rung_when_others_have_come_there() -> None:
    """The longest trial leaves its last rung only when enough trials have reached that rung, as in the search."""
    (longest,) = [each for each in KEPT["trials"] if each["epochs"] == KEPT["epochs"]]
    moments = [screenshots.at(KEPT, share / 100 * KEPT["seconds"], HALVING)["trials"] for share in range(1, 100)]
    after = [then for then in moments if then[int(longest["id"])]["epochs"] > HALVING.rungs[-1]]
    assert after
    for then in after:
        assert sum(each["epochs"] >= HALVING.rungs[-1] for each in then) >= HALVING.reduction
