"""Which trials go on: asynchronous successive halving (Li et al. 2020, "A system for massively parallel hyperparameter
tuning", algorithm 2).

A trial trains to the first rung, `grace` epochs, and ends there. The best 1/`reduction` of those that reached a rung go
on, from their checkpoints, to the next, `reduction` times as far. Ray Tune's ASHA is another variant: a trial goes on
unless something stops it, so the first ones, which have nothing to compare with, run to their end.

Trials are compared by validation loss, whichever epoch's network `train.keep` makes a training keep.

All of this is a function of the trials' histories, so a study that is resumed needs nothing else.
"""

import math
from collections.abc import Collection, Sequence
from typing import Any

from oneshot.base.settings import Settings
from oneshot.run.history import measured

Trial = dict[str, Any]  # as the study's record has it


class Halving:
    """The rungs of a study, in epochs below the last one, and the trials that are to leave them."""

    def __init__(self, settings: Settings) -> None:
        search, self.epochs = settings.search, settings.train.epochs
        self.reduction, self.rungs = search.reduction, []
        rung = search.grace
        while 0 < rung < self.epochs:
            self.rungs.append(rung)
            rung *= search.reduction

    def until(self, trial: Trial) -> int:
        """The epoch with which a trial that goes on now ends: that of the next rung, or the last."""
        return next((rung for rung in self.rungs if rung > trial["epochs"]), self.epochs)

    def waits(self, trial: Trial) -> bool:
        """Whether a trial stands at a rung without having been ended there."""
        return trial["status"] == "pending" and trial["epochs"] in self.rungs

    def over(self, trials: Sequence[Trial]) -> bool:
        """Whether no trial waits or runs, and none is due to go on."""
        waiting = any(trial["status"] in ("pending", "running") for trial in trials)
        return not waiting and self.due(trials, last=True) is None

    def due(self, trials: Sequence[Trial], *, busy: Collection[str] = (), last: bool = False) -> Trial | None:
        """The trial that goes on first: the best one of the highest rung that has one to let go; None if none has yet.

        `busy`: the ids of the trials that run. `last`: no other trial will come. Then, while no trial has run to its
        end, a trial goes on however few have reached its rung: the first one, from the highest rung down and the best
        first, that is better than all that ended before for lack of progress.
        """
        ended = {trial["id"]: trial for trial in trials if trial["status"] == "stopped" and trial["id"] not in busy}
        standing: list[Trial] = []  # the highest rung first, and of a rung the best
        for rung in reversed(self.rungs):
            here = [
                (loss, name) for name, trial in ended.items()
                if trial["epochs"] == rung and (loss := self._loss(trial, rung)) is not None  # else its row was lost
            ]  # fmt: skip
            if not here:
                continue
            best = min(here)  # among equals, the first
            reached = [(loss, trial["id"]) for trial in trials if (loss := self._loss(trial, rung)) is not None]
            if sum(each < best for each in reached) < len(reached) // self.reduction:
                return ended[best[1]]
            if last:
                standing += [ended[name] for _, name in sorted(here)]
        to_beat = self._to_beat(trials)
        return next((trial for trial in standing if _lowest(trial) < to_beat), None)

    def _to_beat(self, trials: Sequence[Trial]) -> float:
        """The loss below which a trial is worth going on with when no other trial will come."""
        finished = [trial for trial in trials if trial["status"] == "finished"]
        if any(trial["epochs"] >= self.epochs for trial in finished):
            return -math.inf
        return min(map(_lowest, finished), default=math.inf)

    def _loss(self, trial: Trial, rung: int) -> float | None:
        """The validation loss of a trial at a rung; None if it did not get there.

        A trial that ended on the way counts at the rung it was heading for, and not above, so no more trials count at a
        rung than were let go there. Its loss there is infinite if it diverged, and its lowest one if it finished for
        lack of progress.
        """
        if trial["status"] == "diverged" and self.until(trial) == rung:
            return math.inf
        if trial["status"] == "finished" and trial["epochs"] not in self.rungs and self.until(trial) == rung:
            return _lowest(trial)
        for row in trial["history"]:
            if row["epoch"] == rung:
                return row["val_loss"]
        return None


def _lowest(trial: Trial) -> float:
    return min((row["val_loss"] for row in measured(trial["history"])), default=math.inf)
