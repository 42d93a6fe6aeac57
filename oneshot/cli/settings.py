"""The verb `settings`: what there is to set, as a table that fits the terminal, as JSON, or as a job's file."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from oneshot.base.errors import UserError
from oneshot.base.jobs import changed, job_file, read
from oneshot.base.meanings import Setting, explained, inline, sections
from oneshot.base.reach import reach
from oneshot.base.settings import Settings
from oneshot.cli.options import Set, Trace
from oneshot.run import opened
from oneshot.screen.console import console as make_console
from oneshot.screen.console import print_line

WIDE = 120  # of a terminal; in a narrower one, what a setting takes has no column
MARK = "*"  # beside a value that is not the default


def settings(
    job: Annotated[
        str | None,
        typer.Argument(
            metavar="JOB_OR_RUN",
            help="Name of a job in tune_jobs/, a TOML file, or a run: what its network was trained with, of a search"
            " the best trial's. Default: none, the defaults alone.",
        ),
    ] = None,
    set_: Set = None,
    as_toml: Annotated[
        bool, typer.Option("--toml", help="Print all settings as a job's file, to save, change and use.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a list of key, value, default, takes, meaning.")
    ] = False,
    debug: Trace = False,
) -> None:
    """List every setting: its value in a job or a run, its default, what it takes and what it means."""
    if as_toml and as_json:
        raise UserError("--toml and --json are two forms of the same: leave one of them out")
    chosen = _chosen(job, set_ or [])
    if as_toml:
        print(chosen.to_toml(), end="")
        return
    told = explained(chosen)
    if as_json:
        fields = ("key", "value", "default", "takes", "meaning")
        print(json.dumps([{name: getattr(each, name) for name in fields} for each in told], indent=1))
        return
    show(make_console(), told, of_job=bool(job or set_))


def _chosen(job: str | None, changes: list[str]) -> Settings:
    if job and ("://" in job or Path(job).is_dir()):
        return changed(opened.settings_of_network(reach(job)), changes)
    return read(job_file(job), changes) if job else changed(Settings(), changes)


def show(console: Console, told: list[Setting], *, of_job: bool) -> None:
    """Print a table per section. `of_job`: beside the defaults are the values of a job, marked if they differ."""
    for section, about in sections().items():
        rows = [each for each in told if each.key.startswith(f"{section}.")]
        console.print(Text.assemble((f"[{section}]", "bold"), f" {about}"))
        console.print((_wide if console.width >= WIDE else _narrow)(rows, of_job), new_line_start=True)
        console.print()
    if of_job:
        print_line(console, f"{MARK} not the default")
    print_line(console, "change one: --set section.key=value, or in a job's file under [section]")


def _wide(rows: list[Setting], of_job: bool) -> Table:
    """A table with all columns side by side."""
    table = _table("setting", *["value"] * of_job, "default", "takes", "meaning")
    table.columns[0].no_wrap = True
    for column in table.columns[1:-1]:
        column.max_width = 26
    table.columns[-1].ratio = 1
    for each in rows:
        cells = [_value(each)] * of_job + [Text(inline(each.default)), Text(each.takes), Text(each.meaning)]
        table.add_row(each.key, *cells)
    return table


def _narrow(rows: list[Setting], of_job: bool) -> Table:
    """A table that shows what a setting takes under its meaning, and its default under a value that differs."""
    table = _table("setting", "value" if of_job else "default", "meaning")
    table.columns[0].no_wrap = True
    table.columns[1].max_width = 16
    table.columns[2].ratio = 1
    for each in rows:
        value = _value(each) if of_job else Text(inline(each.default))
        if of_job and each.changed:
            value.append(f"\ndefault {inline(each.default)}", "dim")
        table.add_row(each.key, value, Text.assemble(each.meaning, (f"\ntakes {each.takes}", "dim")))
    return table


def _table(*headers: str) -> Table:
    return Table(*headers, box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", leading=1, expand=True)


def _value(each: Setting) -> Text:
    return Text(f"{inline(each.value)} {MARK}", "bold yellow") if each.changed else Text(inline(each.value))
