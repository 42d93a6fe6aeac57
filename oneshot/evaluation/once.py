"""Judge a run's own network once: keep the result, and put its figures on the model card."""

from typing import Any

from oneshot.base.settings import Settings
from oneshot.base.storage import Folder
from oneshot.evaluation import modelcard
from oneshot.evaluation.evaluate import evaluate
from oneshot.evaluation.judgement import result_of
from oneshot.run.watch import Showing


def judge_once(
    run: Folder, data: Folder, settings: Settings, *, device: str, progress: Showing | None = None
) -> dict[str, Any]:  # fmt: skip
    """Judge a run's own network as the run's settings say, and keep the result, single trials and the card with its
    figures. If the network already has a result, return that: the test alphabets are touched once. Raises as `evaluate`
    does."""
    if result := result_of(run):
        return result
    result = evaluate(
        run, data, dataset=settings.data.dataset, split=settings.data.split, how=settings.evaluate, device=device,
        keep=True, progress=progress,
    )  # fmt: skip
    modelcard.keep_result(run, result)
    return result
