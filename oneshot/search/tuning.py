"""What Ray Tune is given: a searcher, a scheduler, a recorder, a time limit. What runs a trial is in `trial`."""

import math
import pickle
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ray.exceptions import RayActorError, RayTaskError
from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from oneshot.base.errors import DiskFull, last_line
from oneshot.base.jobs import with_point
from oneshot.base.settings import Settings
from oneshot.base.storage import Folder
from oneshot.cluster import reclaim
from oneshot.run.history import read_failure
from oneshot.screen.live import StudyView
from oneshot.search import points
from oneshot.search.halving import Halving
from oneshot.search.study import OVER, Study
from oneshot.search.trial import FAILED, HOMELESS, METRIC

MANY = 8  # so many failed trials at once may not be the trials' fault
SHARE = 0.1  # of the trials that ended: a broken node ends a trial in seconds, is free again and takes the next


class PlannedSearch(Searcher):
    """The trials of a study, each from rung to rung. Those that were broken off go on first, then those due to leave a
    rung; then new ones begin.

    A trial that finds no room waits for one that ends or for a node that comes (`nodes`: how many there are). If no
    other runs, the search is over, and `why_over` says why. If at least MANY trials, and more than a SHARE of those
    that ended in this session, failed without an epoch, no more begin, and `why_broken` says why. `remade`: trials
    whose networks were lost, and the rungs up to which they are made again.
    """

    def __init__(
        self, settings: Settings, study: Study, data: Folder, *, concurrent: int, nodes: Callable[[], int],
        remade: Mapping[str, int] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(metric=METRIC, mode="min")
        self.nodes, self.why_over, self.why_broken = nodes, "", ""
        self.ended = 0  # trials, in this session
        self.fruitless: list[dict[str, Any]] = []  # of these, the ones that failed without an epoch
        self.remade = dict(remade or {})
        self.full: tuple[int, int] | None = None  # running trials and nodes when one more found no room
        self.settings, self.study, self.data, self.concurrent = settings, study, data, concurrent
        self.points, self.halving = points.proposer(settings.search), Halving(settings)
        left = [trial for trial in study.trials if trial["status"] not in OVER]
        self.begun = [trial for trial in left if study.begun(trial["id"])]
        self.new = [trial for trial in left if not study.begun(trial["id"])]
        self.nobody_due: tuple[int, set[str], bool] | None = None  # `_due`'s state when no trial was due
        self.running: dict[str, dict[str, Any]] = {}  # by Tune's own trial ids
        self.had: dict[str, int] = {}  # by the same ids: epochs when they began or went on
        for trial in study.trials:
            if trial["status"] in OVER:
                self._tell(trial, _outcome(trial))

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self.why_over or self.why_broken:
            return Searcher.FINISHED
        if self.full and len(self.running) >= self.full[0] and self.nodes() <= self.full[1]:
            return None
        self.full = None
        trial = self._next()
        if trial is None:
            return None if self.running else Searcher.FINISHED
        if len(self.fruitless) >= MANY and len(self.fruitless) > SHARE * self.ended:
            self.why_broken = self._commonest()
            self.study.say(f"{self.why_broken}; no more are begun, and those that run are finished")
            return Searcher.FINISHED
        until = self.remade.get(trial["id"]) or self.halving.until(trial)
        begun = self.study.begun(trial["id"])
        point = trial["settings"] if begun else self.points.ask(int(trial["id"]))
        self.running[trial_id], self.had[trial_id] = trial, trial["epochs"]
        return {
            "trial": trial["id"],
            "point": point,
            # As one text: Tune keeps statistics of every number in a trial's configuration, report after report.
            "settings": with_point(self.settings, point).to_toml(),
            "folder": self.study.folder(trial["id"]).uri,
            "data": self.data.uri,
            "known": len(trial["history"]),
            "until": until,
            # Whether another trial will take this one's place: a new one, or one that is due to leave a rung.
            "followed": len(self.new) >= self.concurrent or until < self.halving.epochs,
        }

    def _next(self) -> dict[str, Any] | None:
        if self.begun:
            return self.begun.pop(0)
        return self._due() or (self.new.pop(0) if self.new else None)

    def _due(self) -> dict[str, Any] | None:
        """The trial that is to leave a rung. Tune asks ten times a second, at the end while most of its places are
        empty, so the answer "none" is kept until something changes."""
        busy = {trial["id"] for trial in self.running.values()}
        known = self.study.changes, busy, bool(self.new)
        if known == self.nobody_due:
            return None
        due = self.halving.due(self.study.trials, busy=busy, last=not busy and not self.new)
        self.nobody_due = None if due else known
        return due

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        trial, had = self.running.pop(trial_id), self.had.pop(trial_id, 0)
        if result and result.get("ended") == HOMELESS:
            self.begun.append(trial)
            self.full = len(self.running), self.nodes()
            self.why_over = "" if self.running else result["why"]
            return
        self.ended += 1
        if (error or (result and result.get("ended") == FAILED)) and trial["epochs"] == had:
            self.fruitless.append(trial)
        self.remade.pop(trial["id"], None)
        # A process may die after the last epoch: such a trial counts as the session after this one will find it.
        self._tell(trial, None if error and not _ended(trial) else _outcome(trial))

    def _commonest(self) -> str:
        """The most common reason why trials failed without an epoch, as a sentence."""
        reasons = Counter(
            str(trial["error"]).removeprefix(f"the training in {self.study.folder(trial['id'])} failed: ")
            for trial in self.fruitless
        )
        ((why, times),) = reasons.most_common(1)
        return f"{len(self.fruitless)} of {self.ended} trials failed without an epoch, {times} of them because: {why}"

    def _tell(self, trial: dict[str, Any], loss: float | None) -> None:
        self.points.tell(int(trial["id"]), points.completed(trial["settings"], self.settings), loss)

    # Tune pickles a searcher with the experiment and saves it every few seconds, to go on from later; this one goes on
    # from study.json.
    def save(self, checkpoint_path: str) -> None: ...

    def restore(self, checkpoint_path: str) -> None: ...

    def __getstate__(self) -> dict[str, Any]:
        return {}


def _ended(trial: Mapping[str, Any]) -> str:
    """Why a trial's training ended, by its history; empty if it has not ended."""
    return trial["history"][-1].get("ended", "") if trial["history"] else ""


def _outcome(trial: Mapping[str, Any]) -> float | None:
    """The loss that a trial is compared by: infinite if it diverged before any epoch was validated, None if it has no
    loss for another reason. One that diverged later has the loss of its best epoch."""
    # While Tune ends a trial its status is still "running". A history that was lost has left the status alone.
    diverged = "diverged" in (trial["status"], _ended(trial))
    return math.inf if diverged and trial["val_loss"] is None else trial["val_loss"]


class InOrder(FIFOScheduler):
    """Runs trials as the search gives them. Each ends by itself, at a rung or at its end: there is nothing to stop."""

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """The first trial that waits. Ray's own method looks through all that are over, ten times a second."""
        waiting = (trial for trial in tune_controller.get_live_trials() if trial.status == Trial.PENDING)
        return min(waiting, key=lambda trial: int(trial.config["trial"]), default=None)


class TimeLimit(Stopper):
    """Ends the search after so many seconds; None: never. Tune makes no callback for the trials that run then."""

    def __init__(self, seconds: float | None) -> None:
        self.end = math.inf if seconds is None else time.monotonic() + seconds

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return time.monotonic() >= self.end


class Recorder(Callback):
    """Writes what happens to trials into the study's record, and shows it every `seconds` at most.

    Drawing a thousand trials takes a while, so the driver spends a hundredth of its time on it at most. If the record
    cannot be written, the search ends.
    """

    def __init__(self, study: Study, view: StudyView, *, seconds: float = 0.5) -> None:
        self.study, self.view, self.seconds = study, view, seconds
        self.due = 0.0  # when the record is to be shown again
        self.broken: Exception | None = None

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.study.start(trial.config["trial"], trial.config["point"])
        self._show()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if result.get("ended") in (FAILED, HOMELESS):
            return
        row = {key: result[key] for key in result if key in ROW}
        if result.get("noted"):  # looking costs requests, and all reports come to this one process
            self.study.hear(trial.config["trial"])
        self.study.row(trial.config["trial"], row)
        self._show()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        try:
            self._end(trial)
        except Exception as error:  # Tune would blame the trial, and run it again beside the next one
            self.broken = error

    def _end(self, trial: Any) -> None:
        if trial.last_result.get("ended") == HOMELESS:
            self.study.again(trial.config["trial"], trial.last_result["why"])
        else:
            error = self.study.patiently(partial(read_failure, Folder.of(trial.config["folder"])))
            self.study.hear(trial.config["trial"])
            self.study.end(trial.config["trial"], error=error)
        _forget(trial)
        self._show()

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        reclaim.soon()
        _raise_if_full(trial)
        self.study.note(trial.config["trial"], f"{_reason(trial)}; it goes on from its newest whole checkpoint")
        self._show()

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        reclaim.soon()
        _raise_if_full(trial)
        self.study.hear(trial.config["trial"])
        self.study.end(trial.config["trial"], error=_reason(trial), settings=trial.config["point"])
        _forget(trial)
        self._show()

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if self.broken:
            raise self.broken
        self._show()

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        reclaim.soon()  # for trials that a time limit ends
        self.due = 0.0
        self._show()

    def _show(self) -> None:
        if time.monotonic() < self.due:
            return
        began = time.thread_time()  # not wall time: others' work would silence the screen
        self.view.update(self.study.record())
        self.due = time.monotonic() + max(self.seconds, 100 * (time.thread_time() - began))

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its callbacks with the experiment, to restore them; nothing is restored from there."""
        return {}


ROW = (
    "epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_oneshot", "val_spread", "lr", "seconds",
    "images_per_second", "best", "ended",
)  # fmt: skip


def _forget(trial: Any) -> None:
    """Drop Tune's own statistics of a trial that is over. Nobody reads them, and they would hold 20 kB."""
    trial.run_metadata.metric_analysis.clear()
    trial.run_metadata.metric_n_steps.clear()


def _error(trial: Any) -> BaseException | None:
    """What ended a trial, read from the file that Tune keeps of it."""
    path = Path(trial.pickled_error_file or "")
    # Written by this session's own Ray, in a temporary folder of this session: no run folder holds such a file.
    error = pickle.loads(path.read_bytes()) if path.is_file() else None
    return error.cause if isinstance(error, RayTaskError) else error


def _raise_if_full(trial: Any) -> None:
    """Raise DiskFull if that ended a trial: the next trials would fail too, and the search end with a part of them."""
    error = _error(trial)
    if isinstance(error, DiskFull):
        raise error


def _reason(trial: Any) -> str:
    error = _error(trial)
    if isinstance(error, RayActorError):
        return "its process died: killed, or out of memory"
    return last_line(str(error)) if error else "it failed and left no reason"
