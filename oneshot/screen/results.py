"""A result's record on the terminal: accuracy by protocol, among the figures it compares with, and by alphabet."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from oneshot.screen.console import MISSING, Column, Fitting, bar, count, fitted, interval, loss, percent
from oneshot.screen.published import ladder
from oneshot.screen.tables import settings_text
from oneshot.screen.words import OF_OWN, words_of

_PAIRS = {
    "verification": "pairs, half of them same; a probability of 1/2 decides",
    "verification_at_threshold": "the same with a threshold chosen on validation",
}
PROTOCOLS = {
    "lake400": "Lake's 20 fixed runs, each in one alphabet",
    "within": "one alphabet, query and support by two drawers",
    "between": "characters of all test alphabets, another drawer",
    "seed352": "as the source document: all test alphabets, lax",
    "within_fixed": "as within, on the alphabets of Lake's runs alone",
    **_PAIRS,
}
GENERATED = PROTOCOLS | {  # for generated glyphs, whose fixed trials are not Lake's
    "lake400": "fixed trials, made like Lake's",
    "within_fixed": "as within, on the alphabets of the fixed trials alone",
}
OWN = {  # for one's own images, if it is not known who made which
    "within": "one group, query and support two images",
    "between": "classes of all test groups, two images",
    "seed352": "as between, always 20-way 1-shot",
    **_PAIRS,
}
_FEW = 10  # test classes; the intervals are over trials, and do not cover how other classes may differ
_PLOT = (21, 41)  # columns of the scale of accuracies, at least and at most


@dataclass(frozen=True)
class _Rung:
    """A line of the ladder: a published figure, this run (with `ends`, its interval), or a heading (no accuracy)."""

    name: str
    accuracy: float | None = None
    source: str = ""
    note: str = ""
    ends: tuple[float, float] | None = None


def result_panel(result: Mapping[str, Any]) -> Panel:
    """The one-shot results of `result.json` by protocol, and this run's place among published figures.

    Each protocol has a ladder of its own, since figures of two protocols do not compare (one network differs by 13 to
    15 points between them). Only a 20-way one-shot result on Omniglot gets one: otherwise the panel says why not.
    """
    protocols, omniglot, overlap = result["protocols"], is_omniglot(result), result.get("overlap")
    parts: list[RenderableType] = [_network(result["best_trial"]), Text()] if result.get("best_trial") else []
    parts.append(Fitting(partial(_by_protocol, protocols, meanings(result))))
    few = few_classes(result)
    parts += [Text(), Text(few, "yellow")] if few else []
    parts += [Text(), Text(overlap, "yellow")] if overlap else []
    parts += _lowered(result.get("lowered") or {})
    parts += _beside(result)
    parts += _skipped(result.get("skipped") or {})
    comparable = {name: outcome for name, outcome in protocols.items() if compares(outcome)}
    if rungs := _rungs(comparable) if omniglot and not overlap else []:
        rule = "Figures compare within one protocol only, and only where training saw as many alphabets."
        parts += [Text(), Fitting(partial(_ladder, rungs)), Text(), Text(rule, "dim")]
    others = [name for name, outcome in protocols.items() if not compares(outcome)]
    if not omniglot:
        parts += [Text(), Text(f"Published figures are for Omniglot: not comparable with {result['dataset']}.")]
    elif overlap:
        parts += [Text(), Text("Published figures are for alphabets that are new to a network: not comparable here.")]
    elif others:
        parts += [Text(), Text(f"Published figures are 20-way 1-shot: not comparable with {_and(others)} here.")]
    if (result.get("test_evaluations") or 1) > 1:
        parts += [Text(), Text(f"This run has been judged {result['test_evaluations']} times.", "yellow")]
    title = f"one-shot accuracy · {result['dataset']} · split {result['split']}"
    return Panel(Group(*parts), title=Text(title, "bold not dim"), expand=False, padding=(1, 2), border_style="dim")


def is_omniglot(result: Mapping[str, Any]) -> bool:
    """Whether the result was measured on Omniglot itself, as `splits` knows it. Published figures are for that."""
    return result["dataset"] == "omniglot"


def few_classes(result: Mapping[str, Any]) -> str:
    """If few classes judged, a sentence on why the intervals are narrower than what is known; otherwise empty."""
    test = result.get("test")
    if not test or test["classes"] >= _FEW:
        return ""
    what = f"{test['classes']} classes with {test['images']} images"
    return f"only {what} were tested: the accuracy on other classes may lie far outside these intervals"


def trained_in(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """The environment that the network of a result was trained in; for an older result, that of its judgement."""
    return result.get("trained") or result["environment"]


def made_and_judged(
    results: Sequence[Mapping[str, Any]], of: Callable[[Mapping[str, Any]], str]
) -> tuple[list[str], list[str]]:
    """What `of` says of the environments of these results' trainings, each once, and of the judgements that were made
    in other environments."""
    trained = list(dict.fromkeys(of(trained_in(each)) for each in results))
    judged = dict.fromkeys(of(each["environment"]) for each in results)
    return trained, [one for one in judged if one not in trained]


def commit_of(environment: Mapping[str, Any]) -> str:
    """A commit as it is shown to people."""
    return str(environment["commit"] or "unknown")


def commits(results: Sequence[Mapping[str, Any]]) -> str:
    """The commits of the trainings of these results, and those of the judgements that were made by another commit."""
    trained, apart = made_and_judged(results, commit_of)
    return ", ".join(trained) + f"; judged by {', '.join(apart)}" * bool(apart)


def meanings(result: Mapping[str, Any]) -> Mapping[str, str]:
    """What each protocol asks of these drawings. `result` is anything that has a `dataset` and a `split`."""
    if words_of(result["split"]) is OF_OWN:
        return OWN
    return PROTOCOLS if is_omniglot(result) else GENERATED


def alphabet_table(result: Mapping[str, Any]) -> RenderableType:
    """Accuracy by alphabet (trials of `within`), the best first, with trials and 95 % interval."""
    if not result["per_alphabet"]:
        return Text("No accuracy by alphabet: the protocol within was not measured.", "dim")
    rows = sorted(result["per_alphabet"].items(), key=lambda item: (-item[1]["accuracy"], item[0]))
    columns = (
        Column(words_of(result["split"]).group, lambda row: row[0].replace("_", " "), justify="left"),
        Column("trials", lambda row: count(row[1]["trials"]), 2),
        Column("accuracy", lambda row: percent(row[1]["accuracy"])),
        Column("", lambda row: bar(row[1]["accuracy"], 20, "cyan"), 3, "left"),
        Column("95 % interval\nover trials", lambda row: interval(*row[1]["interval"]), 1),
    )
    return Fitting(lambda width: fitted(columns, rows, width))


def seeds_text(record: Mapping[str, Any]) -> str:
    """The seeds of a record and, if some are still missing, how many were asked for: `1, 2 (of 5)`."""
    seeds, asked = [row["seed"] for row in record["seeds"]], len(record.get("asked") or ())
    return ", ".join(map(str, seeds)) + f" (of {asked})" * (asked > len(seeds))


def seconds_text(record: Mapping[str, Any]) -> str:
    """The seconds of a training of a record, on average over its seeds, and whether one of them was interrupted. An
    interrupted one has the seconds of its last call, start included, and of the epochs and steps it continued from."""
    interrupted = any(row["interrupted"] for row in record["seeds"])
    return f"{record['seconds']:.0f} s" + ", interrupted" * interrupted


def seeds_table(record: Mapping[str, Any]) -> RenderableType:
    """The results of a job with several seeds, by protocol: mean, interval of the mean, and number of seeds."""
    meaning = meanings(record)
    columns = (
        Column("protocol", lambda row: Text(row[0], "bold"), justify="left"),
        Column("query and support", lambda row: meaning.get(row[0], ""), 3, "left"),
        Column("mean", lambda row: Text(percent(row[1]["mean"]), "bold green")),
        Column(
            "95 % interval\nover seeds",
            lambda row: interval(*row[1]["interval"]) if row[1]["interval"] else MISSING,
            1,
        ),
        Column("seeds", lambda row: count(row[1]["seeds"]), 2),
    )
    title = f"{record['job']} · {record['dataset']} · split {record['split']} · a training: {seconds_text(record)}"
    body = Fitting(lambda width: fitted(columns, record["summary"].items(), width))
    title = Text(f"{title} · seeds {seeds_text(record)}", "bold not dim")
    return Panel(body, title=title, expand=False, padding=(1, 2), border_style="dim")


def _network(best: Mapping[str, Any]) -> Text:
    which = "the network" if best["id"] is None else f"trial {best['id']}"
    settings = f": {settings_text(best['settings'])}" if best["settings"] else ""
    return Text.assemble(
        (f"{which} at epoch {best['epoch']}, val loss {loss(best['val_loss'])}", "bold"), (settings, "dim")
    )


def _lowered(lowered: Mapping[str, str]) -> list[RenderableType]:
    """What was made easier than asked for."""
    lines = [Text(f"{name} is {why}", "yellow") for name, why in lowered.items()]
    return [Text(), *lines] if lines else []


def _beside(result: Mapping[str, Any]) -> list[RenderableType]:
    """What is said beside the protocols: what a score is, if it is of several views, the accuracy on the alphabets of
    the fixed trials alone, and that on pairs."""
    seen = positions(result.get("views", 1))
    lines = [f"a score is {seen}"] if seen else []
    if fixed := result.get("within_fixed"):
        low, high = fixed["interval"]
        runs = "Lake's runs" if is_omniglot(result) else "the fixed trials"
        lines.append(
            f"within, on the {fixed['alphabets']} alphabets of {runs} alone: {percent(fixed['accuracy'])}"
            f" ({interval(low, high)})"
        )
    if pairs := result.get("verification"):
        lines.append(
            f"verification: {percent(pairs['accuracy'])} of {count(pairs['pairs'])} pairs"
            f" ({percent(pairs['at_threshold'])} at validation's threshold)"
        )
        if errors := pairs.get("errors"):  # older results have none
            lines.append(_equal_errors(errors, words_of(result["split"]).group))
    return [Text(), *map(Text, lines)] if lines else []


def _equal_errors(errors: Mapping[str, Any], group: str) -> str:
    """The equal error rates, by the kind of pairs that are not the same."""
    of = {"any": "of any two", "within": f"of two in one {group}"}
    return "equal error rate: " + ", ".join(
        f"{percent(errors[kind]['eer'])} {of[kind]}" for kind in of if kind in errors
    )


def positions(views: int) -> str:
    """How a network that looks in several positions compares two drawings; empty if it looks in one."""
    if views == 1:
        return ""
    how = "turned or mirrored" if views > 4 else "turned"
    return f"the mean of {views} views: both drawings {how} alike"


def _skipped(skipped: Mapping[str, str]) -> list[RenderableType]:
    """What was not measured. Protocols that share a reason share a line."""
    same: dict[str, list[str]] = {}
    for name, why in skipped.items():
        same.setdefault(why, []).append(name)
    lines = [Text(f"not measured: {', '.join(names)}: {why}", "dim") for why, names in same.items()]
    return [Text(), *lines] if lines else []


def _by_protocol(protocols: Mapping[str, Any], meaning: Mapping[str, str], width: int) -> RenderableType:
    columns = (
        Column("protocol", lambda row: Text(row[0], "bold"), justify="left"),
        Column("query and support", lambda row: meaning.get(row[0], ""), 4, "left"),
        Column("task", lambda row: f"{row[1]['n_way']}-way {row[1]['k_shot']}-shot", 3, "left"),
        Column("trials", lambda row: count(row[1]["trials"]), 2),
        Column("accuracy", lambda row: Text(percent(row[1]["accuracy"]), "bold green")),
        Column("95 % interval\nover trials", lambda row: interval(*row[1]["interval"]), 1),
    )
    if any("pixels" in outcome for outcome in protocols.values()):
        columns += (Column("by pixels\nalone", lambda row: Text(percent(row[1].get("pixels")), "dim"), 2),)
    return fitted(columns, protocols.items(), width)


def compares(outcome: Mapping[str, Any]) -> bool:
    """Whether published figures, all of them 20-way 1-shot, may stand beside this outcome."""
    return (outcome["n_way"], outcome["k_shot"]) == (20, 1)


def _and(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _rungs(protocols: Mapping[str, Any]) -> list[_Rung]:
    """For each protocol with published figures, a heading and the figures with this run's among them, the best
    first."""
    rungs: list[_Rung] = []
    for protocol, outcome in protocols.items():
        published = [_Rung(f.name, f.accuracy, short(f.source), f.note) for f in ladder(protocol)]
        if published:
            low, high = outcome["interval"]
            ours = _Rung("this run", outcome["accuracy"], interval(low, high), ends=(low, high))
            rungs += [_Rung("")] * bool(rungs) + [_Rung(protocol)]
            rungs += sorted([ours, *published], key=lambda rung: -rung.accuracy)
    return rungs


def _ladder(rungs: Sequence[_Rung], width: int) -> RenderableType:
    floor = _floor(rungs)
    texts = [max(len(getattr(rung, field)) for rung in rungs) + 2 for field in ("name", "source", "note")]
    plot = max(_PLOT[0], min(_PLOT[1], width - sum(texts) - len("  accuracy  ")))
    axis = f"{100 * floor:<{plot // 2 - 1}.0f}{50 * (1 + floor):<3.0f}{'100':>{plot - plot // 2 - 2}}"
    columns = (
        Column("published and ours", _name, justify="left"),
        Column("accuracy", lambda rung: _ours(rung, "" if rung.accuracy is None else percent(rung.accuracy))),
        Column(axis, lambda rung: _dot(rung, floor, plot), 2, "left"),
        Column("source", lambda rung: _ours(rung, rung.source), 1, "left"),
        Column("", lambda rung: Text(rung.note, "dim"), 3, "left"),
    )
    return fitted(columns, rungs, width)


def _name(rung: _Rung) -> Text:
    if rung.accuracy is None:
        return Text(rung.name, "bold")
    return _ours(rung, f"▶ {rung.name}" if rung.ends else f"  {rung.name}")


def _ours(rung: _Rung, text: str) -> Text:
    return Text(text, "bold green" if rung.ends else "")


def _floor(rungs: Sequence[_Rung]) -> float:
    """Where the scale begins: the tenth below the least accuracy, one half at most."""
    least = [rung.ends[0] if rung.ends else rung.accuracy for rung in rungs if rung.accuracy is not None]
    return min(0.5, int(10 * min(least)) / 10)


def _dot(rung: _Rung, floor: float, width: int) -> Text:
    """A dot on a scale from `floor` to 1, and for this run the extent of its interval."""

    def place(accuracy: float) -> int:
        return round((accuracy - floor) / (1 - floor) * (width - 1))

    if rung.accuracy is None:
        return Text("")
    line = Text("·" * width, "dim")
    if rung.ends:
        low, high = map(place, rung.ends)
        line = Text.assemble(line[:low], ("━" * (high + 1 - low), "green"), line[high + 1 :])
    at = place(rung.accuracy)
    return Text.assemble(line[:at], ("●", "bold green" if rung.ends else ""), line[at + 1 :])


def short(source: str) -> str:
    """`Koch, Zemel & Salakhutdinov 2015, Siamese ...` as `Koch et al. 2015`; a source without a year stays as it is."""
    found = re.match(r"(\w+)(.*?) (\d{4})", source)
    return source if not found else f"{found[1]}{' et al.' * bool(found[2])} {found[3]}"
