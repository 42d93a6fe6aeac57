"""What Ray Tune is given to try, without running Ray: a resumed study goes on like an uninterrupted one."""

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray import cloudpickle
from ray.tune.search import Searcher
from ray.tune.trainable.metadata import _TrainingRunMetadata

from oneshot.base.jobs import override, parse
from oneshot.base.settings import Settings
from oneshot.base.storage import Folder
from oneshot.run.history import write_history, write_note
from oneshot.search.points import OptunaPoints
from oneshot.search.study import Study
from oneshot.search.trial import FAILED, HOMELESS
from oneshot.search.tuning import PlannedSearch, Recorder

SETTINGS = parse(
    {
        "train": {"optimizer": "adam", "lr": 2e-3, "epochs": 4},
        "search": {"searcher": "optuna", "trials": 16, "grace": 0, "first": [{"lr": 3e-3}, {}]},
    },
    "the test",
)


def planned(
    run: Path, settings: Settings = SETTINGS, *, concurrent: int = 1, nodes: Callable[[], int] = lambda: 1
) -> PlannedSearch:
    """The search of a session that begins or resumes a study."""
    header = {"job": "quick", "started": 0.0, "epochs": settings.train.epochs}
    study = Study(Folder.of(run), trials=settings.search.trials, header=header)
    study.resume()
    return PlannedSearch(settings, study, Folder.of(run), concurrent=concurrent, nodes=nodes)


def row(epoch: int, loss: float, ended: str = "") -> dict[str, Any]:
    return {"epoch": epoch, "val_loss": loss, "best": True, "ended": ended}


def ran(search: PlannedSearch, *, trials: int) -> list[dict[str, Any]]:
    """The points of the next trials, each of which runs to its end."""
    points = []
    for _ in range(trials):
        config = search.suggest("tune")
        assert isinstance(config, dict)
        points.append(config["point"])
        search.study.start(config["trial"], config["point"])
        over = row(1, 1 / len(str(config["point"])), "epochs")
        write_history(search.study.folder(config["trial"]), [over])
        search.study.row(config["trial"], over)
        search.study.end(config["trial"])
        search.on_trial_complete("tune")
    return points


def test_a_search_that_is_taken_up_again_proposes_what_it_would_have_without_the_break(tmp_path: Path) -> None:
    whole = ran(planned(tmp_path / "whole"), trials=14)
    first = ran(planned(tmp_path / "parts"), trials=6)
    then = ran(planned(tmp_path / "parts"), trials=8)
    assert first + then == whole
    assert not any(point in first for point in then)


@pytest.mark.parametrize("searcher", ["random", "optuna"])
def test_trials_that_are_added_have_the_points_of_a_search_that_had_them_from_the_start(
    searcher: str, tmp_path: Path
) -> None:
    four, eight = (override(SETTINGS, {"search.searcher": searcher, "search.trials": n}, source="test") for n in (4, 8))
    whole = ran(planned(tmp_path / "whole", eight), trials=8)
    few = planned(tmp_path / "parts", four)
    first = ran(few, trials=4)
    assert few.suggest("over") == Searcher.FINISHED
    more = planned(tmp_path / "parts", eight)
    assert first + ran(more, trials=4) == whole
    assert more.suggest("over") == Searcher.FINISHED and more.study.trials[:4] == few.study.trials
    assert len({str(point) for point in whole}) == 8


def trained(search: PlannedSearch, *rows: dict[str, Any]) -> dict[str, Any]:
    """Start the next trial and record these rows of it; returns what it was given."""
    config = search.suggest("tune")
    assert isinstance(config, dict)
    search.study.start(config["trial"], config["point"])
    for each in rows:
        search.study.row(config["trial"], each)
    return config


