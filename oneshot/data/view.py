"""What a data set holds, shown: a table of its alphabets and their part in a split, and drawings of it."""

from pathlib import Path

from rich.console import Console

from oneshot.data import sheet, splits, store
from oneshot.data.cache import near
from oneshot.data.png import encode
from oneshot.data.sets import Prepared
from oneshot.data.store import Description
from oneshot.errors import UserError, nearest
from oneshot.screen.console import Column, count, fitted, print_line
from oneshot.storage import Folder

_ROWS, _COLUMNS = 4, 20  # of the contact sheet: drawings below each other in a terminal, side by side in a file


def show(
    console: Console,
    prepared: Prepared,
    *,
    split: str = "lake",
    alphabet: str | None = None,
    png: Path | None = None,
) -> None:
    """Print what a data set holds and which part its alphabets have in a split, then drawings of it.

    The drawings are one row for each alphabet, or of `alphabet` one for each character: in the terminal a few, in the
    file `png` all. Raises UserError for an unknown split or alphabet and for a file that cannot be written.
    """
    folder = near(prepared.folder)
    about = store.describe(folder)
    roles = _roles(about, split)
    if alphabet and alphabet not in about.alphabets:
        raise UserError(f"{about.name} has no alphabet '{alphabet}': {nearest(alphabet, about.alphabets)}")
    characters = sum(len(names) for names in about.characters.values())
    print_line(
        console,
        f"{about.name}: {count(about.rows)} drawings of {count(characters)} characters in {len(about.alphabets)} "
        f"alphabets, {about.width} x {about.height} pixels of {about.bits} bit",
    )
    print_line(console, f"source: {about.source}; in {prepared.folder}")
    console.print(fitted(_columns(about, split, roles), about.alphabets if not alphabet else [alphabet], console.width))
    if png is None:
        _show_in_terminal(console, folder, about, alphabet)
        return
    drawings = store.load(folder, alphabets=[alphabet] if alphabet else None)
    rows = sheet.of_characters(drawings, _COLUMNS) if alphabet else sheet.of_alphabets(drawings, _COLUMNS)
    try:
        png.parent.mkdir(parents=True, exist_ok=True)
        png.write_bytes(encode(sheet.picture(drawings, rows)))
    except OSError as error:
        raise UserError(f"cannot write {png} ({error.strerror}); give --png another path") from error
    print_line(console, f"the picture is in {png}")


def _columns(about: Description, split: str, roles: dict[str, str]) -> list[Column]:
    return [
        Column("alphabet", str, justify="left"),
        Column("characters", lambda name: count(len(about.characters[name]))),
        Column("drawings", lambda name: count(about.drawings[name]), drop=1),
        Column("drawers", lambda name: count(len(about.drawers[name])), drop=2),
        Column("origin", lambda name: about.origin[name], drop=3, justify="left"),
        Column(f"in the split {split}", lambda name: roles[name], justify="left"),
    ]


def _roles(about: Description, name: str) -> dict[str, str]:
    """What each alphabet is for in a split: train, validation, test, two of them, or nothing."""
    split = splits.split(name, about)
    parts = {"train": split.train, "validation": split.validation, "test": split.test}
    return {
        alphabet: " + ".join(role for role, part in parts.items() if alphabet in part.alphabets) or "not used"
        for alphabet in about.alphabets
    }


def _show_in_terminal(console: Console, folder: Folder, about: Description, alphabet: str | None) -> None:
    fit = max(1, console.width // sheet.CELL)
    step = max(1, len(about.alphabets) // _ROWS)
    some = [alphabet] if alphabet else list(about.alphabets[step // 2 :: step][:_ROWS])
    drawings = store.load(folder, alphabets=some)
    rows = sheet.of_characters(drawings, fit, _ROWS) if alphabet else sheet.of_alphabets(drawings, fit)
    titles = drawings.characters if alphabet else drawings.alphabets
    ascii_only = not console.encoding.lower().startswith("utf")
    for title, row in zip(titles, rows, strict=False):
        print_line(console, title)
        console.print(sheet.in_terminal(drawings, row, ascii_only=ascii_only))
