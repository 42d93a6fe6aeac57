"""Records of runs, kept in `tune_jobs/records/`, and the pictures drawn from them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple

from pydantic import BaseModel

from oneshot.base.errors import UserError
from oneshot.base.jobs import jobs_folder, parse_toml
from oneshot.base.jobs import read as read_settings
from oneshot.base.meanings import inline
from oneshot.base.settings import Settings
from oneshot.base.storage import Folder
from oneshot.bench.run import read as read_bench
from oneshot.bench.run import records_folder
from oneshot.evaluation import judgement
from oneshot.evaluation.judgement import RESULT, judged
from oneshot.records import screenshots
from oneshot.report import pictures
from oneshot.report.canvas import png
from oneshot.report.ladder import first_result
from oneshot.report.reading import read_outcomes
from oneshot.run import formats
from oneshot.run.history import read_history
from oneshot.run.opened import EXPERIMENT, equal, read_experiment
from oneshot.screen.results import is_omniglot
from oneshot.search.halving import Halving
from oneshot.search.study import STUDY

CHAOS, BENCH = "chaos.json", "bench-"  # file name of the faults' record, and prefix of the bench's


class Kind(NamedTuple):
    """A kind of record: the key that it alone has, and its form."""

    key: str
    form: type[BaseModel]


STUDIES, SEEDS = Kind("result", formats.Kept), Kind("summary", formats.Repeated)


@dataclass(frozen=True)
class Records:
    """The records that README's tables are made from."""

    studies: dict[str, dict[str, Any]]
    repeated: dict[str, dict[str, Any]]
    chaos: dict[str, Any]

    @property
    def networks(self) -> dict[str, dict[str, Any]]:
        """The records of judged networks, from one search or from several seeds."""
        return self.studies | self.repeated


def keep(run: Folder, *, name: str | None = None) -> Path:
    """Write a finished study's record and its pictures; returns the record's path. Raises UserError if the study is not
    over, or if `replaced` or `_check_settings` refuse the name."""
    for needed in (EXPERIMENT, STUDY, RESULT):
        if not run.has(needed):
            raise UserError(
                f"{run} is not a finished study: {needed} is missing; let `python -m oneshot.tune` end first"
            )
    settings = read_experiment(run)
    study, result = formats.read(formats.FinishedStudy, run, STUDY), judgement.result_of(run)
    if result is None:
        raise UserError(f"{run.file(RESULT)} is not for the network in best/; let `python -m oneshot.tune` end first")
    for trial in study["trials"]:
        trial["history"] = read_history(run / "trials" / trial["id"])
    name = name or study["job"]
    if "/" in name:
        raise UserError(f"--name {name}: a record's name is one word, as in --name {study['job']}")
    old = replaced(name, STUDIES, dataset=result["dataset"], advice="give this one another --name")
    _check_settings(settings, run, name, old)
    if len(study["trials"]) < settings.search.trials or not Halving(settings).over(study["trials"]):
        raise UserError(
            f"the search in {run} is not over and may find a better network, which would be judged again: first run"
            f" python -m oneshot.tune --resume {run.quoted}"
        )
    record = {
        "experiment": run.read(EXPERIMENT).decode(), "study": study, "result": result,
        "judged": judged(run, result), "changes": changes(settings, study["job"]),
    }  # fmt: skip
    drawn, seen = screens(name, record), read_outcomes(run, result)
    folder = Folder.of(records_folder())
    folder.write_json(f"{name}.json", record)
    for file, svg in drawn.items():
        folder.write(file, svg.encode())
    keep_errors(name, seen)
    return records_folder() / f"{name}.json"


def changes(settings: Settings, job: str) -> dict[str, Any] | None:
    """The settings of a run that differ from those of a job in tune_jobs/, by key; None if there is no such job.

    Where it ran is no change: neither [scale] counts nor the data set, which is in the result.
    """
    file = jobs_folder() / f"{job}.toml"
    return differing(settings, read_settings(file)) if file.is_file() else None


def differing(settings: Settings, others: Settings) -> dict[str, Any]:
    """The settings that decide a record's figures and differ from `others`, by key such as `train.lr`."""
    ours, theirs = (each.model_dump(exclude={"scale": True, "data": {"dataset"}}) for each in (settings, others))
    return {
        f"{section}.{key}": value
        for section, values in ours.items()
        for key, value in values.items()
        if not equal(key, value, theirs[section][key])
    }


def _check_settings(settings: Settings, run: Folder, name: str, old: Mapping[str, Any] | None) -> None:
    """Raises UserError if the record would have the name of a job with other settings, or replace a record with other
    settings."""
    found, of = changes(settings, name), f"tune_jobs/{name}.toml"
    if found is None and old:
        found = differing(settings, parse_toml(old["experiment"].encode(), f"the record {name}"))
        of = f"the record {name}"
    if found:
        key, value = next(iter(found.items()))
        raise UserError(
            f"{run} has {key} = {value!r}, unlike {of}{' (and more)' * (len(found) > 1)}: give its record another"
            f" --name, as in --name {name}-changed"
        )