def test_where_trials_are_added_one_that_is_over_runs_on_from_its_rung_or_not_at_all(tmp_path: Path) -> None:
    """Of three trials one went on to the end; of six a second one may go on."""

    def goes(search: PlannedSearch, *rows: dict[str, Any]) -> tuple[str, int, int]:
        """Run the next trial, with these rows; returns its number, the epochs that it has, and the epoch it runs to."""
        config, study = trained(search, *rows), search.study
        trial = config["trial"]
        study.end(trial)
        write_history(study.folder(trial), study.trial(trial)["history"])
        search.on_trial_complete("tune")
        return trial, config["known"], config["until"]

    few = planned(tmp_path, GRACE)
    assert [goes(few, row(1, loss)) for loss in (0.1, 0.2, 0.3)] == [("000", 0, 1), ("001", 0, 1), ("002", 0, 1)]
    assert goes(few, row(2, 0.1), row(3, 0.1)) == ("000", 1, 3)
    assert goes(few, row(4, 0.1, "epochs")) == ("000", 3, 4)
    assert few.suggest("tune") == Searcher.FINISHED and few.halving.over(few.study.trials)
    more = planned(tmp_path, override(GRACE, {"search.trials": 6}, source="the test"))
    assert not more.halving.over(more.study.trials)
    assert [goes(more, row(1, loss)) for loss in (0.4, 0.5, 0.6)] == [("003", 0, 1), ("004", 0, 1), ("005", 0, 1)]
    assert goes(more, row(2, 0.2), row(3, 0.2)) == ("001", 1, 3)
    assert more.suggest("tune") == Searcher.FINISHED and more.halving.over(more.study.trials)


def test_tune_that_pickles_a_search_takes_nothing_of_its_study(tmp_path: Path) -> None:
    """With every trial's history it would take megabytes, and `say` may belong to a screen, which cannot be pickled."""
    search = planned(tmp_path)
    with open(tmp_path / "log", "w") as log:
        search.study.say = log.write
        copy = cloudpickle.loads(cloudpickle.dumps(search))
    assert isinstance(copy, PlannedSearch) and not vars(copy)
    search.save_to_dir(str(tmp_path / "tune"), "session")
    assert not (tmp_path / "tune").exists()


def test_optuna_is_told_of_a_named_point_what_the_settings_add_to_it(tmp_path: Path) -> None:
    """Also in a later session, where the empty point {} must not be taken for a missing one."""
    search = planned(tmp_path)
    ran(search, trials=2)
    for source in (search.points, planned(tmp_path).points):
        assert isinstance(source, OptunaPoints)
        assert [trial.params["lr.adam"] for trial in source.told.values()] == [3e-3, 2e-3]


DIVERGED = {"epoch": 1, "val_loss": math.inf, "best": False, "ended": "diverged"}  # as it is reported


def ended(search: PlannedSearch, *rows: dict[str, Any], error: str | None = None) -> str:
    """Run the next trial, which ends with these rows. With an error, its process died then. Tune calls the search
    before the record."""
    trial, study = trained(search, *rows)["trial"], search.study
    write_history(study.folder(trial), study.trial(trial)["history"])
    search.on_trial_complete("tune", rows[-1] if rows else None, error=error is not None)
    study.end(trial, error=error)
    return trial


def told(search: PlannedSearch) -> dict[int, float]:
    assert isinstance(search.points, OptunaPoints)
    return {index: trial.value for index, trial in search.points.told.items()}


def test_optuna_is_told_of_trials_that_diverged_and_of_none_that_failed(tmp_path: Path) -> None:
    """The same by a later session, and so what both propose."""
    search = planned(tmp_path)
    ended(search, DIVERGED)
    ended(search, row(1, 0.4), row(2, 0.5) | {"best": False}, DIVERGED | {"epoch": 3})
    ended(search, error="its process died: killed, or out of memory")
    ended(search, row(1, 0.3, "epochs"))
    ended(search, {"epoch": 1, "val_loss": math.nan, "best": False, "ended": "diverged"})
    live = told(search)
    assert live == {0: math.inf, 1: 0.4, 3: 0.3, 4: math.inf}
    statuses = [trial["status"] for trial in search.study.trials[:5]]
    assert statuses == ["diverged", "diverged", "failed", "finished", "diverged"]
    resumed = planned(tmp_path)
    assert told(resumed) == live
    assert search.points.ask(9) == resumed.points.ask(9)


