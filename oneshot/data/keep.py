"""Sets of the user's own images in a data root, `own/NAME`: found by name, made, and compared with their source."""

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from oneshot.base.errors import UserError, nearest
from oneshot.base.storage import Folder
from oneshot.data import allot, own, parquet, store
from oneshot.data.cache import near
from oneshot.data.drawings import Description
from oneshot.data.own import How, Making, Progress
from oneshot.data.tree import Tree, changed, scan, text

PLACE = "own"
SOURCE = "source.json"  # the files that a set was made from, and how
GENERIC = "folder"  # the dataset that means own images without naming a set
RESERVED = re.compile(r"auto|omniglot|folder|glyphs(-.*)?")
_NAME = re.compile(r"[^\W_][\w.-]{0,63}")


@dataclass(frozen=True)
class Kept:
    """A set that is ready, and the messages from making it."""

    folder: Folder
    dataset: str  # NAME@DIGEST: exactly this making of it
    about: Description
    made: Making


def names(root: Folder) -> list[str]:
    """The names of the complete sets in a data root."""
    return [name for name in (root / PLACE).names() if _ready(root / PLACE / name)]


def is_named(root: Folder, dataset: str) -> bool:
    """Whether `dataset` asks for a set of own images: "folder", or NAME or NAME@DIGEST of a set that is there."""
    if dataset == GENERIC or RESERVED.fullmatch(dataset):  # without a request to a remote store
        return dataset == GENERIC
    return dataset.partition("@")[0] in (root / PLACE).names()  # an incomplete set can be remade by its name


def prepare(
    root: Folder, dataset: str, *, source: str | None, name: str | None, given: Mapping[str, Any], progress: Progress
) -> Kept:
    """Make a set ready: made from the folder `source`, or remade if anything changed; without `source`, as it was made.

    `given` holds values of `How`; the others stay as they were. Raises UserError if the set does not exist or cannot be
    made, if its name belongs to another folder, or if `dataset` names a making that no longer exists.
    """
    called = _called(root, dataset, source, name)
    name, _, mark = called.partition("@")
    folder = root / PLACE / name
    if source and not (mark and _ready(folder)):  # a making that is asked for must not be replaced
        made = _made(folder, name, source, given, progress)
    else:
        made = _as_it_is(folder, name, given)
    about = _described(folder)
    about.require(called)
    return Kept(folder, f"{name}@{about.making}", about, made)


def _described(folder: Folder) -> Description:
    about = store.describe(near(folder))
    if not about.making:
        raise parquet.flaw(folder.file(store.DRAWINGS), "does not hold a user's own images")
    return about


def _called(root: Folder, dataset: str, source: str | None, name: str | None) -> str:
    """The name of the requested set, with "@DIGEST" if a making of it is requested."""
    if dataset != GENERIC:
        if name not in (None, dataset):
            raise UserError(f"the set is called '{dataset}' and not '{name}'; --name goes with --dataset {GENERIC}")
        return dataset
    if name is None and source is None:
        known = names(root)
        if len(known) != 1:
            told = f"there are {', '.join(known)}: name one" if known else "there are none yet: --source DIR makes one"
            raise UserError(f"the data set '{GENERIC}' is one of your own images, and {told}")
        return known[0]
    if name is None:
        name = re.sub(r"[^\w.-]+", "-", own.name_of(str(source))).strip("-._") or "images"
    if not _NAME.fullmatch(name) or RESERVED.fullmatch(name.lower()):  # people would take `Omniglot` for the real one
        raise UserError(f"a data set cannot be called '{name}'; give another --name, of letters and digits")
    return name


def _as_it_is(folder: Folder, name: str, given: Mapping[str, Any]) -> Making:
    if given:
        raise UserError(
            f"options that change how {name} is made need --source (the folder of its images) and --dataset {name}"
        )
    if not _ready(folder):
        raise UserError(f"there is no data set '{name}'; --dataset {GENERIC} --source DIR --name {name} makes it")
    made, record = Making(), _record(folder)
    if record["source"] and os.path.isdir(record["source"]):  # the folder may be on another machine
        try:
            what = changed(record["files"], scan(record["source"]).files)
        except UserError as error:
            what = str(error)
        if what:
            made.warnings.append(
                f"the images in {record['source']} are not those that '{name}' was made from ({what}): it is used as"
                f" it was made; `python -m oneshot.data --dataset {name} --source {quote(record['source'])}` remakes it"
            )
    return made


def _made(folder: Folder, name: str, source: str, given: Mapping[str, Any], progress: Progress) -> Making:
    record, before, keep = _record(folder), None, False
    tree = scan(source)
    if _ready(folder):
        if record["source"] and not _is(tree.source, record["source"]):
            raise UserError(
                f"the data set '{name}' is made from {record['source']}, not from {tree.source}; give another --name,"
                f" or remove {folder}"
            )
        before = _described(folder)
        why = _why(record, tree, given, before)
        if not why:
            return Making()
        keep = "seed" not in given and before.own.flat == tree.flat
    how = How(**{**record["how"], "split_file": None, **given})
    made = own.build(folder, tree, name=name, how=how, before=before if keep else None, progress=progress)
    folder.write_json(SOURCE, {"source": text(str(tree.source)), "how": asdict(how), "files": tree.files})
    if before:
        same = _described(folder).making == before.making
        goes = "it is the same to the bit" if same else "runs that used its earlier version cannot go on"
        made.notes.insert(0, f"'{name}' was remade: {why}; {goes}")
    return made


def _is(source: Path, recorded: str) -> bool:
    """Whether a folder is the one that was recorded, even if the two paths are spelt differently."""
    return text(str(source)) == recorded or (os.path.isdir(recorded) and os.path.samefile(source, recorded))


def _why(record: Mapping[str, Any], tree: Tree, given: Mapping[str, Any], before: Description) -> str:
    """Why a set has to be remade; empty if it has not."""
    otherwise = any(record["how"].get(key) != value or key == "split_file" for key, value in given.items())
    if "seed" in given and not otherwise:  # the split may not be this seed's: from a file, or with classes added
        was = before.own
        otherwise = allot.by_seed(before.classes, flat=was.flat, seed=given["seed"]) != (was.by, was.split)
    reasons = ["its options changed"] if otherwise else []
    if what := changed(record["files"], tree.files):
        reasons.append(f"its images changed ({what})")
    return " and ".join(reasons)


def _ready(folder: Folder) -> bool:
    return folder.has(store.DRAWINGS) and (folder.is_local or parquet.digested(folder, store.DRAWINGS, store.SPLIT))


def _record(folder: Folder) -> dict[str, Any]:
    """The record of how a set was made; an empty one if it is lost, so that the set is remade."""
    found = folder.read_json(SOURCE) if folder.has(SOURCE) else {}
    try:
        how = {key: value for key, value in found["how"].items() if key in How.__dataclass_fields__}
        How(**how).check()
        return {"source": str(found["source"]), "how": how, "files": dict(found["files"])}
    except (KeyError, TypeError, AttributeError, ValueError):
        return {"source": "", "how": {}, "files": {}}


def unknown(root: Folder, dataset: str, known: tuple[str, ...]) -> UserError:
    """The error for an unknown data set."""
    return UserError(f"there is no data set '{dataset}': {nearest(dataset, (*known, *names(root)))}")
