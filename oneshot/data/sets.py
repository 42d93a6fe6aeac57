"""Data sets made ready: Omniglot where it can be had, generated glyphs where not; and what they hold, shown."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import platformdirs
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from oneshot.data import cache, sheet, splits, store
from oneshot.data.cache import near
from oneshot.data.parquet import DIGESTS
from oneshot.data.png import encode
from oneshot.data.store import Description
from oneshot.errors import UserError, nearest
from oneshot.reach import reach
from oneshot.screen.console import Column, count, fitted, print_line, print_warning
from oneshot.storage import Folder

DATASETS = ("auto", "omniglot", "glyphs")
_GLYPHS = re.compile(r"glyphs(?:-(\d{1,4}))?(?:-seed(\d{1,9}))?")
_ROWS, _COLUMNS = 4, 20  # of the contact sheet: drawings below each other in a terminal, side by side in a file


@dataclass(frozen=True)
class Prepared:
    """A data set that can be read."""

    folder: Folder  # where it lies; who reads it, reads `cache.near` of it
    dataset: str  # what `prepare` finds it by again: never "auto"
    name: str  # as people see it: "omniglot", "glyphs (generated)"
    why: str | None = None  # why it is not the Omniglot that "auto" would rather have


def data_root(option: str | os.PathLike[str] | None = None) -> Folder:
    """Where data sets are kept: the option, else $ONESHOT_DATA, else the user's cache folder.

    Raises UserError where that is a URI whose store cannot be used."""
    return reach(option or os.environ.get("ONESHOT_DATA") or platformdirs.user_cache_path("oneshot"))


def prepare(
    dataset: str = "auto",
    *,
    data_root: Folder | str | os.PathLike[str],
    source: str | None = None,
    console: Console | None = None,
) -> Prepared:
    """Make a data set ready, which takes no time where it is ready already.

    `dataset`: "omniglot"; "glyphs" (50 generated alphabets, seed 0), "glyphs-80" or "glyphs-80-seed7" (another number,
    another seed); or "auto", which is Omniglot where it is there or can be had, else glyphs, with the reason in `why`.
    `source`: a folder or base URL of Omniglot's archives, else $ONESHOT_SOURCE, else their official home. Progress is
    drawn on `console`, if there is one. Raises UserError where the data set cannot be had, is damaged, or cannot be
    written.
    """
    root = Folder.of(data_root)
    if dataset == "auto":
        return _auto(root, source, console)
    if dataset == "omniglot":
        return _omniglot(root, source, console)
    numbers = _GLYPHS.fullmatch(dataset)
    if numbers:
        return _glyphs(root, dataset, numbers[1], numbers[2], console)
    raise UserError(f"there is no data set '{dataset}': {nearest(dataset, DATASETS)}")


def _auto(root: Folder, source: str | None, console: Console | None) -> Prepared:
    # A damaged copy is no missing one: who has Omniglot is told, and does not train on something else.
    if _ready(root / "omniglot"):
        return _omniglot(root, source, console)
    try:
        return _omniglot(root, source, console)
    except UserError as error:
        why = f"Omniglot cannot be had: {error}"
    if console:
        print_warning(console, f"{why}. Generated glyphs take its place")
    made = _glyphs(root, "glyphs", None, None, console)
    return Prepared(made.folder, made.dataset, made.name, why)


def _omniglot(root: Folder, source: str | None, console: Console | None) -> Prepared:
    folder = root / "omniglot"
    if not _ready(folder):
        from oneshot.data import omniglot  # late: who has the data set already does not wait for an HTTP library

        source = source or os.environ.get("ONESHOT_SOURCE") or omniglot.HOME
        downloads = (root if root.is_local else cache.root()) / "archives"
        with _progress(console) as progress:
            omniglot.build(folder, source=source, downloads=Path(downloads.path), progress=progress)
    return Prepared(folder, "omniglot", store.describe(near(folder)).name)


def _glyphs(root: Folder, dataset: str, alphabets: str | None, seed: str | None, console: Console | None) -> Prepared:
    folder = root / dataset
    if not _ready(folder):
        from oneshot.data import glyphs

        with _progress(console) as progress:
            glyphs.build(
                folder,
                alphabets=int(alphabets or glyphs.ALPHABETS),
                seed=int(seed or 0),
                progress=lambda done, total: progress("drawing alphabets", done, total),
            )
    return Prepared(folder, dataset, store.describe(near(folder)).name)


def _ready(folder: Folder) -> bool:
    """Whether its files are there. Raises UserError for drawings or trials that cannot be read."""
    needed = (store.DRAWINGS, store.TRIALS) if folder.is_local else (store.DRAWINGS, store.TRIALS, DIGESTS)
    if not all(folder.has(name) for name in needed):
        return False
    store.load_trials(near(folder))
    return True


@contextmanager
def _progress(console: Console | None) -> Iterator[Callable[[str, int, int | None], None]]:
    """Something to call with what is being done, how much of it is done, how much there is: bars, or lines in a log."""
    if console is None:
        yield lambda what, done, total: None
    elif not console.is_interactive:
        seen: set[str] = set()

        def line(what: str, done: int, total: int | None) -> None:
            if what not in seen:
                seen.add(what)
                print_line(console, what)

        yield line
    else:
        columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %")
        with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bars:
            tasks = {}

            def bar(what: str, done: int, total: int | None) -> None:
                if what not in tasks:
                    tasks[what] = bars.add_task(what, total=total)
                bars.update(tasks[what], completed=done, total=total)

            yield bar


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
