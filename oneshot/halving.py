"""Which trials go on: asynchronous successive halving (Li et al. 2020, "A system for massively parallel hyperparameter
tuning", algorithm 2).

A trial trains to the first rung, `grace` epochs, and ends there. The best 1/`reduction` of those that reached a rung go
on, from their checkpoints, to the next, `reduction` times as far. Ray Tune's ASHA is another variant: a trial goes on
where nothing says to stop, so that the first ones, to which nothing compares, run to their end.

All of it is a function of the trials' histories: a study that is taken up again needs to know no more.
"""

import math
from collections.abc import Collection, Sequence
from typing import Any

from oneshot.settings import Settings

Trial = dict[str, Any]  # as the study's record has it


class Halving:
    """The rungs of a study, in epochs below the last one, and who is to leave them."""

    def __init__(self, settings: Settings) -> None:
        search, self.epochs = settings.search, settings.train.epochs
        self.reduction, self.rungs = search.reduction, []
        rung = search.grace
        while 0 < rung < self.epochs:
            self.rungs.append(rung)
            rung *= search.reduction

    def until(self, trial: Trial) -> int:
        """The epoch with which a trial that goes on now ends: the next rung's, or the last."""
        return next((rung for rung in self.rungs if rung > trial["epochs"]), self.epochs)

    def stands(self, trial: Trial) -> bool:
        """Whether a trial that nobody runs is at a rung."""
        return trial["status"] in ("stopped", "pending") and trial["epochs"] in self.rungs

    def due(self, trials: Sequence[Trial], *, busy: Collection[str] = (), last: bool = False) -> Trial | None:
        """Who goes on first: of the highest rung that has somebody to give, the best; None: nobody yet.

        `busy`: the ids of those that run. `last`: nobody else will come. Then, while no trial has run to its end, the
        best at the highest rung at which one stands goes on, however few have been there.
        """
        free = {trial["id"] for trial in trials if trial["id"] not in busy and self.stands(trial)}
        standing = []
        for rung in reversed(self.rungs) if free else ():
            reached = [(loss, trial["id"], trial) for trial in trials if (loss := self._loss(trial, rung)) is not None]
            reached.sort(key=lambda entry: entry[:2])  # by loss, equals by their number
            here = [
                (place, trial) for place, (_, name, trial) in enumerate(reached)
                if name in free and trial["epochs"] == rung
            ]  # fmt: skip
            if here and here[0][0] < len(reached) // self.reduction:
                return here[0][1]
            standing += [trial for _, trial in here]
        if last and standing and not any(trial["status"] == "finished" for trial in trials):
            return standing[0]
        return None

    def _loss(self, trial: Trial, rung: int) -> float | None:
        """The validation loss of a trial at a rung, infinite where it diverged on the way; None: it did not come."""
        if trial["status"] == "diverged" and self.until(trial) == rung:
            return math.inf
        return next((row["val_loss"] for row in trial["history"] if row["epoch"] == rung), None)
