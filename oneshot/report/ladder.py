"""The ladder: this project's records and the published figures, a row each, with every protocol in its own column.

An empty cell means that nobody measured it: a figure of one protocol never stands in another's column.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from oneshot.base.markdown import table
from oneshot.evaluation.spread import over_groups, spread_of
from oneshot.evaluation.trials import NAMES
from oneshot.report.accuracy import plain
from oneshot.screen.console import Column, Fitting, fitted, interval, percent
from oneshot.screen.published import FIGURES
from oneshot.screen.results import commits, compares, short

PROTOCOLS = (*NAMES, "verification")
VIEWS = "Views: two drawings are compared this many times, each time both turned or mirrored alike; the mean decides."
INTERVALS = (
    "95 % intervals over trials (Wilson) say how the same network would do on other trials, taken as independent; they"
    " do not cover other trainings. Those over seeds (Student) say where the mean of many trainings lies on the same"
    " trials (a single training may lie 2.4 times as far from the mean of five); they do not cover other trials, which"
    " add about 2 points where there are 400. Rows a point apart on `lake400` do not differ."
)
_MEANING = {
    "lake400": "Lake's 400 fixed trials, 20-way within one alphabet: the one to quote",
    "within": "20-way within one alphabet, 10,000 random trials: finer, and harder for the networks here",
    "between": "20-way over all test alphabets at once: easier",
    "seed352": "the source document's 352 trials over all alphabets: easier, and coarse",
    "verification": "same or different, of pairs, at a probability of one half: another task",
}


@dataclass(frozen=True)
class Rung:
    """A row: a name, and accuracy by protocol with its interval if one is known (fractions)."""

    name: str
    ours: bool
    cells: Mapping[str, tuple[float, tuple[float, float] | None]]
    source: str

    @property
    def sort_key(self) -> tuple[float, ...]:
        """By the first protocol that was measured, `lake400` before all others."""
        return tuple(-self.cells[name][0] if name in self.cells else 1.0 for name in PROTOCOLS)


def rungs(records: Mapping[str, Mapping[str, Any]]) -> list[Rung]:
    """All rows, the best on `lake400` first, then those without it. Records must be on Omniglot.

    A record is that of a study or of several seeds; the figures of the latter are means over the seeds.
    """
    rows = [_published(name) for name in dict.fromkeys(figure.name for figure in FIGURES)]
    for name, record in records.items():
        result, cells = first_result(record), _cells(record)
        judges = f"{len(result['per_alphabet'])} test alphabets"
        of = ", interval over trials"
        if "seeds" in record:
            of = f", mean of {_many(record)}"
            of += ", interval over seeds" * any(ends for _, ends in cells.values())
        source = f"split {result['split']} ({judges}){of}{started(result)}{views(result)}{judged_again(record)}"
        source += f", commit {commits(results_of(record))}"
        rows.append(Rung(name, True, cells, source))
    # Of rows that are equal by the first protocol, published ones come first.
    return sorted(rows, key=lambda rung: (rung.sort_key[0], rung.ours, rung.sort_key, rung.name))


def _many(record: Mapping[str, Any]) -> str:
    """How many seeds a record has, and of how many if more were asked for and are not there yet."""
    count, asked = len(record["seeds"]), len(record.get("asked") or ())
    return (f"{count} of {asked}" if asked > count else str(count)) + f" seed{'s' * (max(count, asked) != 1)}"


def views(result: Mapping[str, Any]) -> str:
    """In how many positions a network looks; empty for one."""
    return f", {result['views']} views" if result.get("views", 1) > 1 else ""


def started(result: Mapping[str, Any]) -> str:
    """Says if a network started from another one's weights: it has then learnt more than its split says."""
    return ", started from another network" if result.get("start") else ""


def times_judged(row: Mapping[str, Any]) -> int:
    """How often a network was judged, by its record or by the row of its seed. Older ones do not count judgements after
    the one that they hold."""
    return row.get("judged") or row["result"].get("test_evaluations") or 1


def judged_again(record: Mapping[str, Any]) -> str:
    """How often networks were judged if more than once: `, judged 2 times`, or `, seed 3 judged 2 times`."""
    said = []
    for row in record.get("seeds") or [record]:
        often = times_judged(row)
        if often > 1:
            said.append(f", seed {row['seed']} judged {often} times" if "seed" in row else f", judged {often} times")
    return "".join(said)


