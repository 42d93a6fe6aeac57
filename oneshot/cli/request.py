"""What a request needs before its work can begin: settings, data, a run folder, the nodes of a cluster."""

import contextlib
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Literal

from rich.console import Console

from oneshot.base.errors import DiskFull, NoRoom, RayDied, UserError
from oneshot.base.jobs import changed, override, parse
from oneshot.base.reach import reach
from oneshot.base.settings import Settings
from oneshot.base.storage import Folder
from oneshot.cluster import connection, sharing
from oneshot.cluster.packing import Node, this_machine, why_no_gpu
from oneshot.data import sets, splits, store
from oneshot.data.cache import near
from oneshot.evaluation import judgement
from oneshot.evaluation.modelcard import worth
from oneshot.evaluation.overlap import overlap, taught
from oneshot.run import cards, opened
from oneshot.screen.console import heard, print_line, print_warning
from oneshot.search import points
from oneshot.training import start


def resumed(settings: Settings, changes: list[str]) -> Settings:
    """The settings of a search that goes on, with what of its scale and its number of trials is changed. Raises
    UserError for any other change."""
    for text in changes:
        key = text.partition("=")[0].strip()
        if key != "search.trials" and not key.startswith("scale."):
            raise UserError(
                f"--set {text}: a resumed run keeps its settings; --set may change only scale.KEY and search.trials"
            )
    return changed(settings, changes)


def trials_of(run: Folder) -> int:
    """How many trials a search is to have that was begun in this folder; 0: none was."""
    return opened.read_experiment(run).search.trials if run.has(opened.EXPERIMENT) else 0


def tell_trials(console: Console, *, had: int, asked: int) -> None:
    """Say where a search that goes on, of `had` trials, has other trials than before or than are asked for."""
    if 0 < had < asked:
        print_line(console, f"{asked - had} trial{'s' * (asked - had > 1)} more, {asked} in all")
    if asked < had:
        print_warning(console, f"search.trials = {asked}: the run has {had} trials by now and goes on with all of them")


def settings_for(where: Folder) -> Settings:
    """The settings of a run, or what a network's folder or a checkpoint says of its own."""
    if where.has(opened.EXPERIMENT):
        return opened.read_experiment(where)
    return parse(cards.recorded_settings(where), str(where))


def default_job(console: Console, nodes: list[Node]) -> str:
    """The job where none is named, by what the nodes have; it is said which."""
    gpus = sum(node.gpus for node in nodes)
    job, why = ("koch", f"{gpus:g} GPU(s)") if gpus >= 1 else ("quick", "no GPU")
    print_line(console, f"no job was named and there is {why}: using {job} (tune_jobs/{job}.toml)")
    return job


def nodes_of(
    console: Console, where: str | None, verbose: bool, stack: contextlib.ExitStack, *,
    how_to_go_on: Callable[[], str], trials: bool = False,
) -> list[Node]:  # fmt: skip
    """The nodes of the cluster at `where`, to which this connects; of an embedded Ray: this machine, before it runs.
    `how_to_go_on` is asked where the cluster dies: empty, where there is nothing to go on with by then."""
    if where is None:
        if why := why_no_gpu():
            print_warning(console, why)
        return [this_machine()]
    return stack.enter_context(
        connection.connect(where, console=console, verbose=verbose, how_to_go_on=how_to_go_on, trials=trials)
    )


def data_root(root: str | None, run: Folder) -> str | None:
    """The data root that was named, else the one that the run was told to take, where it is still there."""
    if root or not (told := opened.data_root_of(run)):
        return root
    with contextlib.suppress(UserError):  # a store that answers no more is as a folder that is gone
        if reach(told).has():
            return told
    return None


def keep_data_root(run: Folder, root: str | None) -> None:
    """Where a data root was named, an opened run keeps it."""
    if root:
        opened.keep_data_root(run, reach(root))


def with_data(
    console: Console, settings: Settings, root: str | None, source: str | None
) -> tuple[Settings, sets.Prepared]:
    """The data set made ready, and the settings with `auto` replaced by what was had."""
    prepared = sets.prepare(settings.data.dataset, data_root=sets.data_root(root), source=source, console=console)
    about = store.describe(near(prepared.folder))
    split = splits.fitting(settings.data.split, about)
    splits.split(split, about)  # refused now, not by a worker in a minute
    return override(settings, {"data.dataset": prepared.dataset, "data.split": split}, source="the data"), prepared


