"""More verbs: those that use a run and its network, and those that make records. `main` has the others."""

from pathlib import Path
from typing import Annotated

import typer

from oneshot.base.errors import UserError
from oneshot.base.reach import reach
from oneshot.cli.data import DATASETS, SPLITS
from oneshot.cli.options import DataRoot, Device, Network, Quiet, RunDataRoot, Set, Source, Trace
from oneshot.run import cards
from oneshot.screen.console import console, print_line

Json = Annotated[bool, typer.Option("--json", help="Print JSON, one line per image.")]
PerClass = Annotated[
    int | None,
    typer.Option(
        "--per-class",
        min=1,
        help="Use at most this many different images of each class in --support, the first by name. Default: all.",
    ),
]


def evaluate(
    where: Network,
    n_way: Annotated[
        int | None, typer.Option("--n-way", help="Classes to choose from. Default: the run's (20).")
    ] = None,
    k_shot: Annotated[
        int | None,
        typer.Option(
            "--k-shot",
            help="Images of each class in the support, their embeddings averaged. Default: the run's (1). lake400 and"
            " seed352 are 20-way 1-shot, and left out if something else is asked for.",
        ),
    ] = None,
    protocol: Annotated[
        list[str] | None,
        typer.Option(
            "--protocol", help="lake400, within, between or seed352; repeatable. Default: the run's (all four)."
        ),
    ] = None,
    trials: Annotated[
        int | None, typer.Option("--trials", help="Trials that within and between make. Default: the run's (10,000).")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of these trials. Default: the run's (0).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, as in result.json.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Protocol and accuracy only; warnings go to stderr.")] = False,
    device: Device = "auto",
    dataset: Annotated[
        str | None, typer.Option("--dataset", help=f"Judge on another data set. Default: the run's. {DATASETS}")
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", help=f"Judge on another split's test part. Default: the run's. {SPLITS}")
    ] = None,
    root: RunDataRoot = None,
    source: Source = None,
    debug: Trace = False,
) -> None:
    """Judge a network by one-shot trials on the test alphabets."""
    from oneshot.cli import evaluate

    how = {"n_way": n_way, "k_shot": k_shot, "protocols": protocol, "trials": trials, "seed": seed}
    evaluate.evaluate(
        console(quiet=quiet or as_json),
        where=where,
        how={key: value for key, value in how.items() if value is not None},
        as_json=as_json,
        quiet=quiet,
        device=device,
        dataset=dataset,
        split=split,
        root=root,
        source=source,
    )


def classify(
    where: Network,
    support: Annotated[
        str,
        typer.Option(
            "--support",
            metavar="DIR_OR_FILE",
            help="The classes: DIR/class.png, or DIR/class/ with images; or a file of `oneshot embed --support`.",
        ),
    ],
    images: Annotated[
        list[str] | None, typer.Argument(metavar="IMAGE...", help="Images, or folders of images.")
    ] = None,
    labelled: Annotated[
        str | None,
        typer.Option(
            "--labelled",
            metavar="DIR",
            help="In place of images: DIR/class/ with images whose class is known, to measure how often the answer is"
            " right at each --false-accept. A folder whose name is no class holds images of no class.",
        ),
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="How many classes to show of each image.")] = 5,
    per_class: PerClass = None,
    false_accept: Annotated[
        float | None,
        typer.Option(
            "--false-accept",
            help="Share of images of no class that may be accepted as one: 0.01, 0.05, 0.1, 0.2 or 0.5; 1: never"
            " answer 'none of these'. Default: 0.1.",
        ),
    ] = None,
    as_json: Json = False,
    device: Device = "auto",
    debug: Trace = False,
) -> None:
    """Tell which class an image is of, from one or more examples of each, or that it is none of these."""
    if bool(images) == (labelled is not None):
        raise UserError(
            "name what to classify: images, or folders of images, or else --labelled with a folder of them by class"
        )
    network = cards.find(reach(where))
    how = {
        "support": support, "per_class": per_class, "top": top, "false_accept": false_accept, "as_json": as_json,
        "device": device,
    }  # fmt: skip
    if labelled is not None:
        from oneshot.evaluation import labelled as measuring

        measuring.run(network, labelled, **how)
        return
    from oneshot.answers import classify

    classify.run(network, images, **how)