def test_what_optuna_is_told_of_a_failure_after_the_last_epoch_is_what_a_later_session_finds(tmp_path: Path) -> None:
    """The process died before it could end: the training was over by then, and no session repeats it."""
    search = planned(tmp_path)
    ended(search, DIVERGED, error="its process died: killed, or out of memory")
    ended(search, row(1, 0.3, "epochs"), error="its process died: killed, or out of memory")
    ended(search, row(1, 0.3), error="its process died: killed, or out of memory")
    assert told(search) == {0: math.inf, 1: 0.3} == told(planned(tmp_path))


def test_optuna_is_told_of_a_trial_that_diverged_and_whose_history_is_lost(tmp_path: Path) -> None:
    search = planned(tmp_path)
    trial = ended(search, DIVERGED)
    (tmp_path / "trials" / trial / "history.jsonl").unlink()
    assert told(planned(tmp_path)) == {0: math.inf} == told(search)


def test_a_search_whose_trials_diverge_proposes_after_a_break_what_it_would_have_without(tmp_path: Path) -> None:
    def run(search: PlannedSearch, numbers: range) -> list[dict[str, Any]]:
        """The points of these trials, of which every other one diverges."""
        names = [ended(search, DIVERGED if n % 2 else row(1, 1 / (n + 2), "epochs")) for n in numbers]
        return [search.study.trial(name)["settings"] for name in names]

    whole = run(planned(tmp_path / "whole"), range(14))
    parts = [run(planned(tmp_path / "parts"), numbers) for numbers in (range(9), range(9, 14))]
    assert parts[0] + parts[1] == whole
    assert len({str(point) for point in whole}) == 14


def test_a_search_is_not_over_while_its_best_trial_is_half_trained(tmp_path: Path) -> None:
    """Two end for lack of progress on their way to the second rung; the third is better and waits at that rung."""
    changes = {"search.searcher": "random", "search.first": [], "search.trials": 3, "search.grace": 1}
    settings = override(SETTINGS, changes | {"train.epochs": 9}, source="the test")
    search = planned(tmp_path, settings)
    for trial, rows in {
        "000": [row(1, 0.50), row(2, 0.51, "patience")],
        "001": [row(1, 0.52), row(2, 0.53, "patience")],
        "002": [row(1, 0.40), row(2, 0.35), row(3, 0.30)],
    }.items():
        search.study.start(trial, {"lr": 1e-3})
        for each in rows:
            search.study.row(trial, each)
        search.study.end(trial)
    search.new.clear()
    config = search.suggest("tune")
    assert isinstance(config, dict)
    assert (config["trial"], config["until"]) == ("002", 9)


NO_ROOM = {"ended": HOMELESS, "why": "the cluster had no room"}


def names(*suggested: Any) -> list[str]:
    return [each["trial"] for each in suggested]


def test_a_trial_that_finds_no_room_waits_for_one_that_ends_or_a_node_that_comes(tmp_path: Path) -> None:
    there = 2
    search = planned(tmp_path, concurrent=3, nodes=lambda: there)
    assert names(*(search.suggest(name) for name in "abc")) == ["000", "001", "002"]
    search.on_trial_complete("c", NO_ROOM)
    assert search.suggest("d") is None  # two are running, and there was no room for a third
    search.on_trial_complete("a")
    assert names(search.suggest("e"), search.suggest("f")) == ["002", "003"]  # the one that ended may have left room
    search.on_trial_complete("f", NO_ROOM)
    assert search.suggest("g") is None
    there = 3
    assert names(search.suggest("h")) == ["003"]
    assert not search.why_over


def test_a_search_none_of_whose_trials_finds_room_is_over(tmp_path: Path) -> None:
    search = planned(tmp_path, concurrent=2)
    assert names(search.suggest("a"), search.suggest("b")) == ["000", "001"]
    search.on_trial_complete("a", NO_ROOM)
    assert search.suggest("c") is None and not search.why_over
    search.on_trial_complete("b", NO_ROOM)
    assert search.suggest("d") == Searcher.FINISHED
    assert search.why_over == NO_ROOM["why"]


HALVING = {"search.searcher": "random", "search.first": [], "search.trials": 3, "search.grace": 1}
GRACE = override(SETTINGS, HALVING, source="the test")


