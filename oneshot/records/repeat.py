"""One job with several seeds: each trained and judged here, once, and kept as one record, which grows with each."""

import re
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from oneshot.base.errors import UserError
from oneshot.base.jobs import job_file, jobs_folder, override, parse_toml
from oneshot.base.settings import Settings
from oneshot.base.storage import Folder
from oneshot.evaluation.judgement import check_judged, judged, result_of
from oneshot.evaluation.once import judge_once
from oneshot.evaluation.spread import spread_of
from oneshot.records import record
from oneshot.report.ladder import times_judged
from oneshot.run import cards, formats
from oneshot.run.history import measured, read_history
from oneshot.run.opened import IDENTITY, equal, open_run
from oneshot.run.watch import Relay, Watch
from oneshot.screen.progress import Stages, TrainView
from oneshot.training import start
from oneshot.training.train import finish, train_here

TIME, RECORD = "time.json", "record.json"
MOST = 100  # seeds


class OutOfTime(Exception):
    """The time that was given is over; what was trained is saved."""


def check_time(until: float) -> None:
    """Raises OutOfTime where the monotonic clock has come to `until`."""
    if time.monotonic() > until:
        raise OutOfTime


class Until(Relay):
    """Ends the training that it hears of after the epoch in which a time has come."""

    def __init__(self, watch: Watch, until: float) -> None:
        super().__init__(watch)
        self.until = until

    def epoch(self, row: dict[str, Any], is_best: bool) -> None:
        super().epoch(row, is_best)
        if not row["ended"]:
            check_time(self.until)


def parse_seeds(text: str) -> list[int]:
    """`1..5`, or `1,2,7`, or both. Raises UserError for what is none, and for none or too many."""
    seeds: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,9})(?:\.\.(\d{1,9}))?\s*", part)
        if not found:
            raise UserError(f"--seeds {text}: write numbers and ranges, as in 1..5 or 1,2,7")
        first, last = int(found[1]), int(found[2] or found[1])
        if not first <= last < first + MOST:
            raise UserError(f"--seeds {text}: {part.strip()} is no range of up to {MOST} seeds, as in 1..5")
        seeds += range(first, last + 1)
    if len(set(seeds)) != len(seeds) or len(seeds) > MOST:
        raise UserError(f"--seeds {text}: each seed once, {MOST} at most")
    return seeds


def by_name(jobs: Sequence[str]) -> dict[str, Path]:
    """The files of jobs by the names that their run folders and records have. Raises UserError where two share one."""
    files: dict[str, Path] = {}
    for job in jobs:
        file = job_file(job)
        if file.stem in files:
            raise UserError(f"{files[file.stem]} and {file} are both called '{file.stem}': rename one, or leave it out")
        files[file.stem] = file
    return files


def check_record(file: Path, settings: Settings, *, dataset: str) -> None:
    """Raises UserError where the record of a job's seeds would take the place of another job's, or of another kind or
    data set. A job of tune_jobs/ may have changed since its record was made: then this takes its place. Of another file
    nobody knows whether it is the same job but by its settings."""
    advice = "rename the job's file, or change a setting (--set): then no record is kept in tune_jobs/records/"
    old = record.replaced(file.stem, record.SEEDS, dataset=dataset, advice=advice)
    listed = jobs_folder() / file.name
    if file.resolve() == listed.resolve():
        return
    if listed.exists():
        raise UserError(f"{file} is called as {listed}, whose record it would take the place of: {advice}")
    if old and not same_settings(old, settings):
        raise UserError(f"tune_jobs/records/ has a record {file.stem} of other settings than {file} has: {advice}")


def same_settings(record: Mapping[str, Any], settings: Settings) -> bool:
    """Whether a record was made with these; not, where this version does not know its settings."""
    try:
        found = parse_toml(record["experiment"].encode(), f"the record {record['job']}")
    except UserError:
        return False
    ours, theirs = (_decisive(each) for each in (found, settings))
    return all(equal(key, ours[section][key], value) for section in ours for key, value in theirs[section].items())


def _decisive(settings: Settings) -> dict[str, Any]:
    """What decides the figures of a record, whatever the seed."""
    return seeded(settings, 0).model_dump(include={"data", "model", "train", "evaluate"})


def seeded(settings: Settings, seed: int) -> Settings:
    return override(settings, {"train.seed": seed}, source="--seeds")


def seed_folder(run: Folder, seed: int) -> Folder:
    """Where the training of a seed lies; the same every time, so that a second call goes on."""
    return run / f"seed-{seed}"


