"""What strikes a study: each kind of fault, where it hits, and what the session struck has to do about it."""

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

SILENT = 25.0  # seconds for which a worker is stopped: longer than the study's scale.timeout


@dataclass(frozen=True)
class Fault:
    """`part`: which process is killed, or the driver. `codes`: how a session ends by it; none: it goes on.

    `at_rest`: what is done to the run folder while nobody runs; it returns where the folder then is.
    """

    name: str
    part: str = ""
    signal: str = "kill"
    codes: tuple[int, ...] = ()
    at_rest: Callable[[Path, random.Random], Path] | None = None


def strike(fault: Fault, session: Driver, rng: random.Random) -> bool:
    """Send the signal of a fault; whether there still was what it strikes."""
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
    """Stop a process for a while. Who wakes up late must not disturb those who took over."""
    process.suspend()
    time.sleep(SILENT)
    if process.is_running():
        process.resume()


def damage(run: Path, rng: random.Random) -> Path:
    """The newest whole checkpoint of a trial that still needs it loses some of a file, or all."""
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
    """A trial's history is deleted."""
    rng.choice(list(run.glob("trials/*/history.jsonl"))).unlink()
    return run


def move(run: Path, rng: random.Random) -> Path:
    """The run folder gets another path."""
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
    """Whether there is now what the fault strikes."""
    try:
        if fault.part and not session.part(fault.part):
            return False
    except psutil.NoSuchProcess:
        return False
    if fault.at_rest is damage:
        return any(map(newest_whole, needed(run)))
    return fault.at_rest is not forget or bool(list(run.glob("trials/*/history.jsonl")))


def needed(run: Path) -> list[Path]:
    """The trials whose newest checkpoint something depends on: those not over, and the best."""
    if not (run / "study.json").exists():
        return []
    trials = json.loads((run / "study.json").read_text())["trials"]
    best = min((each for each in trials if each["val_loss"]), key=lambda each: each["val_loss"], default=None)
    chosen = [each for each in trials if each["status"] != "finished" or each is best]
    return [run / "trials" / each["id"] for each in chosen]


def newest_whole(trial: Path) -> Path | None:
    """The checkpoint from which a trial will go on."""
    found, _ = checkpoint.newest(Folder.of(trial / "checkpoints"))
    return trial / "checkpoints" / found.name if found else None


def steps(trial: Path, steps_per_epoch: int, *, whole: bool = False) -> int:
    """The steps behind a trial's newest checkpoint that was written to its end; `whole`: and is undamaged."""
    newest = newest_whole(trial) if whole else None
    if not whole:
        written = [each for each in checkpoints(trial) if (each / "state.json").exists()]
        newest = written[-1] if written else None
    epochs, more = position(newest) if newest else (0, 0)
    return epochs * steps_per_epoch + more


def settle(session: Driver) -> None:
    """Wait until what a killed driver has started writes no more."""
    wait(lambda: not any("RayTrainWorker" in each for each in session.left(seconds=0)), seconds=300)
