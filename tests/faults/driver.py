"""A command and all processes that it starts, including its own Ray's: signal them, and wait until the last ends."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from command import begin

PARTS = {  # parts of a study's processes: a piece of their titles
    "raylet": "raylet/raylet",
    "gcs": "gcs/gcs_server",
    "trial": "ray::Trial",
    "worker": "ray::RayTrainWorker",
}


class Driver:
    """`python -m oneshot.VERB ...` in its own session, as in a terminal; its lines are read as they come."""

    def __init__(self, *arguments: str, **variables: str) -> None:
        self.process = begin(*arguments, alone=True, **variables)
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout or []:
            with self._news:
                self.lines.append(line)
                self._news.notify_all()

    @property
    def text(self) -> str:
        return "".join(self.lines)

    def until(self, mark: str, *, seconds: float = 600) -> None:
        """Wait for a line that contains `mark`."""
        end, seen = time.monotonic() + seconds, 0
        while True:
            with self._news:
                if any(mark in line for line in self.lines[seen:]):
                    return
                seen = len(self.lines)
                over = not self._reader.is_alive()
                assert not over and time.monotonic() < end, self._missing(f"'{mark}'")
                self._news.wait(1)

    def until_true(self, true: Callable[[], object], what: str, *, seconds: float = 600) -> None:
        """Wait, while the command runs, until something is true of the files it writes. `what` names it in the error
        raised if it does not come."""
        wait(lambda: true() or self.process.poll() is not None, seconds=seconds, pause=0.02)
        assert true() and self.process.poll() is None, self._missing(what)

    def _missing(self, what: str) -> str:
        """An error message: what did not come, what was printed, and what the processes were doing."""
        rows = []
        for each in self._alive():
            with contextlib.suppress(psutil.Error):
                times = each.cpu_times()
                rows.append(f"{each.status():10} {times.user + times.system:7.1f} s of CPU  {title(each)[:90]}")
        return "\n".join([f"{what} did not come:", self.text, *rows])

    def end(self, *, seconds: float = 600) -> int:
        """Wait for the command's end; returns its exit code."""
        try:
            code = self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(self._missing(f"its end within {seconds} s")) from None
        self._reader.join(timeout=10)  # a process that outlives it may hold its output open
        return code

    def kill(self) -> None:
        """Send SIGKILL. What the command started ends by itself within seconds; the next session does not wait for
        that."""
        self.process.kill()
        self.end()

    def interrupt(self) -> None:
        """Send what Ctrl-C sends in a terminal: SIGINT to the whole process group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def terminate(self, *, driver: bool = True) -> None:
        """Send what SLURM and systemd send to a job: SIGTERM to every process; to the command itself only if
        `driver` is set."""
        for each in self._alive():
            if driver or each.pid != self.process.pid:
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.terminate()

    def part(self, name: str) -> list[psutil.Process]:
        """The processes of one of PARTS, found among the driver's descendants."""
        found = psutil.Process(self.process.pid).children(recursive=True)
        return sorted((each for each in found if PARTS[name] in title(each)), key=lambda each: each.pid)

    def left(self, *, seconds: float = 10) -> list[str]:
        """The titles of all its processes, itself included, that still run; waits up to `seconds` for them to end."""
        wait(lambda: not self._alive(), seconds=seconds)
        return [title(each) for each in self._alive()]

    def _alive(self) -> list[psutil.Process]:
        found = []
        for each in psutil.process_iter():
            try:
                if os.getsid(each.pid) == self.process.pid and each.status() != psutil.STATUS_ZOMBIE:
                    found.append(each)
            except (ProcessLookupError, psutil.Error):
                pass  # it ended during this look
        return found


def wait(true: Callable[[], object], *, seconds: float, pause: float = 0.1) -> bool:
    """Wait until something is true; returns whether it was in time."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(pause)
    return True


def stop_while(process: psutil.Process, true: Callable[[], bool], *, seconds: float = 120) -> None:
    """Suspend a process (SIGSTOP) at a moment when something is true of the files it writes."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            process.suspend()
            wait(lambda: process.status() == psutil.STATUS_STOPPED, seconds=10, pause=0.001)
            if true():
                return
            process.resume()
        time.sleep(0.001)
    raise AssertionError("the moment did not come")


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a training, the newest last, whether complete or not."""
    return sorted((folder / "checkpoints").glob("epoch-*"), key=position)


def position(checkpoint: Path) -> tuple[int, int]:
    """How far a checkpoint is, from its name: epochs, and steps of the next epoch."""
    _, epoch, *step = checkpoint.name.split("-")
    return int(epoch), int(step[1]) if step else 0


def title(process: psutil.Process) -> str:
    """A process's command line; empty if the process is gone."""
    try:
        return " ".join(process.cmdline()).strip()
    except psutil.Error:
        return ""
