"""Records of runs, kept in `tune_jobs/records/`, and the pictures drawn from them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from oneshot.base.errors import UserError
from oneshot.base.settings import jobs_folder
from oneshot.base.storage import Folder
from oneshot.bench.run import read as read_bench
from oneshot.evaluation.judgement import RESULT, result_of
from oneshot.records import screenshots
from oneshot.report import pictures
from oneshot.report.canvas import png
from oneshot.report.reading import read_outcomes
from oneshot.run import formats
from oneshot.run.history import read_history
from oneshot.run.opened import EXPERIMENT, read_experiment
from oneshot.search.study import STUDY

CHAOS, BENCH = "chaos.json", "bench-"  # the other records' name, and how those of the bench begin


@dataclass(frozen=True)
class Records:
    """What README's tables are made from."""

    studies: dict[str, dict[str, Any]]
    repeated: dict[str, dict[str, Any]]
    chaos: dict[str, Any]

    @property
    def networks(self) -> dict[str, dict[str, Any]]:
        """Those of judged networks, of one search or of several seeds."""
        return self.studies | self.repeated


def records_folder() -> Path:
    return jobs_folder() / "records"


def keep(run: Folder, *, name: str | None = None) -> Path:
    """Write a finished study's record and its pictures; the record's path. Raises UserError where it is not over."""
    for needed in (EXPERIMENT, STUDY, RESULT):
        if not run.has(needed):
            raise UserError(f"{run} is no finished study: {needed} is missing; let `python -m oneshot.tune` end first")
    read_experiment(run)  # its text is kept as it is, if it can be read
    study, result = formats.read(formats.FinishedStudy, run, STUDY), result_of(run)
    if result is None:
        raise UserError(f"{run.file(RESULT)} is not of the network in best/; let `python -m oneshot.tune` end first")
    for trial in study["trials"]:
        trial["history"] = read_history(run / "trials" / trial["id"])
    name = name or study["job"]
    if "/" in name:
        raise UserError(f"--name {name}: a record's name is one word, as in --name {study['job']}")
    _check_place(f"{name}.json")
    record = {"experiment": run.read(EXPERIMENT).decode(), "study": study, "result": result}
    drawn, seen = screens(name, record), read_outcomes(run, result)
    folder = Folder.of(records_folder())
    folder.write_json(f"{name}.json", record)
    for file, svg in drawn.items():
        folder.write(file, svg.encode())
    keep_errors(name, seen)
    return records_folder() / f"{name}.json"


def _check_place(file: str) -> None:
    """Raises UserError where a record of another kind has its place."""
    folder = Folder.of(records_folder())
    if file == CHAOS or file.startswith(BENCH) or (folder.has(file) and "study" not in folder.read_json(file)):
        raise UserError(f"{folder.file(file)} is the place of a record of another kind: give this one another --name")


def keep_errors(name: str, seen: Mapping[str, Any] | None) -> None:
    """Keep a picture of each error in `outcomes.json` beside the record of this name; without one the old one goes."""
    folder, file = Folder.of(records_folder()), f"{name}-errors.png"
    drawn = pictures.errors(seen) if seen else None
    if drawn:
        folder.write(file, png(drawn))
    else:
        folder.remove(file)


def errors_picture(name: str) -> str | None:
    """The file beside a record that shows each error of its network, None where none was kept."""
    file = f"{name}-errors.png"
    return file if (records_folder() / file).exists() else None


def read_all() -> dict[str, dict[str, Any]]:
    """All studies' records by name. Raises UserError for one that is damaged."""
    return _with("result", formats.Kept)


def read_repeated() -> dict[str, dict[str, Any]]:
    """All records of several seeds by name. Raises UserError for one that is damaged."""
    return _with("summary", formats.Repeated)


def _with(key: str, kind: type[BaseModel]) -> dict[str, dict[str, Any]]:
    """The records that have this key, which tells their kind, by name."""
    folder = Folder.of(records_folder())
    names = [name for name in folder.names() if name.endswith(".json") and key in folder.read_json(name)]
    return {name.removesuffix(".json"): formats.read(kind, folder, name) for name in names}


def read() -> Records:
    """All that README shows."""
    return Records(studies=read_all(), repeated=read_repeated(), chaos=read_chaos())


def read_chaos() -> dict[str, Any]:
    """The record of the last `make chaos`."""
    return Folder.of(records_folder()).read_json(CHAOS)


def read_benches() -> dict[str, dict[str, Any]]:
    """The bench's records by name. Raises UserError for one that is damaged."""
    paths = sorted(Path(records_folder()).glob(f"{BENCH}*.json"), key=lambda path: path.stem)
    return {path.stem: read_bench(path) for path in paths}


def screens(name: str, record: dict[str, Any]) -> dict[str, str]:
    """The screens of a study, {file's name: SVG}: at its end, and while it ran."""
    job = record["study"]["job"]
    command = f"make tune JOB={job}{'' if name == job else ' ARGS=...'}"  # by another name: not the job as it is
    return {
        f"{name}.svg": screenshots.final(record, command=command),
        f"{name}-live.svg": screenshots.live(record, command=command),
    }


def draw_all() -> list[Path]:
    """Draw the screens of all studies' records anew; their paths."""
    drawn = {file: svg for name, record in read_all().items() for file, svg in screens(name, record).items()}
    for file, svg in drawn.items():
        Folder.of(records_folder()).write(file, svg.encode())
    return [records_folder() / file for file in drawn]
