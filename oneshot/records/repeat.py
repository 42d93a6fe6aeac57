"""Train and judge one job with several seeds in this process, each seed once, and keep one record, which grows with
each."""

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
from oneshot.run import cards, checkpoint, formats
from oneshot.run.history import measured, read_history
from oneshot.run.opened import IDENTITY, equal, open_run
from oneshot.run.watch import Relay, Watch
from oneshot.screen.progress import Stages, TrainView
from oneshot.training import start
from oneshot.training.train import finish, train_here

TIME, RECORD = "time.json", "record.json"
MOST = 100  # seeds


class OutOfTime(Exception):
    """The given time is over; what was trained is saved."""


def check_time(until: float) -> None:
    """Raises OutOfTime if the monotonic clock has passed `until`."""
    if time.monotonic() > until:
        raise OutOfTime


class Until(Relay):
    """Ends the training that it watches after the epoch in which the monotonic clock passes `until`."""

    def __init__(self, watch: Watch, until: float) -> None:
        super().__init__(watch)
        self.until = until

    def epoch(self, row: dict[str, Any], is_best: bool) -> None:
        super().epoch(row, is_best)
        if not row["ended"]:
            check_time(self.until)


def parse_seeds(text: str) -> list[int]:
    """Parse `1..5`, or `1,2,7`, or both. Raises UserError for anything else, for a seed given twice, and for more than
    MOST seeds."""
    seeds: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,9})(?:\.\.(\d{1,9}))?\s*", part)
        if not found:
            raise UserError(f"--seeds {text}: write numbers and ranges, as in 1..5 or 1,2,7")
        first, last = int(found[1]), int(found[2] or found[1])
        if not first <= last < first + MOST:
            raise UserError(f"--seeds {text}: {part.strip()} is not a range of up to {MOST} seeds, as in 1..5")
        seeds += range(first, last + 1)
    if len(set(seeds)) != len(seeds) or len(seeds) > MOST:
        raise UserError(f"--seeds {text}: name each seed once, at most {MOST}")
    return seeds


def by_name(jobs: Sequence[str]) -> dict[str, Path]:
    """The files of jobs, by the names that their run folders and records have. Raises UserError if two share a name."""
    files: dict[str, Path] = {}
    for job in jobs:
        file = job_file(job)
        if file.stem in files:
            raise UserError(f"{files[file.stem]} and {file} are both called '{file.stem}': rename one, or leave it out")
        files[file.stem] = file
    return files


def check_record(file: Path, settings: Settings, *, dataset: str) -> None:
    """Raises UserError if the record of a job's seeds would replace one of another job, kind or data set. A job in
    tune_jobs/ may have changed since its record was made; the record is then replaced. Whether any other file is the
    same job can only be told from its settings."""
    advice = "rename the job's file, or change a setting (--set): then no record is kept in tune_jobs/records/"
    old = record.replaced(file.stem, record.SEEDS, dataset=dataset, advice=advice)
    listed = jobs_folder() / file.name
    if file.resolve() == listed.resolve():
        return
    if listed.exists():
        raise UserError(f"{file} has the same name as {listed} and would replace its record: {advice}")
    if old and not same_settings(old, settings):
        raise UserError(f"tune_jobs/records/ has a record {file.stem} with other settings than {file}: {advice}")


def same_settings(record: Mapping[str, Any], settings: Settings) -> bool:
    """Whether a record was made with these settings; False if this version does not know the record's."""
    try:
        found = parse_toml(record["experiment"].encode(), f"the record {record['job']}")
    except UserError:
        return False
    ours, theirs = (_decisive(each) for each in (found, settings))
    return all(equal(key, ours[section][key], value) for section in ours for key, value in theirs[section].items())


def _decisive(settings: Settings) -> dict[str, Any]:
    """The settings that decide a record's figures, the seed left out."""
    return seeded(settings, 0).model_dump(include={"data", "model", "train", "evaluate"})


def seeded(settings: Settings, seed: int) -> Settings:
    return override(settings, {"train.seed": seed}, source="--seeds")


def seed_folder(run: Folder, seed: int) -> Folder:
    """The folder of a seed's training: always the same, so that a second call resumes it."""
    return run / f"seed-{seed}"


def train_seed(
    settings: Settings, data: Folder, run: Folder, *, device: torch.device, view: TrainView, stages: Stages,
    until: float, begin: start.Start | None = None,
) -> None:  # fmt: skip
    """Train to the end, or resume, and write the seconds to `time.json`; then finish the network in `best/`. What is
    there already is not made again.

    `begin`: the network that the settings start from. `view`, then `stages` show the progress. Raises OutOfTime before
    the training, after an epoch, or before the calibration, if the monotonic clock has passed `until`; and UserError or
    RunFailed.

    The seconds are wall-clock time from before the data are read until the last checkpoint is on the disk. For a
    training that was interrupted, they are those of this call and of all epochs and steps that it goes on from.
    """
    check_judged(run, settings)
    with open_run(settings, run, kind="training", fixed=IDENTITY):
        start.keep(begin, run)
        if not run.has(TIME):
            check_time(until)
            found, _ = checkpoint.newest(run / "checkpoints")
            begun = found.progress if found else checkpoint.Progress()
            before = begun.sums[2] + sum(row.get("seconds") or 0.0 for row in begun.history)
            started = time.perf_counter()
            with view:
                train_here(settings, data, run, device=device, watch=Until(view, until))
            seconds = before + time.perf_counter() - started
            run.write_json(TIME, {"seconds": seconds, "interrupted": found is not None})
        if not _has_network(run):
            check_time(until)
            with stages:
                finish(settings, run, device=device, data=data, progress=stages)


def _has_network(run: Folder) -> bool:
    """Whether the network is complete: its card is written last."""
    return (run / "best").has(cards.CARD)


def judge(
    settings: Settings, data: Folder, run: Folder, *, device: str, stages: Stages, until: float
) -> None:  # fmt: skip
    """Judge the network of a seed on the test alphabets, shown by `stages`. Nothing is done if its result is there; no
    two processes judge it at once. Raises OutOfTime before judging, if the monotonic clock has passed `until`."""
    with open_run(settings, run, kind="training", fixed=IDENTITY):
        if _result_of(run):
            return
        check_time(until)
        with stages:
            judge_once(run, data, settings, device=device, progress=stages)


def _result_of(run: Folder) -> dict[str, Any] | None:
    """The result of a seed, if its network is there and the result is of that network; else None."""
    return result_of(run) if _has_network(run) else None


def gather(settings: Settings, run: Folder, seeds: Sequence[int], *, job: str) -> dict[str, Any]:
    """The record of those seeds that are judged, at least one; its `asked` names all of them. Raises UserError if a
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
    """The record of a job's seeds, with the further seeds that the job's kept record has for the same settings. Those
    were trained and judged at another time, perhaps on another machine, as their rows say."""
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
    """{protocol: {mean, interval, spread, seeds}} of what all results have: the protocols, `within_fixed`,
    `verification` and `verification_at_threshold`. Fractions; see `spread_of`."""
    names = [name for name in results[0]["protocols"] if all(name in each["protocols"] for each in results)]
    values = {name: [each["protocols"][name]["accuracy"] for each in results] for name in names}
    if all(each.get("within_fixed") for each in results):
        values["within_fixed"] = [each["within_fixed"]["accuracy"] for each in results]
    if all(each.get("verification") for each in results):
        values["verification"] = [each["verification"]["accuracy"] for each in results]
        values["verification_at_threshold"] = [each["verification"]["at_threshold"] for each in results]
    return {name: spread_of(each) for name, each in values.items()}
