"""Runs compared with the first of them, trial by trial, if both were asked the same: is one network better?"""

from collections.abc import Mapping, Sequence
from functools import partial
from shlex import quote
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from oneshot.evaluation.judgement import RESULT
from oneshot.evaluation.outcomes import OUTCOMES
from oneshot.evaluation.paired import hits_of, paired, same_trials
from oneshot.report.reading import Run
from oneshot.screen.console import Column, Fitting, count, fitted, percent

_RULE = (
    "B - A: points of accuracy, with Newcombe's 95 % interval for pairs (1998, method 10). p: McNemar's exact test, the"
    " probability that a fair coin would split the trials that only one got right so unevenly, or more so; of many"
    " comparisons, some come out small by chance. Trials share characters, or classes, so the interval is, if anything,"
    " too narrow, and p too small. This compares two networks, not the settings that made them: for that, train several"
    " seeds of each (python -m oneshot.repeat)."
)


def against(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """An entry for each run but the first, in the order given, as plain values.

    `first` and `run` name the two runs. `protocols` holds the result of `paired` for each protocol whose trials were
    the same for both, with the first run as the first. `notes` are sentences: what is not compared and what to do about
    it, and for which of the two the test alphabets are not new."""
    first, *others = runs
    if others and all(run.result is None for run in runs):
        none = "None of them is judged, so nothing is compared trial by trial: choose by validation, then judge."
        return [_entry(first, other, {}, [none]) for other in others]
    return [_pair(first, other) for other in others]


def _pair(first: Run, other: Run) -> dict[str, Any]:
    notes = [lack for run in (first, other) if (lack := _lack(run))]
    protocols = {}
    if not notes:
        one, two = _hits(first), _hits(other)
        same = [name for name in one if name in two and same_trials(one[name], two[name])]
        protocols = {name: paired(hits_of(one[name]), hits_of(two[name])) for name in same}
        if apart := [name for name in {**one, **two} if name not in same]:
            notes.append(_why_apart(first, other, apart))
    if protocols:
        notes += [
            f"{run.name}: {said}." for run in (first, other) if run.result and (said := run.result.get("overlap"))
        ]
    return _entry(first, other, protocols, notes)


def _entry(first: Run, other: Run, protocols: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    return {"first": first.name, "run": other.name, "protocols": protocols, "notes": notes}


def _hits(run: Run) -> Mapping[str, Any]:
    """The hits that a run's judgement kept, by protocol; empty if it kept none."""
    return (run.outcomes or {}).get("hits", {})


def _lack(run: Run) -> str:
    """Why there are no hits of a run, and what to do; empty if there are."""
    evaluate, words = f"python -m oneshot.evaluate {quote(run.where)}", run.words
    if _hits(run):
        return ""
    if run.result is not None:
        return (
            f"{run.name} has no hits: it was judged before they were kept, or has lost them. To get them:"
            f" {evaluate}, which scores the {words.test} once more and is counted."
        )
    if run.study is None and run.over and run.best:
        return f"{run.name} is not judged. To judge it: {evaluate}, which scores the {words.test} and is counted."
    if run.pruned or (run.over and not run.best):
        return f"{run.name} is {run.state} and can no longer be judged: leave it out."
    if run.study is None or run.running:
        return f"{run.name} is {run.state} and not judged: it can be compared once it is over and judged."
    resume = f"python -m oneshot.tune --resume {quote(run.where)}"
    return f"{run.name} is not judged: its search ends with that. To continue it: {resume}."


def _why_apart(first: Run, other: Run, names: Sequence[str]) -> str:
    """A sentence saying by which protocols two runs were asked different trials, and which of the settings that make
    trials differ."""
    one, two = _asked(first), _asked(other)
    apart = f"{first.name} and {other.name} were not asked the same in {', '.join(names)}"
    if differ := [key for key in one if one[key] != two[key]]:
        return (
            f"{apart}: they differ in {', '.join(differ)}. A run keeps hits for its own settings only, so compare two"
            " runs with the same."
        )
    return (
        f"{apart}, though their settings ask for the same: the data, or the code that makes trials, changed in between."
        f" To have both asked the same: remove {RESULT} and {OUTCOMES} of the earlier run, then python -m"
        f" oneshot.evaluate RUN, which scores the {first.words.test} once more and is counted."
    )


def _asked(run: Run) -> dict[str, Any]:
    """The settings that make the trials of a judgement, by `section.key`."""
    evaluate = {f"evaluate.{key}": value for key, value in run.settings.evaluate.model_dump().items()}
    return {"data.dataset": run.settings.data.dataset, "data.split": run.settings.data.split} | evaluate


def screen(entries: Sequence[Mapping[str, Any]]) -> RenderableType:
    """The entries of `against`: for each a table with a line per protocol, then how to read it, then all notes, each
    once."""
    parts: list[RenderableType] = []
    for entry in entries:
        if entry["protocols"]:
            title = Text.assemble(("on the same trials", "bold"), f": A is {entry['first']}, B is {entry['run']}")
            parts += [Text(), title, Fitting(partial(_table, entry["protocols"]))]
    if parts:
        parts += [Text(), Text(_RULE, "dim")]
    notes = dict.fromkeys(note for entry in entries for note in entry["notes"])
    return Group(*parts, *([Text()] if notes else []), *(Text(note, "yellow") for note in notes))


def _table(protocols: Mapping[str, Any], width: int) -> RenderableType:
    columns = (
        Column("protocol", lambda row: Text(row[0], "bold"), justify="left"),
        Column("trials", lambda row: count(row[1]["trials"]), 1),
        Column("A", lambda row: percent(row[1]["accuracy"][0])),
        Column("B", lambda row: percent(row[1]["accuracy"][1])),
        Column("B - A, points (95 %)", lambda row: Text(_apart(row[1]), "bold")),
        Column("right:\nonly A", lambda row: count(row[1]["only_first"])),
        Column("right:\nonly B", lambda row: count(row[1]["only_second"])),
        Column("p", lambda row: f"{row[1]['p']:.3f}" if row[1]["p"] >= 0.001 else "<0.001"),
    )
    return fitted(columns, protocols.items(), width)


def _apart(found: Mapping[str, Any]) -> str:
    """A difference and its interval, in points."""
    low, high = found["interval"]
    return f"{100 * found['difference']:+.2f} ({100 * low:+.2f} to {100 * high:+.2f})"