def results_of(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The result of a study's record, or that of each seed of several."""
    return [record["result"]] if "result" in record else [row["result"] for row in record["seeds"]]


def first_result(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """The result of a study's record, or that of the first seed of several."""
    return results_of(record)[0]


def _cells(record: Mapping[str, Any]) -> dict[str, tuple[float, tuple[float, float] | None]]:
    result = first_result(record)
    measured = {name: one for name, one in result["protocols"].items() if name in PROTOCOLS and compares(one)}
    if result.get("verification"):
        measured["verification"] = result["verification"]
    if "summary" in record:
        means = {name: record["summary"][name] for name in measured if name in record["summary"]}
        return {name: (one["mean"], tuple(one["interval"]) if one["interval"] else None) for name, one in means.items()}
    return {name: (one["accuracy"], tuple(one["interval"])) for name, one in measured.items()}


def _published(name: str) -> Rung:
    """The row of one published system, with its best figure for each protocol."""
    figures = sorted((figure for figure in FIGURES if figure.name == name), key=lambda figure: figure.accuracy)
    cells: dict[str, tuple[float, tuple[float, float] | None]] = {one.protocol: (one.accuracy, None) for one in figures}
    sources = dict.fromkeys(
        short(figure.source) + f" ({figure.note})" * bool(figure.note)
        for figure in reversed(figures)
        if cells[figure.protocol][0] == figure.accuracy
    )
    return Rung(name, False, cells, "; ".join(sources))


def best(records: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The record with the greatest accuracy on the alphabets of `lake400`; None if no record has one.

    The 10,000 trials of `within_fixed` decide, as one trial of 400 is worth more than most differences. Records without
    them come last, by `lake400`. Trials with another number of ways or shots are easier or harder, and do not count."""
    scores = {}
    for name, record in records.items():
        result = first_result(record)
        asked = {"within_fixed": result.get("within_fixed"), "lake400": result["protocols"].get("lake400")}
        ours = record.get("summary") or asked
        found = [ours.get(each) if one and compares(one) else None for each, one in asked.items()]
        if any(found):
            scores[name] = [one["mean" if "mean" in one else "accuracy"] if one else 0.0 for one in found]
    return max(scores, key=lambda name: scores[name], default=None)


def markdown(rows: Sequence[Rung]) -> str:
    """The ladder as README shows it, with the meaning of each column below it."""
    lines = []
    for rung in rows:
        name = f"**`{rung.name}`**" if rung.ours else rung.name
        cells = []
        for protocol in PROTOCOLS:
            accuracy, ends = rung.cells.get(protocol, (None, None))
            text = "" if accuracy is None else f"{100 * accuracy:.1f}"
            bold = f"**{text}**" if rung.ours and text else text
            cells.append(bold + (f" ({100 * ends[0]:.1f}–{100 * ends[1]:.1f})" if ends else ""))
        lines.append((name, *cells, rung.source))
    heads = ("", *(f"`{name}`" for name in PROTOCOLS), "source")
    meaning = "; ".join(f"`{name}`: {what}" for name, what in _MEANING.items())
    return "\n".join([table(heads, lines), "", f"{meaning}. Bold: this project. {INTERVALS} {VIEWS}"])


def alphabets(name: str, record: Mapping[str, Any]) -> str:
    """A record's accuracy by alphabet in Markdown, the best first; for several seeds the means, on the same trials."""
    found = [result["per_alphabet"] for result in results_of(record)]
    kind, which = "trials", f"`{name}`"
    rows = [(alphabet, one["accuracy"], one["interval"], one["trials"]) for alphabet, one in found[0].items()]
    if len(found) > 1:
        kind, which = "seeds", f"`{name}`, mean of {_many(record)}"
        of = {name: spread_of([each[name]["accuracy"] for each in found]) for name in found[0]}
        rows = [(name, of[name]["mean"], of[name]["interval"], trials) for name, _, _, trials in rows]
    lines = []
    for alphabet, accuracy, between, trials in sorted(rows, key=lambda row: -row[1]):
        ends = f"{100 * between[0]:.1f}–{100 * between[1]:.1f}" if between else "–"
        lines.append((plain(alphabet), f"{100 * accuracy:.1f}", ends, trials))
    made = table((f"alphabet (`within`, {which})", "%", f"95 % interval over {kind}", "trials"), lines)
    others = over_groups([(accuracy, trials) for _, accuracy, _, trials in rows], "alphabet")
    return f"{made}\n\n{others}" if others else made


def screen(rows: Sequence[Rung]) -> RenderableType:
    """The ladder for the terminal: if it is narrow, intervals are left out before any protocol is."""
    meaning = (Text.assemble((f"{name:<14}", "bold"), (what, "dim")) for name, what in _MEANING.items())
    return Group(
        Fitting(lambda width: _table(rows, width, ends=width >= 160)),
        Text(),
        *meaning,
        Text(INTERVALS, "dim"),
        Text(VIEWS, "dim"),
    )


def _table(rows: Sequence[Rung], width: int, *, ends: bool) -> RenderableType:
    def cell(rung: Rung, protocol: str) -> Text:
        accuracy, between = rung.cells.get(protocol, (None, None))
        text = "" if accuracy is None else percent(accuracy)
        if between and ends:
            text += f" ({interval(*between)})"
        return Text(text, "bold green" if rung.ours else "")

    columns = (
        Column("", lambda rung: Text(rung.name, "bold green" if rung.ours else ""), justify="left"),
        *(Column(name, lambda rung, name=name: cell(rung, name)) for name in PROTOCOLS),
        Column("source", lambda rung: Text(rung.source, "dim"), 1, "left"),
    )
    return fitted(columns, rows, width)
