"""Options that several verbs of the command line share."""

from typing import Annotated

import typer

Job = Annotated[str | None, typer.Argument(help="A job of tune_jobs/ by name, or the path of a TOML file.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change a setting; repeatable.")
]
Run = Annotated[str | None, typer.Option("--run", metavar="DIR_OR_URI", help="The run folder. Default: runs/JOB-TIME.")]
DataRoot = Annotated[
    str | None, typer.Option("--data", metavar="DIR_OR_URI", help="Default: $ONESHOT_DATA, else the user's cache.")
]
Source = Annotated[
    str | None,
    typer.Option(
        "--source", metavar="DIR_OR_URL", help="Omniglot's archives. Default: $ONESHOT_SOURCE, else their home."
    ),
]
Dataset = Annotated[
    str | None,
    typer.Option("--dataset", help="omniglot, glyphs, glyphs-N (alphabets), or auto: Omniglot or else glyphs."),
]
Split = Annotated[str | None, typer.Option("--split", help="lake, lake-all, koch, minimal1 or minimal2.")]
Address = Annotated[
    str | None,
    typer.Option("--address", help="A Ray cluster. Default: $RAY_ADDRESS, else an embedded Ray."),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="Show Ray's own messages.")]
Trace = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Network = Annotated[str, typer.Argument(metavar="RUN", help="A run, its best/, or a checkpoint's folder; or a URI.")]
