"""Sets of the user's own images: read a folder, clean and split it, and write it like any other data set."""

import hashlib
import json
import os
import struct
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from PIL import Image

from oneshot.base.errors import UserError, some
from oneshot.base.storage import Folder
from oneshot.data import allot, clean, parquet, store
from oneshot.data.clean import Fitted, Unusable
from oneshot.data.drawings import Description, Own, Row
from oneshot.data.png import encode
from oneshot.data.splits import of_own
from oneshot.data.tree import NAMED, Tree, absolute, text

VERSION = 1  # version of the digest, which covers the drawings: a change of `clean` changes it without a new version
MOST_BYTES = 1 << 29  # per file
Progress = Callable[[str, int, int | None], None]  # what is being done, how much of it is done, how much there is

_SETTLED = 2 / 3  # the share of the images that has to agree on what is ink
_LISTED = 10  # classes named in a sentence


@dataclass(frozen=True)
class How:
    """How a set is to be made."""

    side: int = 105  # pixels, as stored; `data.size` is the side that a network sees
    polarity: str = "auto"  # or one of `clean.POLARITIES`
    least: int = 2  # fewest images of a class
    seed: int = 0  # of the split
    split_file: str | None = None  # a file that gives the split instead

    def check(self) -> None:
        """Raise UserError for values that are out of range."""
        if not 16 <= self.side <= 512:
            raise UserError(f"--side {self.side}: images are kept at 16 to 512 pixels a side")
        if self.polarity not in ("auto", *clean.POLARITIES):
            raise UserError(f"--polarity {self.polarity}: take auto, {', '.join(clean.POLARITIES)}")
        if self.least < 2:
            raise UserError(f"--min-images {self.least}: a class needs 2, one to know it by and one to ask about")


@dataclass
class Making:
    """A set while it is made: the drawings of its classes, and the messages about it."""

    notes: list[str] = field(default_factory=list)  # for people, a sentence each
    warnings: list[str] = field(default_factory=list)
    drawn: dict[tuple[str, str], list[np.ndarray]] = field(default_factory=dict)  # (alphabet, character)
    polarity: str = ""


class _Read(NamedTuple):
    """The content of an image file."""

    image: Fitted
    coloured: bool
    frames: int


def build(
    folder: Folder,
    tree: Tree,
    *,
    name: str,
    how: How,
    before: Description | None = None,
    progress: Progress | None = None,
) -> Making:
    """Write drawings.parquet of the images of `tree`, and splits.json for people; the result holds the messages.

    `before` is the same set as it was; its split is kept unless a file gives another. Raises UserError if the images
    make no set or the folder cannot be written.
    """
    how.check()
    progress = progress or (lambda what, done, total: None)
    making = Making(warnings=list(tree.notes))
    fitted = _read(tree, how.side, making, progress)
    making.polarity = _choose_polarity(fitted, how.polarity, making)
    _draw(tree, fitted, name, how, making)
    del fitted  # frees as much memory as all drawings take, which are packed for Parquet next
    gone = _leave_out_poor(tree, how.least, name, making)
    own = _divided(tree, making, how, gone, before)
    about = "train, validation and test classes; a copy: to change the split, pass an edited one to --split-file"
    text_ = json.dumps({"about": about, **_names(own)}, indent=1, ensure_ascii=False)
    parquet.put(folder, store.SPLIT, f"{text_}\n".encode())
    store.write(
        folder,
        _rows(making, progress),
        name=f"{name} (own images)",
        source=text(str(tree.source)),
        digests={"images": _digest(making, own)},
        bits=8,
        own=own,
    )
    return making


def _read(
    tree: Tree, side: int, making: Making, progress: Progress
) -> dict[tuple[str, str], list[tuple[str, Fitted]]]:  # fmt: skip
    """The readable images of each class, with their paths. The others are reported in `making`."""
    every = [(key, path) for key, paths in tree.classes.items() for path in paths]
    found: dict[tuple[str, str], list[tuple[str, Fitted]]] = {}
    broken, animated, coloured = [], 0, 0
    # Pillow decodes outside the GIL. Only a few at once: the largest accepted images need up to a GB each meanwhile.
    with warnings.catch_warnings(), ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        warnings.simplefilter("ignore")  # about odd metadata, and about large images that are allowed
        for done, ((key, path), outcome) in enumerate(zip(every, pool.map(_reader(tree, side), every), strict=True), 1):
            if isinstance(outcome, str):
                broken.append(f"{text(path)} {outcome}")
            else:
                animated += outcome.frames > 1
                coloured += outcome.coloured
                found.setdefault(key, []).append((path, outcome.image))
            if done % 20 == 0 or done == len(every):
                progress("reading images", done, len(every))
    _tell_broken(broken, len(every), making)
    if animated:
        making.notes.append(f"{animated} image(s) hold several pictures: only the first of each is used")
    if coloured:
        making.notes.append(f"{coloured} image(s) are in colour and are made grey: what differs only in colour is lost")
    return found


