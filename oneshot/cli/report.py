"""The verb `report`: a run's report made on request and at the end of a run, and the ladder of all records."""

from rich.console import Console

from oneshot.base.errors import UserError
from oneshot.base.reach import reach
from oneshot.base.storage import Folder
from oneshot.records import record
from oneshot.report import ladder, making
from oneshot.screen.console import print_line, print_warning

LADDER = "ladder"


def report(console: Console, *, run: str, out: str | None) -> None:
    """Write a run's report; or, of the run `ladder`, print all records among the published figures.

    Raises UserError where there is no such run, or a file of it is damaged."""
    if run == LADDER:
        if out:
            raise UserError("--out goes with a run; the ladder is printed: leave it out")
        _ladder(console)
        return
    print_line(console, f"report: {making.make(reach(run), reach(out) if out else None)}")


def at_the_end(console: Console, run: Folder) -> None:
    """The report of a run whose result is safe already: no fault of what only shows it may cost that."""
    try:
        print_line(console, f"report: {making.make(run)}")
    except Exception as error:
        again = f"python -m oneshot.report {run.quoted}"
        print_warning(console, f"no report ({type(error).__name__}: {error}); again: {again}")


def _ladder(console: Console) -> None:
    console.print(ladder.screen(ladder.rungs(record.read().networks)))


def warn_of_no_picture(console: Console) -> None:
    """Say where README shows no errors of the best network, because its record keeps none."""
    records = record.read().networks
    best = ladder.best(records)
    if best and not record.errors_picture(best):
        again = f"repeat {best}" if "seeds" in records[best] else f"tune {best}, then python -m oneshot.record RUN"
        print_warning(
            console, f"the record {best} keeps no picture of its errors; to have one: python -m oneshot.{again}"
        )
