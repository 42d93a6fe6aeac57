"""Rows about Ray: what it costs compared with the same loop without it, and how soon a training starts."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import torch

from oneshot.base.beside import every
from oneshot.base.environment import cores
from oneshot.base.errors import RunFailed
from oneshot.base.settings import Settings
from oneshot.base.storage import Folder
from oneshot.bench.rows import Measured, NotRun, Request
from oneshot.bench.steps import small_settings
from oneshot.bench.timing import in_turns
from oneshot.cluster import connection
from oneshot.cluster.packing import Packing
from oneshot.data import store
from oneshot.run import events
from oneshot.run.history import HISTORY, read_history
from oneshot.screen.console import console
from oneshot.search.study import STUDY
from oneshot.training.train import train_here

CURVES = f"{events.EVENTS}/{events.name(1)}"  # written after the history's first row, and never removed
BEST_BEFORE = 15.0  # seconds, measured with a prototype: see the note of the row


def _settings(request: Request, *, cpus: int, epochs: int = 4) -> Settings:
    examples, trials = (256, 20) if request.quick else (11_520, 400)
    return small_settings(
        **{
            "train.examples": examples, "train.epochs": epochs, "train.batch": 128, "train.val_pairs": 200,
            "train.val_trials": trials, "scale.cpus": cpus, "scale.gpus": 0.0,
        }
    )  # fmt: skip


def ray_one(request: Request) -> Measured:
    """Images a second from the end of the first epoch to the end of the last, reports and checkpoints included."""
    settings = _settings(request, cpus=cores())
    with _ray() as scratch:
        value, reference = in_turns(
            lambda: _steady(settings, scratch, lambda run: _under_ray(request, settings, run, 1, cores())),
            lambda: _steady(settings, scratch, lambda run: _here(request, settings, run)),
            repeats=1 if request.quick else request.repeats,
            warm=False,
        )
    note = f"conv4 at 28 px, {settings.train.epochs} epochs of {settings.train.examples:,}, validation and checkpoints"
    return Measured(value, reference, f"{note} included, the first epoch not")


def ray_two(request: Request) -> Measured:
    """As `ray_one`: two workers with half the cores each, against one worker with the cores of both."""
    half = cores() // 2
    if not half:
        raise NotRun("two workers need two cores")
    settings = _settings(request, cpus=half)
    with _ray() as scratch:
        value, reference = in_turns(
            lambda: _steady(settings, scratch, lambda run: _under_ray(request, settings, run, 2, half)),
            lambda: _steady(settings, scratch, lambda run: _under_ray(request, settings, run, 1, 2 * half)),
            repeats=1 if request.quick else request.repeats,
            warm=False,
        )
    return Measured(value, reference, f"conv4 at 28 px, the same batch of {settings.train.batch}, {half} core(s) each")


@contextlib.contextmanager
def _ray() -> Iterator[Path]:
    """Start an embedded Ray and make a scratch folder; both go when the block ends."""
    folder = tempfile.TemporaryDirectory(prefix="oneshot-bench-", ignore_cleanup_errors=True)
    with folder as name, connection.connect(None, console=console(quiet=True)):
        yield Path(name)


def _under_ray(request: Request, settings: Settings, run: Folder, workers: int, cpus: int) -> None:
    from oneshot.cluster.trainer import train_on_ray

    train_on_ray(
        settings,
        Folder.of(request.data),
        run,
        Packing(workers=workers, cpus=cpus, gpus=0.0, concurrent=1),
        name="bench",
    )


def _here(request: Request, settings: Settings, run: Folder) -> None:
    train_here(settings, Folder.of(request.data), run, device=torch.device("cpu"))


def _steady(settings: Settings, scratch: Path, train: Callable[[Folder], None]) -> float:
    """Images a second from the first epoch's end to the last's, timed by when the history file was written."""
    ends: dict[int, float] = {}
    run = Folder.of(tempfile.mkdtemp(dir=scratch))
    history = Path(run.file(HISTORY))

    def look() -> None:
        with contextlib.suppress(FileNotFoundError):
            ends.setdefault(len(history.read_bytes().splitlines()), history.stat().st_mtime)

    with every(0.01, look):
        train(run)
    epochs = settings.train.epochs
    ends[epochs] = history.stat().st_mtime
    images = (epochs - 1) * settings.train.steps * settings.train.batch
    return images / (ends[epochs] - ends[1])


@contextlib.contextmanager
def study(request: Request, run: Path, *changes: str) -> Iterator[subprocess.Popen[str]]:
    """Run `python -m oneshot.tune quick`; it is stopped when the block ends."""
    data = Folder.of(request.data)
    root, dataset = data.path.rpartition("/")[::2]
    options = [f"data.dataset={dataset}", "train.val_pairs=200", "evaluate.trials=100", *changes]
    plain = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "oneshot.tune", "quick", "--run", str(run), "--data", root]
        + [part for option in options for part in ("--set", option)],
        env=plain, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def first_step(trial: Folder) -> float:
    """When a trial's first step began, in seconds since 1970: its first epoch's end less the epoch's duration."""
    return Path(trial.file(CURVES)).stat().st_mtime - read_history(trial)[0]["seconds"]


