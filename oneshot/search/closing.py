"""Whether a study would go on, and that one without its checkpoints does not."""

from collections.abc import Sequence
from typing import Any

from oneshot.base.errors import UserError, some
from oneshot.base.settings import Settings
from oneshot.base.storage import Folder
from oneshot.run.pruning import PRUNED
from oneshot.search.halving import Halving
from oneshot.search.study import OVER, Study

_NAMED = 4  # trials that a sentence names


def goes_on(trials: Sequence[dict[str, Any]], settings: Settings) -> str:
    """What another session of a study would train, by its trials and their histories; empty: nothing. Trials that
    failed are tried again, and those that are new by the settings begin."""
    new = (f"{number:03d}" for number in range(len(trials), settings.search.trials))
    if left := [*(trial["id"] for trial in trials if trial["status"] not in OVER), *new]:
        return f"trial{'s' * (len(left) > 1)} {some(left, _NAMED)} would be trained"
    if due := Halving(settings).due(trials, last=True):
        return f"trial {due['id']} would go on after epoch {due['epochs']}"
    return ""


def check(run: Folder, settings: Settings) -> None:
    """Raises UserError where a study was pruned and would go on by these settings: the trials that it would go on with,
    or compare new ones with and go on with then, could only start from nothing."""
    if not run.has(PRUNED):
        return
    study = Study(run, trials=settings.search.trials, header={})
    study.resume()
    if what := goes_on(study.trials, settings):
        raise UserError(
            f"{run} was pruned, and its search does not go on: {what}, and the checkpoints for that are gone; its"
            " network stays what it is, and a search with more trials needs another --run"
        )
