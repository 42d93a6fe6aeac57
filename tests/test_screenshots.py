"""The live view as a picture: a study that is over, as it was at a moment."""

import pytest

from oneshot import record, screenshots
from oneshot.screen.console import duration

KEPT = record.read_all()["quick"]["study"]


@pytest.mark.parametrize("share", [0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
def test_no_more_trials_run_than_ran_at_once_and_none_after_the_end(share: float) -> None:
    then = screenshots.at(KEPT, share * KEPT["seconds"])
    assert sum(each["status"] == "running" for each in then["trials"]) <= KEPT["concurrent"]
    for now, end in zip(then["trials"], KEPT["trials"], strict=True):
        assert now["history"] == end["history"][: len(now["history"])] and now["epochs"] <= end["epochs"]
        assert now["seconds"] <= end["seconds"] and (now["status"] in ("pending", "running") or now == end)


def test_at_its_end_a_study_is_as_it_is_recorded() -> None:
    assert screenshots.at(KEPT, KEPT["seconds"] + 1) == {**KEPT, "seconds": KEPT["seconds"] + 1}


def test_at_its_beginning_nothing_is_known() -> None:
    then = screenshots.at(KEPT, 0.0)
    assert all(each["history"] == [] and each["val_loss"] is None for each in then["trials"])


def test_the_picture_shows_the_moment_and_says_that_it_is_a_replay() -> None:
    svg = screenshots.live({"study": KEPT}, command="make tune", share=0.6).replace("&#160;", " ")
    assert duration(0.6 * KEPT["seconds"]) in svg and "replayed from the record" in svg
    (longest,) = [each for each in KEPT["trials"] if each["epochs"] == KEPT["epochs"]]
    then = screenshots.at(KEPT, 0.6 * KEPT["seconds"])["trials"][int(longest["id"])]["epochs"]
    assert 0 < then < KEPT["epochs"]
    assert f"{then}/{KEPT['epochs']}" in svg and f"{then + 1}/{KEPT['epochs']}" not in svg
