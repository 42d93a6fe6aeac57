"""`python -m oneshot.verify RUN A B`: whether two images show the same class, with the probability."""

import json
from collections import Counter
from pathlib import Path

from rich.text import Text

from oneshot.answers import doubts
from oneshot.answers.classify import NOT_CALIBRATED
from oneshot.answers.preprocess import looks_light
from oneshot.answers.recogniser import OneShot, load
from oneshot.base.storage import Folder
from oneshot.screen.console import console as make_console
from oneshot.screen.console import one_line, percent, print_line, print_warning
from oneshot.screen.words import words_for


def run(
    where: Folder, left: Path, right: Path, *, false_match: float | None = None, as_json: bool, device: str
) -> None:  # fmt: skip
    """Print whether the images are the same or different, and the probability that they are the same. They are the same
    if it is above one half, or above the threshold of a false match rate. Raises UserError."""
    console = make_console()
    net = load(where, device=device)
    threshold = 0.5 if false_match is None else net.threshold(false_match)
    votes = Counter[str]()
    pixels = [net.read(path, votes=votes) for path in (left, right)]
    if why := looks_light(votes):
        print_warning(make_console(stderr=True), why)
    probability = float(net.same(*(net.embed_pixels(each) for each in pixels)))
    same = probability > threshold
    if why := _doubt(net, false_match):
        print_warning(make_console(stderr=True), why)
    if as_json:
        found = {
            "left": str(left), "right": str(right), "same": same, "probability": probability, "threshold": threshold,
            "false_match": false_match, "calibrated": net.calibration is not None,
        }  # fmt: skip
        print_line(console, json.dumps(found))
        return
    word = ("same", "bold green") if same else ("different", "bold yellow")
    names = f"{one_line(left)} and {one_line(right)}"
    said = f"  {names}: the probability of the same class is "
    if false_match is None:
        said += percent(probability)
    else:  # both with enough digits to tell them apart
        said += (
            f"{100 * probability:.3f} %; at a false match rate of {100 * false_match:g} % it takes more than"
            f" {100 * threshold:.3f} %"
        )
    print_line(console, Text.assemble(word, said))


def _doubt(net: OneShot, false_match: float | None) -> str:
    if net.calibration is None:
        return NOT_CALIBRATED
    record, words = net.calibration.record, words_for(net.card)
    return doubts.flattered(record, words) if false_match is None else doubts.false_match(record, false_match, words)
