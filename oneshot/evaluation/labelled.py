"""`python -m oneshot.classify RUN --support DIR --labelled DIR`: how often the answer is right on images of one's own.

The true class of an image is the name of the folder that it lies in. Images in a folder that is not named as a class of
the support are strangers: they are of none of the classes, which is the answer they should get. Each image is scored
once for all rates of false acceptance.
"""

import contextlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from oneshot.answers import classify, queries
from oneshot.answers.classes import Classes, mark
from oneshot.answers.preprocess import SUFFIXES, looks_light
from oneshot.answers.ranking import Ranking, rank_at
from oneshot.answers.recogniser import OneShot
from oneshot.base.errors import RunFailed, UserError, nearest
from oneshot.base.storage import Folder, at_home
from oneshot.data.tree import hidden, text
from oneshot.evaluation.scoring import wilson
from oneshot.screen.console import console as make_console
from oneshot.screen.console import count, print_line, print_warning
from oneshot.screen.labelled import labelled_view
from oneshot.screen.progress import Counting

CONFUSED = 10  # pairs of classes that are named
OF_CLASSES, OF_STRANGERS = ("right", "wrong", "refused"), ("strangers_named", "strangers_refused")  # possible outcomes
FIRST_ALONE = (
    "a file of classes records only the first image of each: other support images among the labelled ones are not left"
    " out and make the figures look better; to leave them out, name the folder of the classes as --support"
)


def run(
    where: Folder, labelled: str, *, support: str, top: int, false_accept: float | None, as_json: bool, device: str,
    per_class: int | None = None,
) -> None:  # fmt: skip
    """Print how often the answers are right; as JSON, after a line for each image. Raises UserError for a request that
    is wrong, and RunFailed at the end if some images could not be read, or none was left to ask about."""
    console, aside = make_console(), make_console(stderr=True)
    net, rate = classify.network(where, false_accept=false_accept, device=device)
    found = _folders(at_home(labelled))
    classes = classify.choices(net, support, rate=rate, per_class=per_class, aside=aside)
    names = {text(name): name for name in classes.names}  # a file of classes has them as plain text
    folder_of = {path: names.get(text(folder), folder) for path, folder in found.items()}
    if not {*classes.names} & {*folder_of.values()}:
        other = next(iter(folder_of.values()))
        raise UserError(
            f"no folder in {labelled} is named after a class, though its name must be the class of its images:"
            f" '{other}' is no class; {nearest(other, classes.names)}"
        )
    if not classes.seen and max(classes.counts) > 1:
        print_warning(aside, FIRST_ALONE)
    votes, rates = Counter[str](), [*net.calibration.record["rates"], 1] if net.calibration else [1]
    tally = Tally(classes, rates, (1, top) if 1 < top < len(classes) else (1,))
    beside = console if console.is_interactive else aside  # as in `classify`
    with contextlib.ExitStack() as stack:
        counting = stack.enter_context(Counting(beside, len(folder_of))) if len(folder_of) > queries.BATCH else None
        for lines in _asked(net, classes, folder_of, tally, shown=rates.index(rate), top=top, votes=votes):
            for line in lines:
                if "error" in line:
                    print_warning(aside, line["error"])
                if as_json:
                    print_line(console, json.dumps(line))
            if counting:
                counting.advance(len(lines))
    if why := looks_light(votes):
        print_warning(aside, why)
    unreadable = f"{count(tally.unreadable)} of {count(len(folder_of))} images could not be read"
    if not tally.images:
        raise RunFailed(f"nothing was measured: {unreadable}, and {count(tally.left_out)} are support images")
    record = {"calibrated": net.calibration is not None, "false_accept": rate, **tally.record(folder_of.values())}
    if as_json:
        print_line(console, json.dumps({"summary": record}))
    else:
        console.print(labelled_view(record))
    if tally.unreadable:
        raise RunFailed(unreadable)


def _folders(folder: Path) -> dict[Path, str]:
    """The images in the subfolders of a folder, in order of name, each with the name of its subfolder.

    Raises UserError if there is no subfolder, one holds no image, or an image lies elsewhere."""
    if not folder.is_dir():
        raise UserError(f"--labelled {folder}: no such folder; name one that holds a folder of images for each class")
    found: dict[Path, str] = {}
    for entry in sorted(each for each in folder.iterdir() if not hidden(each.name)):
        if entry.is_dir():
            for path in queries.find([str(entry)]):
                if path.parent != entry:
                    raise UserError(f"{path} is too deep: put it into {folder}/CLASS, a folder named after its class")
                found[path] = entry.name
        elif entry.suffix.lower() in SUFFIXES:
            raise UserError(f"{entry} is not in the folder of a class; put it into a folder named after its class")
    if not found:
        raise UserError(f"{folder} holds no folder of images; put those of each class into a folder named after it")
    return found


