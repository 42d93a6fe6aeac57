"""Records of runs, kept in `tune_jobs/records/`, and what README shows of them: tables and pictures, made by code."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oneshot import formats, screenshots
from oneshot.environment import hardware
from oneshot.errors import UserError
from oneshot.evaluate import RESULT
from oneshot.report import ladder, pictures
from oneshot.report.canvas import png
from oneshot.report.reading import read_outcomes
from oneshot.screen.published import ladder as published
from oneshot.settings import jobs_folder
from oneshot.storage import Folder
from oneshot.study import STUDY
from oneshot.train import EXPERIMENT, read_experiment, read_history
from oneshot.trials import NAMES

README = jobs_folder().parent / "README.md"
# The rungs of the ladder to climb: machine and budget of one training, job, goal on `lake400`, how to fill the row.
RUNGS = (
    ("2 CPU cores, 2 min", "cpu2", "92.0 (Koch)", "make records-cpu JOB=cpu2"),
    ("2 CPU cores, 5 min", "cpu5", "95.5 (humans)", "make records-cpu JOB=cpu5"),
    ("2 CPU cores, 15 min", "cpu15", "97.5 (above BPL)", "make records-cpu JOB=cpu15"),
    ("one GPU, 10 min", "best-all", "98.5 (above ARC)", "make records-gpu"),
    ("one GPU, a search of 15 min", "gpu", "98.0", "make records-gpu"),
    ("one GPU, the paper's network", "koch-gpu", "92.0 (Koch)", "make records-gpu"),
    ("2 CPU cores, 5 min, 22 alphabets", "cpu5-lake", "", "make records-cpu JOB=cpu5-lake"),
    ("2 CPU cores, 5 min, Koch's split", "cpu5-koch", "", "make records-cpu JOB=cpu5-koch"),
    ("2 CPU cores, 5 min, 5 alphabets", "minimal1", "77.7 (deep convnet)", "make records-cpu JOB=minimal1"),
    ("2 CPU cores, 5 min, 5 others", "minimal2", "77.7 (deep convnet)", "make records-cpu JOB=minimal2"),
)
SHOWN = ("lake400", "within_fixed", "within", "between", "verification")


@dataclass(frozen=True)
class Records:
    """What README is rendered from."""

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
    study, result = formats.read(formats.FinishedStudy, run, STUDY), formats.read(formats.Result, run, RESULT)
    for trial in study["trials"]:
        trial["history"] = read_history(run / "trials" / trial["id"])
    name = name or study["job"]
    if "/" in name:
        raise UserError(f"--name {name}: a record's name is one word, as in --name {study['job']}")
    record = {"experiment": run.read(EXPERIMENT).decode(), "study": study, "result": result}
    drawn, seen = screens(name, record), read_outcomes(run, result)
    folder = Folder.of(records_folder())
    folder.write_json(f"{name}.json", record)
    for file, svg in drawn.items():
        folder.write(file, svg.encode())
    keep_errors(name, seen)
    return records_folder() / f"{name}.json"


def keep_errors(name: str, seen: Mapping[str, Any] | None) -> None:
    """Keep a picture of each error in `outcomes.json` beside the record of this name; without one the old one goes."""
    folder, file = Folder.of(records_folder()), f"{name}-errors.png"
    drawn = pictures.errors(seen) if seen else None
    if drawn:
        folder.write(file, png(drawn))
    else:
        folder.remove(file)


def read_all() -> dict[str, dict[str, Any]]:
    """All studies' records by name. Raises UserError for one that is damaged."""
    folder = Folder.of(records_folder())
    names = [name for name in folder.names() if name.endswith(".json")]
    studies = [name for name in names if "result" in folder.read_json(name)]  # there are other records
    return {name.removesuffix(".json"): formats.read(formats.Kept, folder, name) for name in studies}


def read_repeated() -> dict[str, dict[str, Any]]:
    """All records of several seeds by name. Raises UserError for one that is damaged."""
    folder = Folder.of(records_folder())
    names = [name for name in folder.names() if name.endswith(".json")]
    repeated = [name for name in names if "summary" in folder.read_json(name)]
    return {name.removesuffix(".json"): formats.read(formats.Repeated, folder, name) for name in repeated}


def read() -> Records:
    """All that README shows."""
    return Records(studies=read_all(), repeated=read_repeated(), chaos=read_chaos())


def read_chaos() -> dict[str, Any]:
    """The record of the last `make chaos`."""
    return Folder.of(records_folder()).read_json("chaos.json")


def screens(name: str, record: dict[str, Any]) -> dict[str, str]:
    """The screens of a study, {file's name: SVG}: at its end, and while it ran."""
    command = f"make tune JOB={record['study']['job']}"
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


