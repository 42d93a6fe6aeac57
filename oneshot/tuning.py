"""What Ray Tune is given: a searcher, a scheduler, a recorder, a time limit. What runs a trial: trial."""

import math
import pickle
import time
from pathlib import Path
from typing import Any

from ray.exceptions import RayActorError, RayTaskError
from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from oneshot import search
from oneshot.errors import DiskFull, last_line
from oneshot.screen.live import StudyView
from oneshot.settings import Settings
from oneshot.storage import Folder
from oneshot.study import OVER, Study
from oneshot.trainer import read_failure
from oneshot.trial import FAILED, METRIC, TIME


class PlannedSearch(Searcher):
    """The trials of a study that are not over: those that were begun go on as they were, new ones get new points."""

    def __init__(self, settings: Settings, study: Study, data: Folder, *, concurrent: int) -> None:
        super().__init__(metric=METRIC, mode="min")
        self.settings, self.study, self.data, self.concurrent = settings, study, data, concurrent
        self.points = search.points(settings.search)
        self.waiting = [trial["id"] for trial in study.trials if trial["status"] not in OVER]
        self.asked: dict[str, dict[str, Any]] = {}  # by Tune's own trial ids
        for trial in study.trials:
            if trial["status"] in OVER:
                self.points.tell(trial["settings"], trial["val_loss"])

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        if not self.waiting:
            return Searcher.FINISHED
        trial = self.study.trial(self.waiting.pop(0))
        point = trial["settings"] or self.points.ask(int(trial["id"]))
        self.asked[trial_id] = trial
        return {
            "trial": trial["id"],
            "point": point,
            # As one text: of every number in a trial's configuration Tune keeps statistics, report after report.
            "settings": self.settings.with_point(point).to_toml(),
            "folder": self.study.folder(trial["id"]).uri,
            "data": self.data.uri,
            "known": len(trial["history"]),
            "followed": len(self.waiting) >= self.concurrent,  # another trial will have this one's place
        }

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        trial = self.asked[trial_id]
        self.points.tell(trial["settings"], None if error else trial["val_loss"])

    # Tune saves a searcher every few seconds to go on from later; this one goes on from study.json.
    def save(self, checkpoint_path: str) -> None: ...

    def restore(self, checkpoint_path: str) -> None: ...


class ResumableASHA(ASHAScheduler):
    """Asynchronous successive halving (Li et al. 2020) that knows what earlier sessions of the study reported.

    The rungs hold the loss of every trial that reached them, so a trial that goes on is compared with the same
    others as if nothing had happened.
    """

    def __init__(self, settings: Settings, study: Study) -> None:
        super().__init__(
            time_attr=TIME, metric=METRIC, mode="min", max_t=settings.train.epochs,
            grace_period=settings.search.grace or settings.train.epochs, reduction_factor=settings.search.reduction,
        )  # fmt: skip
        self.study = study
        for trial in study.trials:
            if trial["status"] in OVER:
                self._tell(_Past(trial["id"]), trial)

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        self._tell(trial, self.study.trial(trial.config["trial"]))

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """The first trial that waits. Ray's own way to find it is through all that are over, ten times a second."""
        waiting = (trial for trial in tune_controller.get_live_trials() if trial.status == Trial.PENDING)
        return min(waiting, key=lambda trial: int(trial.config["trial"]), default=None)

    def _tell(self, trial: Any, record: dict[str, Any]) -> None:
        super().on_trial_add(None, trial)
        for row in record["history"]:
            if row["val_loss"] is not None:
                self.on_trial_result(None, trial, row)  # what it decides now was decided then


class _Past:
    """Stands for a trial of an earlier session: all the scheduler asks of one is its id."""

    def __init__(self, name: str) -> None:
        self.trial_id = f"past-{name}"


class TimeLimit(Stopper):
    """Ends the search after so many seconds; None: never. Of the trials that run then Tune tells nobody."""

    def __init__(self, seconds: float | None) -> None:
        self.end = math.inf if seconds is None else time.monotonic() + seconds

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return time.monotonic() >= self.end


class Recorder(Callback):
    """Writes what happens to trials into the study's record and shows it, every `seconds` at most.

    To draw a thousand trials takes a while: the driver spends a hundredth of its time on it at most.
    """

    def __init__(self, study: Study, view: StudyView, *, seconds: float = 0.5) -> None:
        self.study, self.view, self.seconds = study, view, seconds
        self.due = 0.0  # when it is to be shown again

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.study.start(trial.config["trial"], trial.config["point"])
        self._show()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if result.get("ended") == FAILED:
            return
        row = {key: result[key] for key in result if key in ROW}
        self.study.hear(trial.config["trial"])
        self.study.row(trial.config["trial"], row)
        self._show()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.study.end(trial.config["trial"], error=read_failure(Folder.of(trial.config["folder"])))
        _forget(trial)
        self._show()

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        _raise_if_full(trial)
        self.study.note(trial.config["trial"], f"{_reason(trial)}; it goes on from its newest whole checkpoint")
        self._show()

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        _raise_if_full(trial)
        self.study.end(trial.config["trial"], error=_reason(trial))
        _forget(trial)
        self._show()

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._show()

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        self.due = 0.0
        self._show()

    def _show(self) -> None:
        began = time.monotonic()
        if began < self.due:
            return
        self.view.update(self.study.record())
        ended = time.monotonic()
        self.due = ended + max(self.seconds, 100 * (ended - began))

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its callbacks with the experiment, to restore them; nothing is restored from there."""
        return {}


ROW = (
    "epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_oneshot", "val_spread", "lr", "seconds",
    "images_per_second", "best", "ended",
)  # fmt: skip


def _forget(trial: Any) -> None:
    """Drop Tune's own statistics of a trial that is over. Nobody reads them, and they are 20 kB that stay."""
    trial.run_metadata.metric_analysis.clear()
    trial.run_metadata.metric_n_steps.clear()


def _error(trial: Any) -> BaseException | None:
    """What ended a trial, by the file that Tune keeps of it."""
    path = Path(trial.pickled_error_file or "")
    # Written by this session's own Ray, in a temporary folder of this session: no run folder holds such a file.
    error = pickle.loads(path.read_bytes()) if path.is_file() else None
    return error.cause if isinstance(error, RayTaskError) else error


def _raise_if_full(trial: Any) -> None:
    """On a full disk the next trials would fail as well, and the search end with a part of them."""
    error = _error(trial)
    if isinstance(error, DiskFull):
        raise error


def _reason(trial: Any) -> str:
    error = _error(trial)
    if isinstance(error, RayActorError):
        return "its process died: killed, or out of memory"
    return last_line(str(error)) if error else "it failed and left no reason"
