"""A study's record as tables: one row a trial, and what early stopping saved."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from oneshot.base.errors import some
from oneshot.screen.console import (
    MISSING,
    Column,
    Fitting,
    bar,
    compact,
    count,
    duration,
    fitted,
    loss,
    one_line,
    percent,
)

STATUS = {  # in the order in which they are counted and shown
    "running": "cyan",
    "finished": "green",
    "stopped": "dim green",  # ended well too, only sooner
    "diverged": "magenta",
    "failed": "red",
    "pending": "dim",
}
_BROKEN = ("diverged", "failed")
_BAR = 10  # columns of the bar beside a trial's epochs
_IDS = 8  # trials named if many share one reason


@dataclass(frozen=True)
class TrialRow:
    """What the screens show of one trial of `study.json`. Losses are nats, fractions 0 to 1, times seconds.

    `train_loss` and `val_loss` are those of the newest epoch. `speed` (images a second) is that of the epoch in
    progress, or else of the newest. `best_loss` and `oneshot` are those of the best epoch, whose network is kept:
    according to `train.keep` that of the lowest validation loss, of the highest one-shot accuracy, or the last.
    """

    id: str
    status: str
    settings: Mapping[str, Any]
    epochs: int
    pulse: Mapping[str, Any] | None  # how far it is inside the next epoch, if it runs and that is known
    most: int
    until: int  # the epoch after which it ends for now: the next rung's, or the last
    best_epoch: int | None
    train_loss: float | None
    val_loss: float | None
    best_loss: float | None
    oneshot: float | None
    speed: float | None
    seconds: float
    epoch_seconds: float | None
    error: str | None
    notes: Sequence[str] = ()  # what happened to it without ending it
    leads: bool = False

    @property
    def ended(self) -> bool:
        return self.status not in ("running", "pending")

    @property
    def part(self) -> float:
        """How much of the epoch in progress is done, 0 to 1."""
        return self.pulse["step"] / self.pulse["steps"] if self.pulse else 0.0

    @property
    def left(self) -> float | None:
        """Seconds until this trial ends for now, at its own pace; None if it is not running or has no pace yet."""
        if self.status != "running" or self.epoch_seconds is None:
            return None
        return max(0, self.until - self.epochs - self.part) * self.epoch_seconds


def trial_rows(study: Mapping[str, Any]) -> list[TrialRow]:
    """The trials of a study: those running, those that ended, those pending; in each group the lowest best loss first.

    The trial with the lowest of all has `leads` set, however it ended: its best network is what is kept.
    """
    levels = (*study.get("rungs", ()), study["epochs"])
    pulses = study.get("pulses", {})
    rows = sorted((_row(trial, levels, pulses.get(trial["id"])) for trial in study["trials"]), key=by_loss)
    if rows and _finite(rows[0].best_loss):
        rows[0] = replace(rows[0], leads=True)
    groups = {"running": 0, "pending": 2}
    return sorted(rows, key=lambda row: groups.get(row.status, 1))


def measured_epochs(trial: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The epochs of a trial's history that were validated; the one in which it diverged was not."""
    return [epoch for epoch in trial.get("history") or [] if _finite(epoch.get("val_loss"))]


def by_loss(row: TrialRow) -> tuple[float, str]:
    """A sorting key: the lowest best validation loss first, trials without one last."""
    return (row.best_loss if _finite(row.best_loss) else math.inf, row.id)