def results_table(records: dict[str, dict[str, Any]]) -> str:
    """Markdown: a row for each record, a column for each protocol, what it took and where."""
    rows = [
        "| job | split | `lake400` | `within` | `between` | `seed352` | search | hardware | commit |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, record in records.items():
        study, result = record["study"], record["result"]
        cells = [_accuracy(result["protocols"].get(key)) for key in NAMES]
        share = 1 - study["epochs_run"] / study["epochs_if_all_had_finished"]
        search = (
            f"{len(study['trials'])} trials in {study['seconds'] / 60:.1f} min, {study['epochs_run']} epochs"
            f" ({share:.0%} saved by early stopping)"
        )
        where = result["environment"]
        cells = [f"`{name}`", study["split"], *cells, search, hardware(where), f"`{where['commit']}`"]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def seeds_table(records: Records) -> str:
    """Markdown: a row for each rung, the means over seeds side by side; what is not run says so, and what runs it."""
    names = "`lake400` | `within`, its 10 alphabets | `within`, all | `between` | verification"
    rows = [
        f"| machine, one training | job | split | goal | {names} | took | seeds | hardware | commit |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for where, job, goal, command in RUNGS:
        start = f"| {where} | `{job}` |"
        if record := records.repeated.get(job):
            result = record["seeds"][0]["result"]
            commits = sorted({str(row["result"]["environment"]["commit"]) for row in record["seeds"]})
            cells = [record["split"], goal, *(_mean(record["summary"].get(name)) for name in SHOWN)]
            cells += [f"{record['seconds']:.0f} s", ", ".join(str(row["seed"]) for row in record["seeds"])]
            cells += [hardware(result["environment"]), ", ".join(f"`{commit}`" for commit in commits)]
        elif study := records.studies.get(job):
            result = study["result"]
            found = result["protocols"] | {name: result.get(name) for name in ("within_fixed", "verification")}
            cells = [study["study"]["split"], goal, *(_accuracy(found.get(name)) for name in SHOWN)]
            cells += [f"{study['study']['seconds']:.0f} s", "1", hardware(result["environment"])]
            cells += [f"`{result['environment']['commit']}`"]
        else:
            cells = ["", goal, f"not run: `{command}`", *[""] * (len(SHOWN) + 3)]
        rows.append(f"{start} {' | '.join(cells)} |")
    return "\n".join(rows)


def _best_record(records: dict[str, dict[str, Any]]) -> str:
    """Markdown: the best network by alphabet, and a picture of its errors where the record keeps one."""
    name = ladder.best(records)
    if name is None:
        return ""
    block = ladder.alphabets(name, records[name])
    if picture := errors_picture(name):
        block += f"\n\n![Query, chosen and right drawing of every error of `{name}`](tune_jobs/records/{picture})"
    return block


def errors_picture(name: str) -> str | None:
    """The file beside a record that shows each error of its network, None where none was kept."""
    file = f"{name}-errors.png"
    return file if (records_folder() / file).exists() else None


def chaos_table(record: dict[str, Any]) -> str:
    """Markdown: what `make chaos` injected, a row a fault, and what it came to."""
    rows = ["| fault | injected | survived | steps trained twice | seconds to go on |", "|---|---|---|---|---|"]
    for row in record["faults"]:
        seconds = row["recovery_seconds"]
        times = f"{seconds['median']:.0f} (≤ {seconds['most']:.0f})" if seconds else "–"
        repeated = "–" if row["steps_repeated"] is None else f"≤ {row['steps_repeated']}"
        rows.append(f"| {row['fault']} | {row['injected']} | {row['survived']} | {repeated} | {times} |")
    where, study = record["environment"], record["study"]
    equal = "yes" if record["equal"] else "no"
    rows += [
        "",
        f"Survived {record['survived']} of {record['injected']}, result equal: {equal}. Seed {record['seed']},"
        f" {record['seconds']:.0f} s, {record['studies']} studies of {study['trials']} trials of {study['epochs']}"
        f" epochs of {study['steps_per_epoch']} steps, a checkpoint every {study['checkpoint_steps']}; undisturbed,"
        f" one takes {record['undisturbed_seconds']:.0f} s. {hardware(where)}, commit `{where['commit']}`.",
    ]
    return "\n".join(rows)


def published_table() -> str:
    """Markdown: the published figures to compare with, by protocol."""
    rows = ["| protocol | published | % | source |", "|---|---|---|---|"]
    for protocol in NAMES:
        for figure in published(protocol):
            note = f" ({figure.note})" if figure.note else ""
            rows.append(f"| `{protocol}` | {figure.name} | {100 * figure.accuracy:.1f} | {figure.source}{note} |")
    return "\n".join(rows)


def render_readme() -> None:
    """Make README's tables anew from all records. Raises UserError where a block is missing."""
    README.write_text(render(README.read_text(), read()))


def render(text: str, records: Records) -> str:
    """README with each block between `<!-- NAME -->` and `<!-- /NAME -->` made anew from the records."""
    blocks = {
        "results": results_table(records.studies),
        "seeds": seeds_table(records),
        "ladder": ladder.markdown(ladder.rungs(records.networks)),
        "alphabets": _best_record(records.networks),
        "published": published_table(),
        "chaos": chaos_table(records.chaos),
    }
    for name, block in blocks.items():
        pattern = re.compile(f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if not pattern.search(text):
            raise UserError(
                f"{README} has no block '{name}': put <!-- {name} --> and <!-- /{name} --> where it belongs"
            )
        text = pattern.sub(lambda found, block=block: f"{found[1]}{block}\n{found[2]}", text)
    return text


def _mean(summary: dict[str, Any] | None) -> str:
    if summary is None:
        return "–"
    if summary["interval"] is None:
        return f"{100 * summary['mean']:.1f}"
    low, high = summary["interval"]
    return f"{100 * summary['mean']:.1f} ({100 * low:.1f}–{100 * high:.1f})"


def _accuracy(outcome: dict[str, Any] | None) -> str:
    if outcome is None:
        return "–"
    low, high = outcome["interval"]
    return f"{100 * outcome['accuracy']:.1f} ({100 * low:.1f}–{100 * high:.1f})"


if __name__ == "__main__":
    from oneshot.cli import main

    main(["record"])