def _reader(tree: Tree, side: int) -> Callable[[tuple[tuple[str, str], str]], _Read | str]:
    def read(one: tuple[tuple[str, str], str]) -> _Read | str:
        path = tree.source / one[1]
        try:
            if path.stat().st_size > MOST_BYTES:
                return f"is a file of more than {MOST_BYTES >> 20} MB"
            image = clean.read(path.read_bytes())
            return _Read(clean.fit(image, side), clean.coloured(image), _frames(image))
        except Unusable as error:
            return str(error)
        except Exception as error:  # Pillow raises some ten kinds of exception for damaged files
            return f"cannot be read ({' '.join(str(getattr(error, 'strerror', None) or error).split())[:100]})"

    return read


def _frames(image: Image.Image) -> int:
    """The number of pictures in an image; 1 if what follows the first is damaged."""
    try:
        return getattr(image, "n_frames", 1)
    except (ArithmeticError, EOFError, LookupError, OSError, SyntaxError, TypeError, ValueError, struct.error):
        return 1


def _tell_broken(broken: Sequence[str], total: int, making: Making) -> None:
    if 2 * len(broken) > total:
        raise UserError(
            f"{len(broken)} of {total} images cannot be used: {broken[0]}; repair them or remove them from the folder"
        )
    making.warnings += [f"{sentence}: left out" for sentence in broken[:NAMED]]
    if len(broken) > NAMED:
        making.warnings.append(f"{len(broken) - NAMED} more image(s) cannot be used and are left out")


def _choose_polarity(
    fitted: Mapping[tuple[str, str], Sequence[tuple[str, Fitted]]], asked: str, making: Making
) -> str:  # fmt: skip
    """The polarity asked for, else the vote of two thirds of the images, else "photo". `making` reports why."""
    looks = {path: clean.vote(image) for images in fitted.values() for path, image in images}
    votes = Counter(looks.values())
    most, count = votes.most_common(1)[0]
    agreed = count >= _SETTLED * votes.total()
    chosen = asked
    if asked == "auto":
        chosen = most if agreed else "photo"
    seen = f"judged by their looks: {', '.join(f'{votes[kind]} {kind}' for kind in clean.POLARITIES)}"
    if asked != "auto":
        why = f"as asked for; {seen}"
    elif not agreed:
        clear = any(image.clear is not None for images in fitted.values() for _, image in images)
        laid = ", and transparent ones are laid on white where all they show is dark, else on black" if clear else ""
        why = f"the images disagree on which shade is ink{laid}; {seen}; set --polarity to decide"
    else:
        why = f"{count} of {votes.total()} images look like this; use --polarity to override"
    odd = [text(path) for path, look in looks.items() if {look, chosen} == {"dark", "light"}]
    if odd and asked == "auto":
        making.warnings.append(f"{len(odd)} image(s) look inverted (ink and paper swapped): {some(odd, NAMED)}")
    told = making.notes if agreed or asked != "auto" else making.warnings
    told.append(f"polarity {chosen} ({clean.MEANING[chosen]}): {why}")
    return chosen


def _draw(
    tree: Tree,
    fitted: Mapping[tuple[str, str], Sequence[tuple[str, Fitted]]],
    name: str,
    how: How,
    making: Making,
) -> None:
    """Add the drawings of each class to `making`, each once. Blank and duplicate images are reported."""
    blank, twice, shared = [], [], []
    first: dict[bytes, str] = {}  # the path where a drawing is met first
    own: dict[tuple[bytes, tuple[str, str]], str] = {}  # and the first in this class
    for (group, character), images in fitted.items():
        key = (name if tree.flat else group, character)
        for path, image in images:
            try:
                ink = clean.ink(image, side=how.side, polarity=making.polarity)
            except Unusable as error:
                blank.append(f"{text(path)} {error}")
                continue
            digest = hashlib.sha256(ink.tobytes()).digest()
            here = own.setdefault((digest, key), path)
            if here != path:
                twice.append(f"{text(path)} (as {text(here)})")
                continue
            there = first.setdefault(digest, path)
            if there != path:
                shared.append(f"{text(there)} and {text(path)}")
            making.drawn.setdefault(key, []).append(ink)
    _tell_broken(blank, sum(map(len, fitted.values())), making)
    if twice:
        told = some(twice, NAMED)
        making.warnings.append(f"{len(twice)} image(s) occur twice in one class and count once: {told}")
    if shared:
        making.warnings.append(
            f"{len(shared)} image(s) are the same in two classes, which no network can tell apart:"
            f" {some(shared, NAMED)}"
        )


