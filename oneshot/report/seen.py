"""The page's sections made of drawings: trials, errors, confused characters, maps of the embeddings."""

from collections.abc import Mapping
from typing import Any

from oneshot.report import pictures
from oneshot.report.accuracy import plain
from oneshot.report.canvas import svg
from oneshot.report.html import Figures, esc, picture, section
from oneshot.report.pictures import alphabet_of, group_of, name_of, place_of
from oneshot.report.reading import Run
from oneshot.screen.console import count
from oneshot.screen.words import Words, times

Outcomes = Mapping[str, Any]
_ERRORS, _MORE, _PAIRS = 24, 96, 18  # errors shown, errors folded away, pairs shown; the files have all that were kept
_MAP = 420  # pixels of a map


def trials(run: Run, figures: Figures) -> str:
    """A gallery of trials with their ranking, taken at equal distances: neither the best nor the worst."""
    outcomes = run.outcomes
    if outcomes is None or not outcomes["gallery"]:
        return ""
    items = "".join(_trial(trial, outcomes["drawings"], run.words) for trial in outcomes["gallery"])
    many = f" Of each {run.words.one} the first drawing is shown." if outcomes["k_shot"] > 1 else ""
    said = (
        f"{len(outcomes['gallery'])} of the {count(outcomes['trials'])} trials of"
        f" <code>{esc(outcomes['protocol'])}</code>, taken at equal distances, not selected. On the left the query,"
        " then the support from the most to the least alike. The right one has a <b>green</b> frame, and a wrong one"
        f" that was chosen an <b>orange</b> frame.{many}"
    )
    links = figures.keep("trials", pictures.gallery(outcomes))
    inside = f'<p>{said} {links}</p><ol class="trials">{items}</ol>'
    return section("trials-title", "Trials, as they came", inside)


def _trial(trial: Mapping[str, Any], drawings: list[Mapping[str, Any]], words: Words) -> str:
    query, hit = drawings[trial["query"]], trial["right"] == 0
    ranking = []
    for place, number in enumerate(trial["ranking"]):
        drawing, right = drawings[number], place == trial["right"]
        mark = "right" if right else "wrong" if place == 0 else ""
        told = f"{place_of(place)}: {name_of(drawing['character'])}" + (", the right one" if right else "")
        if trial["scores"][place] is not None:
            told += f", score {trial['scores'][place]:.2f}"
        ranking.append(f"<li>{picture(drawing['png'], told, mark)}</li>")
    where = esc(group_of(query["character"]))
    verdict = (
        f"<b>✓ right</b>, {where}" if hit else f"<b>✗ wrong</b>, {where}: the right one came {place_of(trial['right'])}"
    )
    asked = picture(query["png"], f"query: {name_of(query['character'])}, {words.numbered} {query['drawer']}")
    return (
        f'<li class="trial {"hit" if hit else "miss"}">{asked}<ol class="ranking">{"".join(ranking)}</ol>'
        f'<p class="verdict">{verdict}</p></li>'
    )


def errors(run: Run, figures: Figures) -> str:
    """The worst errors: query, chosen, right."""
    outcomes = run.outcomes
    if outcomes is None:
        return ""
    missed, wrong = outcomes["trials"] - outcomes["correct"], pictures.different(outcomes)
    protocol = f"<code>{esc(outcomes['protocol'])}</code>"
    if not wrong:
        none = f"<p>None: all {count(outcomes['trials'])} trials of {protocol} are right.</p>"
        return section("errors-title", "Errors", none)
    links = figures.keep("errors", pictures.errors(outcomes))
    every = len(wrong) == missed
    number = f"The {min(len(wrong), _ERRORS)} worst{'' if every else ' different ones'} of {count(missed)}"
    if every and missed <= _ERRORS:
        number = f"All {missed}"
    said = f"{number} errors in {count(outcomes['trials'])} trials of {protocol}, the greatest margin first."
    if not every:
        said += f" A query that was taken for the same {run.words.one} in several trials counts once."
    if len(wrong) > _ERRORS:
        said += f" The picture files show {'all' if every else count(len(wrong))}."
    first, more = ("".join(_error(trial, outcomes["drawings"], run.words) for trial in some)
                   for some in (wrong[:_ERRORS], wrong[_ERRORS:][:_MORE]))  # fmt: skip
    shown = f'<ul class="errors">{first}</ul>'
    if more:
        summary = f"{min(_MORE, len(wrong) - _ERRORS)} more"
        shown += f'<details><summary>{summary}</summary><ul class="errors">{more}</ul></details>'
    return section("errors-title", "Errors", f"<p>{said} {links}</p>{shown}")


