"""Images that people ask about and those they show as examples: found in folders, read in batches, ranked.

A support folder holds a class as an image (`DIR/class.png`), as a folder of images (`DIR/class/image`), or both kinds.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from oneshot.answers import preprocess
from oneshot.answers.artifact import OneShot
from oneshot.answers.ranking import Classes, Ranking, rank
from oneshot.base.environment import cores
from oneshot.base.errors import UserError, nearest
from oneshot.base.storage import at_home
from oneshot.data.tree import hidden

BATCH = 256  # queries held at once, each as the small image that the network sees


@dataclass(frozen=True)
class Support:
    """The classes as a network chooses from them, and the first image of each as it sees it: uint8 (S, S), ink 255."""

    classes: Classes
    shown: dict[str, torch.Tensor]


@dataclass(frozen=True)
class Answer:
    """What came of one query: a ranking and the image (S, S) as the network saw it, or why it could not be read."""

    path: Path
    ranking: Ranking | None = None
    pixels: torch.Tensor | None = None
    error: str = ""


def read_support(net: OneShot, folder: Path, *, votes: Counter[str] | None = None) -> Support:
    """The classes in a folder, by name; `votes` as in `preprocess.fit`. Raises UserError where there is none, one has
    no image, two have one name, or an image cannot be read."""
    paths = _classes_in(folder)
    with ThreadPoolExecutor(cores()) as pool:
        read = iter(pool.map(partial(net.read, votes=votes), (path for each in paths.values() for path in each)))
        pixels = {name: torch.cat([next(read) for _ in each]) for name, each in paths.items()}
    shown = {name: each[0] for name, each in pixels.items()}
    return Support(net.classes(pixels), shown)


def _classes_in(folder: Path) -> dict[str, list[Path]]:
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
            raise UserError(f"{entry} is a class without an image; put one into it, or remove it")
    if not found:
        raise UserError(f"{folder} holds no class: neither an image nor a folder of images ({_suffixes()})")
    return found


def find(names: Sequence[str]) -> list[Path]:
    """The images that are named, and those in the folders that are, at any depth, by name; each once.

    Raises UserError for a name that is neither, and where there is no image."""
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
    try:
        names = [each.name for each in path.parent.iterdir()]
    except OSError:
        names = []
    return nearest(path.name, names) if 0 < len(names) <= 1_000 else "name an image, or a folder of images"


def _inside(folder: Path, what: str = "") -> list[Path]:
    """What lies in a folder, by name; what a data set passes over is left out. Raises UserError."""
    try:
        return sorted(entry for entry in folder.iterdir() if not hidden(entry.name))
    except OSError as error:
        raise UserError(f"{what} {folder}: {error.strerror}; name a folder of classes".strip()) from None


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in preprocess.SUFFIXES and not hidden(path.name)


def _shown(path: Path, below: Path) -> bool:
    """Whether neither it nor a folder that it lies in is passed over, as where a data set is looked through."""
    return not any(map(hidden, path.relative_to(below).parts))


def _suffixes() -> str:
    return ", ".join(preprocess.SUFFIXES)


def answer(
    net: OneShot, support: Support, paths: Sequence[Path], *, false_accept: float, votes: Counter[str] | None = None
) -> Iterator[list[Answer]]:
    """The answers, a batch at a time, in the order of the paths; `votes` as in `preprocess.fit`. One that cannot be
    read has its error and stops no other. The memory does not grow with their number."""
    with ThreadPoolExecutor(cores()) as pool:
        for at in range(0, len(paths), BATCH):
            part = paths[at : at + BATCH]
            read = list(pool.map(lambda path: _read(net, path, votes), part))
            pixels = [each for each in read if isinstance(each, torch.Tensor)]
            ranked = iter(_rank(net, support, pixels, false_accept))
            yield [
                Answer(path, next(ranked), each[0]) if isinstance(each, torch.Tensor) else Answer(path, error=each)
                for path, each in zip(part, read, strict=True)
            ]


def _read(net: OneShot, path: Path, votes: Counter[str] | None) -> torch.Tensor | str:
    try:
        return net.read(path, votes=votes)
    except UserError as error:
        return str(error)


def _rank(net: OneShot, support: Support, pixels: list[torch.Tensor], false_accept: float) -> list[Ranking]:
    if not pixels:
        return []
    z_QD = net.embed_pixels(torch.cat(pixels))
    return rank(net.net, net.calibration, support.classes, z_QD, false_accept=false_accept)
