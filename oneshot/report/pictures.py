"""Figures made of drawings: trials with their ranking, errors, confused characters, maps of the embeddings."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from oneshot.evaluation.outcomes import MAP_SIDE
from oneshot.report.accuracy import cut, plain
from oneshot.report.axes import SMALL
from oneshot.report.canvas import SERIES, Canvas
from oneshot.screen.words import Words, times

Outcomes = Mapping[str, Any]
_ERRORS_WIDE = 6  # errors side by side in the picture of all errors
_MAPS_WIDE, _MAP = 4, 260.0  # maps side by side in the picture of all maps, and the side of each


def place_of(right: int) -> str:
    """The place that the right one took: `2nd` for 1."""
    place = right + 1
    ending = "th" if place % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    return f"{place}{ending}"


def alphabet_of(character: str) -> str:
    return plain(character.rpartition("/")[0])


def name_of(character: str) -> str:
    """`Greek/character07` as `Greek 07`."""
    alphabet, _, name = character.rpartition("/")
    return f"{plain(alphabet)} {plain(name.removeprefix('character'))}".strip()


def group_of(character: str) -> str:
    """A character's alphabet, which a caption names as what was asked; of a class in no group, its own name."""
    return alphabet_of(character) or name_of(character)


def both_names(characters: Sequence[str]) -> str:
    """Two characters, with the alphabet once if they share it: `Greek 07 and 08`."""
    one, other = characters
    if alphabet_of(one) == alphabet_of(other) != "":
        other = other.rpartition("/")[2]
    return f"{name_of(one)} and {name_of(other)}"


def gallery(outcomes: Outcomes) -> Canvas | None:
    """Trials as they came: the query, then the support from the most to the least alike, the right one framed."""
    trials, drawings = outcomes["gallery"], outcomes["drawings"]
    if not trials:
        return None
    shown = max(len(trial["ranking"]) for trial in trials)
    canvas = Canvas(96 + shown * 42 + 12, len(trials) * 62 + 34, "One-shot trials: query and ranking")
    canvas.description = (
        f"{len(trials)} trials of {outcomes['protocol']}, {sum(t['right'] == 0 for t in trials)} right."
    )
    canvas.text(12, 20, "query", "muted", SMALL)
    canvas.text(96, 20, "support, the most alike first; framed: the right one", "muted", SMALL)
    for at, trial in enumerate(trials):
        y = 32 + at * 62
        canvas.image(12, y, 50, drawings[trial["query"]]["png"])
        hit = trial["right"] == 0
        canvas.dot(76, y + 25, 6, "good" if hit else "bad", shape="circle" if hit else "cross")
        for place, number in enumerate(trial["ranking"]):
            x = 96 + place * 42
            canvas.image(x, y + 6, 36, drawings[number]["png"])
            if place == trial["right"]:
                canvas.rect(x - 2, y + 4, 40, 40, "good", hollow=True, width=2)
            elif place == 0:
                canvas.rect(x - 2, y + 4, 40, 40, "bad", hollow=True, width=2)
    return canvas


def different(outcomes: Outcomes) -> list[Mapping[str, Any]]:
    """The errors that were kept, the greatest margin first. Of several that took one drawing for the same character,
    which older files have, only the first is included."""
    drawings, found = outcomes["drawings"], {}
    for trial in outcomes["errors"]:
        found.setdefault((trial["query"], drawings[trial["ranking"][0]]["character"]), trial)
    return list(found.values())


