"""The screens of a recorded study as SVG, as they stood in a terminal: while it ran, and at its end."""

import io
from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group
from rich.terminal_theme import MONOKAI
from rich.text import Text

from oneshot.screen.console import duration
from oneshot.screen.live import StudyView
from oneshot.screen.results import result_panel
from oneshot.screen.tables import study_table

WIDTH = 112  # columns
SHARE = 0.6  # of the search is over in the picture of the live view


def final(record: Mapping[str, Any], *, command: str) -> str:
    """The final screen of a study."""
    screen = Group(Text(f"$ {command}", "bold"), study_table(record["study"]), Text(), result_panel(record["result"]))
    return _drawn(screen, title="oneshot")


def live(record: Mapping[str, Any], *, command: str, share: float = SHARE) -> str:
    """The screen of a study when the share of its seconds had passed; `share` is 0 to 1."""
    study = at(record["study"], share * record["study"]["seconds"])
    # The view adds to the study's seconds what passed since the update: nothing, in a picture.
    view = StudyView(Console(file=io.StringIO(), quiet=True), clock=lambda: 0.0)
    view.update(study)
    return _drawn(
        Group(Text(f"$ {command}", "bold"), view),
        title=f"oneshot · after {duration(study['seconds'])}, replayed from the record",
    )


def at(study: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """A study that is over, as it was when so many seconds had passed.

    A record holds how long trials and epochs took and not at what time they were: trials begin in their order, as soon
    as one of the `concurrent` places is free; the first begin so late that the last ends with the search; an epoch ends
    so long before its trial as the later epochs took.
    """
    began, over = _placed(study)
    late = max(0.0, study["seconds"] - over)
    trials = []
    for trial in study["trials"]:
        passed = seconds - late - began[trial["id"]]
        trials.append(_trial_at(trial, passed))
    return {**study, "seconds": seconds, "trials": trials}


def _placed(study: Mapping[str, Any]) -> tuple[dict[str, float], float]:
    """When each trial began, and when the last ended, in seconds since the first began."""
    free = [0.0] * study["concurrent"]
    began = {}
    for trial in sorted(study["trials"], key=lambda trial: trial["id"]):
        place = min(range(len(free)), key=free.__getitem__)
        began[trial["id"]] = free[place]
        free[place] += trial["seconds"]
    return began, max(free)


def _trial_at(trial: Mapping[str, Any], passed: float) -> dict[str, Any]:
    """A trial when it had run for so many seconds; `passed` is negative before it began."""
    if passed >= trial["seconds"]:
        return dict(trial)
    if passed < 0:
        nothing = {"epochs": 0, "best_epoch": None, "val_loss": None, "seconds": 0.0, "error": None, "history": []}
        return {**trial, **nothing, "settings": {}, "status": "pending"}
    left, history = trial["seconds"], []
    for row in reversed(trial["history"]):
        if left <= passed:
            history.insert(0, row)
        left -= row["seconds"]
    measured = [row for row in history if row["val_loss"] is not None]
    best = min(measured, key=lambda row: row["val_loss"], default={"epoch": None, "val_loss": None})
    return {
        **trial, "status": "running", "epochs": len(measured), "best_epoch": best["epoch"],
        "val_loss": best["val_loss"], "seconds": passed, "error": None, "history": history,
    }  # fmt: skip


def _drawn(screen: Any, *, title: str) -> str:
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(screen)
    return console.export_svg(title=title, theme=MONOKAI, unique_id="oneshot")
