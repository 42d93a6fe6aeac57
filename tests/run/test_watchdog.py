"""A training that stands still is ended and says where; one that moves or waits for others is not ended."""

import subprocess
import sys
from pathlib import Path

import tiny
from command import ROOT, environment

from oneshot.run.watchdog import Moves

HEAD = """
import sys, time
from oneshot.run.watchdog import Moves, watchdog

moves = Moves()
guard = watchdog(moves, seconds=1.0, who="worker 1 on here", tell=lambda said: open(sys.argv[1], "w").write(said))
"""
STUCK = """
def saving():
    time.sleep(60)

with guard:
    saving()
"""
MOVES = """
with guard:
    for _ in range(12):
        time.sleep(0.2)
        moves.moved()
    with moves.resting():
        time.sleep(2.5)
time.sleep(1.5)  # after the block nobody looks
print("done")
"""


def run(code: str, told: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", HEAD + code, str(told)]
    return subprocess.run(command, cwd=ROOT, env=environment(), text=True, capture_output=True, timeout=50)


def test_a_process_that_stands_still_is_ended_and_says_where(tmp_path: Path) -> None:
    done = run(STUCK, tmp_path / "told")
    assert done.returncode == 1
    first, *stacks = done.stderr.splitlines()
    assert first.startswith("worker 1 on here stood still for 1 s") and "--set scale.timeout" in first
    assert any("in saving" in line for line in stacks)
    assert (tmp_path / "told").read_text() == first


def test_one_that_moves_waits_for_others_or_is_over_is_not(tmp_path: Path) -> None:
    done = run(MOVES, tmp_path / "told")
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_what_cannot_be_told_delays_the_end_by_little(tmp_path: Path) -> None:
    done = run("import oneshot.run.watchdog as w; w.PATIENCE = 0.1\n" + STUCK.replace("guard", HANGS), tmp_path)
    assert done.returncode == 1 and "stood still" in done.stderr


HANGS = 'watchdog(moves, seconds=0.5, who="worker 0", tell=lambda said: time.sleep(60))'


def test_a_training_moves_with_each_step_part_of_the_validation_and_save(tmp_path: Path) -> None:
    heard: list[str] = []

    class Heard(Moves):
        def moved(self) -> None:
            super().moved()
            heard.append("moved")

        def step(self, done: int, loss: float, images_per_second: float) -> None:
            super().step(done, loss, images_per_second)
            heard.append("step")

    tiny.train(tmp_path, tiny.settings(epochs=1, examples=32), watch=Heard())
    assert heard[:1] == ["moved"]  # it starts
    assert heard[1:5] == ["moved", "step"] * 2
    assert len(heard[5:]) >= 4 and set(heard[5:]) == {"moved"}  # validation, before and after the save, the epoch
