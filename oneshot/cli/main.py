"""The command line: `python -m oneshot.VERB`, or `oneshot VERB`. Options and messages; the work is done elsewhere."""

import errno
import json
import os
import re
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from oneshot.base import garbage, interrupts
from oneshot.base.errors import GPU_FULL, RayDied, RunFailed, UserError, first_line, nearest
from oneshot.cli import verbs
from oneshot.cli.bench import bench
from oneshot.cli.data import data_app
from oneshot.cli.options import AsJson, Device, Quiet, RunDataRoot, Set, Source, Trace
from oneshot.cli.settings import settings
from oneshot.screen.console import console as make_console
from oneshot.screen.console import print_error

RECORDS = "Records and measurements"
ORDER = ("data", "tune", "train", "evaluate")  # the verbs that the help names first; the others as they are registered


class InOrder(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        return [*ORDER, *(name for name in super().list_commands(ctx) if name not in ORDER)]


app = typer.Typer(
    cls=InOrder,
    help="Train, tune and evaluate Siamese networks for one-shot image recognition at scale.",
    epilog="Example: python -m oneshot.tune quick\n\nExit codes: 0 done, 1 the run failed, 2 the request was wrong,"
    " 130 interrupted.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
app.add_typer(data_app, name="data")

Job = Annotated[
    str | None,
    typer.Argument(
        metavar="JOB",
        help="Name of a job in tune_jobs/, or a TOML file. Default: koch where there is a GPU, else quick.",
    ),
]
Run = Annotated[str | None, typer.Option("--run", metavar="DIR_OR_URI", help="The run folder. Default: runs/JOB-TIME.")]
Address = Annotated[
    str | None,
    typer.Option("--address", help="A Ray cluster. Default: $RAY_ADDRESS, else an embedded Ray."),
]
Verbose = Annotated[bool, typer.Option("--verbose", help="Show Ray's own messages.")]


@app.command(epilog="Example: python -m oneshot.train quick --local --set train.lr=0.003")
def train(
    job: Job = None,
    local: Annotated[
        bool, typer.Option("--local", help="Train in this process, without Ray, so that a debugger works.")
    ] = False,
    workers: Annotated[
        str | None,
        typer.Option("--workers", metavar="N", help="Ray Train workers, e.g. 4 or 1..4; overrides scale.workers."),
    ] = None,
    gpu: Annotated[bool, typer.Option("--gpu", help="A GPU for each worker; an error where there is none.")] = False,
    device: Device = "auto",
    run: Run = None,
    set_: Set = None,
    root: RunDataRoot = None,
    source: Source = None,
    address: Address = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
    debug: Annotated[
        bool,
        typer.Option("--debug", help="With --local: show parameters and a batch, and overfit it. Also: tracebacks."),
    ] = False,
) -> None:
    """Train once, with the settings of a job; the same --run again goes on where it stopped."""
    from oneshot.cli import train

    if local and workers not in (None, "1"):
        raise UserError(f"--local is one process; --workers {workers} needs Ray: leave one of them out")
    if local and gpu:
        raise UserError("--gpu is for Ray's workers; with --local, use --device cuda")
    if local and address:
        raise UserError(
            f"--local is this process, without Ray; --address {address} names a cluster: leave one of them out"
        )
    if device != "auto" and not local:
        raise UserError("--device goes with --local; under Ray, --gpu gives each worker a GPU")
    done = train.train(
        make_console(quiet=quiet or as_json),
        job=job,
        local=local,
        workers=workers,
        gpu=gpu,
        device=device,
        run=run,
        changes=set_ or [],
        root=root,
        source=source,
        address=address,
        verbose=verbose,
        debug=debug,
    )
    _tell(done, quiet=quiet, as_json=as_json)


@app.command(
    epilog="Example: python -m oneshot.tune quick --max-time 10m\n\nOn a cluster: ray job submit --working-dir . --"
    " python -m oneshot.tune koch"
)
def tune(
    job: Job = None,
    run: Run = None,
    resume: Annotated[
        str | None,
        typer.Option(
            "--resume",
            metavar="RUN",
            help="Resume a run with its own settings; --set may change scale.KEY, and raise search.trials.",
        ),
    ] = None,
    set_: Set = None,
    max_time: Annotated[
        str | None,
        typer.Option(
            "--max-time",
            metavar="TIME",
            help="Stop searching after this time (2h, 90m, 1h30m), then judge the best so far.",
        ),
    ] = None,
    max_concurrent: Annotated[
        int | None, typer.Option("--max-concurrent", min=1, help="Most trials to run at once. Default: all that fit.")
    ] = None,
    root: RunDataRoot = None,
    source: Source = None,
    address: Address = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
    debug: Trace = False,
) -> None:
    """Search optimizer, learning rate and batch size; judge the best trial's network on the test alphabets."""
    from oneshot.cli import tune

    if resume is not None and (job or run is not None):
        raise UserError("--resume takes the run's own settings: leave JOB and --run out")
    done = tune.tune(
        make_console(quiet=quiet or as_json), job=job, run=run, resume=resume, changes=set_ or [], root=root,
        source=source, address=address, verbose=verbose, max_time=max_time, max_concurrent=max_concurrent,
    )  # fmt: skip
    _tell(done, quiet=quiet, as_json=as_json)


def _tell(done: dict[str, Any], *, quiet: bool, as_json: bool) -> None:
    """Print what a script reads of a run that is over."""
    if as_json:
        print(json.dumps(done, indent=1))
    elif quiet:
        print(done["run"])


app.command(epilog="Example: python -m oneshot.evaluate runs/quick --k-shot 5 --protocol within")(verbs.evaluate)
app.command(epilog="Example: python -m oneshot.report runs/quick")(verbs.report)
app.command(epilog="Example: python -m oneshot.classify runs/quick --support classes scan.png")(verbs.classify)
app.command(epilog="Example: python -m oneshot.verify runs/quick one.png other.png")(verbs.verify)
app.command(epilog="Example: python -m oneshot.embed runs/quick --support classes --out classes.parquet")(verbs.embed)
app.command(epilog="Example: python -m oneshot.export runs/quick --onnx")(verbs.export)
app.command(epilog="Example: python -m oneshot.prune runs/quick --dry-run")(verbs.prune)
app.command(epilog="Example: python -m oneshot.settings quick --set train.lr=0.003")(settings)
app.command(epilog="Example: python -m oneshot.repeat cpu5 --seeds 1..5", rich_help_panel=RECORDS)(verbs.repeat)
app.command(epilog="Example: python -m oneshot.record runs/quick --name quick", rich_help_panel=RECORDS)(verbs.record)
app.command(epilog="Example: python -m oneshot.bench --rows pairs,load", rich_help_panel=RECORDS)(bench)


def main(verb: list[str] | None = None) -> None:
    """Run the command line; `verb` stands before the arguments.

    Ends the process: 0 done, 1 the run failed, 2 the request was wrong, 130 interrupted.
    """
    arguments = (verb or []) + sys.argv[1:]
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # the shell closed it (>&-)
            setattr(sys, name, open(os.devnull, "w"))
    interrupts.heed()
    garbage.search_less()
    try:
        code = _answer(arguments)
        interrupts.heed_no_more()
    except KeyboardInterrupt:
        interrupts.heed_no_more()
        code = 130
    sys.exit(code)


def _answer(arguments: list[str]) -> int:
    """Do what is asked for, and return the exit code."""
    try:
        return app(arguments, prog_name="oneshot", standalone_mode=False) or 0
    except Exception as error:
        if "--debug" in arguments:
            raise
        code = _explain(error)
        if isinstance(error, RayDied):
            os._exit(code)
        return code


def _explain(error: Exception) -> int:
    """Print an error as a sentence, and return the exit code."""
    console = make_console(stderr=True)
    if isinstance(error, UserError):
        print_error(console, error)
        return 2
    if isinstance(error, RunFailed):
        print_error(console, error)
        return 1
    if hasattr(error, "format_message"):  # Typer's: an unknown command, option or value
        if error.format_message():  # else no argument was given, and Typer has shown the help
            print_error(console, _unknown(error))
        return 2
    if isinstance(error, OSError):
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        broken = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO)
        advice = "free some space on the disk or use another" if broken else "name a file or folder that can be used"
        print_error(console, f"{what}; {advice}")
        return 1 if broken else 2
    if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported here
        print_error(console, GPU_FULL.format(error))
        return 1
    said = first_line(error)
    if isinstance(error, RuntimeError) and "_STATUS_ALLOC_FAILED" in said:  # of CUDA's own libraries
        print_error(console, f"the GPU is out of memory, or others are using it: nvidia-smi shows who ({said})")
        return 1
    if type(error).__name__ == "AcceleratorError" or said.startswith("CUDA error"):
        print_error(console, f"the GPU failed: {said}; is it reserved by another process, or broken? See nvidia-smi")
        return 1
    if isinstance(error, MemoryError):
        print_error(console, f"there is not enough memory ({error or 'none is left'}); ask for less")
        return 1
    print_error(console, f"{type(error).__name__}: {error}; this is a bug in oneshot: --debug shows where")
    return 1


def _unknown(error: Any) -> str:
    """What Typer found wrong, with the nearest option or verb if it knows none of that name."""
    said, context = error.format_message().rstrip("."), getattr(error, "ctx", None)
    if context and (option := getattr(error, "option_name", None)) and said.startswith("No such option"):
        known = {name for each in context.command.get_params(context) for name in each.opts if name.startswith("--")}
        return f"No such option: {option}; {nearest(option, known, alike=0.75)}"  # options share their dashes
    if context and (verb := re.match(r"No such command '(.*?)'", said)):
        return f"No such command '{verb[1]}'; {nearest(verb[1], context.command.list_commands(context))}"
    if context and said.startswith("Got unexpected extra argument") and (taken := _taken_for_values(context)):
        return f"{said}; {taken}: is a value missing, or a variable not set?"
    return f"{said}; --help shows what there is"


def _taken_for_values(context: Any) -> str:
    """Which options took the next option for their value, as happens if a shell variable is empty."""
    found = []
    for each in context.command.get_params(context):
        given = context.params.get(each.name)
        values = given if isinstance(given, list | tuple) else [given]
        found += [f"{each.opts[0]} needs a value before {value}" for value in values if str(value).startswith("--")]
    return "; ".join(found)