def keep_seeds(made: dict[str, Any], seen: Mapping[str, Any] | None) -> Path | None:
    """Write the record of a job's seeds, as `repeat.gather` makes it, and a picture of the errors `seen` of its first
    network; returns the path. Without `seen`, the old picture stays if the first network is still the same.

    A record that lacks seeds does not replace one that has at least as many: then None is returned.
    """
    folder, file = Folder.of(records_folder()), f"{made['job']}.json"
    old = folder.read_json(file).get("seeds", []) if folder.has(file) else []
    if len(made["seeds"]) < len(made["asked"]) and len(old) >= len(made["seeds"]):
        return None
    folder.write_json(file, made)
    if seen or old[:1] != made["seeds"][:1]:
        keep_errors(made["job"], seen)
    return records_folder() / file


def replaced(name: str, kind: Kind, *, dataset: str, advice: str) -> dict[str, Any] | None:
    """The record that a new one of this name replaces; None if there is none. Raises UserError, with the advice, if it
    is damaged or of another kind or data set."""
    folder, file = Folder.of(records_folder()), f"{name}.json"
    there = folder.has(file)
    if file == CHAOS or file.startswith(BENCH) or (there and kind.key not in folder.read_json(file)):
        raise UserError(f"{folder.file(file)} is for another kind of record: {advice}")
    old = formats.read(kind.form, folder, file) if there else None
    if old and (of := first_result(old)["dataset"]) != dataset:
        raise UserError(f"{folder.file(file)} is a record on {of}, and this one is on {dataset}: {advice}")
    return old


def keep_errors(name: str, seen: Mapping[str, Any] | None) -> None:
    """Keep a picture of the errors in `seen`, the content of `outcomes.json`, beside the record of this name. If there
    are none, the old picture is removed."""
    folder, file = Folder.of(records_folder()), f"{name}-errors.png"
    drawn = pictures.errors(seen) if seen else None
    if drawn:
        folder.write(file, png(drawn))
    else:
        folder.remove(file)


def errors_picture(name: str) -> str | None:
    """The name of the file beside a record that shows its network's errors; None if none was kept."""
    file = f"{name}-errors.png"
    return file if (records_folder() / file).exists() else None


def read_all() -> dict[str, dict[str, Any]]:
    """All studies' records by name. Raises UserError if one is damaged."""
    return _all(STUDIES)


def read_repeated() -> dict[str, dict[str, Any]]:
    """All records of several seeds by name. Raises UserError if one is damaged."""
    return _all(SEEDS)


def _all(kind: Kind) -> dict[str, dict[str, Any]]:
    """The records of a kind, by name."""
    folder = Folder.of(records_folder())
    names = [name for name in folder.names() if name.endswith(".json") and kind.key in folder.read_json(name)]
    return {name.removesuffix(".json"): formats.read(kind.form, folder, name) for name in names}


def read() -> Records:
    """All records that README shows. Of judged networks, these are the ones on Omniglot, which its tables are about,
    and only if its test alphabets were new to the network."""
    studies, repeated = (
        {name: record for name, record in records.items() if _compares(first_result(record))}
        for records in (read_all(), read_repeated())
    )
    return Records(studies=studies, repeated=repeated, chaos=read_chaos())


def _compares(result: Mapping[str, Any]) -> bool:
    return is_omniglot(result) and not result.get("overlap")


def read_chaos() -> dict[str, Any]:
    """The record of the last `make chaos`."""
    return Folder.of(records_folder()).read_json(CHAOS)


def read_benches() -> dict[str, dict[str, Any]]:
    """The bench's records by name. Raises UserError if one is damaged."""
    paths = sorted(Path(records_folder()).glob(f"{BENCH}*.json"), key=lambda path: path.stem)
    return {path.stem: read_bench(path) for path in paths}


def screens(name: str, record: dict[str, Any]) -> dict[str, str]:
    """The screens of a study as {file name: SVG}: at its end, and while it ran."""
    job = record["study"]["job"]
    command = f"make tune JOB={job}"
    if changed := record.get("changes"):
        options = [f"--set {quote(f'{key}={inline(value)}')}" for key, value in changed.items()]
        command += f" ARGS={quote(' '.join(options))}"
    elif name != job and changed is None:  # an older record under another name: not the job as it is
        command += " ARGS=..."
    return {
        f"{name}.svg": screenshots.final(record, command=command),
        f"{name}-live.svg": screenshots.live(record, command=command),
    }


def draw_all() -> list[Path]:
    """Draw the screens of all studies' records anew; returns their paths."""
    drawn = {file: svg for name, record in read_all().items() for file, svg in screens(name, record).items()}
    for file, svg in drawn.items():
        Folder.of(records_folder()).write(file, svg.encode())
    return [records_folder() / file for file in drawn]