def _error(trial: Mapping[str, Any], drawings: list[Mapping[str, Any]], words: Words) -> str:
    three = []
    for number, word, css in zip(
        (trial["query"], *trial["ranking"]), ("query", "chosen", "right"), ("", "wrong", "right"), strict=True
    ):
        drawing = drawings[number]
        told = f"{word}: {name_of(drawing['character'])}, {words.numbered} {drawing['drawer']}"
        shown = picture(drawing["png"], told, css)
        three.append(f"<figure>{shown}<figcaption>{word}</figcaption></figure>")
    chosen, right = trial["scores"]
    by = f" · margin {chosen - right:.1f}" if chosen is not None and right is not None else ""
    asked, taken = (drawings[number]["character"] for number in (trial["query"], trial["ranking"][0]))
    what = alphabet_of(asked) or f"{name_of(asked)}, taken for {name_of(taken)}"
    said = f'<p>{esc(what)}<br><span class="quiet">right one {place_of(trial["right"])}{by}</span></p>'
    return f'<li class="error"><div class="three">{"".join(three)}</div>{said}</li>'


def confused(run: Run, figures: Figures) -> str:
    """The characters, or classes, most often taken for each other."""
    if run.outcomes is None or not run.outcomes["confused"]["pairs"]:
        return ""
    found, drawings = run.outcomes["confused"], run.outcomes["drawings"]
    links = figures.keep("confused", pictures.confused(run.outcomes, run.words))
    items = []
    for pair in found["pairs"][:_PAIRS]:
        sides = (
            '<span class="set">' + "".join(picture(drawings[n]["png"], name_of(name)) for n in some) + "</span>"
            for some, name in zip(pair["drawings"], pair["characters"], strict=True)
        )
        both = esc(pictures.both_names(pair["characters"]))
        between = '<span class="times" aria-hidden="true">×</span>'
        often = f"{times(sum(pair['counts']))} in {pair['met']} trials that held both"
        said = f'<p>{both}<br><span class="quiet">{often}</span></p>'
        items.append(f'<li class="confusion"><div class="sides">{between.join(sides)}</div>{said}</li>')
    said = (
        f"The pairs most often taken for each other among the {count(found['errors'])} errors in"
        f" {count(found['trials'])} trials of <code>{esc(found['protocol'])}</code>, shown by drawings from them."
        f" {links}"
    )
    inside = f'<p>{said}</p><ul class="confused">{"".join(items)}</ul>'
    return section("confused-title", f"Most confused {run.words.many}", inside)


def maps(run: Run, figures: Figures) -> str:
    """Maps of the embeddings: the easiest and the hardest alphabet, the others folded away."""
    if run.outcomes is None or not run.outcomes["map"]:
        return ""
    by_name, words = {alphabet["alphabet"]: alphabet for alphabet in run.outcomes["map"]}, run.words
    scores = (run.result or {}).get("per_alphabet") or run.outcomes["per_alphabet"]
    ranked = sorted(by_name, key=lambda name: -scores[name]["accuracy"] if name in scores else 1)
    ends = dict.fromkeys([ranked[0], ranked[-1]])
    links = figures.keep("maps", pictures.maps(run.outcomes, words))
    said = (
        "How the network sees drawings that are new to it: each dot is a drawing, its colour stands for its"
        f" {words.one} (colours repeat), and the small drawing is the middle one of its {words.one}. If the dots of a"
        f" {words.one} stay together and away from others, one example is enough. The plane shows only the two"
        f" directions of the greatest variance, so what overlaps here may be apart in the others. {links}"
    )
    # A single map, or one without a score, cannot be called easier than others.
    known = len(ends) == 2 and all(name in scores for name in ends)
    placed = dict(zip(ends, ("the easiest", "the hardest"), strict=True)) if known else {}
    shown = "".join(_map(by_name[name], run, scores, placed.get(name, "")) for name in ends)
    rest = "".join(_map(by_name[name], run, scores, "") for name in ranked if name not in ends)
    others = len(ranked) - len(ends)
    summary = f"The other {others} {words.groups}" if others > 1 else "The other one"
    more = f'<details><summary>{summary}</summary><div class="maps">{rest}</div></details>'
    inside = f'<p>{said}</p><div class="maps two">{shown}</div>{more if rest else ""}'
    return section("maps-title", "Map of the embeddings", inside)


def _map(alphabet: Mapping[str, Any], run: Run, scores: Mapping[str, Any], which: str) -> str:
    name = alphabet["alphabet"]
    number = [each["alphabet"] for each in run.outcomes["map"]].index(name)
    drawn = svg(pictures.map_of(alphabet, run.outcomes["drawings"], run.words, _MAP), name=f"map-{number}")
    right = f", {100 * scores[name]['accuracy']:.1f} % right" if name in scores else ""
    explained = f"{100 * alphabet['explained']:.0f} % of the variance"
    said = f"<strong>{esc(plain(name))}</strong>{f', {which}' if which else ''}{right}; {explained}"
    return f"<figure>{drawn}<figcaption>{said}</figcaption></figure>"