def train_seed(
    settings: Settings, data: Folder, run: Folder, *, device: torch.device, view: TrainView, stages: Stages,
    until: float, begin: start.Start | None = None,
) -> None:  # fmt: skip
    """Train to the end, or go on, the seconds to `time.json`; then the network to `best/`. What is there is not made
    again.

    `begin`: the network that the settings start from. `view`, then `stages` show it. Raises OutOfTime before the
    training, the calibration, or after an epoch, where the monotonic clock has come to `until`.

    The seconds are those on the wall from before the data are read to when the last checkpoint lies on the disk; of a
    training that was interrupted, those of this call and of all epochs before it. Raises UserError, RunFailed too.
    """
    check_judged(run, settings)
    with open_run(settings, run, kind="training", fixed=IDENTITY):
        start.keep(begin, run)
        if not run.has(TIME):
            check_time(until)
            before = read_history(run)
            started = time.perf_counter()
            with view:
                train_here(settings, data, run, device=device, watch=Until(view, until))
            seconds = time.perf_counter() - started + sum(row.get("seconds") or 0.0 for row in before)
            run.write_json(TIME, {"seconds": seconds, "interrupted": bool(before)})
        if not _has_network(run):
            check_time(until)
            with stages:
                finish(settings, run, device=device, data=data, progress=stages)


def _has_network(run: Folder) -> bool:
    """Whether its network is there whole: the card is written last."""
    return (run / "best").has(cards.CARD)


def judge(
    settings: Settings, data: Folder, run: Folder, *, device: str, stages: Stages, until: float
) -> None:  # fmt: skip
    """The network of a seed on the test alphabets, shown by `stages`; not again where it has its result, nor while
    another process judges it. Raises OutOfTime before it, where the monotonic clock has come to `until`."""
    with open_run(settings, run, kind="training", fixed=IDENTITY):
        if _result_of(run):
            return
        check_time(until)
        with stages:
            judge_once(run, data, settings, device=device, progress=stages)


def _result_of(run: Folder) -> dict[str, Any] | None:
    """The result of a seed, where it is there with its network and is that one's."""
    return result_of(run) if _has_network(run) else None


def gather(settings: Settings, run: Folder, seeds: Sequence[int], *, job: str) -> dict[str, Any]:
    """The record of those of the seeds that are judged, one at least; `asked`: all of them. Raises UserError where a
    file is damaged."""
    rows = []
    for seed in seeds:
        here = seed_folder(run, seed)
        if result := _result_of(here):
            rows.append({
                "seed": seed, **formats.read(formats.Spent, here, TIME), "epochs": len(measured(read_history(here))),
                "judged": judged(here, result), "result": result,
            })  # fmt: skip
    return _record(settings, rows, seeds, job=job)


def with_others(made: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """A record of a job's seeds with those that it was not asked for and that the kept record of this job has, by the
    same settings: they were trained and judged at another time, on another machine perhaps, which their rows say."""
    old = record.replaced(made["job"], record.SEEDS, dataset=made["dataset"], advice="rename the job's file")
    if old is None or not same_settings(old, settings):
        return made
    others = [row for row in old["seeds"] if row["seed"] not in made["asked"]]
    asked = {*made["asked"], *(old.get("asked") or ()), *(row["seed"] for row in others)}
    rows = sorted([*made["seeds"], *others], key=lambda row: row["seed"])
    return _record(settings, rows, sorted(asked), job=made["job"])


def _record(
    settings: Settings, rows: Sequence[dict[str, Any]], asked: Sequence[int], *, job: str
) -> dict[str, Any]:  # fmt: skip
    made = {
        "experiment": seeded(settings, rows[0]["seed"]).to_toml(),
        "job": job,
        "asked": list(asked),
        "dataset": rows[0]["result"]["dataset"],
        "split": settings.data.split,
        "summary": summary([row["result"] for row in rows]),
        "seconds": statistics.mean(row["seconds"] for row in rows),
        "test_evaluations": sum(times_judged(row) for row in rows),
        "seeds": list(rows),
    }
    formats.check(formats.Repeated, made)
    return made


def summary(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """{protocol: {mean, interval, spread, seeds}} of what all results hold: the protocols, `within_fixed`,
    `verification` and `verification_at_threshold`. Fractions; see `spread_of`."""
    names = [name for name in results[0]["protocols"] if all(name in each["protocols"] for each in results)]
    values = {name: [each["protocols"][name]["accuracy"] for each in results] for name in names}
    if all(each.get("within_fixed") for each in results):
        values["within_fixed"] = [each["within_fixed"]["accuracy"] for each in results]
    if all(each.get("verification") for each in results):
        values["verification"] = [each["verification"]["accuracy"] for each in results]
        values["verification_at_threshold"] = [each["verification"]["at_threshold"] for each in results]
    return {name: spread_of(each) for name, each in values.items()}
