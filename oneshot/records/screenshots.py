"""The screens of a recorded study as SVG, as they stood in a terminal while it ran and at its end."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group
from rich.terminal_theme import MONOKAI
from rich.text import Text

from oneshot.base.jobs import parse_toml
from oneshot.run.history import reached
from oneshot.screen.console import duration
from oneshot.screen.live import StudyView
from oneshot.screen.results import result_panel
from oneshot.screen.tables import study_table
from oneshot.search.halving import Halving

WIDTH = 112  # columns
SHARE = 0.6  # how much of the search is over in the picture of the live view


def final(record: Mapping[str, Any], *, command: str) -> str:
    """The final screen of a study."""
    screen = Group(Text(f"$ {command}", "bold"), study_table(record["study"]), Text(), result_panel(record["result"]))
    return _drawn(screen, title="oneshot")


def live(record: Mapping[str, Any], *, command: str) -> str:
    """The screen of a study when SHARE of its seconds had passed."""
    halving = Halving(parse_toml(record["experiment"].encode(), "the record"))
    study = at(record["study"], SHARE * record["study"]["seconds"], halving)
    # The view adds the time since the update to the study's seconds; in a picture that is none.
    view = StudyView(Console(file=io.StringIO(), quiet=True), clock=lambda: 0.0)
    view.update(study)
    return _drawn(
        Group(Text(f"$ {command}", "bold"), view),
        title=f"oneshot · after {duration(study['seconds'])}, replayed from the record",
    )


def at(study: Mapping[str, Any], seconds: float, halving: Halving) -> dict[str, Any]:
    """A finished study as it was when `seconds` of it had passed.

    A record holds how long trials and epochs took, but not when they ran. So a trial is taken to begin, or to resume
    from its rung, as soon as one of the `concurrent` places is free, in the order that the search chooses. The first
    begin so late that the last ends with the search. An epoch ends before its stretch does by the time that the later
    epochs took.
    """
    stretches = _placed(study, halving)
    over = max((began + lasted for _, began, lasted, _ in stretches), default=0.0)
    then = seconds - max(0.0, study["seconds"] - over)
    trials = []
    for trial in study["trials"]:
        own = [(then - began, lasted, rows) for name, began, lasted, rows in stretches if name == trial["id"]]
        trials.append(_trial_at(trial, own))
    plan = {"rungs": halving.rungs, "reduction": halving.reduction}  # which earlier records lack
    return {**study, **plan, "seconds": seconds, "trials": trials}


Stretch = tuple[str, float, float, list[dict[str, Any]]]  # a trial, when it began, how long it took, its epochs


def _placed(study: Mapping[str, Any], halving: Halving) -> list[Stretch]:
    """The stretches in which the trials ran, in seconds since the first began."""
    left = {trial["id"]: _stretches(trial) for trial in study["trials"]}
    known = {name: {"id": name, "status": "pending", "epochs": 0, "history": []} for name in left}
    final = {trial["id"]: trial["status"] for trial in study["trials"]}
    now, running, placed = 0.0, [], []
    while running or any(left.values()):
        while len(running) < study["concurrent"]:
            busy = {name for name in left if not left[name]} | {stretch[0] for stretch in running}
            new = [name for name in left if name not in busy and known[name]["status"] == "pending"]
            due = halving.due(list(known.values()), busy=busy, last=not running and not new)
            waiting = [] if running else [name for name in left if name not in busy]  # if no rule explains who ran next
            name = due["id"] if due else next(iter(new + waiting), None)
            if name is None:
                break
            running.append((name, now, *left[name].pop(0)))
        ended = min(running, key=lambda stretch: stretch[1] + stretch[2])
        running.remove(ended)
        placed.append(ended)
        name, now = ended[0], ended[1] + ended[2]
        history = known[name]["history"] + ended[3]
        status = "stopped" if left[name] else final[name]
        known[name] |= {"status": status, "history": history, **reached(history)}
    return placed


def _stretches(trial: Mapping[str, Any]) -> list[tuple[float, list[dict[str, Any]]]]:
    """Each time that a trial ran, from its start or from where it resumed: (seconds, epochs). Time outside the epochs,
    such as starting, is shared equally among the stretches."""
    parts: list[list[dict[str, Any]]] = [[]] if trial["seconds"] or trial["history"] else []
    for row in trial["history"]:
        if "resumed_at" in row and parts[-1]:
            parts.append([])
        parts[-1].append(row)
    lasted = [sum(row.get("seconds") or 0.0 for row in rows) for rows in parts]
    more = (trial["seconds"] - sum(lasted)) / max(1, len(parts))
    return [(seconds + more, rows) for seconds, rows in zip(lasted, parts, strict=True)]


def _trial_at(trial: Mapping[str, Any], own: Sequence[tuple[float, float, list[dict[str, Any]]]]) -> dict[str, Any]:
    """A trial at a moment. `own` has for each of its stretches: seconds since it began, its length, its epochs."""
    begun = [stretch for stretch in own if stretch[0] >= 0]
    if len(begun) == len(own) and all(passed >= lasted for passed, lasted, _ in own):
        return dict(trial)
    if not begun:
        nothing = {"epochs": 0, "best_epoch": None, "val_loss": None, "seconds": 0.0, "error": None, "history": []}
        return {**trial, **nothing, "settings": {}, "status": "pending"}
    history: list[dict[str, Any]] = []
    for passed, left, rows in begun:
        ended = []
        for row in reversed(rows):
            if left <= passed:
                ended.insert(0, row)
            left -= row.get("seconds") or 0.0
        history += ended
    return {
        **trial, "status": "running" if any(passed < lasted for passed, lasted, _ in begun) else "stopped",
        "seconds": sum(min(passed, lasted) for passed, lasted, _ in begun), "error": None, "history": history,
        **reached(history),
    }  # fmt: skip


def _drawn(screen: Any, *, title: str) -> str:
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(screen)
    return console.export_svg(title=title, theme=MONOKAI, unique_id="oneshot")