def at_the_rung(run: Path) -> PlannedSearch:
    """A search whose three trials have all ended at the first rung; the first one is the best."""
    search = planned(run, GRACE)
    for trial in search.study.trials:
        search.study.start(trial["id"], {"lr": 1e-3})
        search.study.row(trial["id"], row(1, 0.1 + int(trial["id"])))
        search.study.end(trial["id"])
    search.new.clear()
    return search


def test_a_trial_that_was_let_go_on_and_finds_no_room_goes_to_the_next_rung_all_the_same(tmp_path: Path) -> None:
    search = at_the_rung(tmp_path)
    for tries in range(2):
        search.running = {"other": search.study.trials[2]}  # so that it waits for room, and the search goes on
        config = search.suggest(f"try {tries}")
        assert isinstance(config, dict)
        assert (config["trial"], config["known"], config["until"]) == ("000", 1, 3)
        search.study.start("000", config["point"])
        search.on_trial_complete(f"try {tries}", NO_ROOM)
        search.study.again("000", NO_ROOM["why"])
        search.full = None


def test_a_trial_whose_network_was_lost_is_made_again_up_to_its_rung_however_often_it_finds_no_room(
    tmp_path: Path,
) -> None:
    study = at_the_rung(tmp_path).study
    study.again("000", "it is damaged")
    search = PlannedSearch(GRACE, study, Folder.of(tmp_path), concurrent=2, nodes=lambda: 1, remade={"000": 1})
    for found in (NO_ROOM, None):
        search.running, search.full = {"other": study.trials[2]}, None
        config = search.suggest("tune")
        assert isinstance(config, dict) and (config["trial"], config["until"]) == ("000", 1)
        search.on_trial_complete("tune", found)
    study.end("000")
    config = search.suggest("tune")
    assert isinstance(config, dict) and (config["trial"], config["until"]) == ("000", 3)


def test_who_is_due_is_asked_for_again_only_when_something_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tune asks ten times a second."""
    search, asked = at_the_rung(tmp_path), []
    first = search.suggest("a")
    assert isinstance(first, dict) and first["trial"] == "000"
    due = search.halving.due
    monkeypatch.setattr(search.halving, "due", lambda *given, **more: asked.append(1) or due(*given, **more))
    assert [search.suggest("b") for _ in range(5)] == [None] * 5 and len(asked) == 1
    search.study.start("000", first["point"])
    search.study.row("000", row(2, 0.1, "patience"))
    search.study.end("000")
    search.on_trial_complete("a")
    assert search.suggest("b") == Searcher.FINISHED and len(asked) == 2


MANY = override(GRACE, {"search.trials": 200, "search.grace": 0}, source="the test")


def begun(search: PlannedSearch, name: str) -> str:
    """Begin the next trial under this name of Tune's; returns its number."""
    config = search.suggest(name)
    assert isinstance(config, dict)
    search.study.start(config["trial"], config["point"])
    return config["trial"]


def failed(search: PlannedSearch, name: str, trial: str, error: str | None = None) -> None:
    error = error or f"the training in {search.study.folder(trial)} failed: node7: torch sees no GPU"
    search.on_trial_complete(name, {"ended": FAILED})
    search.study.end(trial, error=error)


def test_what_ends_one_trial_after_the_other_at_once_does_not_get_them_all(tmp_path: Path) -> None:
    """A broken GPU is free again within seconds, while the others train for hours."""
    search, said = planned(tmp_path, MANY, concurrent=64), []
    search.study.say = said.append
    for place in range(63):
        begun(search, f"good {place}")
    for bad in range(8):
        failed(search, f"bad {bad}", begun(search, f"bad {bad}"), "something else" if bad == 3 else None)
    assert search.suggest("next") == Searcher.FINISHED and search.suggest("again") == Searcher.FINISHED
    why = "8 of 8 trials failed without an epoch, 7 of them because: node7: torch sees no GPU"
    assert search.why_broken == why and not search.why_over
    assert said == [f"{why}; no more are begun, and those that run are finished"]
    resumed = planned(tmp_path, MANY, concurrent=64)
    assert begun(resumed, "first") == "000" and not resumed.why_broken  # each session counts its own failures