def _row(trial: Mapping[str, Any], levels: Sequence[int], pulse: Mapping[str, Any] | None) -> TrialRow:
    history = measured_epochs(trial)
    if trial["status"] != "running" or (pulse and pulse["epoch"] != trial["epochs"] + 1):
        pulse = None  # from before the last report
    newest = history[-1] if history else {}
    best = next((epoch for epoch in reversed(history) if epoch["epoch"] == trial.get("best_epoch")), newest)
    times = [epoch["seconds"] for epoch in history if _finite(epoch.get("seconds"))]
    if not times and pulse and pulse["epoch_seconds"]:
        times = [pulse["epoch_seconds"]]
    return TrialRow(
        id=str(trial["id"]),
        status=trial["status"],
        settings=dict(trial["settings"]),
        epochs=trial["epochs"],
        pulse=pulse,
        most=levels[-1],
        until=next((level for level in levels if level > trial["epochs"]), levels[-1]),
        best_epoch=trial.get("best_epoch"),
        train_loss=newest.get("train_loss"),
        val_loss=newest.get("val_loss"),
        best_loss=trial.get("val_loss"),
        oneshot=best.get("val_oneshot"),
        speed=pulse["images_per_second"] if pulse else newest.get("images_per_second"),
        seconds=trial.get("seconds") or 0.0,
        epoch_seconds=sum(times) / len(times) if times else None,
        error=one_line(trial["error"]) if trial.get("error") else None,
        notes=tuple(one_line(note) for note in trial.get("notes") or ()),
    )


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def setting(value: Any) -> str:
    """One setting as it is shown: 0.003 is `3e-3`, anything but a fraction as it is."""
    return compact(value) if isinstance(value, float) else MISSING if value is None else str(value)


def settings_text(settings: Mapping[str, Any]) -> str:
    """A trial's settings in one line: `adam, lr 3e-3, batch 128`."""
    named = (setting(v) if name == "optimizer" else f"{name} {setting(v)}" for name, v in settings.items())
    return ", ".join(named)


def status_text(row: TrialRow) -> Text:
    """The status word in its colour. For a trial that broke, it is not dimmed with the row."""
    return Text(row.status, "not dim " * (row.status in _BROKEN) + STATUS.get(row.status, ""))


def row_style(row: TrialRow) -> str:
    """The style of a trial's row: bold for the leading one, dim for those that are neither running nor finished."""
    return "bold" if row.leads else "" if row.status in ("running", "finished") else "dim"


def _id(row: TrialRow) -> Text:
    return Text(f"★ {row.id}", "green") if row.leads else Text(f"  {row.id}")


def _best_loss(row: TrialRow) -> Text:
    return Text(loss(row.best_loss), "green" if row.leads else "")


def _epochs(row: TrialRow) -> str:
    return f"{row.epochs:>{len(str(row.most))}}/{row.most}"


def _epochs_live(row: TrialRow) -> str:
    """Epochs, with a tenth if one is in progress: 3.9 is not 4 before it is validated."""
    done = f"{row.epochs}.{min(9, int(10 * row.part))}" if row.status == "running" else str(row.epochs)
    return f"{done}/{row.most}"


def _setting_column(name: str, drop: int = 0, least: int = 0) -> Column:
    justify = "left" if name == "optimizer" else "right"
    header = "optim" if name == "optimizer" else name.split(".")[-1].replace("_", "\n")
    return Column(header, lambda row: setting(row.settings.get(name)), drop, justify, least)


# The narrowest terminal shows each trial and its best loss. Other columns are left out from the greatest `drop` down:
# those only for wide terminals, then the settings, the epochs, the status and the accuracy.
_FIRST = (
    Column("  trial", _id, justify="left"),
    Column("status", status_text, 2, "left", least=8),
    _setting_column("optimizer", 5, least=5),
    _setting_column("lr", 4, least=7),
    _setting_column("batch", 6),
)
_BEST = Column("best\nval loss", _best_loss)
_ONESHOT = Column("one-shot\naccuracy", lambda row: percent(row.oneshot), 1)

LIVE_COLUMNS = (
    *_FIRST,
    Column("epoch", _epochs_live, 3),
    Column("", lambda row: bar((row.epochs + row.part) / row.most, _BAR, STATUS.get(row.status, "")), 9, "left"),
    Column("train\nloss", lambda row: loss(row.train_loss), 11),
    Column("val\nloss", lambda row: loss(row.val_loss), 8),
    _BEST,
    _ONESHOT,
    Column("images\n/s", lambda row: count(row.speed if row.status == "running" else None), 10, least=6),
    Column("time\nleft", lambda row: duration(row.left), 7, least=5),
)


