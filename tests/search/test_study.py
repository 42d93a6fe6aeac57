"""The record of a study says what happened to every trial, also after the driver was killed."""

import json
import math
import re
import threading
from pathlib import Path
from typing import Any

import pytest
import tiny
from objects import ObjectStore

from oneshot.base.errors import DiskFull, Refused, RunFailed, UserError
from oneshot.base.settings import Search, Settings, Train
from oneshot.base.storage import Folder
from oneshot.run.history import HISTORY, NOTES
from oneshot.search.halving import Halving
from oneshot.search.study import STUDY, Study

HEADER = {"job": "quick", "epochs": 10, "started": 1.0}
POINT = {"optimizer": "adam", "lr": 1e-3, "batch": 64}


def study_in(run: Path, *, trials: int = 4, seconds: float = 0.0) -> Study:
    return Study(Folder.of(run), trials=trials, header=dict(HEADER), seconds=seconds)


def row(epoch: int, val_loss: float | None, ended: str = "", *, best: bool = True) -> dict[str, Any]:
    return {"epoch": epoch, "val_loss": val_loss, "best": best, "ended": ended}


def written(run: Path) -> dict[str, Any]:
    return json.loads((run / STUDY).read_text())


def leave_history(study: Study, trial_id: str, rows: list[dict[str, Any]]) -> None:
    """What a trial's training writes into its own folder."""
    text = "".join(json.dumps(each) + "\n" for each in rows)
    study.folder(trial_id).write("history.jsonl", text.encode())


def test_a_new_study_is_all_pending(tmp_path: Path) -> None:
    study = study_in(tmp_path)
    study.save()
    record = written(tmp_path)
    assert [trial["id"] for trial in record["trials"]] == ["000", "001", "002", "003"]
    assert {trial["status"] for trial in record["trials"]} == {"pending"}
    assert (record["epochs_run"], record["epochs_if_all_had_finished"]) == (0, 0)
    assert study.best() is None
    assert record["job"] == "quick"


def test_a_trial_runs_from_its_start_to_its_end(tmp_path: Path) -> None:
    study = study_in(tmp_path)
    study.start("001", POINT)
    assert written(tmp_path)["trials"][1]["status"] == "running"
    assert written(tmp_path)["trials"][1]["settings"] == POINT
    for epoch, loss in enumerate([0.9, 0.4, 0.6], start=1):
        study.row("001", row(epoch, loss, "epochs" if epoch == 3 else "", best=epoch < 3))
    study.end("001")
    trial = written(tmp_path)["trials"][1]
    assert (trial["status"], trial["epochs"], trial["best_epoch"], trial["val_loss"]) == ("finished", 3, 2, 0.4)
    assert trial["error"] is None


def test_how_far_running_trials_are_is_shown_and_not_kept(tmp_path: Path) -> None:
    study = study_in(tmp_path)
    pulse = {"epoch": 1, "step": 3, "steps": 8, "loss": 0.5, "images_per_second": 100.0, "epoch_seconds": None}
    study.start("000", POINT)
    study.start("001", POINT)
    for trial_id in ("000", "001", "002"):
        study.folder(trial_id).write_json("pulse.json", pulse)
    study.end("001")
    study.take_pulses()
    assert study.record()["pulses"] == {"000": pulse}
    study.save()
    assert "pulses" not in written(tmp_path)
    study.start("000", POINT)  # again: the pulse that a killed process left does not count
    study.take_pulses()
    assert study.record()["pulses"] == {}


@pytest.mark.parametrize(
    ("ended", "status"), [("epochs", "finished"), ("patience", "finished"), ("", "stopped"), ("diverged", "diverged")]
)
def test_how_a_training_ended_decides_the_status(tmp_path: Path, ended: str, status: str) -> None:
    study = study_in(tmp_path)
    study.start("000", POINT)
    study.row("000", row(1, 0.5))
    study.row("000", row(2, math.inf if ended == "diverged" else 0.4, ended))
    study.end("000")
    assert written(tmp_path)["trials"][0]["status"] == status


def test_of_trials_that_a_time_limit_broke_off_their_own_history_is_taken_over(tmp_path: Path) -> None:
    """Their last reports may not have arrived."""
    study = study_in(tmp_path)
    for trial_id in ("000", "001"):
        study.start(trial_id, POINT)
    study.row("000", row(1, 0.9))
    leave_history(study, "000", [row(1, 0.9), row(2, 0.4)])
    leave_history(study, "001", [row(1, 0.5), row(2, 0.6, "epochs")])
    assert study.waiting() == 4
    study.interrupt()
    study.catch_up()
    first, second, *rest = study.trials
    assert (first["status"], first["epochs"], first["val_loss"]) == ("pending", 2, 0.4)
    assert (second["status"], second["epochs"]) == ("finished", 2)
    assert {trial["status"] for trial in rest} == {"pending"} and study.waiting() == 3
    assert study.best() is first