def check_sharing(
    console: Console, where: str | None, nodes: list[Node], folder: Folder, data: Folder
) -> list[Node]:  # fmt: skip
    """Whether the nodes of a cluster that is attached to see the same files: needless on one machine with its disk.
    Those that are still alive then; it is said which are not."""
    if where is None or (len(nodes) == 1 and folder.is_local and data.is_local):
        return nodes
    sharing.check(folder, data)
    dead = Counter(nodes) - Counter(connection.nodes())
    for node in dead.elements():
        print_warning(console, f"the node {node.name} has died; nothing is planned for it")
    return list((Counter(nodes) - dead).elements())


@contextlib.contextmanager
def held_run(
    console: Console, settings: Settings, folder: Folder, prepared: sets.Prepared, begin: start.Start | None,
    root: str | None, *, kind: Literal["training", "study"], fixed: tuple[str, ...],
) -> Iterator[threading.Event]:  # fmt: skip
    """The run's folder, opened for this process while the block lasts, with what it keeps from its first moment on; its
    first lines are said. The event is set where another process has taken the run over. Raises UserError as
    `open_run`."""
    judgement.check_judged(folder, settings)
    with opened.open_run(settings, folder, kind=kind, fixed=fixed, say=partial(print_line, heard(console))) as lost:
        keep_data_root(folder, root)
        start.keep(begin, folder)
        print_line(console, f"run {folder}: {described(settings, prepared)}")
        tell_enlarged(console, settings, prepared, kind=kind)
        tell_start(console, begin, settings, prepared)
        yield lost


def run_folder(
    run: str | None, job: str, root: str | None, *, attached: bool, stack: contextlib.ExitStack
) -> Folder:  # fmt: skip
    """The run folder: as named, else runs/JOB-TIME. A submitted job's working directory is a copy that Ray throws away,
    so there it lies beside the data.

    One that was not named is new, and goes with the stack where nothing was put there: of two commands in the same
    second the later one's is runs/JOB-TIME-2."""
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
    """Warn where a network is to see one's own images larger than they are kept, in a search by any of its points."""
    if not splits.is_own(settings.data.split):
        return
    about, size = store.describe(near(prepared.folder)), settings.data.size
    if kind == "study":
        size = max(point.get("data.size", size) for _, point in points.variants(settings.search))
    if size > about.height:
        name = settings.data.dataset.partition("@")[0]
        print_warning(
            console,
            f"{about.name} are kept at {about.height} px and seen at {size}: that takes more time and shows no more"
            f" detail; `python -m oneshot.data --dataset {name} --source {quote(about.source)} --side {size}` keeps it",
        )


def tell_start(console: Console, begin: start.Start | None, settings: Settings, prepared: sets.Prepared) -> None:
    """Say which network a training starts from, and which alphabets are not new any more for its sake."""
    if begin is None:
        return
    print_line(console, f"it starts from {settings.train.start}; a copy lies in {cards.START}/ of the run")
    about, asked = store.describe(near(prepared.folder)), settings.data
    known = overlap(asked.model_dump(), about, dataset=asked.dataset, split=asked.split, start=begin.origins)
    if known:
        print_warning(console, known)
    if flatters := taught(begin.origins, about, dataset=asked.dataset, split=asked.split):
        how = "may have been" if flatters == "perhaps" else "was"
        print_warning(console, f"what validates here {how} taught to that network: figures of validation flatter")


def tell_worth(console: Console, run: Folder) -> None:
    """Of a network that started from another one, say what its training was worth."""
    calibration = cards.read(run / "best").get("calibration") or {}
    if tuned := calibration.get("start"):
        tell = print_line if tuned["accuracy"] > tuned["before"] else print_warning
        tell(console, f"of the one-shot trials in validation {worth(calibration)}")


@contextlib.contextmanager
def told_how_to_go_on(console: Console, how: Callable[[], str]) -> Iterator[None]:
    """Say how to go on where the block is interrupted, the disk or the cluster is full or Ray dies; nothing where there
    is nothing yet to go on with, and `how` is empty."""
    try:
        yield
    except (KeyboardInterrupt, DiskFull, NoRoom, RayDied) as error:
        if to_do := how():
            interrupted = "interrupted; " * isinstance(error, KeyboardInterrupt)
            print_line(heard(console), f"{interrupted}to go on: {to_do}")
        raise
