"""The page's sections on how the network was found: the search, trial by trial, and the winner's training."""

from collections.abc import Mapping
from typing import Any

from oneshot.base.settings import Search
from oneshot.report import parallel, search
from oneshot.report.html import HALF, Column, Figures, esc, section, table
from oneshot.report.reading import Run
from oneshot.screen.console import count, duration, loss, one_line, percent
from oneshot.screen.tables import epochs_not_run, setting, settings_text

Trial = Mapping[str, Any]


def searched(run: Run, figures: Figures) -> str:
    """The search: a summary, three views of all trials, the table, and what went wrong in some."""
    if run.study is None:
        return ""
    trials, best = run.trials, run.best
    over_epochs = figures.chart(
        "losses", lambda width: search.losses(trials, best, width),
        "Each line is a trial: the best one heavy, those stopped early faded, a cross where one broke off.", wide=HALF,
    )  # fmt: skip
    by_lr = figures.chart(
        "learning-rates", lambda width: search.lr_losses(trials, best, width),
        "Each mark is a trial: colour and shape show the optimizer, the size the batch. Height: best validation loss.",
        wide=HALF,
    )  # fmt: skip
    side = figures.chart(
        "parallel", lambda width: parallel.parallel(trials, best, width),
        "Each line is a trial, from its settings on the left to its outcome on the right.",
    )  # fmt: skip
    halves = _half(over_epochs, "Validation loss over epochs") + _half(by_lr, "Learning rate against loss")
    charts = f'<div class="pair">{halves}</div>'
    charts += f"<h3>Settings side by side</h3>{side}" if side else ""
    inside = _summary(run) + charts + _table(run) + _broken(trials)
    return section("search", "The search", inside)


def _half(chart: str, title: str) -> str:
    return f"<div><h3>{title}</h3>{chart}</div>" if chart else ""


def _summary(run: Run) -> str:
    epochs = sum(trial["epochs"] for trial in run.trials)
    begun = sum(bool(trial["epochs"] or trial["status"] != "pending") for trial in run.trials)
    whole = begun * run.settings.train.epochs
    study = run.study or {}
    parts = [f"{len(run.trials)} trials, {begun} started, in {duration(study.get('seconds'))}"]
    if whole:
        not_run = epochs_not_run(run.trials, most=run.settings.train.epochs) if run.over else {}
        shares = "".join(f", {100 * number / whole:.0f} % {why}" for why, number in not_run.items())
        parts.append(f"{count(epochs)} epochs of {count(whole)}{shares}")
    space = run.settings.search
    points = _points(space, len(run.trials))
    if any("weight_decay" in trial["settings"] for trial in run.trials if int(trial["id"]) >= len(space.first)):
        low, high = map(setting, space.weight_decay)  # older studies drew none
        points += f"; adamw weight decay {low} to {high}"
    return f"<p>{'; '.join(parts)}. {esc(points)}; chosen by validation loss.</p>"


def _points(space: Search, trials: int) -> str:
    """Where the points of so many trials come from, and the ranges of those that the job does not name."""
    named, proposed = min(len(space.first), trials), space.searcher == "optuna"
    some, rest = f"{named} point{'s' * (named != 1)}", trials - named
    if not rest:
        return f"{some}, named in the job"
    if named:
        how = f"{some} named in the job, then {rest} {'that Optuna’s TPE proposed' if proposed else 'drawn at random'}"
    else:
        how = "Optuna’s TPE proposed the points" if proposed else "Points drawn at random"
    ranges = ", ".join(f"{name} lr {setting(low)} to {setting(high)}" for name, (low, high) in space.lr.items())
    more = "".join(f"; {key}: {', '.join(map(str, values))}" for key, values in space.choices.items())
    return f"{how}: {ranges}; batch {', '.join(map(str, space.batch))}{more}"


def _table(run: Run) -> str:
    leading = run.best["id"] if run.best else None
    names = dict.fromkeys(key for trial in run.trials for key in trial["settings"])
    columns = [
        Column("trial", lambda trial: esc(trial["id"]) + (" ★" if trial["id"] == leading else ""),
               lambda trial: trial["id"], text=True),
        Column("status", lambda trial: f'<span class="status {trial["status"]}">{trial["status"]}</span>',
               lambda trial: trial["status"], text=True),
        *(_setting_column(name) for name in names),
        Column("epochs", lambda trial: str(trial["epochs"]), lambda trial: trial["epochs"]),
        Column("best epoch", lambda trial: str(trial["best_epoch"] or "–"), lambda trial: trial["best_epoch"]),
        Column("val loss", lambda trial: loss(trial["val_loss"]), lambda trial: trial["val_loss"]),
        Column("one-shot, validation", lambda trial: percent(search.oneshot(trial)), search.oneshot),
        Column("time", lambda trial: duration(trial["seconds"]), lambda trial: trial["seconds"]),
    ]  # fmt: skip

    def row(trial: Trial) -> str:
        css = "best" if trial["id"] == leading else "faded" if trial["status"] in ("stopped", "pending") else ""
        return f' data-of="{esc(trial["id"])}" class="{css}"'

    rows = run.trials[: search.MOST]
    which = "Every trial" if rows == run.trials else f"The first {len(rows)} of {len(run.trials)} trials"
    caption = f"{which}, the lowest validation loss first. Press a header to sort by it."
    return f"<h3>All trials</h3>{table(caption, columns, rows, row=row)}"


def _setting_column(name: str) -> Column:
    def key(trial: Trial) -> Any:
        return trial["settings"].get(name)

    return Column(name, lambda trial: esc(setting(key(trial))), key, text=name == "optimizer")


def _broken(trials: list[dict[str, Any]]) -> str:
    """Why trials broke off, and the notes of others."""
    same: dict[str, list[str]] = {}
    for trial in trials:
        notes = trial.get("notes", [])
        for sentence in [trial["error"]] * bool(trial["error"]) + notes:
            same.setdefault(one_line(sentence), []).append(trial["id"])
    if not same:
        return ""
    items = "".join(f"<li>{esc(', '.join(ids))}: {esc(why)}</li>" for why, ids in same.items())
    return f"<h3>Errors and notes</h3><ul>{items}</ul>"


def trained(run: Run, figures: Figures) -> str:
    """The winner's curves, or those of a single training."""
    best = run.best
    if best is None:
        return ""
    objective = run.settings.train.objective
    distorted = ", on distorted drawings" if run.settings.data.distort else ""
    said = f"Dashed: training{distorted}; solid: validation. The vertical line: the epoch that was kept."
    if objective != "bce":
        said += f" The objective is “{objective}”, so the training loss is not the same measure as the validation loss."
    chart = figures.chart("curves", lambda width: search.curves(best, width), said)
    if not chart:
        return ""
    named = f"trial {best['id']}, {settings_text(best['settings'])}" if run.study else settings_text(_own(run))
    came = f"validation loss {loss(best['val_loss'])} at epoch {best['best_epoch']} of {best['epochs']}"
    where = f"<p>{esc(named[:1].upper() + named[1:])}: {came}.</p>"
    title = "The training" if not run.study else "The winner’s training" if run.over else "The leading trial’s training"
    return section("training", title, where + chart)


def _own(run: Run) -> dict[str, Any]:
    train = run.settings.train
    return {"optimizer": train.optimizer, "lr": train.lr, "batch": train.batch}
