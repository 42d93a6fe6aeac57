"""Running the command line as a person does: in a process of its own, its output no terminal."""

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# As the help lists them.
VERBS = (
    "data", "tune", "train", "evaluate", "report", "classify", "verify", "export", "settings", "repeat", "record",
    "bench",
)  # fmt: skip

# A training of seconds on generated glyphs: what it learns does not matter, only that everything is gone through. Its
# network is the shallow one: the quickest, and where N workers are compared with one, a deeper one carries a rounding
# error over a ReLU's kink. It looks in one position: in eight, the judgement takes most of a small study's time.
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
    """This process's environment without what would change a command's meaning, or what Ray puts there for itself."""
    foreign = ("ONESHOT_", "RAY_", "PYTHONBREAKPOINT")
    plain = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
    return plain | more


def start(*arguments: str, alone: bool = False, **variables: str) -> "subprocess.Popen[str]":
    """`python -m oneshot.VERB ...` begun, from the repository's root, its output to be read from `stdout`.

    `alone`: in a session of its own, as at a terminal of its own, where Ctrl-C reaches all that it starts."""
    verb, *rest = arguments
    return subprocess.Popen(
        [sys.executable, "-m", f"oneshot.{verb}", *rest],
        cwd=ROOT, env=environment(**variables), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=alone,
        # Tests that a shell runs in the background inherit an ignored Ctrl-C; their commands shall heed it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip


def run(*arguments: str, code: int = 0, timeout: float = 600, **variables: str) -> str:
    """`python -m oneshot.VERB ...` to its end; what it printed. The exit code has to be `code`."""
    process = start(*arguments, **variables)
    try:
        text, _ = process.communicate(timeout=timeout)
    finally:
        process.kill()
    assert process.returncode == code, f"exit code {process.returncode}, not {code}, of {arguments}:\n{text}"
    return text


def refused(*arguments: str, **variables: str) -> str:
    """The sentence with which a wrong request is refused: the last line, with no traceback before it."""
    text = run(*arguments, code=2, **variables)
    lines = [line for line in text.splitlines() if line.strip()]
    assert lines and lines[-1].startswith("error: "), text
    assert "Traceback" not in text
    return lines[-1].removeprefix("error: ")