def errors(outcomes: Outcomes) -> Canvas | None:
    """Every error of `different`: query, chosen, right."""
    wrong, drawings = different(outcomes), outcomes["drawings"]
    if not wrong:
        return None
    columns = min(_ERRORS_WIDE, len(wrong))
    rows = -(-len(wrong) // columns)
    canvas = Canvas(max(columns * 172 + 12, 360), rows * 84 + 34, "Errors: query, chosen, right")
    missed = outcomes["trials"] - outcomes["correct"]
    number = f"All {missed}" if len(wrong) == missed else f"{len(wrong)} different ones of {missed}"
    canvas.description = f"{number} errors in {outcomes['trials']} trials of {outcomes['protocol']}."
    canvas.text(12, 20, f"{canvas.description[:-1]}: query | chosen | right", "muted", SMALL)
    for at, trial in enumerate(wrong):
        x, y = 12 + at % columns * 172, 34 + at // columns * 84
        for place, number in enumerate((trial["query"], *trial["ranking"])):
            canvas.image(x + place * 52, y, 46, drawings[number]["png"])
            if place:
                canvas.rect(x + place * 52 - 2, y - 2, 50, 50, "bad" if place == 1 else "good", hollow=True, width=2)
        said = f"{group_of(drawings[trial['query']]['character'])[:17]} · {place_of(trial['right'])}"
        canvas.text(x, y + 64, said, "muted", SMALL)
    return canvas


def confused(outcomes: Outcomes, words: Words) -> Canvas | None:
    """The pairs of characters, or classes, most often taken for each other, with drawings that took part."""
    pairs, drawings = outcomes["confused"]["pairs"], outcomes["drawings"]
    if not pairs:
        return None
    columns = min(2, len(pairs))
    title = f"{words.many.capitalize()} taken for each other"
    canvas = Canvas(columns * 420 + 12, -(-len(pairs) // columns) * 84 + 12, title)
    canvas.description = "; ".join(both_names(pair["characters"]) for pair in pairs[:5]) + "."
    for at, pair in enumerate(pairs):
        x, y = 12 + at % columns * 420, 12 + at // columns * 84
        for side in (0, 1):
            for place, number in enumerate(pair["drawings"][side]):
                canvas.image(x + side * 168 + place * 50, y, 46, drawings[number]["png"])
        canvas.text(x + 157, y + 28, "×", "bad", 15, anchor="middle")
        canvas.text(x + 326, y + 20, times(sum(pair["counts"])), "ink", 12, bold=True)
        canvas.text(x + 326, y + 36, f"of {pair['met']}", "muted", SMALL)
        canvas.text(x, y + 62, both_names(pair["characters"])[:58], "muted", SMALL)
    return canvas


def map_of(alphabet: Mapping[str, Any], drawings: Sequence[Mapping[str, Any]], words: Words, side: float) -> Canvas:
    """One alphabet's drawings as dots in the plane, each character's in a colour, its middle drawing over them."""
    canvas = Canvas(side, side, f"Map of {plain(alphabet['alphabet'])}")
    explained = f"{100 * alphabet['explained']:.0f} % of the embeddings' variance"
    canvas.description = f"{len(alphabet['characters'])} {words.many}; {explained} is shown."
    picture = side / 15
    margin = picture / 2 + 4

    def at(value: float) -> float:
        return margin + min(value, MAP_SIDE) / MAP_SIDE * (side - 2 * margin)

    for number, one in enumerate(alphabet["characters"]):
        places = [(at(x), at(y)) for x, y in one["points"]]
        canvas.dots(places, side / 150, SERIES[number % len(SERIES)], tip=name_of(one["character"]), opacity=0.75)
    for one in alphabet["characters"]:
        if one["points"]:
            x, y = (sum(point[axis] for point in one["points"]) / len(one["points"]) for axis in (0, 1))
            png = drawings[one["drawing"]]["png"]
            canvas.image(at(x) - picture / 2, at(y) - picture / 2, picture, png, tip=name_of(one["character"]))
    return canvas


def maps(outcomes: Outcomes, words: Words) -> Canvas | None:
    """The maps of all alphabets, side by side."""
    shown = outcomes["map"]
    if not shown:
        return None
    side, columns = _MAP, min(_MAPS_WIDE, len(shown))
    canvas = Canvas(columns * (side + 12) + 12, -(-len(shown) // columns) * (side + 34) + 6, "Maps of the embeddings")
    for number, alphabet in enumerate(shown):
        left, top = 12 + number % columns * (side + 12), 28 + number // columns * (side + 34)
        said = f"{cut(plain(alphabet['alphabet']), 22)} · {100 * alphabet['explained']:.0f} % of variance"
        canvas.text(left, top - 8, said, "ink", 12)
        canvas.rect(left, top, side, side, "grid", hollow=True, width=1)
        for mark in map_of(alphabet, outcomes["drawings"], words, side).marks:
            moved = [(x + left, y + top) for x, y in mark.points]
            points = (moved[0], mark.points[1]) if mark.kind in ("image", "rect") else tuple(moved)
            canvas.marks.append(replace(mark, points=points, tip=""))
    canvas.description = f"{len(shown)} {words.groups}, each in the plane of its two greatest variances."
    return canvas
