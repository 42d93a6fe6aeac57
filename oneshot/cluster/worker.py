"""What each of Ray Train's workers runs. Only they import this module, as it imports torch."""

import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import ray.train
import torch
from ray.train.torch import get_device

from oneshot.base.environment import HARDWARE, this_machine
from oneshot.base.errors import GPU_FULL, RunFailed, UserError
from oneshot.base.jobs import parse
from oneshot.base.settings import Settings
from oneshot.base.storage import Folder
from oneshot.cluster import ahead
from oneshot.cluster.packing import why_no_gpu
from oneshot.data.cache import near
from oneshot.network.worker import ProcessGroupWorker
from oneshot.run.history import FAILURE, is_started, read_failure, write_note
from oneshot.run.watchdog import Moves, still, watchdog
from oneshot.training.loop import fit
from oneshot.training.parts import load_parts

SHOWN = 60.0  # seconds within which a network disk shows each node what another wrote: NFS clients look that often
ALONE = 10.0  # seconds after which a worker that cannot go on counts as the only one


class Ahead(Moves):
    """Starts the processes that the next trial will need, once the first step is done. They are ready in time then, and
    have delayed nothing. `followed`: the process that drives this trial, or None if no trial follows."""

    def __init__(self, run: Folder, *, leads: bool, followed: ahead.Process | None) -> None:
        self.run, self.leads, self.followed = run, leads, followed
        self.due = followed is not None
        self.noted = True  # there may be unreported notes, such as what ended earlier processes

    def note(self, sentence: str) -> None:
        self.noted = True

    def step(self, done: int, loss: float, images_per_second: float) -> None:
        self.moved()
        if not self.due:
            return
        self.due = False
        try:
            # Each restart uses up workers that were started ahead, but no driver.
            if self.leads and ahead.first(ray.train.get_context().get_experiment_name()):
                self.followed.start_another()
            ahead.this_process().start_another()
        except RuntimeError as error:
            if self.leads:
                write_note(self.run, f"the next trial's processes cannot be started ahead ({error})")
                self.noted = True


class RayWorker(ProcessGroupWorker):
    """Reports to Ray Train, and with each report whether there may be new notes to read."""

    def __init__(self, device: torch.device, watch: Ahead, *, precision: str, compress: str) -> None:
        super().__init__(device, precision=precision, compress=compress)
        self.watch = watch

    def report(self, row: dict[str, Any]) -> None:
        noted, self.watch.noted = self.watch.noted, False
        with self.watch.resting():
            ray.train.report(row | {"noted": noted})


def train(config: dict[str, Any]) -> None:
    """Take part in the training that `trainer` describes."""
    torch.set_num_threads(config["cpus"])  # not more than its share: oversubscribed cores are the usual loss on CPU
    settings, run = parse(config["settings"], "the run's settings"), Folder.of(config["run"])
    rank = ray.train.get_context().get_world_rank()
    watch = Ahead(run, leads=rank == 0, followed=config["followed"])
    who = f"worker {rank} on {socket.gethostname()}"
    # Around all reading and writing: this process would wait for ever for a disk that does not answer.
    with watchdog(watch, seconds=still(settings.scale), who=who, tell=partial(write_note, run)):
        # A node may have come after `sharing` asked all. If it has a disk of its own, nobody would see what it writes.
        if not _within(SHOWN, lambda: is_started(run, config["mark"]), meanwhile=watch.moved):
            raise RunFailed(
                f"the node {socket.gethostname()} does not see the run folder {run}: that path is another disk"
                " there, or missing; the node joined after the others were checked"
            )
        if read_failure(run):  # written by rank 0 before a restart: it would only fail again
            return
        try:
            _fit(config, settings, run, watch)
        except UserError as error:
            # Raising would make Ray Train restart what can only fail again. If every rank meets the same input, rank 0
            # writes the error down, and all return.
            if watch.leads:
                run.write_json(FAILURE, {"error": str(error)})
            elif not _within(ALONE, lambda: read_failure(run)):  # this node alone is at fault: its disk, its GPU
                raise RunFailed(f"on the node {socket.gethostname()}: {error}") from None


def _fit(config: dict[str, Any], settings: Settings, run: Folder, watch: Ahead) -> None:
    device = get_device()
    if device.type == "cuda":
        _check_usable()
    worker = RayWorker(device, watch, precision=settings.train.precision, compress=settings.scale.compress)
    here = this_machine(str(device))
    here["gpus"] = [gpu for gpus in worker.of_each(here["gpus"]) for gpu in gpus]  # those of all ranks
    if watch.leads:
        run.write_json(HARDWARE, here)
    with watch.resting():  # copying a data set may take long, and a store's client gives up by itself
        data = near(Folder.of(config["data"]))
    parts = load_parts(data, settings.data, moved=watch.moved)
    watch.moved()
    try:
        fit(worker, settings, parts, run, known=config["known"], until=config["until"], watch=watch)
    except torch.OutOfMemoryError as error:
        if config["gpus"] < 1:  # others share this GPU: a restart may find room
            raise
        raise UserError(GPU_FULL.format(error)) from None


def _check_usable() -> None:
    """Raises UserError if Ray gives this worker a GPU that torch cannot use."""
    if not torch.cuda.is_available():
        why = why_no_gpu() or "Ray gives this worker a GPU, but torch sees none"
        raise UserError(f"{socket.gethostname()}: {why}; --set scale.gpus=0 trains on the CPUs")


def _within(seconds: float, holds: Callable[[], object], *, meanwhile: Callable[[], object] = lambda: None) -> bool:
    """Wait up to `seconds` for `holds()` to be true, calling `meanwhile` in between. Returns whether it was."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        meanwhile()
        time.sleep(0.2)
    return True
