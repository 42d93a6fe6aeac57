"""Queries and the support images of classes: found in folders, read and embedded in batches, and ranked.

In a support folder, a class is an image (`DIR/class.png`) or a folder of images (`DIR/class/image`); both may occur.
"""

import itertools
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from oneshot.answers import embeddings, preprocess
from oneshot.answers.classes import Classes, in_file, joined, mark
from oneshot.answers.ranking import Ranking, rank
from oneshot.base.environment import cores
from oneshot.base.errors import UserError, meant
from oneshot.base.reach import reach
from oneshot.base.storage import at_home
from oneshot.data.tree import hidden

if TYPE_CHECKING:  # it imports this module
    from oneshot.answers.recogniser import OneShot

BATCH = 256  # images held at once, each as the small image that the network sees


@dataclass(frozen=True)
class Answer:
    """The answer to one query: a ranking and the image (S, S) as the network saw it, or why it could not be read."""

    path: Path
    ranking: Ranking | None = None
    pixels: torch.Tensor | None = None
    error: str = ""


def read_support(net: "OneShot", where: str | os.PathLike[str], *, per_class: int | None = None) -> Classes:
    """The classes in a folder, by name, or in a file of embeddings, a path or a URI, on the network's device.

    `per_class` takes only so many different images of each class in a folder, the first by name. Raises UserError if
    there is no class, a class has no image, two have one name, or an image cannot be read; for a file as
    `embeddings.read` does, and if `per_class` is given."""
    named = str(where).endswith(embeddings.ENDING) and not at_home(where).is_dir()
    if "://" in str(where) or named or at_home(where).is_file():
        if per_class is not None:
            raise UserError(
                f"{where}: the classes of a file are already embedded, so none of their images can be left out: leave"
                " out --per-class (per_class), or give it to `python -m oneshot.embed --support FOLDER`"
            )
        found = in_file(reach(where), net.identity)
        return replace(found, z_CD=found.z_CD.to(net.device), head=net.head)
    votes, parts = Counter[str](), []
    for classes, _, errors, _ in classes_of(net, classes_in(at_home(where)), votes=votes, per_class=per_class):
        if errors:
            raise UserError(
                f"{errors[0]}; `python -m oneshot.embed --support` makes a file that leaves such images out"
            )
        parts.append(classes)
    return joined(parts, warnings=list(filter(None, [preprocess.looks_light(votes)])))


def classes_of(
    net: "OneShot", paths: Mapping[str, Sequence[Path]], *, votes: Counter[str], per_class: int | None = None
) -> Iterator[tuple[Classes | None, int, list[str], list[str]]]:
    """Embed classes in their order, some at a time: as many as make a batch of images, or one larger class as a whole.

    With them come the number of images that were read or tried, why some could not be read, and the classes that are
    left out because none of their images could. `votes` as in `preprocess.fit`; `per_class` takes only the first so
    many different images of each class."""
    with ThreadPoolExecutor(cores()) as pool:
        for some in _portions(paths, per_class):
            found = _looked(net, some, pool, votes, per_class)
            errors = [each for pairs in found.values() for _, each in pairs if isinstance(each, str)]
            good = {name: [pair for pair in pairs if not isinstance(pair[1], str)] for name, pairs in found.items()}
            pixels = {name: torch.cat([each for _, each in pairs]) for name, pairs in good.items() if pairs}
            first = tuple(str(pairs[0][0]) for pairs in good.values() if pairs)
            classes = net.averaged(pixels, first) if pixels else None
            left_out = [name for name, pairs in good.items() if not pairs]
            yield classes, sum(map(len, found.values())), errors, left_out


def _looked(
    net: "OneShot", some: Mapping[str, Sequence[Path]], pool: ThreadPoolExecutor, votes: Counter[str],
    per_class: int | None,
) -> dict[str, list[tuple[Path, torch.Tensor | str]]]:  # fmt: skip
    """The images of each class as `_read` returns them: all, or the first ones up to the `per_class`-th that differs,
    including copies and those that cannot be read."""
    found: dict[str, list[tuple[Path, torch.Tensor | str]]] = {name: [] for name in some}
    differ: dict[str, set[bytes]] = {name: set() for name in some}
    left = {name: iter(inside) for name, inside in some.items()}

    def wanted(name: str) -> Iterator[Path]:
        return itertools.islice(left[name], None if per_class is None else per_class - len(differ[name]))

    while paths := [(name, path) for name in some for path in wanted(name)]:
        with preprocess.unwarned():
            read = list(pool.map(lambda each: _read(net, each[1], votes), paths))
        for (name, path), each in zip(paths, read, strict=True):
            found[name].append((path, each))
            if per_class is not None and not isinstance(each, str):
                differ[name].add(mark(each))
    return found


def different(images: torch.Tensor, most: int) -> torch.Tensor:
    """The different ones among images (k, S, S), in their order, the first `most` at most."""
    return torch.cat([*{mark(each): each for each in images.split(1)}.values()][:most])


def images_of(inside: Sequence[Path], per_class: int | None) -> int:
    """How many images of a class are read if none is a copy or unreadable."""
    return len(inside) if per_class is None else min(len(inside), per_class)


