"""`python -m oneshot.verify RUN A B`: whether two images show the same class, with the probability."""

import json
from collections import Counter
from pathlib import Path

from rich.text import Text

from oneshot.answers import artifact
from oneshot.answers.calibration import flattered
from oneshot.answers.classify import NOT_CALIBRATED
from oneshot.answers.preprocess import looks_light
from oneshot.base.storage import Folder
from oneshot.screen.console import console as make_console
from oneshot.screen.console import one_line, percent, print_line, print_warning


def run(where: Folder, left: Path, right: Path, *, as_json: bool, device: str) -> None:
    """Print same or different and the probability that they are the same. Raises UserError."""
    console = make_console()
    net = artifact.load(where, device=device)
    votes = Counter[str]()
    pixels = [net.read(path, votes=votes) for path in (left, right)]
    if why := looks_light(votes):
        print_warning(make_console(stderr=True), why)
    probability = float(net.same(*(net.embed_pixels(each) for each in pixels)))
    calibrated, same = net.calibration is not None, probability >= 0.5
    if why := flattered(net.calibration.record) if net.calibration else NOT_CALIBRATED:
        print_warning(make_console(stderr=True), why)
    if as_json:
        found = {"left": str(left), "right": str(right), "same": same, "probability": probability}
        print_line(console, json.dumps(found | {"calibrated": calibrated}))
        return
    word = ("same", "bold green") if same else ("different", "bold yellow")
    names = f"{one_line(left)} and {one_line(right)}"
    print_line(console, Text.assemble(word, f"  {names}: the probability of the same class is {percent(probability)}"))
