"""The runs that a folder holds: which they are, and a row for each, first those that may need attention."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from oneshot.base.errors import TROUBLE, UserError
from oneshot.base.storage import Folder
from oneshot.report.compare import row
from oneshot.report.reading import read
from oneshot.run.opened import EXPERIMENT
from oneshot.screen.console import MISSING, Column, Fitting, duration, fitted, loss, percent

UNREADABLE = "unreadable"
_STATES = {  # in the order in which they are listed, and their colours
    "running": "cyan", "failed": "red", UNREADABLE: "red", "interrupted": "yellow", "stopped": "", "diverged": "yellow",
    "finished": "green", "judged": "green",
}  # fmt: skip
_AT_ONCE = 8  # runs read at a time, each by several requests: a store far away answers late


def runs_in(folder: Folder) -> list[Folder]:
    """The folder itself if it is a run, else the runs that lie in it, by name. Anything else in it is left out, but a
    folder that cannot be looked into counts as a run, so that it is reported. Raises UserError if there is no run."""
    if folder.has(EXPERIMENT):
        return [folder]

    def is_run(inside: Folder) -> bool:
        try:
            return inside.has(EXPERIMENT)
        except TROUBLE:
            return True

    inside = [folder / name for name in folder.names()]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = [each for each, is_one in zip(inside, pool.map(is_run, inside), strict=True) if is_one]
    if not found:
        raise UserError(
            f"{folder} holds no run: {EXPERIMENT} is missing; name a folder that train or tune made, or one with such"
            " folders in it"
        )
    return found


def listed(runs: Sequence[Folder]) -> list[dict[str, Any]]:
    """A row for each run, as `compare.row` makes it, sorted by state, in each state the latest first. The row of a run
    that cannot be read has `run`, `where`, `state` and `error` alone, so that the others are shown all the same."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        rows = list(pool.map(row_of, runs))
    states = list(_STATES)
    return sorted(rows, key=lambda each: (states.index(each["state"]), -(each.get("written") or 0.0), each["run"]))


def row_of(run: Folder, *, shown: bool = False) -> dict[str, Any]:
    """A run's row, read as `reading.read` does, or that of one that cannot be read."""
    try:
        return row(read(run, shown=shown))
    except TROUBLE as error:
        return {"run": run.name, "where": str(run), "state": UNREADABLE, "error": str(error)}


def screen(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """The rows as a table."""
    now = time.time()
    columns = (
        Column("run", lambda row: Text(row["run"], "bold"), justify="left", cut=20),
        Column("state", lambda row: Text(row["state"], _STATES[row["state"]]), justify="left"),
        Column("trials\nover", _over, 3),
        Column("failed", lambda row: str(row["trials"]["failed"] or "") if "trials" in row else MISSING, 4),
        Column("epochs", lambda row: str(row.get("epochs", MISSING)), 5),
        Column("best\nval loss", lambda row: loss(row.get("val_loss"))),
        Column("one-shot,\nvalidation", lambda row: percent(row.get("val_oneshot")), 2),
        Column("last\nwritten", lambda row: f"{duration(now - row['written'])} ago" if row.get("written") else MISSING),
        Column("took", lambda row: duration(row.get("seconds")), 6),
    )
    return Fitting(lambda width: fitted(columns, rows, width))


def _over(row: Mapping[str, Any]) -> str:
    if "trials" not in row:
        return MISSING
    waiting = row["trials"]["pending"] + row["trials"]["running"]
    return f"{sum(row['trials'].values()) - waiting}/{row['planned']}"
