"""Several runs side by side: what each came to, in which settings they differ, and how far the first is from the others
on the same trials."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from rich.console import Group, RenderableType
from rich.text import Text

from oneshot.base.environment import hardware
from oneshot.base.jobs import with_point
from oneshot.base.meanings import inline
from oneshot.report import against
from oneshot.report.reading import Run
from oneshot.run.formats import Status
from oneshot.screen.console import MISSING, Column, Fitting, duration, fitted, loss, percent

LEARNT = ("data", "model", "train", "evaluate")  # the sections that say what a network is taught, and how it is judged


def compared(runs: Sequence[Run]) -> dict[str, Any]:
    """Plain values: `runs`, a row for each in the order given; `settings`, {key: a value per run} for the settings in
    which the networks differ; and `same_trials`, the result of `against`, which needs runs that were read with
    `shown=True`. A study's network is that of its best trial, whose point is applied to its settings."""
    each = [_settings(run) for run in runs]
    keys = [key for key in each[0] if any(other[key] != each[0][key] for other in each[1:])]
    return {
        "runs": [row(run) for run in runs],
        "settings": {key: [one[key] for one in each] for key in keys},
        "same_trials": against.against(runs),
    }


def doubts(runs: Sequence[Run]) -> list[str]:
    """Why figures of these runs cannot be compared, a sentence each; empty if they can."""
    found = []
    if len({(run.dataset, run.settings.data.split) for run in runs}) > 1:
        found.append(
            "the runs are of different data sets or splits: only accuracies on the same trials can be compared"
        )
    elif len({(run.settings.train.val_pairs, run.settings.train.val_trials) for run in runs}) > 1:
        found.append("the runs were validated on other pairs or trials, so small differences there may be due to that")
    if sum(run.result is not None for run in runs) > 1:
        words = runs[0].words
        found.append(f"choosing a run by its figures on the {words.test} is tuning on them: choose by validation")
    return found


def screen(made: Mapping[str, Any]) -> RenderableType:
    """The runs as a table, then the settings in which they differ, a line each, then each run against the first."""
    rows = made["runs"]
    least = min((row["val_loss"] for row in rows if row["val_loss"] is not None), default=None)
    protocols = list(dict.fromkeys(name for row in rows for name in row["accuracy"]))
    columns = (
        Column("run", lambda row: Text(row["run"], "bold"), justify="left", cut=16),
        Column("state", lambda row: row["state"], 6, "left"),
        Column("epochs", lambda row: str(row["epochs"]), 4),
        Column("val loss", lambda row: Text(loss(row["val_loss"]), "bold green" if row["val_loss"] == least else "")),
        Column("one-shot", lambda row: percent(row["val_oneshot"]), 2),
        *(Column(name, lambda row, name=name: percent(row["accuracy"].get(name)), 3 + at)
          for at, name in enumerate(protocols)),
        Column("took", lambda row: duration(row["seconds"]), 1),
        Column("trained on", lambda row: row["hardware"] or MISSING, 9, "left"),
    )  # fmt: skip
    lines = [Text(), Text("in which their networks differ", "bold")]
    for key, values in made["settings"].items():
        lines.append(Text.assemble((f"  {key} ", "dim"), " · ".join(inline(value) for value in values)))
    if not made["settings"]:
        lines = [Text(), Text("their networks were taught by the same settings")]
    return Group(Fitting(lambda width: fitted(columns, rows, width)), *lines, against.screen(made["same_trials"]))


def row(run: Run) -> dict[str, Any]:
    """What a script may want to know of a run, in plain values. `trials` counts them by status, a single training being
    one trial; those that ran when a run was interrupted wait. `epochs` are done, of `most_epochs`, which a search that
    stops early does not run. `judged`: how often the test alphabets were scored; `written`: when it last wrote, seconds
    since 1970."""
    best, trained = run.best or {}, run.environment
    epoch = next((row for row in best.get("history", ()) if row["epoch"] == best["best_epoch"]), {})
    protocols = (run.result or {}).get("protocols", {})
    planned = run.settings.search.trials if run.study else 1
    return {
        "run": run.name,
        "where": run.where,
        "kind": "study" if run.study else "training",
        "state": run.state,
        "over": run.over,
        "planned": planned,
        "trials": _counts(run),
        "failures": [
            {"trial": trial["id"] or None, "status": trial["status"], "error": trial["error"]}
            for trial in sorted(run.trials, key=lambda trial: trial["id"])
            if trial["status"] in ("failed", "diverged")
        ],
        "trial": best.get("id"),
        "epochs": sum(trial["epochs"] for trial in run.trials),
        "most_epochs": planned * run.settings.train.epochs,
        "best_epoch": best.get("best_epoch"),
        "val_loss": best.get("val_loss"),
        "val_oneshot": epoch.get("val_oneshot"),
        "accuracy": {name: each["accuracy"] for name, each in protocols.items()},
        "judged": run.touched,
        "pruned": run.pruned,
        "seconds": sum(row.get("seconds") or 0.0 for trial in run.trials for row in trial["history"]),
        "hardware": hardware(trained) if trained else None,
        "commit": (trained or {}).get("commit"),
        "written": run.written or None,
    }


def _counts(run: Run) -> dict[str, int]:
    how = Counter(trial["status"] for trial in run.trials)
    if not run.running:  # a session that was killed left them so
        how["pending"] += how.pop("running", 0)
    return {status: how[status] for status in get_args(Status)}


def _settings(run: Run) -> dict[str, Any]:
    """`section.key` -> value of what a run's network was taught by."""
    settings = with_point(run.settings, (run.best or {}).get("settings") or {}, source=run.where)
    return {f"{name}.{key}": value for name in LEARNT for key, value in getattr(settings, name).model_dump().items()}
