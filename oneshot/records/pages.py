"""The repository's pages: their tables, made from the records and written to the marked places."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from oneshot.base.environment import hardware
from oneshot.base.errors import UserError
from oneshot.base.jobs import jobs_folder
from oneshot.base.markdown import table
from oneshot.base.storage import Folder
from oneshot.bench import scaling
from oneshot.bench.rows import BY_NAME, in_todays_words
from oneshot.evaluation.spread import difference
from oneshot.evaluation.trials import NAMES
from oneshot.records import joblist
from oneshot.records.record import Records, errors_picture, read, read_benches
from oneshot.report import ladder
from oneshot.screen.bench import conditions, measure, status, times
from oneshot.screen.published import ladder as published
from oneshot.screen.results import commit_of, compares, made_and_judged, seconds_text, seeds_text
from oneshot.screen.tables import epochs_not_run

README = jobs_folder().parent / "README.md"
CLUSTER = README.parent / "cluster" / "README.md"
RECORDS = jobs_folder() / "records" / "README.md"
JOBS = jobs_folder() / "README.md"
# The rungs of the ladder: machine and budget of one training, job, goal on `lake400`, command that fills the row.
RUNGS = (
    ("2 CPU cores, 2 min", "cpu2", "92.0 (Koch)", "make records-cpu JOB=cpu2"),
    ("2 CPU cores, 5 min", "cpu5", "95.5 (humans)", "make records-cpu JOB=cpu5"),
    ("2 CPU cores, 15 min", "cpu15", "97.5 (above BPL)", "make records-cpu JOB=cpu15"),
    ("2 CPU cores, 20 min", "cpu20", "", "make records-cpu JOB=cpu20"),
    ("one GPU, 10 min", "best-all", "> 98.5 (ARC)", "make records-gpu"),
    ("one GPU, a search of 15 min", "gpu", "98.0", "make records-gpu"),
    ("one GPU, the paper's network", "koch-gpu", "92.0 (Koch)", "make records-gpu"),
    ("2 CPU cores, 1 h, 22 alphabets, the paper's network", "koch-cpu", "92.0 (Koch)", "make records-cpu JOB=koch-cpu"),
    ("2 CPU cores, 5 min, 22 alphabets", "cpu5-lake", "", "make records-cpu JOB=cpu5-lake"),
    ("2 CPU cores, 5 min, Koch's split", "cpu5-koch", "", "make records-cpu JOB=cpu5-koch"),
    ("1 CPU core, 10 min, 5 alphabets", "minimal1", "77.7 (deep convnet)", "make records-cpu JOB=minimal1"),
    ("1 CPU core, 10 min, 5 others", "minimal2", "77.7 (deep convnet)", "make records-cpu JOB=minimal2"),
)
SHOWN = ("lake400", "within_fixed", "within", "between", "verification")


def results_table(records: dict[str, dict[str, Any]]) -> str:
    """Markdown: a row for each record, with a column for each protocol, what its search took and where."""
    rows = []
    for name, record in records.items():
        study, result = record["study"], record["result"]
        cells = [_accuracy(result["protocols"].get(key), ends=True) for key in NAMES]
        not_run = epochs_not_run(study["trials"], most=study["epochs"])
        shares = [f"{epochs / study['epochs_if_all_had_finished']:.0%} {why}" for why, epochs in not_run.items()]
        search = f"{len(study['trials'])} trials in {study['seconds'] / 60:.1f} min, {study['epochs_run']} epochs"
        search += f" ({', '.join(shares)})" * bool(shares)
        rows.append([_called(name, record), study["split"], *cells, search, *_where([result])])
    protocols = (f"`{name}`" for name in NAMES)
    return table(("job", "split", *protocols, "search", "hardware", "commit"), rows)


def headline(records: Records) -> str:
    """A short summary for readers who stop there: what five minutes on two cores achieve, beside the published figures.
    Empty without a record of `cpu5`."""
    record = records.repeated.get("cpu5")
    if record is None:
        return ""
    others = {figure.name: f"{100 * figure.accuracy:.1f}" for figure in published("lake400")}
    paper, again = others["convolutional Siamese net"], records.repeated.get("koch-cpu")
    if again:
        paper += f" as published, {_percent(again['summary']['lake400'])} by this project's recipe (`koch-cpu`)"
    ours = record["summary"]["lake400"]
    return (
        f"Trained for five minutes on two CPU cores, a network gets **{_percent(ours)} %**{_within(ours)} of Lake's 400"
        f" one-shot trials right (`cpu5`, {seconds_text(record)}, mean of {len(record['seeds'])} seeds"
        f"{ladder.views(ladder.first_result(record))}). People: {others['humans']}; the original Siamese network:"
        f" {paper}; BPL: {others['BPL']}; the best published that we know, ARC: {others['ARC']}."
        " [All results](#results), and what they do not say."
    )


def seeds_table(records: Records) -> str:
    """Markdown: a row for each rung, with the means over seeds side by side. A rung that is not run says so, and names
    the command that runs it."""
    names = ("`lake400`", "`within`, its 10 alphabets", "`within`, all", "`between`", "verification")  # of SHOWN
    heads = ("machine, one training", "job", "split", "goal", *names, "took", "seeds", "hardware", "commit")
    rows = []
    for where, job, goal, command in RUNGS:
        if record := records.repeated.get(job):
            outcomes = _outcomes(ladder.first_result(record))
            means = [_mean(record["summary"].get(name), of=outcomes.get(name)) for name in SHOWN]
            cells = [_called(job, record), record["split"], goal, *means, seconds_text(record), seeds_text(record)]
            cells += _where(ladder.results_of(record))
        elif record := records.studies.get(job):  # one network: as with one seed, the spread is unknown
            outcomes, study = _outcomes(record["result"]), record["study"]
            cells = [_called(job, record), study["split"], goal, *(_accuracy(outcomes.get(name)) for name in SHOWN)]
            cells += [f"{study['seconds']:.0f} s", "1", *_where([record["result"]])]
        else:
            cells = [f"`{job}`", "", goal, f"not run: `{command}`", *[""] * (len(SHOWN) + 3)]
        rows.append([where, *cells])
    return table(heads, rows) + _splits_apart(records)


def _called(name: str, record: Mapping[str, Any]) -> str:
    """A record's name, and what readers must know of its networks."""
    result = ladder.first_result(record)
    return f"`{name}`{ladder.started(result)}{ladder.views(result)}{ladder.judged_again(record)}"