def _leave_out_poor(tree: Tree, least: int, name: str, making: Making) -> list[str]:
    """Remove the classes that have too few images, and return their names."""
    every = [(name if tree.flat else group, character) for group, character in tree.classes]
    poor = [key for key in every if len(making.drawn.get(key, ())) < least]
    for key in poor:
        making.drawn.pop(key, None)
    if poor:
        told = some([f"{key[1] if tree.flat else '/'.join(key)}" for key in poor], _LISTED)
        making.warnings.append(f"{len(poor)} class(es) have fewer than {least} images and are left out: {told}")
    return ["/".join(key) for key in poor]


def _divided(tree: Tree, making: Making, how: How, gone: Sequence[str], before: Description | None) -> Own:
    """The `Own` facts of the set, with its split. Raises UserError if the split is not sound."""
    classes = sorted("/".join(key) for key in making.drawn)
    if how.split_file is not None:
        by, split = "file", allot.by_file(how.split_file, classes, flat=tree.flat, gone=gone)
        # A file that repeats the earlier split or the seed's, as a copy of splits.json does, makes the same set.
        dealt = [allot.by_seed(classes, flat=tree.flat, seed=how.seed)]
        if before is not None:
            dealt.insert(0, (before.own.by, before.own.split))
        by = next((kind for kind, its in dealt if its == split), by)
    elif before is not None:
        was = before.own
        by, split = was.by, allot.as_before(classes, was.split, by=was.by, known=before.classes)
    else:
        by, split = allot.by_seed(classes, flat=tree.flat, seed=how.seed)
    own = Own(polarity=making.polarity, flat=tree.flat, by=by, split=split)
    of_own(own)
    parts = ", ".join(f"{part} {len(split[part])}" for part in allot.PARTS)
    kept = ", as before" if before and (how.split_file is None or split == before.own.split) else ""
    making.notes.append(f"split by {by}{kept}: classes for {parts}{_ways(split)}")
    unused = len(classes) - len({name for names in split.values() for name in names})
    if unused:
        making.warnings.append(f"{unused} class(es) are in no part of the split and are not used")
    return own


def _ways(split: allot.Split) -> str:
    """A message on the ways of one-shot trials inside a group, if they are fewer than the usual 20."""
    most = {part: max(Counter(name.partition("/")[0] for name in split[part]).values()) for part in allot.PARTS[1:]}
    few = [f"{ways}-way in {part}" for part, ways in most.items() if 1 < ways < 20]
    said = f"; one-shot trials inside a group are at most {' and '.join(few)}" if few else ""
    lone = [part for part, ways in most.items() if ways == 1]
    return said + (f"; in {' and '.join(lone)} no group has two classes: trials there mix groups" if lone else "")


def _names(own: Own) -> dict[str, list[str]]:
    """The parts as a split file names them."""
    cut = (lambda name: name.partition("/")[2]) if own.flat else (lambda name: name)
    return {part: [cut(name) for name in own.split[part]] for part in allot.PARTS}


def _digest(making: Making, own: Own) -> str:
    """The sha256 of all that a network can learn from the set: names, drawings, the split."""
    whole = hashlib.sha256(repr((VERSION, own)).encode())
    for key in sorted(making.drawn):
        whole.update(repr((key, [ink.shape for ink in making.drawn[key]])).encode())
        for ink in making.drawn[key]:
            whole.update(ink.tobytes())
    return whole.hexdigest()


def _rows(making: Making, progress: Progress) -> Iterator[Row]:
    total, done = sum(map(len, making.drawn.values())), 0
    for key in sorted(making.drawn):
        for number, ink in enumerate(making.drawn[key], 1):
            picture = encode(255 - clean.shown(ink, making.polarity))
            yield Row(picture, ink, *key, number, "own")
            done += 1
        progress("writing drawings", done, total)


def name_of(source: str) -> str:
    """The default name of a set: its folder's."""
    return absolute(source).name
