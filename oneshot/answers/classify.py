"""`python -m oneshot.classify RUN --support DIR IMAGE...`: which class an image is of, or that it is none of these."""

import contextlib
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console, RenderableType

from oneshot.answers import doubts, queries
from oneshot.answers.calibration import RATE
from oneshot.answers.classes import Classes, uneven
from oneshot.answers.preprocess import looks_light
from oneshot.answers.queries import Answer
from oneshot.answers.ranking import check_rate
from oneshot.answers.recogniser import OneShot, load
from oneshot.answers.screen import answer_view, can_draw, verdict
from oneshot.base.errors import RunFailed, UserError
from oneshot.base.storage import Folder
from oneshot.screen.console import console as make_console
from oneshot.screen.console import count, print_line, print_warning
from oneshot.screen.progress import Counting
from oneshot.screen.words import words_for

MANY = 20  # if there are more images, each gets one line
NOT_CALIBRATED = (
    "the probabilities of this network are not calibrated: it is a checkpoint, an older version wrote it, or its"
    " scores do not tell classes apart"
)


def run(
    where: Folder, images: Sequence[str], *, support: str, top: int, false_accept: float | None, as_json: bool,
    device: str, per_class: int | None = None,
) -> None:  # fmt: skip
    """Print the answer for each image, in their order. Raises UserError for a wrong request, and RunFailed at the end
    if some images could not be read."""
    console, aside = make_console(), make_console(stderr=True)
    net, rate = network(where, false_accept=false_accept, device=device)
    paths = queries.find(images)
    classes = choices(net, support, rate=rate, per_class=per_class, aside=aside)
    votes = Counter[str]()  # apart from the support's: there may be one query, and many classes
    tally = {"named": 0, "none of these": 0, "unreadable": 0}
    # If the answers go to a terminal, the bar stays below them; otherwise it goes to the other stream.
    beside = console if console.is_interactive else aside
    with contextlib.ExitStack() as stack:
        counting = stack.enter_context(Counting(beside, len(paths))) if len(paths) > queries.BATCH else None
        for batch in queries.answer(net, classes, paths, false_accept=rate, top=top, votes=votes):
            for each in batch:
                tally[_kind(each)] += 1
                if each.error:
                    print_warning(aside, each.error)
                if as_json:
                    print_line(console, json.dumps(_record(each, top)))
                elif each.ranking:
                    console.print(
                        _shown(console, net, each, classes, top=top, many=len(paths) > MANY),
                        soft_wrap=len(paths) > MANY,
                    )
            if counting:
                counting.advance(len(batch))
        seconds = counting.seconds if counting else None
    if why := looks_light(votes):
        print_warning(aside, why)
    if not as_json and len(paths) > 1:
        print_line(console, _summary(tally, classes, seconds))
    if tally["unreadable"]:
        raise RunFailed(f"{count(tally['unreadable'])} of {count(len(paths))} images could not be read")


def network(where: Folder, *, false_accept: float | None, device: str) -> tuple[OneShot, float]:
    """The network to ask, and the rate of false acceptance, which is 1 without a calibration. Raises UserError."""
    net = load(where, device=device)
    if net.calibration is None and false_accept not in (None, 1):
        raise UserError(f"{NOT_CALIBRATED}; leave out --false-accept")
    rate = 1 if net.calibration is None else RATE if false_accept is None else false_accept
    check_rate(net.calibration, rate)
    return net, rate


def choices(net: OneShot, support: str, *, rate: float, per_class: int | None, aside: Console) -> Classes:
    """The classes to choose from; reasons to doubt the answers are printed to `aside`. Raises UserError."""
    classes = queries.read_support(net, support, per_class=per_class)
    for why in classes.warnings:
        print_warning(aside, f"--support: {why}")
    if net.calibration is None:
        print_warning(aside, f'{NOT_CALIBRATED}; no image is called "none of these"')
    elif why := (doubts.false_accept if rate != 1 else doubts.flattered)(net.calibration.record, words_for(net.card)):
        print_warning(aside, why)
    if why := uneven(classes.names, classes.counts, per_class=per_class):
        print_warning(aside, why)
    return classes


def _kind(answer: Answer) -> str:
    if answer.ranking is None:
        return "unreadable"
    return "none of these" if answer.ranking.known is False else "named"


def _record(answer: Answer, top: int) -> dict[str, Any]:
    image = {"image": str(answer.path)}
    return image | (answer.ranking.to_dict(top) if answer.ranking else {"error": answer.error})


def _shown(console: Console, net: OneShot, answer: Answer, classes: Classes, *, top: int, many: bool) -> RenderableType:
    assert answer.ranking is not None and answer.pixels is not None and classes.pixels is not None
    name, ranking = str(answer.path), answer.ranking.to_dict(top)
    if many:
        return verdict(name, ranking)
    if not can_draw(console):
        return answer_view(name, ranking)
    names = [each["class"] for each in ranking["ranked"]]
    shown = {name: classes.pixels[classes.names.index(name)].numpy() for name in names}
    colour = console.color_system in ("256", "truecolor") and not console.no_color
    polarity = net.cleaning["polarity"] if net.cleaning else "dark"
    return answer_view(name, ranking, query=answer.pixels.numpy(), shown=shown, colour=colour, polarity=polarity)


def _summary(tally: dict[str, int], classes: Classes, seconds: float | None) -> str:
    parts = [f"{count(number)} {what}" for what, number in tally.items() if number or what == "named"]
    done = sum(tally.values())
    rate = f"; {count(done / seconds)} images/s" if seconds else ""
    return f"{count(done)} images, {count(len(classes.names))} classes: {', '.join(parts)}{rate}"