def test_a_diverged_epoch_is_no_epoch_and_no_loss(tmp_path: Path) -> None:
    study = study_in(tmp_path)
    study.start("000", POINT)
    study.row("000", row(1, 0.5))
    study.row("000", row(2, math.inf, "diverged"))
    study.end("000")
    trial = written(tmp_path)["trials"][0]
    assert (trial["epochs"], trial["best_epoch"], trial["val_loss"]) == (1, 1, 0.5)
    assert "epoch 2" in trial["error"]


def test_a_trial_that_diverges_at_once_has_no_loss_and_is_not_the_best(tmp_path: Path) -> None:
    study = study_in(tmp_path)
    study.start("000", POINT)
    study.row("000", row(1, math.inf, "diverged"))
    study.end("000")
    assert study.trials[0]["val_loss"] is None
    assert study.best() is None


def test_a_failed_trial_keeps_its_error_and_its_epochs(tmp_path: Path) -> None:
    study = study_in(tmp_path)
    study.start("000", POINT)
    study.row("000", row(1, 0.5))
    study.end("000", error="OutOfMemoryError: CUDA out of memory")
    trial = written(tmp_path)["trials"][0]
    assert (trial["status"], trial["error"], trial["epochs"]) == ("failed", "OutOfMemoryError: CUDA out of memory", 1)


def test_the_best_trial_is_that_of_the_lowest_loss_however_it_ended(tmp_path: Path) -> None:
    study = study_in(tmp_path)
    for trial_id, losses in {"000": [0.5, 0.6], "001": [0.7, 0.3], "002": [0.3]}.items():
        study.start(trial_id, POINT)
        for epoch, loss in enumerate(losses, start=1):
            study.row(trial_id, row(epoch, loss))
        study.end(trial_id)
    best = study.best()
    assert best is not None and best["id"] == "001"  # the first of equals


def test_a_repeated_epoch_replaces_what_was_reported_before(tmp_path: Path) -> None:
    """A worker died after its report and resumes from the checkpoint before it."""
    study = study_in(tmp_path)
    study.start("000", POINT)
    for epoch, loss in [(1, 0.9), (2, 0.8), (3, 0.1), (2, 0.7), (3, 0.6)]:
        study.row("000", row(epoch, loss))
    assert [each["epoch"] for each in study.trials[0]["history"]] == [1, 2, 3]
    assert study.trials[0]["val_loss"] == 0.6


def test_early_stopping_is_counted_in_epochs_saved(tmp_path: Path) -> None:
    study = study_in(tmp_path, trials=5)
    for trial_id, epochs in {"000": 10, "001": 1, "002": 3}.items():
        study.start(trial_id, POINT)
        for epoch in range(1, epochs + 1):
            study.row(trial_id, row(epoch, 0.5, "epochs" if epoch == 10 else ""))
        study.end(trial_id)
    record = study.record()
    assert record["epochs_run"] == 14
    assert record["epochs_if_all_had_finished"] == 30  # the two that were never started do not count


def test_histories_are_in_the_record_and_not_in_the_file(tmp_path: Path) -> None:
    study = study_in(tmp_path)
    study.start("000", POINT)
    study.row("000", row(1, 0.5))
    study.save()
    assert study.record()["trials"][0]["history"] == [row(1, 0.5)]
    assert "history" not in written(tmp_path)["trials"][0]


# Resuming after a session that was killed


def interrupted(run: Path) -> Study:
    """000 finished, 001 was stopped early, 002 ended without a record of it, 003 was running, 004 is pending."""
    study = study_in(run, trials=5)
    for trial_id, rows in {
        "000": [row(1, 0.5), row(2, 0.4, "epochs")],
        "001": [row(1, 0.9)],
        "002": [row(1, 0.6), row(2, 0.3, "patience")],
        "003": [row(1, 0.8), row(2, 0.7)],
    }.items():
        study.start(trial_id, POINT | {"batch": 64 + int(trial_id)})
        leave_history(study, trial_id, rows)
        for each in rows[:1] if trial_id in ("002", "003") else rows:
            study.row(trial_id, each)
        if trial_id in ("000", "001"):
            study.end(trial_id)
    return study


def test_an_interrupted_study_is_replayed_from_the_trials_own_histories(tmp_path: Path) -> None:
    interrupted(tmp_path)
    study = study_in(tmp_path, trials=5)
    study.resume()
    assert [trial["status"] for trial in study.trials] == ["finished", "stopped", "finished", "pending", "pending"]
    assert [trial["epochs"] for trial in study.trials] == [2, 1, 2, 2, 0]
    assert [trial["val_loss"] for trial in study.trials] == [0.4, 0.9, 0.3, 0.7, None]
    assert [trial["settings"].get("batch") for trial in study.trials] == [64, 65, 66, 67, None]
    best = study.best()
    assert best is not None and best["id"] == "002"