def _outcomes(result: Mapping[str, Any]) -> dict[str, Any]:
    """A result's outcomes by the names of SHOWN, and its other protocols."""
    return result["protocols"] | {name: result.get(name) for name in ("within_fixed", "verification")}


def _where(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Two cells, hardware and commits: those of these results' trainings, each once, and those of judgements that were
    made elsewhere or by another commit."""
    cells = []
    for of in (hardware, lambda where: f"`{commit_of(where)}`"):
        trained, judged = made_and_judged(results, of)
        cells.append("; ".join([*trained, *(f"judged: {one}" for one in judged)]))
    return cells


def _splits_apart(records: Records) -> str:
    """Sentences on what another split changes, with the same settings, on the trials that both are judged by."""
    said = []
    if apart := _apart(records, "cpu5-koch"):
        said.append(
            f"Koch's split (30 alphabets by 12 drawers) in place of Lake's (22 by 20): {apart}. Koch's test holds only"
            " these 10 alphabets, so in its row every column is over them."
        )
    if apart := _apart(records, "cpu5"):
        said.append(f"The 8 validation alphabets trained on as well, in as many steps: {apart}.")
    if not said:
        return ""
    return (
        f"\n\n{' '.join(said)} In parentheses: Welch's 95 % interval of each difference. Each training keeps the epoch"
        " with the lowest loss on its own validation alphabets, so part of a difference may come from keeping another"
        " epoch."
    )


def _apart(records: Records, job: str) -> str:
    """How far a job's means lie above those of `cpu5-lake`. Empty if either has fewer than two seeds, as its spread is
    then unknown."""
    found = [records.repeated.get(name) for name in (job, "cpu5-lake")]
    if not all(record and len(record["seeds"]) > 1 for record in found):
        return ""
    said = []
    for name, trials in (("lake400", "`lake400`"), ("within_fixed", "`within`, its 10 alphabets")):
        one, lake = (record["summary"][name] for record in found)
        apart, (low, high) = difference(one, lake)
        said.append(f"{100 * apart:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f}) on {trials}")
    return " and ".join(said)


def _best_record(records: dict[str, dict[str, Any]]) -> str:
    """Markdown: the best network's accuracy by alphabet, and the picture of its errors if there is one."""
    name = ladder.best(records)
    if name is None:
        return ""
    block = ladder.alphabets(name, records[name])
    if picture := errors_picture(name):
        seed = f", seed {records[name]['seeds'][0]['seed']}" if "seeds" in records[name] else ""
        block += f"\n\n![Query, chosen and right drawing of every error of `{name}`{seed}]({picture})"
    return block


def chaos_table(record: dict[str, Any]) -> str:
    """Markdown: a row for each kind of fault that `make chaos` injected, and the outcome."""
    rows = []
    for row in record["faults"]:
        seconds = row["recovery_seconds"]
        times = f"{seconds['median']:.0f} (≤ {seconds['most']:.0f})" if seconds else "–"
        most = row["steps_repeated"]
        repeated = "–" if most is None else f"≤ {most}" if most else "0"
        rows.append((row["fault"], row["injected"], row["survived"], repeated, times))
    where, study = record["environment"], record["study"]
    equal = "yes" if record["equal"] else "no"
    about = (
        f"Survived {record['survived']} of {record['injected']}, result equal: {equal}. Seed {record['seed']},"
        f" {record['seconds']:.0f} s, {record['studies']} studies of {study['trials']} trials of {study['epochs']}"
        f" epochs of {study['steps_per_epoch']} steps, a checkpoint every {study['checkpoint_steps']}; undisturbed,"
        f" one takes {record['undisturbed_seconds']:.0f} s. {hardware(where)}, {_commits([where])}."
    )
    heads = ("fault", "injected", "survived", "steps trained twice", "seconds to go on")
    return f"{table(heads, rows)}\n\n{about}"


def bench_tables(records: Mapping[str, dict[str, Any]]) -> str:
    """Markdown: the rows of each record of the bench, the record with most rows first, and the machine on which they
    were measured."""
    if not records:
        return "Not measured yet: `python -m oneshot.bench` makes the record."
    blocks = []
    for record in sorted(records.values(), key=lambda record: -len(record["rows"])):
        heads = ("row", "what", "against", "ours", "reference", "ratio", "goal", "met")
        made = table(heads, map(_bench_cells, record["rows"]))
        blocks.append(f"{made}\n\n{hardware(record['environment'])}, {_commits(record['rows'])}.")
    return "\n\n".join(blocks)


def _bench_cells(row: Mapping[str, Any]) -> list[str]:
    """The cells of a row of the bench. A row that compared something else than it does now says so and shows no ratio,
    which would stand beside another comparison's goal."""
    now, row = BY_NAME.get(row["name"]), in_todays_words(row)
    said, ratio = status(row)[0], "; ".join([times(row), *conditions(row)])
    met = {"met": "yes", "not met": "no"}.get(said, said)
    if now and (row["what"], row["against"]) != (now.what, now.against):
        ratio, met = "–", "measured differently: to be measured again"
    sides = [measure(row, side) for side in ("value", "reference")]
    return [f"`{row['name']}`", row["what"], row["against"] or "–", *sides, ratio, row["goal"], met]


def _commits(environments: Iterable[Mapping[str, Any]]) -> str:
    """The commits of these environments, each once: `commit A`, `commits A, B`."""
    each = sorted({f"`{commit_of(where)}`" for where in environments})
    return f"{'commit' if len(each) == 1 else 'commits'} {', '.join(each)}"


def published_table() -> str:
    """Markdown: the published figures to compare with, by protocol."""
    rows = []
    for protocol in NAMES:
        for each in published(protocol):
            note = f" ({each.note})" if each.note else ""
            rows.append((f"`{protocol}`", each.name, f"{100 * each.accuracy:.1f}", f"{each.source}{note}"))
    return table(("protocol", "published", "%", "source"), rows)


def blocks() -> dict[Path, dict[str, str]]:
    """{page: {NAME: text}}: what stands between `<!-- NAME -->` and `<!-- /NAME -->`, made from the records."""
    records = read()
    return {
        README: {
            "headline": headline(records),
            "seeds": seeds_table(records),
            "ladder": ladder.markdown(ladder.rungs(records.networks)),
            "bench": bench_tables(read_benches()),
        },
        RECORDS: {
            "results": results_table(records.studies),
            "alphabets": _best_record(records.networks),
            "published": published_table(),
            "chaos": chaos_table(records.chaos),
        },
        CLUSTER: {"scaling": scaling.table()},
        JOBS: {
            "jobs": joblist.jobs_table(joblist.MACHINES | {job: where for where, job, *_ in RUNGS}),
            "settings": joblist.settings_tables(),
        },
    }


def render_all() -> list[Path]:
    """Write every page with its blocks made anew; returns their paths."""
    for page, made in blocks().items():
        text = render(page.read_text("utf-8"), made, page=page)
        Folder.of(page.parent).write(page.name, text.encode())
    return list(blocks())


def render(text: str, blocks: Mapping[str, str], *, page: Path = README) -> str:
    """A page's text with its blocks made anew. Raises UserError if it has no place for one of them."""
    for name, block in blocks.items():
        pattern = re.compile(f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if not pattern.search(text):
            raise UserError(f"{page} has no block '{name}': put <!-- {name} --> and <!-- /{name} --> where it belongs")
        text = pattern.sub(lambda found, block=block: f"{found[1]}{block}\n{found[2]}", text)
    return text


def _mean(summary: dict[str, Any] | None, *, of: Mapping[str, Any] | None) -> str:
    """A mean over seeds with its interval; a dash if `of`, a seed's outcome, may not stand beside published figures."""
    if summary is None or not _fits(of):
        return "–"
    return _percent(summary) + _within(summary)


def _percent(summary: Mapping[str, Any]) -> str:
    return f"{100 * summary['mean']:.1f}"


def _within(summary: Mapping[str, Any]) -> str:
    """The interval of a mean, in parentheses; empty if it has none."""
    if summary["interval"] is None:
        return ""
    low, high = summary["interval"]
    return f" ({100 * low:.1f}–{100 * high:.1f})"


def _accuracy(outcome: dict[str, Any] | None, *, ends: bool = False) -> str:
    """An accuracy, with its interval over trials if `ends`; a dash if it may not stand beside published figures."""
    if outcome is None or not _fits(outcome):
        return "–"
    low, high = outcome["interval"]
    return f"{100 * outcome['accuracy']:.1f}" + f" ({100 * low:.1f}–{100 * high:.1f})" * ends


def _fits(outcome: Mapping[str, Any] | None) -> bool:
    """Whether an outcome may stand beside published figures: it is 20-way 1-shot, or of pairs, which have no `n_way`;
    None fits, too."""
    return outcome is None or "n_way" not in outcome or compares(outcome)