def test_single_trials_that_fail_do_not_end_a_search(tmp_path: Path) -> None:
    """Nor do those that fail later: each has taken the time of an epoch."""
    search = planned(tmp_path, MANY)
    for number in range(160):
        name = f"tune {number}"
        trial = begun(search, name)
        if number % 20 and number % 20 != 7:
            search.study.row(trial, row(1, 0.5))
            search.study.end(trial)
            search.on_trial_complete(name, {})
            continue
        if number % 20 == 7:
            search.study.row(trial, row(1, 0.5))
        failed(search, name, trial)
    assert isinstance(search.suggest("next"), dict) and len(search.fruitless) == 8


def test_a_trial_that_went_on_and_failed_before_its_next_epoch_has_failed_at_once(tmp_path: Path) -> None:
    search = at_the_rung(tmp_path)
    failed(search, "tune", begun(search, "tune"))
    assert [trial["id"] for trial in search.fruitless] == ["000"]


def test_a_search_that_has_tried_all_is_over_however_many_failed(tmp_path: Path) -> None:
    search = planned(tmp_path, override(MANY, {"search.trials": 9}, source="the test"))
    for number in range(9):
        search.fruitless = search.fruitless[:7] if number == 8 else search.fruitless
        failed(search, f"tune {number}", begun(search, f"tune {number}"))
    assert len(search.fruitless) == 8
    assert search.suggest("next") == Searcher.FINISHED and not search.why_broken


class View:
    def update(self, shown: dict[str, Any]) -> None: ...


def recorded(search: PlannedSearch) -> tuple[Recorder, Any]:
    """A recorder, and a trial that Tune got from the search and has not started yet."""
    trial = SimpleNamespace(
        config=search.suggest("tune"), last_result={}, run_metadata=_TrainingRunMetadata(), pickled_error_file=None
    )
    return Recorder(search.study, View()), trial


def test_a_trial_that_failed_before_it_was_started_is_tried_again_with_its_own_point(tmp_path: Path) -> None:
    """Its process died at its creation, so often that Tune gave it up."""
    search = planned(tmp_path, GRACE)
    recorder, trial = recorded(search)
    search.on_trial_complete("tune", error=True)
    recorder.on_trial_error(0, [], trial)
    assert search.study.trials[0]["status"] == "failed"
    again = planned(tmp_path, GRACE).suggest("tune")
    assert isinstance(again, dict) and again["trial"] == trial.config["trial"]
    assert again["point"] == trial.config["point"] != {}


def test_notes_are_looked_for_when_a_report_says_so_and_when_the_trial_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an object store each look costs requests, in the one process to which all trials report."""
    search = planned(tmp_path, GRACE)
    recorder, trial = recorded(search)
    recorder.on_trial_start(0, [], trial)
    folder, kept = search.study.folder("000"), search.study.trials[0]
    found: list[list[str]] = []
    for epoch, noted in enumerate([True, False, False, True, False], start=1):
        write_note(folder, f"before {epoch}")
        recorder.on_trial_result(0, [], trial, row(epoch, 0.5) | {"noted": noted})
        found.append(kept["notes"])
    assert [len(notes) for notes in found] == [1, 1, 1, 4, 4]
    for over in (recorder.on_trial_complete, recorder.on_trial_error):
        write_note(folder, "at the end")
        known = len(kept["notes"])
        over(0, [], trial)
        assert len(kept["notes"]) > known and kept["notes"][-1] == "at the end"


def test_what_cannot_be_recorded_of_a_trial_that_is_over_ends_the_search(tmp_path: Path) -> None:
    """Tune would blame the trial, and run it again beside the trial that has taken its place."""

    recorder, trial = recorded(planned(tmp_path))
    recorder.on_trial_start(0, [], trial)
    recorder.on_step_end(0, [])
    (tmp_path / "study.json").unlink()
    (tmp_path / "study.json").mkdir()
    recorder.on_trial_complete(0, [], trial)
    with pytest.raises(OSError, match="directory"):
        recorder.on_step_end(0, [])
