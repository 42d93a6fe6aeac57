"""What `repeat` does: it trains jobs with several seeds here, within a time, judges them and keeps their records."""

import contextlib
import math
import time
from collections.abc import Iterator
from typing import Any

from rich.console import Console

from oneshot.base.environment import commit
from oneshot.base.errors import RunFailed, UserError
from oneshot.base.jobs import read
from oneshot.base.reach import reach
from oneshot.base.settings import Settings
from oneshot.base.storage import Folder
from oneshot.cli import request
from oneshot.evaluation import judgement
from oneshot.network.worker import pick_device
from oneshot.records import record, repeat
from oneshot.report.reading import read_outcomes
from oneshot.screen.console import print_line, print_warning
from oneshot.screen.progress import Stages, TrainView
from oneshot.screen.results import seeds_table
from oneshot.training import parts, start


def run(
    console: Console, *, jobs: list[str], seeds: str, minutes: float | None, device: str, folder: str | None,
    changes: list[str], root: str | None, source: str | None,
) -> None:  # fmt: skip
    """Train each job in this process, once for each seed, and judge each network. The record of a job that is unchanged
    (but for `scale`) is kept, from its first seed on."""
    if folder is not None and len(jobs) > 1:
        raise UserError(f"--run {folder} is for one job; name one job, or leave --run out")
    numbers, here = repeat.parse_seeds(seeds), pick_device(device)
    as_it_is = all(change.startswith("scale.") for change in changes)  # without effect: there are no workers here
    if commit() is None:
        print_warning(console, "the commit is not known, and the record will name none: set ONESHOT_COMMIT to it")
    until = math.inf if minutes is None else time.monotonic() + 60 * minutes
    chosen = {}
    for job, file in repeat.by_name(jobs).items():
        where = reach(f"runs/records/{job}" if folder is None else folder)
        settings, prepared = request.with_data(console, read(file, changes), root, source)
        settings, begin = start.resolve(settings, *(repeat.seed_folder(where, seed) for seed in numbers))
        untaught = parts.check(settings, prepared.folder)
        judgement.check(prepared.folder, split=settings.data.split, how=settings.evaluate)
        if as_it_is:
            repeat.check_record(file, settings, dataset=prepared.name)
        chosen[job] = settings, prepared, where, begin, untaught
    for job, (settings, prepared, where, begin, untaught) in chosen.items():
        print_line(console, f"run {where}: {request.described(settings, prepared)}, seeds {seeds}")
        request.tell_start(console, begin, settings, prepared)
        if untaught:
            print_line(console, untaught)
        with _in_time(), request.told_how_to_go_on(console, lambda: "the same command again"):
            for seed in numbers:
                given, run = repeat.seeded(settings, seed), repeat.seed_folder(where, seed)
                repeat.train_seed(
                    given, prepared.folder, run, device=here, view=TrainView(console), stages=Stages(console),
                    until=until, begin=begin,
                )  # fmt: skip
                repeat.judge(given, prepared.folder, run, device=device, stages=Stages(console), until=until)
                made = _kept(console, settings, where, numbers, job=job, as_it_is=as_it_is)
        console.print(seeds_table(made))


def _kept(
    console: Console, settings: Settings, where: Folder, numbers: list[int], *, job: str, as_it_is: bool
) -> dict[str, Any]:  # fmt: skip
    """The record of the seeds so far, written to the run's folder and, for an unchanged job, kept among the records."""
    made = repeat.gather(settings, where, numbers, job=job)
    where.write_json(repeat.RECORD, made)
    judged = f"{len(made['seeds'])} of {len(numbers)} seeds are trained and judged"
    print_line(console, f"{judged}; record: {where.file(repeat.RECORD)}")
    if as_it_is:
        made = repeat.with_others(made, settings)
        first = made["seeds"][0]
        seen = read_outcomes(repeat.seed_folder(where, first["seed"]), first["result"])
        if path := record.keep_seeds(made, seen):
            print_line(console, f"kept: {path}; README: python -m oneshot.record")
    return made


@contextlib.contextmanager
def _in_time() -> Iterator[None]:
    try:
        yield
    except repeat.OutOfTime:
        raise RunFailed("the time is up; to go on: the same command again") from None
