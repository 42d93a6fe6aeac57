"""What the verb `repeat` does: jobs with several seeds, trained here within a time, judged, and their records kept."""

import contextlib
import math
import time
from collections.abc import Iterator

from rich.console import Console

from oneshot.base.errors import RunFailed, UserError
from oneshot.base.reach import reach
from oneshot.base.settings import read
from oneshot.base.storage import Folder
from oneshot.cli import request
from oneshot.evaluation import judgement
from oneshot.network.worker import pick_device
from oneshot.records import record, repeat
from oneshot.report.reading import read_outcomes
from oneshot.screen.console import print_line
from oneshot.screen.progress import Stages, TrainView
from oneshot.screen.results import seeds_table
from oneshot.training import parts


def run(
    console: Console, *, jobs: list[str], seeds: str, minutes: float | None, device: str, folder: str | None,
    changes: list[str], root: str | None, source: str | None,
) -> None:  # fmt: skip
    """Train each job once a seed in this process, then judge all its networks; the record of a job as it is is kept."""
    if folder and len(jobs) > 1:
        raise UserError(f"--run {folder} is one job's; name one job, or leave --run out")
    numbers, here = repeat.parse_seeds(seeds), pick_device(device)
    until = math.inf if minutes is None else time.monotonic() + 60 * minutes
    chosen = {}
    for job, file in repeat.by_name(jobs).items():
        settings, prepared = request.with_data(console, read(file, changes), root, source)
        parts.check(settings, prepared.folder)
        judgement.check(prepared.folder, split=settings.data.split, how=settings.evaluate)
        if not changes:
            repeat.check_record(file, settings, dataset=prepared.name)
        chosen[job] = settings, prepared
    for job, (settings, prepared) in chosen.items():
        where = reach(folder or f"runs/records/{job}")
        print_line(console, f"run {where}: {request.described(settings, prepared)}, seeds {seeds}")
        with _in_time(), request.told_how_to_go_on(console, "the same command again"):
            for seed in numbers:
                repeat.train_seed(
                    repeat.seeded(settings, seed), prepared.folder, repeat.place(where, seed), device=here,
                    view=TrainView(console), stages=Stages(console), until=until,
                )  # fmt: skip
        print_line(console, f"all seeds are trained; the test alphabets judge each network of {job}, once")
        for seed in numbers:
            repeat.judge(
                repeat.seeded(settings, seed), prepared.folder, repeat.place(where, seed), device=device,
                stages=Stages(console),
            )  # fmt: skip
        made = repeat.gather(settings, where, numbers, job=job)
        where.write_json(repeat.RECORD, made)
        console.print(seeds_table(made))
        print_line(console, f"record: {where.file(repeat.RECORD)}")
        if not changes:  # else it is no record of this job
            Folder.of(record.records_folder()).write_json(f"{job}.json", made)
            first = made["seeds"][0]
            record.keep_errors(job, read_outcomes(repeat.place(where, first["seed"]), first["result"]))
            print_line(console, f"kept: {record.records_folder() / f'{job}.json'}; README: python -m oneshot.record")


@contextlib.contextmanager
def _in_time() -> Iterator[None]:
    try:
        yield
    except repeat.OutOfTime:
        raise RunFailed("the time is over; to go on: the same command again") from None
