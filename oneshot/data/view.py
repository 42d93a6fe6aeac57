"""Show what a data set holds: a table of its alphabets and their part in a split, and drawings of it."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from oneshot.base.errors import UserError, nearest
from oneshot.base.storage import Folder
from oneshot.data import clean, sheet, splits, store
from oneshot.data.cache import near
from oneshot.data.drawings import Description, Drawings
from oneshot.data.png import encode
from oneshot.data.sets import Prepared
from oneshot.screen.console import Column, count, fitted, print_line

_ROWS, _COLUMNS = 4, 20  # of the contact sheet: most rows in a terminal, most drawings in a row of a file
_NAME = 12  # least width of a name, in columns of a terminal
_MOST = 100  # most rows of a table or a sheet of classes; a set of own images may have thousands


def show(
    console: Console,
    prepared: Prepared,
    *,
    split: str = "lake",
    alphabet: str | None = None,
    png: Path | None = None,
) -> None:
    """Print what a data set holds and which part its alphabets have in a split, then drawings of it.

    Each alphabet has a row of drawings. If `alphabet` is given, each of its characters has a row, or only one does if
    it is ALPHABET/CHARACTER. The terminal shows a few rows, the file `png` all. For own images without groups, each
    class has a row, or 100 from all over them, and `alphabet` may be a class. Raises UserError for an unknown split or
    alphabet and for a file that cannot be written.
    """
    folder = near(prepared.folder)
    about = store.describe(folder)
    view = _classes_view if about.own and about.own.flat else _alphabets_view
    view(console, prepared, folder, about, split=splits.fitting(split, about), wanted=alphabet, png=png)


def _classes_view(
    console: Console, prepared: Prepared, folder: Folder, about: Description, *, split: str, wanted: str | None,
    png: Path | None,
) -> None:  # fmt: skip
    drawings, titles = _classes(folder, about, wanted)
    _tell(console, prepared, about)
    shown = sheet.spread(len(titles), _MOST)
    _table_of_classes(console, drawings, titles, shown, split, splits.split(split, about))
    if png:
        _picture(console, drawings, sheet.of_characters(drawings, _COLUMNS, shown), png)
    else:
        some = sheet.spread(len(titles), _ROWS)
        _print_rows(console, drawings, sheet.of_characters(drawings, _COLUMNS, some), [titles[at] for at in some])
    if len(shown) < len(titles):
        print_line(console, f"{count(len(shown))} of {count(len(titles))} classes; --alphabet CLASS shows others")


def _alphabets_view(
    console: Console, prepared: Prepared, folder: Folder, about: Description, *, split: str, wanted: str | None,
    png: Path | None,
) -> None:  # fmt: skip
    roles, names = _roles(about, split), named(about, wanted)
    _tell(console, prepared, about)
    console.print(fitted(_columns(about, split, roles), names, console.width))
    if png:
        drawings = _of(store.load(folder, alphabets=names), wanted)
        rows = sheet.of_characters(drawings, _COLUMNS) if wanted else sheet.of_alphabets(drawings, _COLUMNS)
        _picture(console, drawings, rows, png)
    else:
        _show_in_terminal(console, folder, about, wanted)


def _picture(console: Console, drawings: Drawings, rows: list[list[int]], png: Path) -> None:
    """Write the drawings at these positions as a PNG file. Raises UserError if it cannot be written."""
    try:
        png.parent.mkdir(parents=True, exist_ok=True)
        png.write_bytes(encode(255 - clean.shown(sheet.picture(drawings, rows), drawings.polarity)))
    except OSError as error:
        raise UserError(f"cannot write {png} ({error.strerror}); give --png another path") from error
    print_line(console, f"the picture is in {png}")


def named(about: Description, name: str | None) -> Sequence[str]:
    """The alphabets to show: all, or the one of this name or of this ALPHABET/CHARACTER."""
    alphabet, of, character = (name or "").partition("/")
    if name and not (alphabet in about.alphabets and (not of or character in about.characters[alphabet])):
        group, inside = ("group", "class") if about.own else ("alphabet", "character")
        hint = nearest(name, about.classes if character else about.alphabets)
        raise UserError(f"{about.name} has no {inside if character else group} '{name}': {hint}")
    return [alphabet] if name else about.alphabets


def _of(drawings: Drawings, name: str | None) -> Drawings:
    """The drawings of one character if `name` is ALPHABET/CHARACTER, else all."""
    return drawings.where(drawings.character == drawings.characters.index(name)) if name and "/" in name else drawings


def _tell(console: Console, prepared: Prepared, about: Description) -> None:
    own = about.own
    images, classes, groups = ("images", "classes", "groups") if own else ("drawings", "characters", "alphabets")
    characters = count(sum(len(names) for names in about.characters.values()))
    within = "" if own and own.flat else f" in {len(about.alphabets)} {groups}"
    print_line(
        console,
        f"{about.name}: {count(about.rows)} {images} of {characters} {classes}{within}, {about.width} x {about.height} "
        f"pixels of {about.bits} bit",
    )
    print_line(console, f"source: {about.source}; in {prepared.folder}")
    if own:
        parts = ", ".join(f"{part} {len(names)}" for part, names in own.split.items())
        print_line(console, f"polarity {own.polarity} ({clean.MEANING[own.polarity]})")
        print_line(console, f"split by {own.by}: classes for {parts}")


def _columns(about: Description, split: str, roles: dict[str, str]) -> list[Column]:
    group, classes, images = ("group", "classes", "images") if about.own else ("alphabet", "characters", "drawings")
    columns = [
        Column(group, str, justify="left", cut=_NAME),
        Column(classes, lambda name: count(len(about.characters[name]))),
        Column(images, lambda name: count(about.drawings[name]), drop=1),
        Column("drawers", lambda name: count(len(about.drawers[name])), drop=2),
        Column("origin", lambda name: about.origin[name], drop=3, justify="left"),
        Column(f"in the split {split}", lambda name: roles[name], justify="left"),
    ]
    return columns[:3] + columns[5:] if about.own else columns


def _roles(about: Description, name: str) -> dict[str, str]:
    """What each alphabet is for in a split: train, validation, test, some of them, or nothing."""
    split = splits.split(name, about)
    return {one: _role(split, lambda part, one=one: one in part.alphabets) for one in about.alphabets}


def _role(split: splits.Split, holds: Callable[[splits.Part], bool]) -> str:
    """The names of the parts of a split for which `holds` is true."""
    parts = {"train": split.train, "validation": split.validation, "test": split.test}
    return " + ".join(role for role, part in parts.items() if holds(part)) or "not used"


def _classes(folder: Folder, about: Description, wanted: str | None) -> tuple[Drawings, list[str]]:
    """The images of a set of own images without groups, or of its class `wanted`, and the classes' names."""
    drawings = store.load(folder)
    names = [name.partition("/")[2] for name in drawings.characters]
    if wanted and wanted != about.alphabets[0]:
        if wanted not in names:
            raise UserError(f"{about.name} has no class '{wanted}': {nearest(wanted, names)}")
        return drawings.where(drawings.character == names.index(wanted)), [wanted]
    return drawings, names


