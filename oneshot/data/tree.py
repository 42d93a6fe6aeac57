"""Look through an untrusted folder of images by class: `class/image` or `group/class/image`."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from oneshot.base.errors import UserError, some
from oneshot.base.storage import at_home
from oneshot.data.clean import ENDINGS

NAMED = 5  # most items of a kind that a message names; the rest are only counted
_SHAPES = {2: "class/image", 3: "group/class/image"}
# Names that other programs give to the folders around the classes, each with a part of every class's images.
_PARTS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing", "eval", "evaluation"}


@dataclass(frozen=True)
class Tree:
    """The images below a folder. A class is (group, class); its group is "" if there are no groups."""

    source: Path
    flat: bool  # class/image: there are no groups
    classes: dict[tuple[str, str], tuple[str, ...]]  # paths below `source`, sorted
    files: dict[str, list[int]]  # each image's path: its size in bytes and its modification time in ns
    notes: tuple[str, ...]  # what else lies there, a sentence each


def scan(source: str) -> Tree:
    """Find the images below a folder. Links are not followed, and hidden files and folders are skipped.

    Raises UserError if it is no folder, cannot be read, or holds no images in classes, or if these lie too deep, at two
    depths, or in parts (train/class/image) in place of groups.
    """
    root = absolute(source)
    if not root.is_dir():
        raise UserError(f"the source {root} is not a folder; --source takes the folder of the images")
    images, links, others, stray = [], 0, Counter(), 0
    for path, entry in _walk(root):
        if entry.is_symlink():
            links += 1
        elif not entry.is_file(follow_symlinks=False) or path.suffix.lower() not in ENDINGS:
            others[path.suffix.lower() or "no ending"] += 1
        elif len(path.parts) == 1:
            stray += 1
        else:
            images.append((path, entry.stat(follow_symlinks=False)))
    notes = []
    if links:
        notes.append(f"{links} link(s) are not followed: put the images themselves there")
    if others:
        kinds = ", ".join(f"{ending} {count}" for ending, count in others.most_common(NAMED))
        notes.append(f"{others.total()} other file(s) are ignored ({kinds})")
    if not images:
        held = f"{stray} image(s) but no folders of images" if stray else "no image"
        raise UserError(
            f"{'; '.join([f'{root} holds {held}', *notes])}; put the images of each class into a folder that is named"
            f" after it ({', '.join(sorted(ENDINGS))})"
        )
    images.sort(key=lambda found: found[0])
    if stray:
        notes.append(f"{stray} image(s) are in no class's folder and are left out")
    depth = _depth([path for path, _ in images])
    files = {text(str(path)): [about.st_size, about.st_mtime_ns] for path, about in images}
    classes = _classes([path for path, _ in images])
    if depth == 3:
        _refuse_parts(root, classes)
    return Tree(root, depth == 2, classes, files, tuple(notes))


def absolute(source: str) -> Path:
    """The absolute path of a folder. A `..` after a link leads to the parent of the link's target."""
    path = at_home(source)
    return path.resolve() if ".." in path.parts else path.absolute()


def _walk(root: Path) -> Iterator[tuple[Path, os.DirEntry[str]]]:
    """Yield all entries below a folder but folders, each with its path below `root`, in the order of the names."""
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            raise UserError(f"{folder} cannot be read ({error.strerror}); make it readable, or remove it") from error
        for entry in entries:
            if hidden(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                waiting.append(folder / entry.name)
            else:
                yield (folder / entry.name).relative_to(root), entry


def hidden(name: str) -> bool:
    """Whether a file or folder of this name is skipped: it is hidden, or a Mac added it to an archive."""
    return name.startswith(".") or name == "__MACOSX"


def _depth(paths: Sequence[Path]) -> int:
    """The depth of all images, 2 or 3. Raises UserError if they lie deeper or at two depths."""
    first = {len(path.parts): path for path in reversed(paths)}
    deep = next((path for depth, path in first.items() if depth > 3), None)
    if deep:
        raise UserError(f"{text(str(deep))} is too deep: images are {' or '.join(_SHAPES.values())}; move it up")
    if len(first) > 1:
        found = " and ".join(f"{text(str(first[depth]))} ({_SHAPES[depth]})" for depth in (2, 3))
        raise UserError(f"the images lie at two depths: {found}; move them so that all are one or the other")
    return next(iter(first))


def _classes(paths: Sequence[Path]) -> dict[tuple[str, str], tuple[str, ...]]:
    found: dict[tuple[str, str], list[str]] = {}
    folders: dict[tuple[str, str], Path] = {}
    for path in paths:
        folder = path.parent
        key = ("" if len(folder.parts) == 1 else name(folder.parts[0]), name(folder.parts[-1]))
        if folders.setdefault(key, folder) != folder:
            raise UserError(
                f"the folders {text(str(folders[key]))!r} and {text(str(folder))!r} have the same name as plain"
                f" text, '{key[1]}'; rename one"
            )
        found.setdefault(key, []).append(str(path))
    return {key: tuple(found[key]) for key in sorted(found)}


def _refuse_parts(root: Path, classes: Iterable[tuple[str, str]]) -> None:
    """Raise UserError if all groups have names of parts of a data set, such as train and test, or if several of those
    that have hold the same class, whatever else lies beside them.

    A class in two of them would count as two classes, which the network would be taught to tell apart."""
    groups: set[str] = set()
    places: dict[str, list[str]] = {}  # of each class that lies in parts
    for group, character in classes:
        groups.add(group)
        if group.casefold() in _PARTS:
            places.setdefault(character, []).append(group)
    parts = sorted({group for found in places.values() for group in found})
    twice = [character for character, found in places.items() if len(found) > 1]
    if len(parts) < len(groups) and not twice:
        return
    told = f"the folder{'s' * (len(parts) > 1)} {', '.join(parts)} in {root} hold{'s' * (len(parts) == 1)} parts"
    told += " of the images, not groups of classes"
    if twice:
        raise UserError(
            f"{told}: {len(twice)} class(es) are in several of them, and each would be taken for several classes"
            f" ({some(twice, NAMED)}); put all images of a class into one folder, class/image: then whole classes are"
            " for training, validation or test, at random or as --split-file says"
        )
    raise UserError(
        f"{told}; take the classes out of them, so that images are class/image, and name the classes of each part in"
        ' a file for --split-file: {"train": [...], "validation": [...], "test": [...]}'
    )


def name(folder: str) -> str:
    """A folder's name as plain text: in Unicode's composed form (NFC), with `_` for unprintable characters."""
    return "".join(c if c.isprintable() else "_" for c in unicodedata.normalize("NFC", folder))


def text(path: str) -> str:
    """A path as valid text: bytes that are not UTF-8 are escaped."""
    return os.fsencode(path).decode(errors="backslashreplace")


def changed(old: Mapping[str, Sequence[int]], new: Mapping[str, Sequence[int]]) -> str:
    """How the files differ from what they were, as `3 new, 1 gone, 2 changed`; empty if they do not."""
    both = old.keys() & new.keys()
    counts = {
        "new": len(new.keys() - old.keys()),
        "gone": len(old.keys() - new.keys()),
        "changed": sum(list(old[path]) != list(new[path]) for path in both),
    }
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count)