def _portions(paths: Mapping[str, Sequence[Path]], per_class: int | None) -> Iterator[dict[str, Sequence[Path]]]:
    """Portions of whole classes, each of as few as make a batch of images."""
    some, images = {}, 0
    for name, inside in paths.items():
        some[name], images = inside, images + images_of(inside, per_class)
        if images >= BATCH:
            yield some
            some, images = {}, 0
    if some:
        yield some


def classes_in(folder: Path) -> dict[str, list[Path]]:
    """The images of each class in a support folder, by name. Raises UserError as `read_support` does."""
    entries = _inside(folder, "--support")
    found: dict[str, list[Path]] = {}
    for entry in entries:
        if not entry.is_dir() and not _is_image(entry):
            continue
        name = entry.name if entry.is_dir() else entry.stem
        if name in found:
            raise UserError(f"{folder} holds two classes named '{name}': rename one, or put its images into one folder")
        found[name] = [each for each in _inside(entry) if _is_image(each)] if entry.is_dir() else [entry]
        if not found[name]:
            if any(map(_is_image, itertools.chain(*(_inside(each) for each in _inside(entry) if each.is_dir())))):
                raise UserError(f"{entry} holds folders of images: name it, or another group, as --support")
            raise UserError(f"{entry} is a class without an image; put one into it, or remove it")
    if not found:
        raise UserError(f"{folder} holds no class: neither an image nor a folder of images ({_suffixes()})")
    return found


def find(names: Sequence[str]) -> list[Path]:
    """The named images, and those in the named folders, at any depth and sorted by name; each once.

    Raises UserError for a name that does not exist, and if there is no image."""
    if not names:
        raise UserError("no image is named; name images, or folders of images")
    found: dict[Path, None] = {}
    for name in names:
        path = at_home(name)
        if path.is_dir():
            inside = sorted(
                each for each in path.rglob("*") if _is_image(each) and _shown(each, path) and each.is_file()
            )
            if not inside:
                raise UserError(f"{path} holds no image ({_suffixes()})")
            found |= dict.fromkeys(inside)
        elif path.exists():
            found[path] = None
        else:
            raise UserError(f"{path}: no such file; {_near(path)}")
    return list(found)


def _near(path: Path) -> str:
    """A hint that names the image or folder beside `path` with the most similar name, if one is similar."""
    try:
        inside = list(path.parent.iterdir())
        few = inside if len(inside) <= 1_000 else []  # comparing with more takes long
        names = sorted(each.name for each in few if not hidden(each.name) and (_is_image(each) or each.is_dir()))
    except OSError:
        names = []
    return meant(path.name, names) or "name an image, or a folder of images"


def _inside(folder: Path, what: str = "") -> list[Path]:
    """The entries of a folder, by name, without those that a data set ignores. Raises UserError."""
    try:
        return sorted(entry for entry in folder.iterdir() if not hidden(entry.name))
    except OSError as error:
        raise UserError(f"{what} {folder}: {error.strerror}; name a folder of classes".strip()) from None


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in preprocess.SUFFIXES and not hidden(path.name)


def _shown(path: Path, below: Path) -> bool:
    """Whether neither `path` nor a folder between it and `below` is one that a data set ignores."""
    return not any(map(hidden, path.relative_to(below).parts))


def _suffixes() -> str:
    return ", ".join(preprocess.SUFFIXES)


def embedded(
    net: "OneShot", paths: Sequence[Path], *, votes: Counter[str] | None = None
) -> Iterator[tuple[list[tuple[Path, torch.Tensor | str]], torch.Tensor]]:
    """Read and embed images a batch at a time, in the order of the paths.

    A batch is each path with what the network sees of its image, uint8 (1, S, S), or why it could not be read; and the
    embeddings (B, D) of those that could. `votes` as in `preprocess.fit`."""
    with ThreadPoolExecutor(cores()) as pool:
        for at in range(0, len(paths), BATCH):
            part = paths[at : at + BATCH]
            with preprocess.unwarned():
                read = list(zip(part, pool.map(lambda path: _read(net, path, votes), part), strict=True))
            pixels = [each for _, each in read if not isinstance(each, str)]
            none = torch.empty(0, net.net.dimension, device=net.device)
            yield read, net.embed_pixels(torch.cat(pixels)) if pixels else none


def _read(net: "OneShot", path: Path, votes: Counter[str] | None) -> torch.Tensor | str:
    try:
        return preprocess.read(path, net.net.size, net.cleaning, votes=votes)
    except UserError as error:
        return str(error)


def answer(
    net: "OneShot", classes: Classes, paths: Sequence[Path], *, false_accept: float, top: int | None = None,
    votes: Counter[str] | None = None,
) -> Iterator[list[Answer]]:  # fmt: skip
    """The answers, a batch at a time, in the order of the paths, each with the `top` classes; `votes` as in
    `preprocess.fit`. An image that cannot be read gives an answer with its error and does not stop the others. Memory
    use does not grow with the number of images."""
    for read, z_QD in embedded(net, paths, votes=votes):
        ranked = iter(rank(net.net, net.calibration, classes, z_QD, false_accept=false_accept, top=top))
        yield [
            Answer(path, error=each) if isinstance(each, str) else Answer(path, next(ranked), each[0])
            for path, each in read
        ]
