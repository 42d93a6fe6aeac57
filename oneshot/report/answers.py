"""The start of the page: accuracy by protocol, the state of the run, published figures, accuracy by alphabet."""

import time
from collections import Counter
from collections.abc import Mapping
from shlex import quote
from typing import Any

from oneshot.data.splits import is_own, teaches_all
from oneshot.evaluation.spread import over_groups
from oneshot.report import accuracy
from oneshot.report.html import Column, Figures, esc, note, section, table
from oneshot.report.reading import Run
from oneshot.screen.console import count, duration, interval, loss, one_line, percent
from oneshot.screen.results import few_classes, is_omniglot, meanings, positions
from oneshot.screen.tables import settings_text
from oneshot.screen.words import words_of

_FIRST = {  # the protocols that the headline may be about, the first choice first, and its words
    "lake400": "of Lake’s 400 one‑shot trials are right",
    "within": "of the one‑shot trials within one alphabet are right",
    "between": "of the one‑shot trials between alphabets are right",
    "seed352": "of the one‑shot trials are right",
}


def headline(run: Run) -> str:
    """The result as a heading, then what it means; for a run that is not judged, how far it is."""
    if run.result is None or not run.result["protocols"]:
        return _unjudged(run)
    protocols = run.result["protocols"]
    name = next((each for each in _FIRST if each in protocols), next(iter(protocols)))
    first = protocols[name]
    own = is_own(run.result["split"])
    title = f"<h1><b>{percent(first['accuracy'])}</b> {esc(_which(name, run.result))}</h1>"
    task, seen = f"{first['n_way']}-way {first['k_shot']}-shot", positions(run.result.get("views", 1))
    kind, parts = ("classes", "classes") if own else ("characters", "alphabets")
    new = "" if run.result.get("overlap") else f" On {parts} that neither training nor search has seen."
    lead = (
        f'<p class="lead">{task}: which of {first["n_way"]} {kind} is this, from {_examples(first["k_shot"])} each?'
        f"{new} 95 % interval {interval(*first['interval'])}, over {count(first['trials'])} trials"
        f"{f'; a score is {seen}' if seen else ''}.</p>"
    )
    return title + lead + _cards(run.result, name)


def _which(name: str, result: Mapping[str, Any]) -> str:
    """Which trials are right, in words that let nobody take other trials for Lake's."""
    if is_own(result["split"]):
        return "of the one‑shot trials on your own images are right"
    if name == "lake400" and not is_omniglot(result):
        return f"of {count(result['protocols'][name]['trials'])} fixed one‑shot trials, made like Lake’s, are right"
    return _FIRST.get(name, f"of the trials of {name} are right")


def _examples(shots: int) -> str:
    return "one example of" if shots == 1 else f"{shots} examples of"


def _cards(result: Mapping[str, Any], first: str) -> str:
    """A card for each protocol, then for what else was measured."""
    meaning = meanings(result)
    entries = [
        (name, one, f"{one['n_way']}-way {one['k_shot']}-shot, {count(one['trials'])} trials", meaning.get(name, ""))
        for name, one in result["protocols"].items()
    ]
    if one := result.get("verification"):
        entries.append(("verification", one, f"{count(one['pairs'])} pairs", "same or different: another task"))
    items = []
    for name, one, task, what in entries:
        items.append(
            f'<li class="{"first" if name == first else ""}"><span class="name">{esc(name)}</span>'
            f'<span class="value">{percent(one["accuracy"])}</span>'
            f'<span class="quiet">{interval(*one["interval"])}</span>'
            f'<span class="quiet">{task}</span><span class="quiet">{esc(what)}</span>{_by_pixels(one)}</li>'
        )
    return f'<ul class="cards" aria-label="Accuracy by protocol">{"".join(items)}</ul>'


def _by_pixels(outcome: Mapping[str, Any]) -> str:
    """The share of the same trials that the nearest neighbour by pixels gets right; older results do not have it."""
    share = outcome.get("pixels")
    return "" if share is None else f'<span class="quiet">by pixels alone: {percent(share)}</span>'


def _unjudged(run: Run) -> str:
    state = "is running" if run.running else "is not over" if not run.over else "is trained"
    kind = "This study" if run.study else "This network" if run.over else "This training"
    lead = "No epoch is finished yet."
    if not run.study and run.has("diverged"):
        kind, state = "This training", f"diverged in epoch {run.trials[0]['history'][-1]['epoch']}"
        lead = "The loss or its gradient was not finite, and no epoch was finished: try a lower learning rate."
    if run.best:
        who = f"Trial {run.best['id']} leads" if run.study else "The best epoch so far" if not run.over else "Best"
        text = settings_text(run.best["settings"])
        lead = f"{who}: validation loss {loss(run.best['val_loss'])} at epoch {run.best['best_epoch']}" + (
            f", {esc(text)}." if text else "."
        )
    later = "" if run.over else f" Accuracy on the {run.words.test} comes at the end."
    return f'<h1>{kind} <b>{state}</b></h1><p class="lead">{lead}{later}</p>'