def _table_of_classes(
    console: Console, drawings: Drawings, titles: list[str], shown: list[int], name: str, split: splits.Split
) -> None:  # fmt: skip
    images, names = np.bincount(drawings.character), drawings.characters
    columns = [
        Column("class", lambda at: titles[at], justify="left", cut=_NAME),
        Column("images", lambda at: count(images[at])),
        Column(
            f"in the split {name}", lambda at: _role(split, lambda part: names[at] in part.characters), justify="left"
        ),
    ]
    console.print(fitted(columns, shown, console.width))


def _show_in_terminal(console: Console, folder: Folder, about: Description, alphabet: str | None) -> None:
    fit = max(1, console.width // sheet.CELL)
    step = max(1, len(about.alphabets) // _ROWS)
    some = named(about, alphabet) if alphabet else about.alphabets[step // 2 :: step][:_ROWS]
    drawings = _of(store.load(folder, alphabets=some), alphabet)
    rows = sheet.of_characters(drawings, fit)[:_ROWS] if alphabet else sheet.of_alphabets(drawings, fit)
    _print_rows(console, drawings, rows, drawings.characters if alphabet else drawings.alphabets)


def _print_rows(
    console: Console, drawings: Drawings, rows: list[list[int]], titles: tuple[str, ...] | list[str]
) -> None:
    fit = max(1, console.width // sheet.CELL)
    ascii_only = not console.encoding.lower().startswith("utf")
    greys = console.color_system in ("256", "truecolor")
    for title, row in zip(titles, rows, strict=False):
        print_line(console, title)
        console.print(sheet.in_terminal(drawings, row[:fit], ascii_only=ascii_only, greys=greys))
