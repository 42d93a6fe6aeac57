"""Rows about whole searches: what early stopping saves, and what a thousand trials cost the driver."""

import contextlib
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from oneshot.base.errors import RunFailed
from oneshot.base.storage import Folder
from oneshot.bench.launch import study
from oneshot.bench.rows import Measured, Request
from oneshot.bench.steps import small_settings
from oneshot.cluster import connection
from oneshot.cluster.packing import Packing
from oneshot.evaluation.spread import student
from oneshot.run.history import measured, read_history
from oneshot.screen.console import console
from oneshot.screen.live import StudyView
from oneshot.search import tune
from oneshot.search.study import STUDY, Study

SEEDS = (0, 1, 2)
TRIALS, EPOCHS, AT_ONCE = 1_000, 3, 8  # of the row `driver`: trials, epochs of each, trials at once


def early_stopping(request: Request) -> Measured:
    """Epochs of the job `quick` with early stopping, against those of the same trials all run to the end, for each
    seed."""
    figures: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    for seed in SEEDS[:1] if request.quick else SEEDS:
        for early in (True, False):
            with _place(request, f"seed-{seed}-{'with' if early else 'without'}") as run:
                figures[early].append(_searched(request, run, seed=seed, early=early))
    value, reference = ([each["epochs"] for each in figures[early]] for early in (True, False))
    lost = [b["oneshot"] - a["oneshot"] for a, b in zip(figures[True], figures[False], strict=True)]
    mean, error, said = statistics.mean(lost), 0.0, ""
    if len(lost) > 1:
        error = statistics.stdev(lost) / len(lost) ** 0.5
        low, high = student(lost)
        said = f", standard error over seeds {100 * error:.1f}, 95 % interval {100 * low:+.1f} to {100 * high:+.1f}"
    note = (
        f"{len(value)} seeds; within on validation, the best trial's: "
        + ", ".join(
            f"{100 * a['oneshot']:.1f} against {100 * b['oneshot']:.1f} %"
            for a, b in zip(figures[True], figures[False], strict=True)
        )
        + f"; {100 * mean:.1f} points lost on average{said}"
    )
    details = {"with": figures[True], "without": figures[False]}
    return Measured(value, reference, note, {"loss of accuracy": mean, "its noise": error}, details)


@contextlib.contextmanager
def _place(request: Request, name: str) -> Iterator[Path]:
    """The folder of a study: one below `request.keep`, which stays, or else a temporary one that goes when the block
    ends."""
    if request.keep:
        yield Path(request.keep) / ("quick" if request.quick else "whole") / name
        return
    with tempfile.TemporaryDirectory(prefix="oneshot-bench-", ignore_cleanup_errors=True) as folder:
        yield Path(folder) / "run"


def _searched(request: Request, run: Path, *, seed: int, early: bool) -> dict[str, Any]:
    """Run a search. Returns its epochs, the one-shot accuracy on validation of its best trial at its best epoch, and
    the losses and accuracies of all epochs of all trials: if all trials ran to the end, these tell what other rungs
    would have cost."""
    val_trials = 20 if request.quick else 2000
    changes = [f"search.seed={seed}", f"train.seed={seed}", f"train.val_trials={val_trials}", "train.val_pairs=4000"]
    if request.quick:
        changes += ["search.trials=2", "train.epochs=2", "train.examples=256", "search.batch=[64]"]
    with study(request, run, *changes, *([] if early else ["search.grace=0"])) as process:
        output = process.communicate()[0]
    if process.returncode:
        raise RunFailed(f"the search of seed {seed} failed: {output[-300:]}")
    record = Folder.of(run).read_json(STUDY)
    best = min(measured(record["trials"]), key=lambda trial: trial["val_loss"])
    histories = {trial["id"]: read_history(Folder.of(run / "trials" / trial["id"])) for trial in record["trials"]}
    kept = {name: [[row["val_loss"], row["val_oneshot"]] for row in measured(rows)] for name, rows in histories.items()}
    oneshot = kept[best["id"]][best["best_epoch"] - 1][1]
    return {"epochs": record["epochs_run"], "oneshot": oneshot, "trials": val_trials, "histories": kept}


