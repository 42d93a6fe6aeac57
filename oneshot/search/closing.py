"""Whether a study has anything left to train. A study without its checkpoints cannot go on."""

from collections.abc import Sequence
from typing import Any

from oneshot.base.errors import UserError, some
from oneshot.base.settings import Settings
from oneshot.base.storage import Folder
from oneshot.run.pruning import noted
from oneshot.search.halving import Halving
from oneshot.search.study import OVER, Study

_NAMED = 4  # trials that a message names, at the most


def goes_on(trials: Sequence[dict[str, Any]], settings: Settings) -> str:
    """What another session of a study would train, judged by its trials and their histories; empty if nothing. Failed
    trials are tried again, and trials that the settings add begin."""
    new = (f"{number:03d}" for number in range(len(trials), settings.search.trials))
    if left := [*(trial["id"] for trial in trials if trial["status"] not in OVER), *new]:
        return f"trial{'s' * (len(left) > 1)} {some(left, _NAMED)} would be trained"
    if due := Halving(settings).due(trials, last=True):
        return f"trial {due['id']} would go on after epoch {due['epochs']}"
    return ""


def check(run: Folder, settings: Settings) -> None:
    """Raises UserError if a study was pruned and would go on by these settings. The trials that it would continue, or
    compare with new ones and then continue, could only start from nothing. Writes nothing: the run need not be held."""
    if not noted(run):
        return
    study = Study(run, trials=settings.search.trials, header={})
    study.resume(mend=False)
    if what := goes_on(study.trials, settings):
        raise UserError(
            f"{run} was pruned, and its search cannot go on: {what}, but the checkpoints for that are gone; its"
            " network stays as it is, and a search with more trials needs another --run"
        )
