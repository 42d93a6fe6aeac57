"""Reads a run for a report, over or not, wherever it lies: records only, neither network nor data.

A running study writes each file whole or not at all, so another process can read it at any time.
"""

import base64
import io
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from oneshot.base.errors import UserError
from oneshot.base.settings import Settings
from oneshot.base.storage import Folder
from oneshot.data import glyphs
from oneshot.data.splits import is_own
from oneshot.evaluation.judgement import RESULT, result_of, touched
from oneshot.evaluation.outcomes import OUTCOMES
from oneshot.run import cards, formats, owner
from oneshot.run.history import (
    DIVERGED,
    FAILURE,
    HISTORY,
    best_row,
    measured,
    reached,
    read_failure,
    read_history,
    why_over,
)
from oneshot.run.opened import EXPERIMENT, settings_of_run
from oneshot.run.pruning import noted
from oneshot.run.watch import PULSE, STAGE
from oneshot.screen.results import trained_in
from oneshot.screen.words import Words, words_of
from oneshot.search.study import STUDY, was_begun

# A run that is not over is no longer called running if it wrote nothing for some time: EPOCHS times its longest epoch,
# but at least QUIET seconds; SILENT seconds if no epoch tells how long one takes.
QUIET, SILENT, EPOCHS = 60.0, 600.0, 3
_SIDE = 256  # pixels a side of a drawing, at most
_AT_ONCE = 16  # files read at a time: a store far away answers late


@dataclass(frozen=True)
class Run:
    """A run as its folder holds it. `study` is None for a single training; `result` and `outcomes` are None until the
    network in its `best/` is judged.

    `trials` have their histories, the lowest loss first; a single training is one trial. `written` is when the run last
    wrote (seconds since 1970), `read` when this was read. `missing` says, in a sentence each, what is not there and how
    to get it.
    """

    name: str
    where: str
    settings: Settings
    experiment: str  # the settings' text
    study: Mapping[str, Any] | None
    trials: list[dict[str, Any]]
    best: dict[str, Any] | None  # the trial that was judged, or that leads so far
    result: Mapping[str, Any] | None
    outcomes: Mapping[str, Any] | None
    environment: Mapping[str, Any] | None  # in which the network was trained
    taught: bool | str  # whether it was taught what validates, see `cards.MeasuredOn`; False if unknown
    touched: int  # how often the test alphabets were scored
    written: float
    read: float
    over: bool
    held: bool  # whether a process is known to hold its folder now
    pruned: bool  # of a study: whether its trials have lost their checkpoints
    missing: tuple[str, ...] = ()

    @property
    def running(self) -> bool:
        """Whether it is going on, as far as its folder tells: it is not over, and either a process holds its folder, or
        it wrote lately and what it began has not ended."""
        if self.over or self.held:
            return not self.over
        if self.pruned or self._failed:
            return False
        begun = [trial for trial in self.trials if trial["status"] != "pending" or trial["history"]]
        times = [row["seconds"] for trial in begun for row in trial["history"] if row.get("seconds")]
        patience = max(QUIET, EPOCHS * max(times)) if times else SILENT
        if begun and self.has("pending") and not self.has("running"):
            if self.result:
                return False  # judged at its time limit
            patience = QUIET  # between two trials, which takes no epoch's time; or it was interrupted
        return self.read - self.written < patience

    @property
    def state(self) -> str:
        """The state, a word: running; judged (its network has its result, though trials may wait, as at a time limit);
        finished or diverged (a training that is not judged); failed (it ended with nothing to show); stopped (it was
        pruned, and does not go on); interrupted (it would)."""
        if self.running:
            return "running"
        if self.result is not None and not self.has("running"):
            return "judged"
        if self.pruned or self._failed:
            return "failed" if self._failed else "stopped"
        return self.trials[0]["status"] if self.study is None and self.over else "interrupted"

    @property
    def _failed(self) -> bool:
        """Whether it ended with nothing to show: a training that recorded an error, or a study none of whose trials has
        an epoch."""
        if self.study is None:
            return self.has("failed")
        return not (self.has("pending") or self.has("running") or measured(self.trials))

    def has(self, status: str) -> bool:
        return any(trial["status"] == status for trial in self.trials)

    @property
    def words(self) -> Words:
        return words_of(self.settings.data.split)

    @property
    def dataset(self) -> str:
        """The name of the data set as people are shown it."""
        if known := (self.result or self.study or {}).get("dataset"):
            return str(known)
        asked = self.settings.data.dataset
        return glyphs.NAME if glyphs.numbers_of(asked) else asked