def verify(
    where: Network,
    left: Annotated[Path, typer.Argument(metavar="A", help="An image.")],
    right: Annotated[Path, typer.Argument(metavar="B", help="Another image.")],
    false_match: Annotated[
        float | None,
        typer.Option(
            "--false-match",
            help="Share of different-class pairs that may be called the same: 0.1, 0.01 or 0.001. Default: the same"
            " if the probability exceeds one half.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    device: Device = "auto",
    debug: Trace = False,
) -> None:
    """Tell whether two images show the same class, with the probability."""
    network = cards.find(reach(where))
    from oneshot.answers import verify

    verify.run(network, left, right, false_match=false_match, as_json=as_json, device=device)


def embed(
    where: Network,
    images: Annotated[
        list[str] | None, typer.Argument(metavar="IMAGE...", help="Images, or folders of images: a row each.")
    ] = None,
    support: Annotated[
        str | None,
        typer.Option(
            "--support",
            metavar="DIR",
            help="In place of images: classes, DIR/class.png or DIR/class/ with images, a row each, for `classify`.",
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out", metavar="FILE", help="Where to: a path or URI that ends in .parquet. Default: --add-to's file."
        ),
    ] = None,
    add_to: Annotated[
        str | None,
        typer.Option(
            "--add-to",
            metavar="FILE",
            help="A file of classes that this network embedded: keep them, except those of --drop, and add those of"
            " --support.",
        ),
    ] = None,
    drop: Annotated[
        list[str] | None,
        typer.Option("--drop", metavar="CLASS", help="A class to take out of --add-to's file first; repeatable."),
    ] = None,
    per_class: PerClass = None,
    quiet: Quiet = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON and nothing else.")] = False,
    device: Device = "auto",
    debug: Trace = False,
) -> None:
    """Write embeddings to a Parquet file: of images, for an index, or of classes, embedded once and asked often."""
    if bool(images) == (support is not None or add_to is not None):
        raise UserError("name what to embed: images, or folders of images, or else --support with a folder of classes")
    if drop and add_to is None:
        raise UserError("--drop takes classes out of a file: name it with --add-to")
    if add_to is not None and support is None and not drop:
        raise UserError("--add-to changes a file: name classes to add with --support, or to take out with --drop")
    if per_class is not None and support is None:
        raise UserError("--per-class takes some images of each class: name a folder of classes with --support")
    if (file := out if out is not None else add_to) is None:
        raise UserError("name where to write to: --out, a file that ends in .parquet")
    network = cards.find(reach(where))
    from oneshot.answers import embed

    embed.run(
        network, images or [], support=support, out=file, add_to=add_to, drop=drop or [], per_class=per_class,
        as_json=as_json, quiet=quiet, device=device,
    )  # fmt: skip


def export(
    where: Network,
    onnx: Annotated[bool, typer.Option("--onnx", help="As ONNX; needs the extra `onnx`.")] = False,
    out: Annotated[
        str | None, typer.Option("--out", metavar="DIR", help="Where to. Default: onnx/ beside the network.")
    ] = None,
    debug: Trace = False,
) -> None:
    """Write a network for programs without torch, checked against torch."""
    if not onnx:
        raise UserError("name what to export to: --onnx")
    network = cards.find(reach(where))
    from oneshot.answers import export

    export.run(network, out=out)


def report(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="A run's folder; several: print them side by side; a folder that holds runs: list them; `ladder`: all"
            " records among published figures.",
        ),
    ],
    out: Annotated[
        str | None, typer.Option("--out", metavar="DIR_OR_URI", help="Where to write. Default: the run's folder.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print where each run stands as JSON, and write no page; warnings aside.")
    ] = False,
    debug: Trace = False,
) -> None:
    """Write a run's report, a page and its figures, even while the run goes on. Given several, compare or list them.

    README's tables and pictures are rendered by `oneshot record`.
    """
    from oneshot.cli import report

    report.report(console(quiet=as_json), runs=runs, out=out, as_json=as_json)


def prune(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Folders of runs that are over.")],
    stopped: Annotated[
        bool,
        typer.Option("--stopped", help="Also of runs that are not over; a study does not go on after that."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")] = False,
    debug: Trace = False,
) -> None:
    """Remove checkpoints that runs no longer need. A study keeps only the winner's newest and best.

    Histories, events, the network in best/ and the judgement stay.
    """
    from oneshot.cli import prune

    prune.prune(console(), runs=runs, stopped=stopped, dry_run=dry_run)


def repeat(
    jobs: Annotated[list[str], typer.Argument(metavar="JOB...", help="Jobs of tune_jobs/ by name, or TOML files.")],
    seeds: Annotated[
        str, typer.Option("--seeds", help="One training for each seed: a range or a list, as 1..5 or 1,2,7.")
    ] = "1..5",
    minutes: Annotated[
        float | None, typer.Option("--minutes", min=0, help="Stop after this many minutes; the same command goes on.")
    ] = None,
    device: Device = "auto",
    run: Annotated[str | None, typer.Option("--run", metavar="DIR_OR_URI", help="Default: runs/records/JOB.")] = None,
    set_: Set = None,
    root: DataRoot = None,
    source: Source = None,
    debug: Trace = False,
) -> None:
    """Train jobs with several seeds and judge each network once. Without --set, tune_jobs/records/ keeps the record,
    beside other seeds that it has of the same job."""
    from oneshot.cli import repeat

    repeat.run(
        console(), jobs=jobs, seeds=seeds, minutes=minutes, device=device, folder=run, changes=set_ or [], root=root,
        source=source,
    )  # fmt: skip


def record(
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="A finished study. Default: none, only the tables.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="The record's name. Default: the job's.")] = None,
    debug: Trace = False,
) -> None:
    """Keep a study's record in tune_jobs/records/; render the pages' tables and pictures again from all records."""
    from oneshot.cli import report
    from oneshot.records import pages
    from oneshot.records import record as records

    printed = console()
    if run:
        print_line(printed, f"kept: {records.keep(reach(run), name=name)}")
    for page in pages.render_all():
        print_line(printed, f"rendered: {page}")
    for path in records.draw_all():
        print_line(printed, f"drawn: {path}")
    report.warn_of_no_picture(printed)
