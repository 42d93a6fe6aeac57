"""The command line's `data`, which prepares and shows data sets, and the options by which any verb names one."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from oneshot.base.errors import UserError
from oneshot.cli.options import DataRoot, Quiet, Source, Trace
from oneshot.screen.console import console as make_console
from oneshot.screen.console import print_line

data_app = typer.Typer(invoke_without_command=True, rich_markup_mode="rich")

DATASETS = "omniglot, glyphs, glyphs-N (alphabets), auto: Omniglot or else glyphs; folder or NAME: your own images."
SPLITS = "lake, lake-all, koch, minimal1, minimal1-all, minimal2 or minimal2-all; of your own images: own, own-all."
Dataset = Annotated[str | None, typer.Option("--dataset", help=DATASETS)]
_OWN: Any = {"rich_help_panel": "Your own images (--dataset folder)"}


@data_app.callback(epilog="Example: python -m oneshot.data --dataset folder --source ~/coins")
def data(
    context: typer.Context,
    dataset: Dataset = "auto",
    source: Source = None,
    root: DataRoot = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the set. Default: that of its folder.", **_OWN)
    ] = None,
    polarity: Annotated[
        str | None, typer.Option("--polarity", help="dark or light (ink), photo, or auto: by their looks.", **_OWN)
    ] = None,
    side: Annotated[
        int | None, typer.Option("--side", help="Pixels a side at which images are kept. Default: 105.", **_OWN)
    ] = None,
    least: Annotated[
        int | None, typer.Option("--min-images", help="A class with fewer images is left out. Default: 2.", **_OWN)
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Seed of the split. Default: 0.", **_OWN)] = None,
    split_file: Annotated[
        str | None,
        typer.Option("--split-file", help="JSON or TOML: lists of names, train, validation, test.", **_OWN),
    ] = None,
    quiet: Quiet = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print name and folder as JSON and nothing else.")] = False,
    debug: Trace = False,
) -> None:
    """Get Omniglot (or generate glyphs, or take your own images) and write it as Parquet, if that is not done yet.

    Own images lie in a folder as class/image or group/class/image: PNG, JPEG, WebP, BMP or TIFF of any size.
    A set that is remade keeps what the options do not change.
    """
    given = {"polarity": polarity, "side": side, "least": least, "seed": seed, "split_file": split_file}
    how = {key: value for key, value in given.items() if value is not None}
    context.obj = dict(dataset=dataset, source=source, root=root, name=name, how=how)
    if context.invoked_subcommand and (quiet or as_json):
        raise UserError("--quiet and --json go with data alone: leave them out before a verb")
    if context.invoked_subcommand is None:
        console = make_console(quiet=quiet or as_json)
        prepared = _prepared(console, context)
        if as_json:
            told = {"dataset": prepared.dataset, "name": prepared.name, "why": prepared.why}
            print(json.dumps(told | {"folder": str(prepared.folder)}))
        elif quiet:
            print(prepared.folder)
        print_line(console, f"{prepared.name} is ready in {prepared.folder}")
        if "@" in prepared.dataset:
            called = prepared.folder.name
            print_line(
                console,
                f"look at it: python -m oneshot.data --dataset {called} show; search on it:"
                f" python -m oneshot.tune own --set data.dataset={called}",
            )


def _prepared(console: Console, context: typer.Context) -> Any:
    from oneshot.data import sets

    given = dict(context.obj)
    root = sets.data_root(given.pop("root"))
    return sets.prepare(given.pop("dataset"), data_root=root, console=console, **given)


@data_app.command(epilog="Example: python -m oneshot.data show --alphabet Korean --png korean.png")
def show(
    context: typer.Context,
    alphabet: Annotated[
        str | None,
        typer.Option("--alphabet", help="Show drawings of this alphabet, group, class, or GROUP/CLASS."),
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", help=f"{SPLITS} Default: lake, or own where the images are your own.")
    ] = None,
    png: Annotated[Path | None, typer.Option("--png", help="Write the picture to this file.")] = None,
    images: Annotated[
        str | None,
        typer.Option(
            "--images",
            metavar="FOLDER",
            help="Write one alphabet as image files to ask a network about: its classes, a scan, known ones. Default"
            " alphabet: the first one for the test.",
        ),
    ] = None,
    debug: Trace = False,
) -> None:
    """Show the alphabets of a data set, their part in a split, and drawings."""
    from oneshot.data import example, view

    if images is not None and png:
        raise UserError("--images and --png write different things: give one of them")
    console = make_console()
    prepared = _prepared(console, context)
    if images is not None:
        example.write(console, prepared, images, split=split or "lake", alphabet=alphabet)
    else:
        view.show(console, prepared, split=split or "lake", alphabet=alphabet, png=png)
