"""Drawings of one alphabet as ordinary image files, for whoever has a network and no images to ask it about."""

import os
import shlex
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from rich.console import Console

from oneshot.base.errors import UserError
from oneshot.base.storage import Folder, at_home
from oneshot.data import clean, sheet, splits, store, view
from oneshot.data.cache import near
from oneshot.data.drawings import Description, Drawings
from oneshot.data.png import encode
from oneshot.data.sets import Prepared
from oneshot.data.tree import hidden
from oneshot.screen.console import count, one_line, print_line

_KNOWN = 5  # most drawings of a character that are written for --labelled
_MOST = 100  # most characters; a set of own images may have thousands of classes


def write(
    console: Console, prepared: Prepared, target: str, *, split: str = "lake", alphabet: str | None = None
) -> None:  # fmt: skip
    """Write drawings of one alphabet as PNG files into the folder `target`, and print what to try on them.

    `classes/CHARACTER.png` is the first drawer's drawing of each character, for --support. `known/CHARACTER/DRAWER.png`
    are up to five by others, for --labelled. `scan.png` is the last drawer's drawing of one of the characters.
    Without `alphabet` it is the first of the split's test part that has two characters there, and only these are
    written. Of more than 100 characters, 100 from all over the alphabet are. Ink is dark, but own images keep their
    polarity. Raises UserError for an unknown split or alphabet, an alphabet that is too small, and a folder that is not
    empty or cannot be written; then `target` is as it was.
    """
    folder = _free(target)
    drawings = _drawings(near(prepared.folder), split, alphabet)
    every = _by_drawer(drawings)
    shown = [every[at] for at in sheet.spread(len(every), _MOST)]
    repeated = [drawn for drawn in shown if len(drawn) > 1]
    if len(shown) < 2 or not repeated:
        raise UserError(
            f"{drawings.alphabets[0]} is too small for an example, which takes two characters, one of them drawn twice:"
            " name another with --alphabet"
        )
    scan = repeated[len(repeated) // 2][-1]
    files = _files(drawings, shown) | {"scan.png": scan}
    _write(folder, {name: _png(drawings, at) for name, at in files.items()})
    _tell(console, target, drawings, len(shown), len(every), len(files), scan)


def _free(target: str) -> Path:
    """The folder to write, which does not exist or is empty; else raises UserError."""
    if "://" in target:
        raise UserError(f"--images {target}: the images are files on this machine: give a path")
    folder = at_home(target).absolute()
    try:
        if os.path.lexists(folder) and (not folder.is_dir() or any(folder.iterdir())):
            what = "is not empty" if folder.is_dir() else "is not a folder"
            raise UserError(f"--images {target} {what}: name one that is empty or does not exist yet")
    except OSError as error:
        raise _unwritable(folder, error) from error
    return folder


def _drawings(folder: Folder, split: str, alphabet: str | None) -> Drawings:
    """The drawings of the alphabet of this name, or of the test characters of the first alphabet with two of them."""
    about = store.describe(folder)
    test = splits.split(splits.fitting(split, about), about).test
    if alphabet:
        return store.load(folder, alphabets=[_whole(about, alphabet)])
    name = next((one for one in test.alphabets if len(_tested(about, test, one)) > 1), None)
    if name is None:
        large = next((one for one in about.alphabets if len(about.characters[one]) > 1), None)
        hint = (
            f"--alphabet {shlex.quote(large)} takes classes of every part" if large else "put more classes into a group"
        )
        raise UserError(f"an example takes two classes, and no group of {about.name} has two for the test: {hint}")
    return splits.load_part(folder, replace(test, alphabets=(name,)))


def _whole(about: Description, name: str) -> str:
    """The alphabet of this name. Raises UserError if there is none, also for a single character."""
    if about.own and about.own.flat and name != about.alphabets[0]:
        raise UserError(f"{about.name} has no groups: with --images leave --alphabet out")
    (alphabet,) = view.named(about, name)
    if alphabet != name:
        raise UserError(f"'{name}' is a single character, and --images takes several: write --alphabet '{alphabet}'")
    return alphabet


def _tested(about: Description, test: splits.Part, alphabet: str) -> list[str]:
    every = (f"{alphabet}/{name}" for name in about.characters[alphabet])
    return [name for name in every if test.characters is None or name in test.characters]


def _by_drawer(drawings: Drawings) -> list[np.ndarray]:
    """For each character the positions of its drawings, in order of drawer."""
    order = np.lexsort((drawings.drawer, drawings.character))
    return np.split(order, np.flatnonzero(np.diff(drawings.character[order])) + 1)


def _files(drawings: Drawings, shown: list[np.ndarray]) -> dict[str, int]:
    """The paths of the files to write, except the scan, each with the position of its drawing."""
    files = {}
    for drawn in shown:
        name = _character(drawings, drawn[0])
        files[f"classes/{name}.png"] = drawn[0]
        files |= {f"known/{name}/{drawings.drawer[at]}.png": at for at in drawn[1 : 1 + _KNOWN]}
    return files


def _character(drawings: Drawings, at: int) -> str:
    """The name of the character that a drawing shows. Raises UserError if it cannot name a file."""
    name = drawings.characters[drawings.character[at]].partition("/")[2]
    if hidden(name) or "/" in name or "\0" in name:
        raise UserError(f"the character '{one_line(name)}' has a name that no file can have: name another --alphabet")
    return name


def _png(drawings: Drawings, at: int) -> bytes:
    """A drawing as the image it was made from: with one bit a pixel, if it is kept so."""
    ink = drawings.pixels([at])[0]
    return encode(ink > 0 if drawings.bits == 1 else 255 - clean.shown(ink, drawings.polarity))


def _write(folder: Path, files: dict[str, bytes]) -> None:
    """Write files, by relative path, into a new or empty folder: all of them or none."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # An empty folder stays, with what is moved into it: it may be the shell's own, or one of another file system.
        there = folder.is_dir()
        with TemporaryDirectory(prefix=f".partial-{os.getpid()}-", dir=folder if there else folder.parent) as partial:
            whole = Path(partial) / "whole"
            for name, data in files.items():
                (whole / name).parent.mkdir(parents=True, exist_ok=True)
                (whole / name).write_bytes(data)
            for made in sorted(whole.iterdir()) if there else [whole]:
                made.rename(folder / made.name if there else folder)
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> UserError:
    return UserError(f"cannot write {folder} ({error.strerror}); give --images another folder")


def _tell(
    console: Console, target: str, drawings: Drawings, shown: int, every: int, files: int, scan: int
) -> None:  # fmt: skip
    kind = "classes" if drawings.own else "characters"
    some = count(shown) if shown == every else f"{count(shown)} of {count(every)}"
    classes, known, query = (shlex.quote(os.path.join(target, name)) for name in ("classes", "known", "scan.png"))
    ask = f"python -m oneshot.classify RUN --support {classes}"
    print_line(
        console,
        f"{target} holds {some} {kind} of {drawings.alphabets[0]}: an image of each in classes,"
        f" {count(files - shown - 1)} others in known; scan.png shows {_character(drawings, scan)}."
        f" Try: {ask} {query}; and: {ask} --labelled {known}",
    )
