"""Options that several verbs of the command line share."""

from typing import Annotated

import typer

Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print only where the result is; warnings go to stderr.")]
Trace = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Network = Annotated[str, typer.Argument(metavar="RUN", help="A run, its best/, or a checkpoint's folder; or a URI.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        help="Change a setting, as train.lr=0.01; repeatable. `oneshot settings` lists them.",
    ),
]
DataRoot = Annotated[
    str | None,
    typer.Option(
        "--data", metavar="DIR_OR_URI", help="Where data sets are kept. Default: $ONESHOT_DATA, else the user's cache."
    ),
]
RunDataRoot = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="DIR_OR_URI",
        help="Where data sets are kept. Default: the run's last one, else $ONESHOT_DATA, else the user's cache.",
    ),
]
Source = Annotated[
    str | None,
    typer.Option(
        "--source",
        metavar="DIR_OR_URL",
        help="Omniglot's archives. Default: $ONESHOT_SOURCE, else their home. For the data set folder: your images.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print only the result, as JSON; warnings go to stderr.")]
