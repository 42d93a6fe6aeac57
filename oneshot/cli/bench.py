"""The verb `bench`: its options, and what it does."""

import json
from pathlib import Path
from typing import Annotated

import typer

from oneshot.base.errors import UserError
from oneshot.bench.rows import CAP, NAMES, REPEATS, ROWS, Request, Row, chosen, in_todays_words
from oneshot.cli.data import Dataset
from oneshot.cli.options import DataRoot, Source, Trace
from oneshot.screen.console import console as make_console
from oneshot.screen.console import print_line

_LONG = ", ".join(row.name for row in ROWS if row.asked_for)


def bench(
    rows: Annotated[
        str | None,
        typer.Option(
            "--rows",
            metavar="A,B",
            help=f"Some of {', '.join(NAMES)}. Default: all but {_LONG}.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
    against: Annotated[
        Path | None, typer.Option("--against", metavar="RECORD", help="Show what changed since this record.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Keep the record here. Default: in tune_jobs/records/, unless rows are chosen."),
    ] = None,
    repeats: Annotated[
        int, typer.Option("--repeats", min=1, max=100, help="Times that each side is measured.")
    ] = REPEATS,
    cap: Annotated[
        float,
        typer.Option(
            "--cap", min=1, help="Seconds that the usual way may take to reach its accuracy (time_to_accuracy)."
        ),
    ] = CAP,
    quick: Annotated[bool, typer.Option("--quick", help="Check that each row runs; its figures mean nothing.")] = False,
    keep: Annotated[
        Path | None,
        typer.Option(
            "--keep",
            metavar="FOLDER",
            help=f"Keep the studies of {_LONG} there: the same command, on the same commit, continues them.",
        ),
    ] = None,
    dataset: Dataset = "auto",
    root: DataRoot = None,
    source: Source = None,
    debug: Trace = False,
) -> None:
    """Benchmark this program against the usual approach: ratios, goals, a record. Needs an otherwise idle machine."""
    wanted = chosen(None if rows is None else [name.strip() for name in rows.split(",") if name.strip()])
    if not wanted:
        raise UserError(f"--rows names no row; known: {', '.join(NAMES)}")

    from oneshot.bench import run
    from oneshot.data import sets
    from oneshot.data.cache import near
    from oneshot.screen.bench import bench_table, changes_table

    here = run.here()
    kept = str(_of_commit(keep, here["commit"], wanted)) if keep else ""
    before = run.read(against) if against else None
    if before:
        before["rows"] = [in_todays_words(row) for row in before["rows"]]
    hardware = here["hardware"]
    path = out or (None if quick or rows else run.default_path(hardware))
    if path:
        run.kept(path, hardware, quick=quick)  # refused before an hour's work, not after it
    console = make_console(quiet=as_json)
    prepared = sets.prepare(dataset or "auto", data_root=sets.data_root(root), source=source, console=console)
    request = Request(data=near(prepared.folder).path, repeats=repeats, cap=cap, quick=quick, keep=kept)
    if path:
        run.kept(path, hardware, quick=quick, data=run.data_name(request))
    record = run.bench(
        wanted, request, path=path and path.absolute(), show=lambda name: print_line(console, f"measuring {name} ...")
    )
    if as_json:
        print(json.dumps(record, indent=1))
    console.print(bench_table(record), new_line_start=True)
    if before:
        console.print(changes_table(record, before), new_line_start=True)
    if path:
        print_line(console, f"record: {path}")


def _of_commit(keep: Path, commit: str | None, rows: list[Row]) -> Path:
    """The folder of this commit's studies. Raises UserError if no row keeps any, the source is not a commit, or `keep`
    is a file."""
    if not any(row.asked_for for row in rows):
        raise UserError(f"--keep is for {_LONG}, which is not among the rows; add it to --rows or leave out --keep")
    if not commit or commit.endswith("+changes"):
        raise UserError(
            "--keep continues the studies of a commit, but this source has uncommitted changes or no commit; commit"
            " them first"
        )
    if not keep.is_dir() and keep.exists():
        raise UserError(f"--keep {keep} is not a folder; name another")
    return keep.absolute() / commit