def study_table(study: Mapping[str, Any], top: int = 10) -> RenderableType:
    """The best `top` trials of a study, best first; then why others broke, what was run, and what was saved.

    Trials that diverged or failed are listed below the table by reason, followed by what happened to others, such as a
    damaged checkpoint. Settings other than optimizer, lr and batch have a column if they differ between trials;
    one-shot accuracy has one if the record holds the trials' histories (study.json in a run folder does not).
    """
    rows = sorted(trial_rows(study), key=by_loss)
    ranked = [row for row in rows if _finite(row.best_loss)]
    columns = (
        *_FIRST,
        *(_setting_column(name, drop=11) for name in _other_settings(rows)),
        Column("epochs\nrun", _epochs, 3),
        Column("best\nepoch", lambda row: count(row.best_epoch), 8),
        _BEST,
        *[_ONESHOT] * any(row.oneshot is not None for row in rows),
        Column("time", lambda row: duration(row.seconds), 7),
    )
    parts: list[RenderableType] = [Text("No trial got as far as a validation loss.", "yellow")]
    if ranked:
        parts = [Fitting(lambda width: fitted(columns, ranked[:top], width, row_style=row_style))]
    if len(ranked) > top:
        parts.append(Text(f"  and {len(ranked) - top} more", "dim"))
    return Group(*parts, *_reasons(rows), *_notes(rows), Text(), *_caption(study, rows))


def _other_settings(rows: Sequence[TrialRow]) -> list[str]:
    names = {name: None for row in rows for name in row.settings if name not in ("optimizer", "lr", "batch")}
    return [name for name in names if len({str(row.settings.get(name)) for row in rows}) > 1]


def _reasons(rows: Sequence[TrialRow]) -> list[Text]:
    same: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.status in _BROKEN:
            same.setdefault((row.status, row.error or "no reason was recorded"), []).append(row.id)
    lines = [Text()] if same else []
    for (status, reason), ids in same.items():
        lines.append(Text.assemble("  ", (status, STATUS[status]), f" {some(ids, _IDS, sep=' ')}: {reason}"))
    return lines


def _notes(rows: Sequence[TrialRow]) -> list[Text]:
    """The last note of each trial, and how many there are."""
    noted = [row for row in rows if row.notes]
    lines = [Text()] if noted else []
    for row in noted:
        more = f" (the last of {len(row.notes)} such notes)" if len(row.notes) > 1 else ""
        lines.append(Text.assemble("  ", ("note", "yellow"), f" {row.id}: {row.notes[-1]}{more}"))
    return lines


def counts_text(rows: Sequence[TrialRow]) -> Text:
    """How many trials have each status that occurs."""
    counts = Counter(row.status for row in rows)
    parts = [Text.assemble(f"{counts[status]} ", (status, STATUS[status])) for status in STATUS if counts[status]]
    return Text(" · ").join(parts)


def epochs_not_run(trials: Sequence[Mapping[str, Any]], *, most: int) -> dict[str, int]:
    """Epochs that the trials of a study, each of at most `most`, did not run, by reason; empty if there are none.

    A diverged or failed trial also ran fewer, which is no saving; one that is not over may still run them."""
    why = {"saved by early stopping": ("stopped", "finished"), "not run by trials that broke": _BROKEN}
    sums = {
        text: sum(most - trial["epochs"] for trial in trials if trial["status"] in statuses)
        for text, statuses in why.items()
    }
    return {text: epochs for text, epochs in sums.items() if epochs}


def _caption(study: Mapping[str, Any], rows: Sequence[TrialRow]) -> list[Text]:
    ran, possible = study["epochs_run"], study["epochs_if_all_had_finished"]  # the latter is 0 before a trial has begun
    not_run = epochs_not_run(study["trials"], most=study["epochs"])
    shares = [f"{100 * epochs / possible:.0f} % {what}" for what, epochs in not_run.items()]
    text = f"  ran {count(ran)} of {count(possible)} epochs in {duration(study['seconds'])}"
    text += f": {', '.join(shares)}" * bool(shares)
    return [Text(text), Text.assemble("  ", counts_text(rows))]