def read(run: Folder, *, shown: bool = True) -> Run:
    """Read a run's folder; if `shown`, with the single trials of its judgement and what is missing for a page. Raises
    UserError if the folder holds no run, or if a file in it is damaged."""
    settings = settings_of_run(run)
    words = words_of(settings.data.split)
    study = formats.read(formats.Study, run, STUDY) if run.has(STUDY) else None
    trials = sorted(_trials_of(run, study), key=_by_loss) if study else [_training(run, settings)]
    result = result_of(run)
    outcomes = _by_class(read_outcomes(run, result), settings) if shown else None
    best = _best(trials, result)
    network = formats.read(cards.Card, run / "best", cards.CARD) if (run / "best").has(cards.CARD) else {}
    over = _over(study, trials, result, planned=settings.search.trials)
    return Run(
        name=run.name,
        where=str(run),
        settings=settings,
        experiment=run.read(EXPERIMENT).decode(),
        study=study,
        trials=trials,
        best=best,
        result=result,
        outcomes=outcomes,
        environment=trained_in(result) if result else network.get("provenance", {}).get("environment"),
        taught=(network.get("calibration") or {}).get("measured_on", {}).get("taught", False),
        touched=touched(run),
        written=_last_word(run, trials, study is not None),
        read=time.time(),
        over=over,
        held=owner.is_held(run),
        pruned=bool(noted(run)),
        missing=tuple(_missing(run, study, trials, result, outcomes, over, words)) if shown else (),
    )