class Meter(StudyView):
    """A study's console view that also notes how many reports there were and what they cost the driver so far."""

    def __init__(self, *, every: int) -> None:
        super().__init__(console(quiet=True))
        self.every, self.marks = every, [self._mark(0)]

    def update(self, study: Any) -> None:
        super().update(study)
        reports = sum(trial["epochs"] for trial in study["trials"])
        if reports - self.marks[-1][0] >= self.every:
            self.marks.append(self._mark(reports))

    @staticmethod
    def _mark(reports: int) -> "Mark":
        return Mark(reports, time.process_time(), psutil.Process().memory_info().rss / 1e6, time.monotonic())


class Mark(NamedTuple):
    """A number of reports, and by then the driver's CPU seconds, its memory in MB, and a clock in seconds."""

    reports: int
    cpu: float
    memory: float
    clock: float


def driver(request: Request) -> Measured:
    """The driver's CPU time a report, in milliseconds: at the search's end, against near its beginning."""
    trials, at_once = (20, 2) if request.quick else (TRIALS, AT_ONCE)
    marks = driven(trials, epochs=EPOCHS, at_once=at_once)
    costs = [1000 * (b.cpu - a.cpu) / (b.reports - a.reports) for a, b in itertools.pairwise(marks)]
    # Tune polls ten times a second, so reports that come seldom cost more each.
    apart = [(b.clock - a.clock) / (b.reports - a.reports) for a, b in itertools.pairwise(marks)]
    memory = [mark.memory for mark in marks]
    growth = memory[-1] / memory[min(2, len(memory) - 1)]
    note = (
        f"{trials:,} trials, {marks[-1].reports:,} reports, ASHA, {at_once} at once; a report comes after"
        f" {apart[min(1, len(apart) - 1)]:.2f} s at the beginning and {apart[-1]:.2f} s at the end; memory"
        f" {memory[min(2, len(memory) - 1)]:.0f} MB after the first tenths, {memory[-1]:.0f} MB at the end"
    )
    reports = [mark.reports for mark in marks]
    details = {"reports": reports, "milliseconds": costs, "seconds": apart, "memory": memory}
    return Measured([costs[-1]], [costs[min(1, len(costs) - 1)]], note, {"growth of memory": growth}, details)


def driven(trials: int, *, epochs: int, at_once: int) -> list[Mark]:
    """Run a study of synthetic trials with the program's own driver; returns the marks of its course. Raises RunFailed
    if a trial did not end."""
    settings = small_settings(
        **{"search.trials": trials, "search.searcher": "random", "train.epochs": epochs, "search.grace": 1}
    )
    packing = Packing(workers=1, cpus=1, gpus=0.0, concurrent=at_once)
    meter = Meter(every=max(1, trials * 2 // 12))
    folder = tempfile.TemporaryDirectory(prefix="oneshot-bench-", ignore_cleanup_errors=True)
    with folder as name, connection.connect(None, console=console(quiet=True)):
        from oneshot.bench.synthetic import synthetic  # imported here, as is everything that imports Ray

        header = {
            "job": "driver", "dataset": "none", "split": "none", "epochs": epochs, "searcher": "random",
            "started": time.time(), "workers": 1, "device": "cpu", "concurrent": at_once,
        }  # fmt: skip
        made = Study(Folder.of(Path(name) / "run"), trials=trials, header=header)
        with meter:
            tune.tune(settings, made, Folder.of(name), packing, meter, trial=synthetic)
        over = sum(trial["status"] in ("finished", "stopped") for trial in made.trials)
    if over != trials:
        raise RunFailed(f"{trials - over} of {trials} trials did not end")
    return meter.marks
