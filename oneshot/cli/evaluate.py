"""The verb `evaluate`: judges a network, and keeps the result of a run's own."""

import json
from typing import Any

from rich.console import Console

from oneshot.base.jobs import override, parse
from oneshot.base.reach import reach
from oneshot.base.settings import Settings
from oneshot.base.storage import Folder
from oneshot.cli import request
from oneshot.evaluation import judgement
from oneshot.run import cards, opened
from oneshot.screen.console import print_line, print_warning
from oneshot.screen.progress import Stages
from oneshot.screen.results import alphabet_table, result_panel


def evaluate(
    console: Console, *, where: str, how: dict[str, Any], as_json: bool, quiet: bool, device: str, dataset: str | None,
    split: str | None, root: str | None, source: str | None,
) -> None:  # fmt: skip
    """Judge a network. If it is a run's own and the run has no result yet, this one is kept, provided that it is made
    as the run's settings say."""
    from oneshot.cli import report
    from oneshot.evaluation import modelcard
    from oneshot.report.reading import read_outcomes

    folder = reach(where)
    cards.find(folder)  # a refusal needs no torch
    settings = _settings_of(folder)
    asked = override(settings, {f"evaluate.{key}": value for key, value in how.items()}, source="the options")
    given = {f"data.{key}": value for key, value in (("dataset", dataset), ("split", split)) if value}
    asked = override(asked, given, source="the options")
    asked, prepared = request.with_data(console, asked, request.data_root(root, folder), source)
    # Both belong to the run's result: a run judged before single trials, or hits, were kept gets them now.
    own = folder.has(opened.EXPERIMENT) and asked == settings
    judged = judgement.result_of(folder) if own else None
    keep = own and not (read_outcomes(folder, judged) or {}).get("hits")
    from oneshot.evaluation import evaluate as judging

    with Stages(console) as progress:
        result = judging.evaluate(
            folder, prepared.folder, dataset=asked.data.dataset, split=asked.data.split, how=asked.evaluate,
            device=device, keep=keep, progress=progress,
        )  # fmt: skip
    if as_json:
        print(json.dumps(result, indent=1))
    elif quiet:
        for name, outcome in result["protocols"].items():
            print(f"{name}\t{outcome['accuracy']:.4f}")
    if result["overlap"]:
        print_warning(console, result["overlap"])
    for name, why in result["skipped"].items():
        print_warning(console, f"{name} is left out: {why}")
    console.print(result_panel(result))
    if result["per_alphabet"]:
        console.print(alphabet_table(result))
    if own and judged is None:
        modelcard.keep_result(folder, result)
        print_line(console, f"written to {folder.file(judgement.RESULT)}")
    elif not own and result["test_evaluations"]:
        kept = "a run keeps only that of its own network by its own settings"
        print_line(
            console, f"no result is written: {kept}; this judgement is counted in {judgement.TOUCHED} all the same"
        )
    if keep:
        report.at_the_end(console, folder)


def _settings_of(where: Folder) -> Settings:
    """The settings of a run, or those that a network's folder or a checkpoint records."""
    if where.has(opened.EXPERIMENT):
        return opened.read_experiment(where)
    return parse(cards.recorded_settings(where), str(where))
