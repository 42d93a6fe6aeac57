"""Sets of one's own images in a data root, `own/NAME`: found by name, made, and noticed when their source changed."""

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
SOURCE = "source.json"  # from which files it was made, and how
GENERIC = "folder"  # the data set's name while it has none
RESERVED = re.compile(r"auto|omniglot|folder|glyphs(-.*)?")
_NAME = re.compile(r"[^\W_][\w.-]{0,63}")


@dataclass(frozen=True)
class Kept:
    """A set that is ready, and what there is to tell of it."""

    folder: Folder
    dataset: str  # NAME@DIGEST: this making of it and no other
    about: Description
    made: Making


def names(root: Folder) -> list[str]:
    """The sets that a data root holds, whole ones."""
    return [name for name in (root / PLACE).names() if _ready(root / PLACE / name)]


def is_named(root: Folder, dataset: str) -> bool:
    """Whether `dataset` asks for a set of one's own images: NAME, NAME@DIGEST of one that is there, or "folder"."""
    if dataset == GENERIC or RESERVED.fullmatch(dataset):  # nothing is asked of a store that is far away
        return dataset == GENERIC
    return dataset.partition("@")[0] in (root / PLACE).names()  # one that is not whole can be made by its name


def prepare(
    root: Folder, dataset: str, *, source: str | None, name: str | None, given: Mapping[str, Any], progress: Progress
) -> Kept:
    """Make a set ready: from the folder `source`, anew where that changed; without `source` what was made before.

    `given` are values of `How`; what is not among them is as it was. Raises UserError where the set is not there or
    cannot be made, where its name means another folder, and where `dataset` names a making that is no more.
    """
    called = _called(root, dataset, source, name)
    name, _, mark = called.partition("@")
    folder = root / PLACE / name
    if source and not (mark and _ready(folder)):  # who asks for a making shall not lose it to the next one
        made = _made(folder, name, source, given, progress)
    else:
        made = _as_it_is(folder, name, given)
    about = _described(folder)
    about.require(called)
    return Kept(folder, f"{name}@{about.making}", about, made)


def _described(folder: Folder) -> Description:
    about = store.describe(near(folder))
    if not about.making:
        raise parquet.flaw(folder.file(store.DRAWINGS), "holds no images of one's own")
    return about


def _called(root: Folder, dataset: str, source: str | None, name: str | None) -> str:
    """The name of the set that is meant, with the making that is asked for, if one is."""
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
    if not _NAME.fullmatch(name) or RESERVED.fullmatch(name.lower()):  # `Omniglot` would be taken for it by people
        raise UserError(f"a data set cannot be called '{name}'; give --name another, of letters and digits")
    return name


def _as_it_is(folder: Folder, name: str, given: Mapping[str, Any]) -> Making:
    if given:
        raise UserError(
            f"what changes how {name} is made goes with --source, the folder of its images, and --dataset {name}"
        )
    if not _ready(folder):
        raise UserError(f"there is no data set '{name}'; --dataset {GENERIC} --source DIR --name {name} makes it")
    made, record = Making(), _record(folder)
    if record["source"] and os.path.isdir(record["source"]):  # elsewhere than where it was made, nobody can look
        try:
            what = changed(record["files"], scan(record["source"]).files)
        except UserError as error:
            what = str(error)
        if what:
            made.warnings.append(
                f"the images in {record['source']} are not those that '{name}' was made from ({what}): it is used as it"
                f" was made; `python -m oneshot.data --dataset {name} --source {quote(record['source'])}` makes it anew"
            )
    return made


def _made(folder: Folder, name: str, source: str, given: Mapping[str, Any], progress: Progress) -> Making:
    record, before, keep = _record(folder), None, False
    tree = scan(source)
    if _ready(folder):
        if record["source"] and not _is(tree.source, record["source"]):
            raise UserError(
                f"the data set '{name}' is made from {record['source']}, not from {tree.source}; give --name another,"
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
        goes = "it is as it was to the bit" if same else "runs on it as it was cannot go on"
        made.notes.insert(0, f"'{name}' is made anew: {why}; {goes}")
    return made


def _is(source: Path, recorded: str) -> bool:
    """Whether a folder is the one that was recorded, however either is spelt."""
    return text(str(source)) == recorded or (os.path.isdir(recorded) and os.path.samefile(source, recorded))


def _why(record: Mapping[str, Any], tree: Tree, given: Mapping[str, Any], before: Description) -> str:
    """Why a set has to be made again; empty where it has not."""
    otherwise = any(record["how"].get(key) != value or key == "split_file" for key, value in given.items())
    if "seed" in given and not otherwise:  # the split may be another than this seed's: a file's, or grown with classes
        was = before.own
        otherwise = allot.by_seed(before.classes, flat=was.flat, seed=given["seed"]) != (was.by, was.split)
    reasons = ["it is to be made otherwise"] if otherwise else []
    if what := changed(record["files"], tree.files):
        reasons.append(f"its images changed ({what})")
    return " and ".join(reasons)


def _ready(folder: Folder) -> bool:
    return folder.has(store.DRAWINGS) and (folder.is_local or parquet.digested(folder, store.DRAWINGS, store.SPLIT))


def _record(folder: Folder) -> dict[str, Any]:
    """What is known of how a set was made; where that is lost, nothing, so that it is made again."""
    found = folder.read_json(SOURCE) if folder.has(SOURCE) else {}
    try:
        how = {key: value for key, value in found["how"].items() if key in How.__dataclass_fields__}
        How(**how).check()
        return {"source": str(found["source"]), "how": how, "files": dict(found["files"])}
    except (KeyError, TypeError, AttributeError, ValueError):
        return {"source": "", "how": {}, "files": {}}


def unknown(root: Folder, dataset: str, known: tuple[str, ...]) -> UserError:
    """The error for a data set that nobody knows."""
    return UserError(f"there is no data set '{dataset}': {nearest(dataset, (*known, *names(root)))}")