def state(run: Run) -> str:
    """What a reader has to know before the figures: whether the run goes on; what is missing, invented or left out."""
    live = "" if run.over else note(_progress(run), "live")
    said = [esc(sentence) for sentence in run.missing]
    if (run.result and not is_omniglot(run.result)) or "generated" in run.dataset:
        why = (run.study or {}).get("why") or ""
        invented = f"The drawings are {run.dataset}, not Omniglot{f': {why}' if why else ''}."
        said.append(esc(f"{invented} No published figure is comparable."))
    if few := few_classes(run.result or {}):
        said.append(f"{few[0].upper()}{few[1:]}.")
    if overlap := (run.result or {}).get("overlap"):
        compares = " No published figure is comparable." if is_omniglot(run.result or {}) else ""
        said.append(esc(f"{overlap[0].upper()}{overlap[1:]}.{compares}"))
    if teaches_all(split := run.settings.data.split):
        said.append(f"Split {split}: the {run.words.held} were trained on too, so validation figures are optimistic.")
    elif run.taught:
        how = "may have been" if run.taught == "perhaps" else "was"
        said.append(
            f"A network that this one started from {how} trained on the {run.words.held}: validation figures are"
            " optimistic."
        )
    if run.touched > 1:
        which = (run.result or {}).get("test_evaluations")  # if a search went on, the figures are of a later time
        figures = f"; the figures are those of scoring {which}" if which else ""
        said.append(f"The {run.words.test} have been scored {run.touched} times for this run{figures}.")
    said += [esc(f"{name} is {why}.") for name, why in ((run.result or {}).get("lowered") or {}).items()]
    same: dict[str, list[str]] = {}
    for name, why in ((run.result or {}).get("skipped") or {}).items():
        same.setdefault(why, []).append(name)
    said += [esc(f"Not measured: {', '.join(names)}: {why}.") for why, names in same.items()]
    return live + note(said)


def _progress(run: Run) -> list[str]:
    ago = duration(run.read - run.written)
    then = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(run.written))
    here = f"<code>python -m oneshot.report {esc(quote(run.where))}</code>"
    if run.study:
        how = Counter(trial["status"] for trial in run.trials)
        ended = sum(how[name] for name in ("finished", "stopped", "diverged", "failed"))
        far = f"{ended} of {len(run.trials)} trials are over, {how['running']} are running, {how['pending']} waiting."
        if ended == len(run.trials):
            far = f"All trials are over; the judgement on the {run.words.test} is missing."
    else:
        far = f"{run.trials[0]['epochs']} of {run.settings.train.epochs} epochs done."
        if why := run.trials[0]["error"]:
            far += f" It failed: {esc(one_line(why))}."
    if run.running:
        return [f"<strong>Running.</strong> {far} Last written {ago} before this page was made ({then}).",
                f"This page shows the state at that time; for a newer one: {here}"]  # fmt: skip
    resumed = f"<code>python -m oneshot.tune --resume {esc(quote(run.where))}</code>"
    on = f"To go on: {resumed if run.study else 'the same command with --run'}"
    if run.pruned:
        on = "Its trials’ checkpoints were removed: it cannot go on."
    return [f"<strong>Not over, and silent for {ago}.</strong> {far} Last written {then}. {on}"]


def standing(run: Run, figures: Figures) -> str:
    """The section that puts the result among the published figures."""
    if run.result is None:
        return ""
    said = (
        "Figures are comparable only within one protocol, and only if training saw as many alphabets. Lines: 95 %"
        " intervals over trials (Wilson), for other trials of this network, not for another training."
    )
    chart = figures.chart("ladder", lambda width: accuracy.standing(run.result, width), said)
    if not chart:
        return ""
    return section("published", "Among the published figures", chart)


def by_alphabet(run: Run, figures: Figures) -> str:
    """Accuracy by alphabet: a figure, and the numbers as a table."""
    if run.result is None or not run.result["per_alphabet"]:
        return ""
    kind = words_of(run.result["split"]).group
    said = f"Accuracy on each test {kind}, with 95 % intervals over trials."
    chart = figures.chart("alphabets", lambda width: accuracy.alphabets(run.result, run.outcomes, width), said)
    fixed = run.outcomes["per_alphabet"] if run.outcomes and run.outcomes["protocol"] == "lake400" else {}
    columns = [
        Column(kind, lambda item: esc(accuracy.plain(item[0])), lambda item: item[0], text=True),
        Column("within", lambda item: percent(item[1]["accuracy"]), lambda item: item[1]["accuracy"]),
        Column(
            "95 % interval over trials",
            lambda item: interval(*item[1]["interval"]),
            lambda item: item[1]["interval"][0],
        ),
        Column("trials", lambda item: count(item[1]["trials"]), lambda item: item[1]["trials"]),
    ]
    if fixed:
        columns.append(
            Column(
                "lake400",
                lambda item: f"{fixed[item[0]]['correct']} of {fixed[item[0]]['trials']}" if item[0] in fixed else "–",
                lambda item: fixed[item[0]]["accuracy"] if item[0] in fixed else None,
            )
        )
    rows = sorted(run.result["per_alphabet"].items(), key=lambda item: -item[1]["accuracy"])
    numbers = table(f"Accuracy by {kind}", columns, rows)
    new = not run.result.get("overlap")  # alphabets that it was taught say nothing about others
    others = over_groups([(score["accuracy"], score["trials"]) for _, score in rows], kind) if new else ""
    inside = f"{f'<p>{others}</p>' if others else ''}{chart}"
    inside += f"<details><summary>The numbers as a table</summary>{numbers}</details>"
    return section("by-alphabet", f"By {kind}", inside)