def startup(request: Request) -> Measured:
    """Seconds from the command to its first training step."""
    found = []
    for _ in range(1 if request.quick else request.repeats):
        with tempfile.TemporaryDirectory(prefix="oneshot-bench-", ignore_cleanup_errors=True) as folder:
            run = Path(folder) / "run"
            began = time.time()
            with study(request, run, "train.examples=256", "search.trials=2", "search.batch=[64]") as process:
                trials = [Folder.of(run / "trials" / name) for name in ("000", "001")]
                while not any(trial.has(CURVES) for trial in trials):
                    if process.poll() is not None:
                        raise RunFailed(f"the study ended before its first epoch: {process.communicate()[0][-300:]}")
                    time.sleep(0.05)
                found.append(min(first_step(trial) for trial in trials if trial.has(CURVES)) - began)
    return Measured(found, note="`python -m oneshot.tune quick` itself; make adds the check of its environment")


def turnaround(request: Request) -> Measured:
    """Seconds from the last report of a trial that is then stopped to the first step of the next trial."""
    trials = 3 if request.quick else 6
    with tempfile.TemporaryDirectory(prefix="oneshot-bench-", ignore_cleanup_errors=True) as folder:
        run = Path(folder) / "run"
        changes = [
            f"search.trials={trials}", "search.batch=[64]", f"scale.cpus={cores()}", "scale.gpus=0.0",
            f"search.reduction={trials + 1}",  # each trial stops after its first epoch; then one of them goes on
            "train.examples=512", "train.epochs=2", "evaluate.protocols=['seed352']",
        ]  # fmt: skip
        with study(request, run, *changes) as process:
            output = process.communicate()[0]
        if process.returncode:
            raise RunFailed(f"the study failed: {output[-300:]}")
        record = Folder.of(run).read_json(STUDY)["trials"]
        folders = [Folder.of(run / "trials" / trial["id"]) for trial in record]
        ends = [Path(folder.file(CURVES)).stat().st_mtime for folder in folders]
        found = [first_step(after) - end for end, after in zip(ends[:-1], folders[1:], strict=True)]
    note = f"{len(found)} trials stopped early, one trial at a time on {cores()} cores; the reference was measured"
    return Measured(found, [BEST_BEFORE], f"{note} with a prototype, 15 to 18 s")


def memory(request: Request) -> Measured:
    """The most memory (MB) that a training's worker held, less that of a Ray worker that has only imported torch and
    Ray Train."""
    import ray

    settings = _settings(request, cpus=cores(), epochs=2)
    about = store.describe(Folder.of(request.data))
    unpacked = about.rows * about.height * about.width / 1e6
    with _ray() as scratch:
        bare = float(ray.get(ray.remote(_bare).remote()))
        peaks: dict[int, float] = {}

        def look() -> None:
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error, OSError, StopIteration):
                    if "RayTrainWorker" in " ".join(process.cmdline()):
                        peaks[process.pid] = _memory(process.pid, "VmHWM")

        with every(0.05, look):
            _under_ray(request, settings, Folder.of(scratch / "run"), 1, cores())
    if not peaks:
        raise RunFailed("no worker of Ray Train was seen among the processes")
    peak = max(peaks.values())
    note = f"conv4 at 28 px on {about.name}: peak {peak:.0f} MB, of which torch and Ray {bare:.0f} MB"
    return Measured([peak - bare], [unpacked], note)


def _bare() -> float:
    import ray.train.torch  # noqa: F401

    torch.zeros(8, 8) @ torch.zeros(8, 8)
    return _memory(os.getpid(), "VmRSS")


def _memory(pid: int, what: str) -> float:
    """A field of a process's `/proc/PID/status` on Linux, such as VmHWM, in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith(what)).split()[1]) * 1024 / 1e6
