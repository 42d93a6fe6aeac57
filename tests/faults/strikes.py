"""The kinds of fault that strike a study: where each hits, and how the struck session must react."""

import json
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
from driver import Driver, checkpoints, position, wait

from oneshot.base.storage import Folder
from oneshot.run import checkpoint

SILENT = 25.0  # seconds for which a worker is suspended: longer than the study's scale.timeout


@dataclass(frozen=True)
class Fault:
    """A kind of fault. `part` names the struck process, one of PARTS; if empty, `signal` goes to the driver, or to all.
    `codes` are the exit codes that a session may end with; if empty, it must go on.

    `at_rest` damages the run folder while no session runs; it returns the path where the folder then is.
    """

    name: str
    part: str = ""
    signal: str = "kill"
    codes: tuple[int, ...] = ()
    at_rest: Callable[[Path, random.Random], Path] | None = None


def strike(fault: Fault, session: Driver, rng: random.Random) -> bool:
    """Send a fault's signal; returns whether there still was a process to strike."""
    try:
        if fault.part:
            victim = rng.choice(session.part(fault.part) or [None])
            if victim is None:
                return False
            if fault.signal == "kill":
                victim.kill()
            else:
                silence(victim)
        elif fault.signal == "interrupt":
            session.interrupt()
        elif fault.signal == "terminate all":
            session.terminate()
        else:
            getattr(session.process, fault.signal)()
    except (psutil.NoSuchProcess, ProcessLookupError):
        return False
    return True


def silence(process: psutil.Process) -> None:
    """Suspend a process for SILENT seconds. When it wakes up late, it must not disturb its replacements."""
    process.suspend()
    time.sleep(SILENT)
    if process.is_running():
        process.resume()


def damage(run: Path, rng: random.Random) -> Path:
    """Cut, corrupt, empty or delete a file of the newest undamaged checkpoint of a trial that still needs it."""
    newest = rng.choice([each for each in map(newest_whole, needed(run)) if each])
    path = newest / rng.choice(["model.safetensors", "training.safetensors", "state.json"])
    data = bytearray(path.read_bytes())
    how = rng.choice(["truncated", "a byte flipped", "emptied", "deleted"])
    if how == "deleted":
        path.unlink()
        return run
    data[len(data) // 2] ^= 0xFF
    path.write_bytes({"truncated": data[: len(data) // 2], "a byte flipped": data, "emptied": b""}[how])
    return run


def forget(run: Path, rng: random.Random) -> Path:
    """Delete a trial's history."""
    rng.choice(list(run.glob("trials/*/history.jsonl"))).unlink()
    return run


def move(run: Path, rng: random.Random) -> Path:
    """Move the run folder to another path."""
    place = run.with_name(f"moved-{rng.randrange(1000):03d}-{run.name[-8:]}")
    shutil.move(run, place)
    return place


FAULTS = (
    Fault("SIGKILL of the driver", codes=(-9,)),
    Fault("SIGTERM to the driver", signal="terminate", codes=(130,)),
    Fault("SIGTERM to every process", signal="terminate all", codes=(130,)),
    Fault("Ctrl-C", signal="interrupt", codes=(130,)),
    Fault("SIGKILL of a worker", part="worker"),
    Fault("a worker silent for 25 s", part="worker", signal="suspend"),
    Fault("SIGKILL of a trial's actor", part="trial"),
    Fault("SIGKILL of the raylet", part="raylet", codes=(1,)),
    Fault("SIGKILL of the GCS", part="gcs", codes=(1,)),
    Fault("newest checkpoint damaged", codes=(-9,), at_rest=damage),
    Fault("history.jsonl deleted", codes=(-9,), at_rest=forget),
    Fault("run folder moved", codes=(-9,), at_rest=move),
)


def possible(fault: Fault, session: Driver, run: Path) -> bool:
    """Whether what the fault strikes is there now."""
    try:
        if fault.part and not session.part(fault.part):
            return False
    except psutil.NoSuchProcess:
        return False
    if fault.at_rest is damage:
        return any(map(newest_whole, needed(run)))
    return fault.at_rest is not forget or bool(list(run.glob("trials/*/history.jsonl")))


def needed(run: Path) -> list[Path]:
    """The folders of the trials whose newest checkpoint is still needed: those not finished, and the best one."""
    if not (run / "study.json").exists():
        return []
    trials = json.loads((run / "study.json").read_text())["trials"]
    best = min((each for each in trials if each["val_loss"]), key=lambda each: each["val_loss"], default=None)
    chosen = [each for each in trials if each["status"] != "finished" or each is best]
    return [run / "trials" / each["id"] for each in chosen]


def newest_whole(trial: Path) -> Path | None:
    """The checkpoint from which a trial will resume."""
    found, _ = checkpoint.newest(Folder.of(trial / "checkpoints"))
    return trial / "checkpoints" / found.name if found else None


def steps(trial: Path, steps_per_epoch: int, *, whole: bool = False) -> int:
    """The steps done at a trial's newest completely written checkpoint; with `whole`, at its newest undamaged one."""
    newest = newest_whole(trial) if whole else None
    if not whole:
        written = [each for each in checkpoints(trial) if (each / "state.json").exists()]
        newest = written[-1] if written else None
    epochs, more = position(newest) if newest else (0, 0)
    return epochs * steps_per_epoch + more


def settle(session: Driver) -> None:
    """Wait until the workers that a killed driver has started are gone and write no more."""
    wait(lambda: not any("RayTrainWorker" in each for each in session.left(seconds=0)), seconds=300)