def at_a_rung(run: Path) -> Study:
    """Three trials that ended at the first rung, by the record; only two of their histories are there."""
    study = study_in(run, trials=3)
    for trial_id, loss in {"000": 0.5, "001": 0.6, "002": 0.7}.items():
        study.start(trial_id, POINT)
        study.row(trial_id, row(1, loss))
        study.end(trial_id)
        if trial_id != "000":
            leave_history(study, trial_id, [row(1, loss)])
    return study


HALVING = Halving(Settings(train=Train(epochs=9), search=Search(grace=1, reduction=3)))


@pytest.mark.parametrize("promoted", [True, False])
def test_a_trial_whose_history_is_lost_begins_again_and_the_others_do_not_wait_for_it(
    tmp_path: Path, promoted: bool
) -> None:
    study = at_a_rung(tmp_path)
    if promoted:
        study.start("000", POINT)
    study = study_in(tmp_path, trials=3)
    assert study.resume() == ["trial 000: history.jsonl was lost; the newest whole checkpoint has 0 of 1 epochs"]
    lost = study.trials[0]
    assert (lost["status"], lost["epochs"], lost["best_epoch"], lost["val_loss"]) == ("pending", 0, None, None)
    assert not HALVING.waits(lost) and HALVING.until(lost) == 1
    best, due = study.best(), HALVING.due(study.trials, last=True)
    assert best and due and best["id"] == due["id"] == "001"


def test_of_a_trial_that_ran_the_checkpoints_know_the_history_too(tmp_path: Path) -> None:
    study = at_a_rung(tmp_path)
    made = tiny.train(study.folder("000"), tiny.settings(epochs=2)).history
    study.row("000", made[0])
    study.end("000")
    study.start("000", POINT)  # it goes on from its rung, and the driver is killed
    study.folder("000").remove("history.jsonl")
    study = study_in(tmp_path, trials=3)
    assert study.resume() == ["trial 000: history.jsonl was lost; the newest whole checkpoint has 2 of 2 epochs"]
    assert (study.trials[0]["status"], study.trials[0]["history"]) == ("finished", made)


def test_a_divergence_that_nobody_wrote_down_has_its_reason(tmp_path: Path) -> None:
    study = study_in(tmp_path)
    study.start("000", POINT)
    study.row("000", row(1, 0.5))
    leave_history(study, "000", [row(1, 0.5), row(2, None, "diverged", best=False)])
    again = study_in(tmp_path)
    again.resume()
    assert (again.trials[0]["status"], again.trials[0]["error"]) == ("diverged", "the loss was not finite in epoch 2")


def test_a_failed_trial_is_tried_again_when_a_study_goes_on(tmp_path: Path) -> None:
    study = study_in(tmp_path)
    study.start("000", POINT)
    study.end("000", error="the node was lost")
    again = study_in(tmp_path)
    again.resume()
    assert (again.trials[0]["status"], again.trials[0]["error"]) == ("pending", None)
    assert again.trials[0]["settings"] == POINT


def test_the_time_of_earlier_sessions_is_counted(tmp_path: Path) -> None:
    study_in(tmp_path).save()
    record = written(tmp_path)
    (tmp_path / STUDY).write_text(json.dumps(record | {"seconds": 5_000.0, "started": 77.0}))
    study = study_in(tmp_path)
    study.resume()
    assert study.record()["seconds"] >= 5_000
    assert study.record()["started"] == 77.0


def test_a_study_may_go_on_with_more_trials(tmp_path: Path) -> None:
    interrupted(tmp_path)
    study = study_in(tmp_path, trials=7)
    study.resume()
    assert [trial["id"] for trial in study.trials][-2:] == ["005", "006"]
    assert study.trials[0]["status"] == "finished"


def test_a_trial_of_the_jobs_own_settings_is_taken_up_again_like_any_other(tmp_path: Path) -> None:
    """Their point is {}. The first was killed before the report of its epoch arrived; the second had ended."""
    study = study_in(tmp_path)
    for trial_id in ("000", "001"):
        study.start(trial_id, {})
        leave_history(study, trial_id, [row(1, 0.5)])
    study.row("001", row(1, 0.5))
    study.end("001")
    again = study_in(tmp_path)
    again.resume()
    assert [(trial["status"], trial["epochs"]) for trial in again.trials[:2]] == [("pending", 1), ("stopped", 1)]
    assert [trial["history"] for trial in again.trials[:2]] == [[row(1, 0.5)]] * 2
    assert [again.begun(trial["id"]) for trial in again.trials] == [True, True, False, False]
    again.start("002", {})
    again.interrupt()
    leave_history(again, "002", [row(1, 0.4, "patience")])
    again.catch_up()
    assert (again.trials[2]["status"], again.trials[2]["val_loss"]) == ("finished", 0.4)


