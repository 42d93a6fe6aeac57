"""Make data sets ready: Omniglot, generated glyphs if it cannot be obtained, and the user's own images."""

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs
from rich.console import Console

from oneshot.base.errors import UserError
from oneshot.base.reach import reach
from oneshot.base.storage import Folder, refuse_secrets
from oneshot.data import cache, glyphs, keep, store
from oneshot.data.cache import near
from oneshot.data.parquet import digested
from oneshot.screen.console import one_line, print_line, print_warning
from oneshot.screen.progress import Stages

DATASETS = ("auto", "omniglot", "glyphs", keep.GENERIC)


@dataclass(frozen=True)
class Prepared:
    """A data set that can be read."""

    folder: Folder  # where it lies; read it through `cache.near`
    dataset: str  # the name by which `prepare` finds it again: never "auto"; NAME@DIGEST for own images
    name: str  # as people see it: "omniglot", "glyphs (generated)"
    why: str | None = None  # why "auto" did not choose Omniglot


def data_root(option: str | os.PathLike[str] | None = None) -> Folder:
    """Where data sets are kept: the option, else $ONESHOT_DATA, else the user's cache folder.

    Raises UserError if that is a URI whose store cannot be used."""
    return reach(option or os.environ.get("ONESHOT_DATA") or platformdirs.user_cache_path("oneshot"))


def prepare(
    dataset: str = "auto",
    *,
    data_root: Folder | str | os.PathLike[str],
    source: str | None = None,
    console: Console | None = None,
    name: str | None = None,
    how: Mapping[str, Any] | None = None,
) -> Prepared:
    """Make a data set ready. This takes no time if it is ready already.

    `dataset` is "omniglot", "glyphs" (50 generated alphabets, seed 0), "glyphs-80" or "glyphs-80-seed7" (another
    number, another seed), or "auto": Omniglot if it is there or can be obtained, else glyphs, with the reason in `why`.
    `source` is a folder or base URL of Omniglot's archives, else $ONESHOT_SOURCE, else their official home.

    For the user's own images `dataset` is "folder", with their folder as `source`. The set is kept under `name`
    (default: the folder's) and made as `how` says (values of `own.How`). Afterwards `dataset` is that name, or "folder"
    if there is only one such set.

    Progress and messages are printed on `console`, if there is one. Raises UserError if the data set cannot be
    obtained, is damaged, or cannot be written.
    """
    root = Folder.of(data_root)
    refuse_secrets(source or os.environ.get("ONESHOT_SOURCE") or "")
    if keep.is_named(root, dataset):
        return _own(root, dataset, source, name, how or {}, console)
    if name or how:
        raise UserError(f"options for a set of your own go with --dataset {keep.GENERIC}, not with '{dataset}'")
    if dataset == "auto":
        return _auto(root, source, console)
    if dataset == "omniglot":
        return _omniglot(root, source, console)
    if numbers := glyphs.numbers_of(dataset):
        if source:
            told = "goes with Omniglot or images of your own"
            raise UserError(f"--source {source} {told}; '{dataset}' is generated: leave it out")
        return _glyphs(root, dataset, *numbers, console)
    raise keep.unknown(root, dataset, DATASETS)


def _auto(root: Folder, source: str | None, console: Console | None) -> Prepared:
    # A damaged copy of Omniglot raises an error: it is not missing, and other data must not silently replace it.
    if _ready(root / "omniglot"):
        return _omniglot(root, source, console)
    try:
        return _omniglot(root, source, console)
    except UserError as error:
        if source and "://" not in source:  # a folder was named: glyphs are no substitute for what lies there
            raise UserError(f"{error}; a folder of your own images goes with --dataset {keep.GENERIC}") from error
        why = f"Omniglot is not available: {error}"
    if console:
        print_warning(console, f"{why}. Using generated glyphs instead")
    made = _glyphs(root, "glyphs", glyphs.ALPHABETS, 0, console)
    return Prepared(made.folder, made.dataset, made.name, why)


def _omniglot(root: Folder, source: str | None, console: Console | None) -> Prepared:
    folder = root / "omniglot"
    if _ready(folder):
        if source and console:
            own = f"a folder of your own images goes with --dataset {keep.GENERIC}"
            print_warning(console, f"Omniglot is ready in {folder}: --source {one_line(source)} is ignored; {own}")
    else:
        from oneshot.data import omniglot  # late: imports an HTTP library, not needed if the set is ready

        source = source or os.environ.get("ONESHOT_SOURCE") or omniglot.HOME
        downloads = (root if root.is_local else cache.root()) / "archives"
        with _progress(console) as progress:
            omniglot.build(folder, source=source, downloads=Path(downloads.path), progress=progress)
    return Prepared(folder, "omniglot", store.describe(near(folder)).name)


def _glyphs(root: Folder, dataset: str, alphabets: int, seed: int, console: Console | None) -> Prepared:
    folder = root / dataset
    if not _ready(folder):
        with _progress(console) as progress:
            glyphs.build(
                folder,
                alphabets=alphabets,
                seed=seed,
                progress=lambda done, total: progress("drawing alphabets", done, total),
            )
    return Prepared(folder, dataset, store.describe(near(folder)).name)


def _own(
    root: Folder, dataset: str, source: str | None, name: str | None, how: Mapping[str, Any], console: Console | None
) -> Prepared:  # fmt: skip
    with _progress(console) as progress:
        kept = keep.prepare(root, dataset, source=source, name=name, given=how, progress=progress)
    if console:
        for sentence in kept.made.notes:
            print_line(console, one_line(sentence))
        for sentence in kept.made.warnings:
            print_warning(console, sentence)
    return Prepared(kept.folder, kept.dataset, kept.about.name)


def _ready(folder: Folder) -> bool:
    """Whether a set's files are there. Raises UserError for drawings or trials that cannot be read."""
    needed = (store.DRAWINGS, store.TRIALS)
    if not all(folder.has(name) for name in needed) or not (folder.is_local or digested(folder, *needed)):
        return False
    store.load_trials(near(folder))
    return True


def _progress(console: Console | None) -> AbstractContextManager[Callable[[str, int, int | None], None]]:
    """A context that gives a callback: what is being done, how much of it is done, how much there is."""
    return nullcontext(lambda what, done, total: None) if console is None else Stages(console)
