"""What a request needs before its work can begin: settings, data, a run folder."""

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Literal

from rich.console import Console

from oneshot.base.errors import DiskFull, NoRoom, RayDied, UserError
from oneshot.base.jobs import override
from oneshot.base.reach import reach
from oneshot.base.settings import Settings
from oneshot.base.storage import Folder
from oneshot.cluster.packing import Node
from oneshot.data import sets, splits, store
from oneshot.data.cache import near
from oneshot.evaluation import judgement
from oneshot.evaluation.modelcard import worth
from oneshot.evaluation.overlap import overlap, taught
from oneshot.run import cards, opened
from oneshot.screen.console import heard, print_line, print_warning
from oneshot.search import closing, points
from oneshot.training import start


def default_job(console: Console, nodes: list[Node]) -> str:
    """The job if none is named, chosen by what the nodes have; it is printed."""
    gpus = sum(node.gpus for node in nodes)
    job, why = ("koch", f"{gpus:g} GPU(s)") if gpus >= 1 else ("quick", "no GPU")
    print_line(console, f"no job was named and there is {why}: using {job} (tune_jobs/{job}.toml)")
    return job


def data_root(root: str | None, run: Folder) -> str | None:
    """The data root that was named, else the one that the run was told to take, if it is still there."""
    if root or not (told := opened.data_root_of(run)):
        return root
    with contextlib.suppress(UserError):  # a store that does not answer counts as gone
        if reach(told).has():
            return told
    return None


def keep_data_root(run: Folder, root: str | None) -> None:
    """If a data root was named, write it down in an opened run."""
    if root:
        opened.keep_data_root(run, reach(root))


def with_data(
    console: Console, settings: Settings, root: str | None, source: str | None
) -> tuple[Settings, sets.Prepared]:
    """Prepare the data set. Returns the settings, with `auto` replaced by what was found, and the data set."""
    prepared = sets.prepare(settings.data.dataset, data_root=sets.data_root(root), source=source, console=console)
    about = store.describe(near(prepared.folder))
    split = splits.fitting(settings.data.split, about)
    splits.split(split, about)  # refused now, not by a worker in a minute
    return override(settings, {"data.dataset": prepared.dataset, "data.split": split}, source="the data"), prepared


@contextlib.contextmanager
def held_run(
    console: Console, settings: Settings, folder: Folder, prepared: sets.Prepared, begin: start.Start | None,
    root: str | None, *, kind: Literal["training", "study"], fixed: tuple[str, ...],
) -> Iterator[threading.Event]:  # fmt: skip
    """Open the run's folder for this process for the time of the block, write down what the run keeps from its first
    moment on, and print its first lines. Yields an event that is set if another process has taken the run over. Raises
    UserError as `open_run`, and if a study was pruned in the meantime and would go on."""
    judgement.check_judged(folder, settings)
    check = partial(closing.check, folder, settings) if kind == "study" else lambda: None
    say = partial(print_line, heard(console))
    with opened.open_run(settings, folder, kind=kind, fixed=fixed, say=say, check=check) as lost:
        keep_data_root(folder, root)
        start.keep(begin, folder)
        print_line(console, f"run {folder}: {described(settings, prepared)}")
        tell_enlarged(console, settings, prepared, kind=kind)
        tell_start(console, begin, settings, prepared)
        yield lost


def run_folder(
    run: str | None, job: str, root: str | None, *, attached: bool, stack: contextlib.ExitStack
) -> Folder:  # fmt: skip
    """The run folder: as named, else runs/JOB-TIME. On an attached cluster runs/ lies in the data root: the working
    directory of a submitted job is a copy that Ray throws away.

    A folder that was not named is new, and is removed with the stack if it is still empty. If two commands start in the
    same second, the later one's is runs/JOB-TIME-2.
    """
    if run is not None:
        return reach(run)
    runs = sets.data_root(root) / "runs" if attached else Folder.of("runs")
    name = f"{Path(job).stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    first = runs.is_local and not runs.has()
    folder = next(folder for folder in (runs / each for each in names) if folder.make_new())
    for made in [runs] * first + [folder] * folder.is_local:
        stack.callback(made.remove_if_empty)
    return folder


def described(settings: Settings, prepared: sets.Prepared) -> str:
    """Network, size, data and split, as the first line of a run says them."""
    return f"{settings.model.name} at {settings.data.size} px on {prepared.name}, split {settings.data.split}"


def tell_enlarged(
    console: Console, settings: Settings, prepared: sets.Prepared, *, kind: Literal["training", "study"]
) -> None:
    """Warn if a network, in a search at any of its points, would see the user's own images larger than they are
    kept."""
    if not splits.is_own(settings.data.split):
        return
    about, size = store.describe(near(prepared.folder)), settings.data.size
    if kind == "study":
        size = max(point.get("data.size", size) for _, point in points.variants(settings.search))
    if size > about.height:
        name = settings.data.dataset.partition("@")[0]
        print_warning(
            console,
            f"{about.name} are kept at {about.height} px and seen at {size}: that takes more time and shows"
            f" no more detail; `python -m oneshot.data --dataset {name} --source {quote(about.source)} --side {size}`"
            " keeps them at that size",
        )


def tell_start(console: Console, begin: start.Start | None, settings: Settings, prepared: sets.Prepared) -> None:
    """Say which network a training starts from, and which alphabets are no longer new because of it."""
    if begin is None:
        return
    print_line(console, f"it starts from {settings.train.start}; a copy lies in {cards.START}/ of the run")
    about, asked = store.describe(near(prepared.folder)), settings.data
    known = overlap(asked.model_dump(), about, dataset=asked.dataset, split=asked.split, start=begin.origins)
    if known:
        print_warning(console, known)
    if flatters := taught(begin.origins, about, dataset=asked.dataset, split=asked.split):
        how = "may have been" if flatters == "perhaps" else "was"
        print_warning(
            console,
            f"that network {how} trained on the validation data used here, so validation figures are optimistic",
        )


def tell_worth(console: Console, run: Folder) -> None:
    """If a network started from another one, say what its training was worth."""
    calibration = cards.read(run / "best").get("calibration") or {}
    if tuned := calibration.get("start"):
        tell = print_line if tuned["accuracy"] > tuned["before"] else print_warning
        tell(console, f"of the one-shot trials in validation {worth(calibration)}")


@contextlib.contextmanager
def told_how_to_go_on(console: Console, how: Callable[[], str]) -> Iterator[None]:
    """Say how to go on if the block is interrupted, the disk or the cluster is full, or Ray dies. Say nothing if `how`
    is empty: there is nothing to go on with yet."""
    try:
        yield
    except (KeyboardInterrupt, DiskFull, NoRoom, RayDied) as error:
        if to_do := how():
            interrupted = "interrupted; " * isinstance(error, KeyboardInterrupt)
            print_line(heard(console), f"{interrupted}to go on: {to_do}")
        raise