def _asked(
    net: OneShot, classes: Classes, folder_of: Mapping[Path, str], tally: "Tally", *, shown: int, top: int,
    votes: Counter[str],
) -> Iterator[list[dict[str, Any]]]:  # fmt: skip
    """Ask about the images and count the answers. Yields a batch's lines of JSON at a time, one line an image, with the
    answer at the rate of index `shown`. `votes` as in `preprocess.fit`."""
    seen = classes.seen | frozenset(map(mark, classes.pixels))  # a file of classes knows only the first image of each
    for read, z_QD in queries.embedded(net, list(folder_of), votes=votes):
        ranked, lines = iter(rank_at(net.net, net.calibration, classes, z_QD, rates=tally.rates, top=top)), []
        for path, pixels in read:
            truth = folder_of[path] if folder_of[path] in tally.names else None
            line = {"image": str(path), "truth": truth}
            if isinstance(pixels, str):
                tally.unreadable += 1
                lines.append(line | {"error": pixels})
                continue
            rankings = next(ranked)
            if mark(pixels[0]) in seen:
                tally.left_out += 1
                lines.append(line | {"left_out": "to the network it looks the same as a support image"})
            else:
                tally.add(path, truth, rankings)
                lines.append(line | rankings[shown].to_dict(top))
        yield lines


class Tally:
    """Answers to images whose class is known, counted at each of `rates`. `places` says among how many of the best
    classes the right one is looked for."""

    def __init__(self, classes: Classes, rates: Sequence[float], places: Sequence[int]) -> None:
        self.names, self.rates = dict.fromkeys(classes.names), rates
        self.images = self.left_out = self.unreadable = 0
        self._counts, self._within = [Counter[str]() for _ in rates], dict.fromkeys(places, 0)
        self._confused, self._example = Counter[tuple[str, str]](), dict[tuple[str, str], str]()

    def add(self, path: Path, truth: str | None, rankings: Sequence[Ranking]) -> None:
        """Count one more image, of the class `truth` or of none, with its ranking at each rate."""
        self.images += 1
        for counts, ranking in zip(self._counts, rankings, strict=True):
            counts[_kind(truth, ranking.best)] += 1
        if truth is None:
            return
        best = rankings[0].classes
        for place in self._within:
            self._within[place] += truth in best[:place]
        if best[0] != truth:
            self._confused[truth, best[0]] += 1
            self._example.setdefault((truth, best[0]), str(path))

    def record(self, folders: Iterable[str]) -> dict[str, Any]:
        """The counts, for people and programs. `within` and `confused` are of the best classes, whether or not these
        are good enough to be named."""
        of_classes = sum(self._counts[0][kind] for kind in OF_CLASSES)
        of = dict.fromkeys(OF_CLASSES, of_classes) | dict.fromkeys(OF_STRANGERS, self.images - of_classes)
        labels = dict.fromkeys(folders)
        return {
            "images": self.images, "of_classes": of_classes, "strangers": self.images - of_classes,
            "left_out": self.left_out, "unreadable": self.unreadable, "classes": len(self.names),
            "classes_without_images": [name for name in self.names if name not in labels],
            "strangers_in": [name for name in labels if name not in self.names],
            "rates": [
                {"false_accept": rate, **{kind: share(counts[kind], of[kind]) for kind in of}}
                for rate, counts in zip(self.rates, self._counts, strict=True)
            ],
            "within": [{"places": place, **share(hits, of_classes)} for place, hits in self._within.items()],
            "confused": [
                {"truth": truth, "class": name, "images": images, "example": self._example[truth, name]}
                for (truth, name), images in self._confused.most_common(CONFUSED)
            ],
        }  # fmt: skip


def _kind(truth: str | None, best: str | None) -> str:
    if truth is None:
        return "strangers_refused" if best is None else "strangers_named"
    return "refused" if best is None else "right" if best == truth else "wrong"


def share(images: int, of: int) -> dict[str, Any]:
    """The share of `images` in `of`, with Wilson's 95 % interval; both are None if `of` is 0."""
    return {
        "images": images,
        "share": images / of if of else None,
        "interval": list(wilson(images, of)) if of else None,
    }
