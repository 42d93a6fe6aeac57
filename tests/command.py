"""Run the command line as a user does, in its own process, except that its output is not a terminal."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# In the order of the help.
VERBS = (
    "data", "tune", "train", "evaluate", "report", "classify", "verify", "embed", "export", "prune", "settings",
    "repeat", "record", "bench",
)  # fmt: skip

# A training of a few seconds on generated glyphs: what it learns does not matter, only that every stage runs. It uses
# the shallow network, which is the fastest; in a deeper one, when N workers are compared with one, a rounding error can
# move an activation across a ReLU's kink. It uses one view: with eight, the judgement takes most of a study's time.
TINY = {
    "data.dataset": "glyphs-10",
    "model.name": "conv4",
    "model.views": "1",
    "train.ema": "0",
    "train.examples": "256",
    "train.epochs": "2",
    "train.val_pairs": "200",
    "train.val_trials": "50",
    "evaluate.trials": "200",
}


def settings(**changes: str) -> list[str]:
    """TINY with changes (`train__lr="0.1"` for train.lr) as `--set` options."""
    values = TINY | {key.replace("__", "."): value for key, value in changes.items()}
    return [part for key, value in values.items() for part in ("--set", f"{key}={value}")]


def environment(**more: str) -> dict[str, str]:
    """This process's environment without variables that change what a command does, without Ray's variables, and
    without GPUs, so that a test gives the same result on a machine that has GPUs. A test that needs GPUs sets
    CUDA_VISIBLE_DEVICES."""
    foreign = ("ONESHOT_", "RAY_", "PYTHONBREAKPOINT")
    plain = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
    return plain | {"CUDA_VISIBLE_DEVICES": ""} | more


@contextmanager
def start(*arguments: str, **variables: str) -> "Iterator[subprocess.Popen[str]]":
    """A command started by `begin`; if it still runs when the block ends, it is killed."""
    process = begin(*arguments, **variables)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def begin(*arguments: str, alone: bool = False, **variables: str) -> "subprocess.Popen[str]":
    """Start `python -m oneshot.VERB ...` in the repository's root; its output can be read from `stdout`.

    `alone`: in its own session, as in its own terminal, where Ctrl-C reaches every process that it starts.
    """
    verb, *rest = arguments
    return subprocess.Popen(
        [sys.executable, "-m", f"oneshot.{verb}", *rest],
        cwd=ROOT, env=environment(**variables), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=alone,
        # A shell that runs the tests in the background makes them ignore Ctrl-C; the command must not inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip


def run(*arguments: str, code: int = 0, timeout: float = 600, **variables: str) -> str:
    """Run `python -m oneshot.VERB ...` to its end and return its output. The exit code must be `code`."""
    with start(*arguments, **variables) as process:
        try:
            text, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired as expired:
            said = (expired.output or b"").decode(errors="replace")
            raise AssertionError(f"no end within {timeout:g} s of {arguments}, which printed:\n{said}") from None
    assert process.returncode == code, f"exit code {process.returncode}, not {code}, of {arguments}:\n{text}"
    return text


# A command whose training is killed when it asks for the batch of the epoch and step given as first argument.
KILLED = """
import os, signal, sys
from oneshot.cli.main import main
from oneshot.training.loop import Training

at, batch = sys.argv.pop(1), Training.batch

def strike(self, epoch, step):
    if at == f"{epoch},{step}":
        os.kill(os.getpid(), signal.SIGKILL)
    return batch(self, epoch, step)

Training.batch = strike
main()
"""


def killed(*arguments: str, epoch: int, step: int, **variables: str) -> tuple[int, str]:
    """Run `python -m oneshot.train ...` and kill it (SIGKILL) when it asks for the batch of a step (from 0) of an epoch
    (from 1), which is the same point on any machine. Returns its process id and its output."""
    return struck(KILLED, f"{epoch},{step}", *arguments, **variables)


def struck(script: str, at: str, *arguments: str, **variables: str) -> tuple[int, str]:
    """Run `python -m oneshot.VERB ...` in a script that kills it (SIGKILL) at the point named by its first argument.
    Returns its process id and its output."""
    with subprocess.Popen(
        [sys.executable, "-c", script, at, *arguments], cwd=ROOT, env=environment(**variables), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        text = process.communicate()[0]
    assert process.returncode == -signal.SIGKILL, text
    return process.pid, text


def refused(*arguments: str, **variables: str) -> str:
    """The error of a command that is refused (exit code 2): its last line, with no traceback before it."""
    text = run(*arguments, code=2, **variables)
    lines = [line for line in text.splitlines() if line.strip()]
    assert lines and lines[-1].startswith("error: "), text
    assert "Traceback" not in text
    return lines[-1].removeprefix("error: ")