# A store that does not answer


def refuse(monkeypatch: pytest.MonkeyPatch, name: str, error: Exception, *, times: int) -> list[str]:
    """Let the first `times` requests for files of this name fail; returns the list of requests."""
    asked = []
    for verb in ("read", "write"):
        do = getattr(Folder, verb)

        def asking(folder: Folder, file: str, *data: bytes, do: Any = do, verb: str = verb) -> Any:
            if file == name:
                asked.append(verb)
                if len(asked) <= times:
                    raise error
            return do(folder, file, *data)

        monkeypatch.setattr(Folder, verb, asking)
    return asked


def test_a_search_goes_on_where_a_note_cannot_be_read_or_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_in(tmp_path)
    study.start("000", POINT)
    study.note("000", "first")
    refuse(monkeypatch, NOTES, RunFailed("no answer"), times=2)
    study.hear("000")
    study.again("000", "second")
    assert study.trials[0]["notes"] == ["first", "second"]
    assert study.trials[0]["status"] == "pending"


@pytest.mark.parametrize("error", [RunFailed("no answer"), Refused("no answer")])
def test_what_a_store_does_not_take_is_tried_again_for_a_while(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what it refuses: credentials may have expired, with new ones on their way."""
    monkeypatch.setattr("oneshot.search.study.PAUSE", 0)
    study, started = study_in(tmp_path), {"status": "running", "settings": POINT}
    said: list[str] = []
    study.say = said.append
    asked = refuse(monkeypatch, STUDY, error, times=3)
    study.start("000", POINT)
    assert len(asked) == 4 and written(tmp_path)["trials"][0].items() >= started.items()
    first, second = said
    assert first == "no answer; trying again for 120 s"
    assert re.fullmatch(rf"{re.escape(str(study.run))} answers again, after \d+ s", second)
    monkeypatch.setattr("oneshot.search.study.PATIENCE", 0)
    refuse(monkeypatch, STUDY, error, times=1)
    with pytest.raises(type(error), match="no answer"):
        study.end("000")


def test_a_store_that_refuses_to_be_written_for_a_while_does_not_break_a_study_off(
    bucket: str, object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oneshot.search.study.PAUSE", 0)
    study = Study(Folder.of(f"{bucket}/run"), trials=1, header=dict(HEADER))
    answers = iter([403, 403])
    object_store.refuse = lambda method, path, query: next(answers, None) if method == "PUT" else None
    said: list[str] = []
    study.say = said.append
    study.save()
    assert "ACCESS_DENIED" in said[0] and said[0].endswith("; trying again for 120 s")
    assert study.run.read_json(STUDY)["job"] == "quick"


def test_a_full_disk_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = study_in(tmp_path)
    asked = refuse(monkeypatch, STUDY, DiskFull("no room"), times=1)
    with pytest.raises(DiskFull):
        study.save()
    assert asked == ["write"]


def test_of_a_store_several_trials_are_asked_for_at_once_and_come_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_rung = at_a_rung(tmp_path)
    leave_history(at_rung, "000", [row(1, 0.5)])
    together = threading.Barrier(3, timeout=60)
    read = Folder.read

    def reading(folder: Folder, name: str) -> bytes:
        if name == HISTORY:
            together.wait()  # nobody gets an answer before all have asked
        return read(folder, name)

    monkeypatch.setattr(Folder, "read", reading)
    monkeypatch.setattr(Folder, "is_local", False)
    study = study_in(tmp_path, trials=3)
    study.resume()
    assert [trial["val_loss"] for trial in study.trials] == [0.5, 0.6, 0.7]


def test_nothing_to_resume_is_a_new_study(tmp_path: Path) -> None:
    study = study_in(tmp_path)
    study.resume()
    assert {trial["status"] for trial in study.trials} == {"pending"}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"seconds": 1}',
        '{"seconds": "x", "started": 1, "job": "quick", "trials": []}',
        '{"seconds": 1, "started": 1, "job": "quick", "trials": [{}]}',
        '{"seconds": 1, "started": 1, "job": "quick", "trials": [{"id": "000"}]}',
        '{"seconds": 1, "started": 1, "job": "quick", "trials": 3}',
    ],
)
def test_a_damaged_record_is_a_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / STUDY).write_text(content)
    with pytest.raises(UserError, match=r"study\.json (is damaged|is not JSON)"):
        study_in(tmp_path).resume()