def _trials_of(run: Folder, study: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The study's trials with their histories, which are newer than what study.json says of a running trial."""
    begun = [trial for trial in study["trials"] if was_begun(trial)]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        rows = pool.map(lambda trial: read_history(run / "trials" / trial["id"]), begun)
        histories = dict(zip((trial["id"] for trial in begun), rows, strict=True))
    return [_updated(trial, histories.get(trial["id"], [])) for trial in study["trials"]]


def _by_loss(trial: Mapping[str, Any]) -> tuple[bool, float, str]:
    return trial["val_loss"] is None, trial["val_loss"] or 0.0, trial["id"]


def _updated(trial: Mapping[str, Any], history: list[dict[str, Any]]) -> dict[str, Any]:
    came = reached(history)
    return dict(trial) | {"history": history} | (came if came["epochs"] >= max(1, trial["epochs"]) else {})


def _training(run: Folder, settings: Settings) -> dict[str, Any]:
    """A single training in the form of a study's trial. Its settings say whether it is finished, as they may now ask
    for more epochs than it ended with. It failed if nothing was written since it recorded an error."""
    history, error = read_history(run), read_failure(run)
    if error and run.written([FAILURE]) < run.written([EXPERIMENT, HISTORY, PULSE]):
        error = None
    status = "failed" if error else "running"
    if history and history[-1].get("ended") == "diverged":
        status, error = "diverged", DIVERGED.format(epoch=history[-1]["epoch"])
    elif best := best_row(history):
        over = why_over(settings.train, epoch=history[-1]["epoch"], best_epoch=best["epoch"])
        status, error = ("finished", None) if over else (status, error)
    trial = {
        "id": "", "status": status, "settings": {}, "epochs": 0, "best_epoch": None, "val_loss": None, "error": error,
        "seconds": float(sum(row.get("seconds") or 0 for row in history)),
    }  # fmt: skip
    return _updated(trial, history)


def _best(trials: list[dict[str, Any]], result: Mapping[str, Any] | None) -> dict[str, Any] | None:
    judged = (result or {}).get("best_trial") or {}
    named = [trial for trial in trials if judged.get("id") and trial["id"] == judged["id"]]
    return named[0] if named else min(measured(trials), key=lambda trial: trial["val_loss"], default=None)


def _over(
    study: Mapping[str, Any] | None, trials: list[dict[str, Any]], result: Mapping[str, Any] | None, *, planned: int
) -> bool:
    """A study is over when it is judged, has all its trials, which a session that is killed at once may not have
    written, and none waits, as some do at a time limit; a training, when it ended."""
    if study is not None:
        ended = all(trial["status"] not in ("pending", "running") for trial in trials)
        return result is not None and ended and len(trials) >= planned
    return trials[0]["status"] not in ("running", "failed")


def read_outcomes(run: Folder, result: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Single trials of the judgement that gave the result; None if there are none or they are of another network."""
    if result is None or not run.has(OUTCOMES):
        return None
    kept = formats.read(formats.Outcomes, run, OUTCOMES)
    same = kept["sha256"] == result.get("sha256") and kept["protocol"] in result["protocols"]
    if not same:
        return None
    for drawing in kept["drawings"]:
        _check_picture(drawing["png"], run.file(OUTCOMES))
    return kept


def _by_class(outcomes: dict[str, Any] | None, settings: Settings) -> dict[str, Any] | None:
    """Take the group off the names of own classes that are in no groups: it is the name of their data set, and tells
    none from another."""
    if outcomes is None or not is_own(settings.data.split):
        return outcomes
    group = settings.data.dataset.partition("@")[0] + "/"
    for one in (*outcomes["drawings"], *(each for part in outcomes["map"] for each in part["characters"])):
        one["character"] = one["character"].removeprefix(group)
    for pair in outcomes["confused"]["pairs"]:
        pair["characters"] = [name.removeprefix(group) for name in pair["characters"]]
    return outcomes


def _check_picture(png: str, where: str) -> None:
    """Raises UserError unless this is a small PNG: anyone may have changed the file."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(png)), formats=["PNG"]) as image:
            if max(image.size) > _SIDE:
                raise ValueError(f"{image.size[0]} x {image.size[1]} pixels")
            image.load()
    except Exception as error:  # Pillow answers damage with some ten kinds of exception
        raise UserError(f"{where} is damaged: it holds an invalid drawing ({error}); restore it or remove it") from None


def _last_word(run: Folder, trials: list[dict[str, Any]], is_study: bool) -> float:
    """When a record of the run was last written, seconds since 1970."""
    names = [EXPERIMENT, STUDY, HISTORY, RESULT, PULSE, STAGE]
    if is_study:
        at_work = [trial["id"] for trial in trials if trial["status"] == "running"]
        names += [f"trials/{id}/{name}" for id in at_work for name in (HISTORY, PULSE)]
    return run.written(names)


def told_apart(runs: Sequence[Run]) -> list[Run]:
    """The runs, each named by as many folders at the end of its path as tell it from the others: the seeds of two jobs
    are `cpu5/seed-1` and `cpu20/seed-1`."""
    paths = [run.where.rstrip("/").split("/") for run in runs]

    def name(path: list[str]) -> str:
        others = [other for other in paths if other != path]
        enough = (many for many in range(1, len(path)) if all(other[-many:] != path[-many:] for other in others))
        return "/".join(path[-next(enough, len(path)) :])

    return [replace(run, name=name(path)) for run, path in zip(runs, paths, strict=True)]


def _missing(
    run: Folder, study: Mapping[str, Any] | None, trials: list[dict[str, Any]], result: Mapping[str, Any] | None,
    outcomes: Mapping[str, Any] | None, over: bool, words: Words,
) -> list[str]:  # fmt: skip
    sentences = []
    lost = [trial["id"] for trial in trials if trial["epochs"] and not trial["history"]]
    if lost:
        sentences.append(f"The history of trial {', '.join(lost)} is lost: its curves are missing.")
    if result is None and run.has(RESULT):
        sentences.append(f"{RESULT} is not for the network that is now in best/: its figures are not shown.")
    if result is None and study is None and over and trials[0]["val_loss"] is not None:
        again = f"python -m oneshot.evaluate {run.quoted}"
        sentences.append(f"This training has not been judged on the {words.test}: {again}")
    if result is not None and outcomes is None:
        sentences.append(
            "The judgement did not keep its single trials, so there are no gallery, errors, confusions or map. To get"
            f" them: python -m oneshot.evaluate {run.quoted}, which scores the {words.test} once more and is counted."
        )
    return sentences
