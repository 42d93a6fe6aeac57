"""A worker or a process that drives it is killed or hangs: the training resumes and ends with the same result."""

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from command import run, settings, start
from driver import Driver, title
from outcome import history, weights

pytestmark = pytest.mark.ray

STEPS = 16  # an epoch's
CHANGES = settings(
    train__epochs="3", train__examples=str(64 * STEPS), scale__checkpoint_steps="2", train__precision="fp32",
    scale__timeout="20",  # on a busy machine, a healthy worker may be silent for long
)  # fmt: skip


def arguments(folder: Path) -> list[str]:
    return ["train", "quick", "--workers", "2", "--run", str(folder), *CHANGES]


@pytest.fixture(scope="module")
def whole(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The undisturbed training."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(*arguments(folder), ONESHOT_DATA=str(data_root))
    return folder


@pytest.fixture
def begun(data_root: Path, tmp_path: Path) -> Iterator[Driver]:
    """The same training in `tmp_path / "run"`, started; after the test it is killed and must leave no process."""
    driver = Driver(*arguments(tmp_path / "run"), ONESHOT_DATA=str(data_root))
    yield driver
    driver.kill()
    assert not driver.left()


def kill(driver: int, name: str) -> int:
    """Kill (SIGKILL) the process of this driver's own Ray with this name in its title; returns its pid."""
    family = psutil.Process(driver).children(recursive=True)
    pid = next(each.pid for each in family if name in title(each))
    os.kill(pid, signal.SIGKILL)
    return pid


def reached(folder: Path) -> tuple[int, int]:
    """How far the newest checkpoint is: epochs and steps of the next."""
    states = sorted((folder / "checkpoints").glob("epoch-*/state.json"))
    newest = json.loads(states[-1].read_text()) if states else {"epoch": 0, "step": 0}
    return newest["epoch"], newest["step"]


@pytest.mark.parametrize(
    ("rank", "where", "number"),
    [
        (0, (0, 4), signal.SIGKILL),
        pytest.param(1, (1, 6), signal.SIGSTOP, marks=pytest.mark.long),
        pytest.param(1, (1, 6), signal.SIGKILL, marks=pytest.mark.long),
        pytest.param(0, (2, 2), signal.SIGSTOP, marks=pytest.mark.long),
    ],
)
def test_a_worker_is_lost_and_nothing_else(
    rank: int, where: tuple[int, int], number: signal.Signals, whole: Path, begun: Driver, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder = tmp_path / "run"
    begun.until_true(lambda: reached(folder) >= where, f"a checkpoint at {where}")
    begun.part("worker")[rank].send_signal(number)
    struck, before = time.monotonic(), reached(folder)
    begun.until_true(lambda: reached(folder) > before, f"a checkpoint after {before}")
    recovered = time.monotonic() - struck
    assert begun.end() == 0, begun.text
    assert history(folder) == history(whole)
    assert weights(folder) == weights(whole)
    rows = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    taken_up = [(row["epoch"] - 1, row["resumed_at"]) for row in rows if "resumed_at" in row]
    assert len(taken_up) == 1 and taken_up[0] >= before  # only the work since the last checkpoint was repeated
    with capsys.disabled():
        print(f"\n{number.name} of a worker at {before}: went on at {taken_up[0]} after {recovered:.1f} s")


@pytest.mark.long
def test_the_controller_of_a_training_dies_and_the_training_goes_on(whole: Path, begun: Driver, tmp_path: Path) -> None:
    """Ray Train's controller, which has its own process when no trial's actor contains it."""
    begun.until_true(lambda: reached(tmp_path / "run") >= (0, 4), "a checkpoint")
    kill(begun.process.pid, "TrainController")
    assert begun.end() == 0, begun.text
    assert history(tmp_path / "run") == history(whole)
    assert weights(tmp_path / "run") == weights(whole)


@pytest.mark.long
def test_the_processes_that_drive_a_trial_die_and_the_trial_goes_on(data_root: Path, tmp_path: Path) -> None:
    """Tune's actor is killed in each of two trials: both end as if nothing had happened."""
    changes = settings(
        search__trials="2", search__grace="0", train__epochs="3", train__examples="2048", scale__checkpoint_steps="4"
    )
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    run("tune", "quick", "--run", str(calm), *changes, ONESHOT_DATA=str(data_root))
    text, killed = "", []
    with start("tune", "quick", "--run", str(rough), *changes, ONESHOT_DATA=str(data_root)) as process:
        for line in process.stdout or []:
            text += line
            if re.search(r"trial 00\d epoch 1/3", line):
                killed.append(kill(process.pid, "ray::Trial"))
        assert process.wait(timeout=300) == 0 and len(killed) == 2, text
    for trial in ("000", "001"):
        assert history(rough / "trials" / trial) == history(calm / "trials" / trial)
        assert weights(rough / "trials" / trial) == weights(calm / "trials" / trial)
    study = json.loads((rough / "study.json").read_text())
    assert [trial["status"] for trial in study["trials"]] == ["finished", "finished"]
    taken_up = [
        row for trial in ("000", "001")
        for row in map(json.loads, (rough / "trials" / trial / "history.jsonl").read_text().splitlines())
        if "resumed_at" in row
    ]  # fmt: skip
    assert taken_up, text
