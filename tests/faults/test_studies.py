"""A study that is killed, interrupted, damaged and moved continues in the next session, and ends exactly like an
undisturbed one."""

import json
import re
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from command import refused, run, settings
from driver import Driver, checkpoints, stop_while, title, wait
from outcome import differences, outcome

pytestmark = pytest.mark.ray

# No early stopping, because which trials it stops depends on which report first. The trials run one after the other.
CHANGES = settings(
    search__trials="2", search__grace="0", scale__max_concurrent="1", scale__checkpoint_steps="4", train__epochs="3",
    train__examples="2048", search__batch="[64]",
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The undisturbed study; its trials run at the same time."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    both = ["--set", "scale.max_concurrent=2"]
    run("tune", "quick", "--run", str(folder), *CHANGES, *both, ONESHOT_DATA=str(data_root))
    return folder


class Sessions:
    """The sessions of a study, one after the other."""

    def __init__(self, data_root: Path) -> None:
        self.data_root, self.all = data_root, []

    def begin(self, *arguments: str, verb: str = "tune") -> Driver:
        self.all.append(Driver(verb, *arguments, ONESHOT_DATA=str(self.data_root)))
        return self.all[-1]


@pytest.fixture
def sessions(data_root: Path) -> Iterator[Sessions]:
    found = Sessions(data_root)
    yield found
    for each in found.all:
        if each.process.poll() is None:
            each.kill()


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_after_the_result_is_shown_is_answered_too(
    number: signal.Signals, sessions: Sessions, whole: Path, tmp_path: Path
) -> None:
    """Ray's shutdown must not remove this program's signal handlers; it once restored the system's defaults."""
    shutil.copytree(whole, tmp_path / "run")
    (tmp_path / "run/result.json").unlink()  # it is judged again
    driver = sessions.begin("--resume", str(tmp_path / "run"))
    driver.until("verification: ")
    driver.process.send_signal(number)
    code = driver.end()
    assert (tmp_path / "run/result.json").exists() and not driver.left()
    assert code == 0 or (code == 130 and f"to go on: python -m oneshot.tune --resume {tmp_path / 'run'}" in driver.text)


@pytest.mark.parametrize("name", ["raylet", "RuntimeEnvAgent"])
def test_an_interrupt_while_ray_starts_leaves_no_process(name: str, sessions: Sessions, tmp_path: Path) -> None:
    """Ray's agents, if just started, take half a minute to notice that their raylet is gone."""
    driver = sessions.begin("quick", "--run", str(tmp_path / "run"), *CHANGES)
    there = lambda: [each for each in psutil.Process(driver.process.pid).children(True) if name in title(each)]  # noqa: E731
    assert wait(there, seconds=300, pause=0.01)
    # Ray starts its monitors and its dashboard before its raylet; here there must be none.
    titles = [title(each) for each in psutil.Process(driver.process.pid).children(True)]
    assert not [each for each in titles if "monitor" in each or "dashboard.py" in each]
    driver.interrupt()
    assert driver.end() == 130 and not driver.left()
    assert f"to go on: python -m oneshot.tune --resume {tmp_path / 'run'}" in driver.text


def unfinished(folder: Path) -> bool:
    """Whether the newest checkpoint is after the first epoch and still being written: its last file is missing."""
    found = checkpoints(folder)
    return bool(found) and found[-1].name > "epoch-0001" and not (found[-1] / "state.json").exists()


def interrupted(driver: Driver, folder: Path) -> float:
    """Press Ctrl-C twice. The driver must say how to go on and leave no process; returns the seconds until its end."""
    began = time.monotonic()
    for _ in range(2):
        driver.interrupt()
    code, seconds = driver.end(), time.monotonic() - began
    assert code == 130, driver.text
    assert f"--resume {folder}" in driver.text and "Traceback" not in driver.text
    assert driver.left() == []
    return seconds


def test_a_study_struck_at_every_stage_ends_as_an_undisturbed_one(
    sessions: Sessions, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, moved = tmp_path / "run", tmp_path / "elsewhere" / "moved"
    command = ("quick", "--run", str(folder), *CHANGES)

    first = sessions.begin(*command)  # killed in its first seconds, before Ray is there
    first.until("run ")
    first.kill()

    second = sessions.begin(*command)
    second.until("trial 000 epoch 1")
    seconds = interrupted(second, folder)

    third = sessions.begin(*command)  # killed between two trials
    third.until("trial 000 finished")
    third.kill()
    assert "trial 000 goes on after epoch" in third.text and "trial 000 epoch 1" not in third.text

    moved.parent.mkdir()
    shutil.move(folder, moved)
    (moved / "trials/000/history.jsonl").unlink()

    fourth = sessions.begin("--resume", str(moved))  # killed while a checkpoint is written
    fourth.until("trial 001 epoch 1")
    (worker,) = fourth.part("worker")
    stop_while(worker, lambda: unfinished(moved / "trials/001"))
    fourth.process.send_signal(signal.SIGSTOP)  # otherwise it would note the worker's death
    worker.kill()  # before its raylet ends, when the system would resume it
    fourth.kill()
    assert "history.jsonl was lost" in fourth.text and "trial 000 epoch" not in fourth.text
    flip_a_byte(checkpoints(moved / "trials/001")[-2] / "training.safetensors")

    fifth = sessions.begin("--resume", str(moved))  # killed in the final evaluation
    fifth.until("the search is over")
    fifth.kill()
    assert "state.json is missing or unreadable; using the one before it" in fifth.text
    assert "training.safetensors does not match its digest; using the one before it" in fifth.text
    study = json.loads((moved / "study.json").read_text())
    of_first, of_second = (trial["notes"] for trial in study["trials"])
    lost = [note for note in of_first if "history.jsonl was lost" in note]
    # The interrupt may have come while a checkpoint was being written.
    broken = [note for note in of_first if "state.json is missing" in note]
    assert len(lost) == 1 and len(broken) <= 1 and len(of_first) == len(lost) + len(broken), of_first
    assert len(of_second) == 2, of_second

    last = sessions.begin("--resume", str(moved))
    assert last.end() == 0, last.text
    assert " epoch " not in last.text.split("the search is over")[0]  # nothing runs again
    assert differences(outcome(moved), outcome(whole)) == []
    with capsys.disabled():
        print(f"\nCtrl-C, twice, in a trial: everything ended after {seconds:.1f} s")


@pytest.mark.long
def test_a_sigterm_to_every_process_is_answered_by_the_driver_alone(
    sessions: Sessions, whole: Path, tmp_path: Path
) -> None:
    """As SLURM and systemd send it. Ray's processes once ended before the driver, and its last words were lost."""
    folder = tmp_path / "run"
    driver = sessions.begin("quick", "--run", str(folder), *CHANGES)
    driver.until("trial 000 epoch 1")
    driver.terminate(driver=False)
    driver.until("trial 001 epoch 1")  # the processes other than the driver ignore it
    driver.terminate()
    assert driver.end() == 130, driver.text
    assert f"interrupted; to go on: python -m oneshot.tune --resume {folder}" in driver.text
    assert driver.left() == []
    again = sessions.begin("--resume", str(folder))
    assert again.end() == 0, again.text
    assert "trial 000 epoch" not in again.text and "trial 001 epoch 1" not in again.text
    assert differences(outcome(folder), outcome(whole)) == []


def test_a_training_answers_a_sigterm_to_every_process(sessions: Sessions, tmp_path: Path) -> None:
    more = settings(train__epochs="50", train__examples="2048")
    driver = sessions.begin("quick", "--run", str(tmp_path / "run"), *more, verb="train")
    driver.until("epoch  1")
    driver.terminate()
    assert driver.end() == 130, driver.text
    assert f"interrupted; to go on: the same command with --run {tmp_path / 'run'}" in driver.text
    assert driver.left() == []


@pytest.mark.long
def test_a_search_that_stops_early_goes_on_from_its_rungs(sessions: Sessions, data_root: Path, tmp_path: Path) -> None:
    """With one trial at a time it is certain which go on: the losses at the rungs decide, which the run folder has."""
    rungs = settings(search__trials="4", search__reduction="2", search__batch="[64]", scale__max_concurrent="1")
    small = settings(train__epochs="3", train__examples="1024")
    run("tune", "quick", "--run", str(tmp_path / "whole"), *rungs, *small, ONESHOT_DATA=str(data_root))
    study = json.loads((tmp_path / "whole/study.json").read_text())
    assert sorted(trial["epochs"] for trial in study["trials"]) == [1, 1, 2, 3]  # half go on to 2, half of those to 3

    folder = tmp_path / "struck"
    first = sessions.begin("quick", "--run", str(folder), *rungs, *small)
    first.until("trial 001 epoch 1/3")  # and one of the two is to go on
    first.kill()
    second = sessions.begin("--resume", str(folder))
    second.until("trial 003 epoch 1/3")
    second.kill()
    third = sessions.begin("--resume", str(folder))
    assert third.end() == 0, third.text
    assert " started" not in third.text and not re.search(r"trial 00[012] epoch 1/", third.text)
    assert differences(outcome(folder), outcome(tmp_path / "whole")) == []


@pytest.mark.long
def test_a_study_whose_parts_die_ends_as_an_undisturbed_one(sessions: Sessions, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = ("quick", "--run", str(folder), *CHANGES, "--set", "scale.max_concurrent=2")
    for part, name in (("gcs", "gcs_server"), ("raylet", "raylet")):  # without one of these it cannot go on
        session = sessions.begin(*command)
        session.until(" goes on after epoch " if part == "raylet" else "trial 000 epoch 1")
        session.part(part)[0].kill()
        assert session.end() == 1, session.text
        assert f"error: Ray's {name} died: killed, or out of memory" in session.text
        assert f"to go on: python -m oneshot.tune --resume {folder}" in session.text

    session = sessions.begin(*command)  # while these are replaced
    session.until(" goes on after epoch ")
    assert wait(lambda: session.part("worker"), seconds=300), session.text
    for trial in session.part("trial"):
        trial.kill()
    assert session.end() == 0, session.text
    assert "its process died: killed, or out of memory; it goes on" in session.text
    assert differences(outcome(folder), outcome(whole)) == []


def test_a_pruned_study_trains_and_judges_nothing_when_it_is_taken_up_again(
    whole: Path, tmp_path: Path, data_root: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    assert " freed, " in run("prune", str(folder))
    left = {each.parent.name: checkpoints(each.parent) for each in folder.glob("trials/*/checkpoints")}
    assert sorted(map(bool, left.values())) == [False, True]
    before = {name: (folder / name).read_bytes() for name in ("result.json", "evaluations.jsonl")}
    text = run("tune", "--resume", str(folder), ONESHOT_DATA=str(data_root))
    assert "the search is over; judging" in text and not re.search(r"trial 00\d epoch", text)
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert {each.parent.name: checkpoints(each.parent) for each in folder.glob("trials/*/checkpoints")} == left


@pytest.mark.long
def test_a_finished_study_makes_its_damaged_best_network_again(
    sessions: Sessions, whole: Path, tmp_path: Path, data_root: Path
) -> None:
    folder = tmp_path / "run"
    session = sessions.begin("quick", "--run", str(folder), *CHANGES)
    session.until("the search is over")
    interrupted(session, folder)
    best = outcome(whole)["best"]
    trial = folder / "trials" / best["id"]
    of_best = f"epoch-{best['epoch']:04d}"
    for sentence in (f"{of_best} is damaged", "none is left: the training starts again"):
        shutil.rmtree(folder / "best", ignore_errors=True)
        for each in checkpoints(trial):
            if each.name == of_best or "none" in sentence:
                flip_a_byte(each / "model.safetensors")
        text = run("tune", "--resume", str(folder), ONESHOT_DATA=str(data_root))
        assert f"the checkpoint of its best epoch, {best['epoch']}, is damaged; it is made again" in text
        assert sentence in text
        assert differences(outcome(folder), outcome(whole)) == []


@pytest.mark.long
def test_a_study_killed_three_times_in_a_row_loses_nothing(sessions: Sessions, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = ("quick", "--run", str(folder), *CHANGES, "--set", "scale.max_concurrent=2")
    first = sessions.begin(*command)
    assert wait((folder / "trials/001/history.jsonl").exists, seconds=300, pause=0.01), first.text
    first.kill()
    for mark in (" goes on after epoch ", "study quick"):
        session = sessions.begin(*command)
        session.until(mark)
        session.kill()
    last = sessions.begin(*command)
    assert last.end() == 0, last.text
    assert "trial 001 epoch 1" not in last.text
    assert differences(outcome(folder), outcome(whole)) == []


def test_a_second_study_in_the_same_folder_is_refused_and_changes_nothing(
    sessions: Sessions, tmp_path: Path, data_root: Path
) -> None:
    owner = sessions.begin("quick", "--run", str(tmp_path / "run"), *CHANGES)
    owner.until("run ")
    before = (tmp_path / "run/experiment.toml").read_bytes()
    for second in (["quick", "--run", str(tmp_path / "run"), *CHANGES, "--set", "scale.max_concurrent=2"],
                   ["--resume", str(tmp_path / "run")]):  # fmt: skip
        sentence = refused("tune", *second, ONESHOT_DATA=str(data_root))
        assert f"is in use by process {owner.process.pid} on {socket.gethostname()}: wait for it" in sentence
    assert (tmp_path / "run/experiment.toml").read_bytes() == before


@pytest.mark.parametrize(
    ("part", "name"), [("raylet", "raylet"), pytest.param("gcs", "gcs_server", marks=pytest.mark.long)]
)
def test_ray_killed_while_it_starts_is_told_and_leaves_nothing(
    sessions: Sessions, tmp_path: Path, part: str, name: str
) -> None:
    """Ray alone would end the process after a minute without a message. While it waits half a minute for the GCS, no
    other thread can run."""
    driver = sessions.begin("quick", "--run", str(tmp_path / "run"), *CHANGES)
    driver.until("run ")
    assert wait(lambda: driver.part(part), seconds=300, pause=0.02)
    driver.part(part)[0].kill()
    assert driver.end() == 1, driver.text
    assert f"error: Ray's {name} died: killed, or out of memory" in driver.text
    assert f"to go on: python -m oneshot.tune --resume {tmp_path / 'run'}" in driver.text
    assert driver.left() == []


@pytest.mark.long
def test_a_ray_too_slow_to_start_is_started_once_more(sessions: Sessions, tmp_path: Path) -> None:
    """Ray gives its raylet half a minute to start, which may be too short on a busy machine."""
    driver = sessions.begin("quick", "--run", str(tmp_path / "run"), *CHANGES)
    driver.until("run ")
    assert wait(lambda: driver.part("raylet"), seconds=300, pause=0.02)
    driver.part("raylet")[0].suspend()
    driver.until("Ray did not start within the half minute it has; it is started once more")
    driver.until("epoch 1/")
    driver.interrupt()
    assert driver.end() == 130 and not driver.left(), driver.text


def test_a_sigterm_while_ray_starts_is_heeded(sessions: Sessions, tmp_path: Path) -> None:
    driver = sessions.begin("quick", "--run", str(tmp_path / "run"), *CHANGES)
    driver.until("run ")
    assert wait(lambda: driver.part("gcs"), seconds=300)
    driver.process.send_signal(signal.SIGTERM)
    assert driver.end() == 130, driver.text
    assert f"--resume {tmp_path / 'run'}" in driver.text and "Traceback" not in driver.text
    assert driver.left() == []
