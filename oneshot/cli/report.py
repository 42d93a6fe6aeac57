"""The verb `report`: a run's report, made on request and at the end of a run; several runs; and the ladder of all
records."""

import json
from typing import Any

from rich.console import Console

from oneshot.base.errors import TROUBLE, UserError
from oneshot.base.reach import reach
from oneshot.base.storage import Folder
from oneshot.records import record
from oneshot.report import compare, ladder, listing, making, reading
from oneshot.screen.console import print_line, print_warning

LADDER = "ladder"


def report(console: Console, *, runs: list[str], out: str | None, as_json: bool) -> None:
    """Write a run's report. For several runs, print what each came to and how far each is from the first on the same
    trials; for a folder that holds runs, where each stands; for the run `ladder`, all records among the published
    figures. `as_json`: print a row per run, and write no page.

    Raises UserError if there is no such run, or a file of it is damaged; with `as_json` its row says so instead.
    """
    if out and (as_json or len(runs) > 1 or runs == [LADDER]):
        raise UserError("--out goes with one run and its page; all else is printed: leave it out")
    if runs == [LADDER]:
        if as_json:
            raise UserError("--json goes with runs; the ladder is of records, which are JSON: leave it out")
        _ladder(console)
        return
    folders = [reach(run) for run in runs]
    found = [run for folder in folders for run in listing.runs_in(folder)]
    if found != folders:
        if out:
            raise UserError(f"--out goes with one run and its page, and {runs[0]} holds runs: leave it out")
        _show(console, listing.listed(found), as_json=as_json)
    elif len(folders) == 1 and not as_json:
        print_line(console, f"report: {making.make(folders[0], reach(out) if out else None)}")
    else:
        several = len(folders) > 1  # of these single trials are compared, too
        try:
            found = reading.told_apart([reading.read(folder, shown=several) for folder in folders])
        except TROUBLE:
            if not as_json:
                raise
            _show(console, [listing.row_of(folder, shown=several) for folder in folders], as_json=True)
        else:
            _compare(console, found, as_json=as_json)


def _show(console: Console, rows: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"runs": rows}, indent=1))
    console.print(listing.screen(rows), new_line_start=True)
    for row in rows:
        if row["state"] == listing.UNREADABLE:
            print_warning(console, row["error"])


def _compare(console: Console, runs: list[reading.Run], *, as_json: bool) -> None:
    made = compare.compared(runs)
    if as_json:
        print(json.dumps(made, indent=1))
    console.print(compare.screen(made), new_line_start=True)
    for doubt in compare.doubts(runs):
        print_warning(console, doubt)


def at_the_end(console: Console, run: Folder) -> None:
    """Make the report of a run whose result is safe already. An error only warns: it must not cost the result."""
    try:
        print_line(console, f"report: {making.make(run)}")
    except Exception as error:
        again = f"python -m oneshot.report {run.quoted}"
        print_warning(console, f"no report ({type(error).__name__}: {error}); again: {again}")


def _ladder(console: Console) -> None:
    console.print(ladder.screen(ladder.rungs(record.read().networks)))


def warn_of_no_picture(console: Console) -> None:
    """Warn if README shows no errors of the best network, because its record keeps none."""
    records = record.read().networks
    best = ladder.best(records)
    if best and not record.errors_picture(best):
        again = f"repeat {best}" if "seeds" in records[best] else f"tune {best}, then python -m oneshot.record RUN"
        print_warning(
            console, f"the record {best} keeps no picture of its errors; to have one: python -m oneshot.{again}"
        )
