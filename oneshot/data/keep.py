"""Sets of one's own images in a data root, `own/NAME`: found by name, made, and noticed when their source changed."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from oneshot.data import own, parquet, store
from oneshot.data.cache import near
from oneshot.data.own import How, Making, Progress
from oneshot.data.store import Description
from oneshot.data.tree import Tree, changed, scan, text
from oneshot.errors import UserError, nearest
from oneshot.storage import Folder

PLACE = "own"
SOURCE = "source.json"  # from which files it was made, and how
GENERIC = "folder"  # the data set's name while it has none
RESERVED = re.compile(r"auto|omniglot|folder|glyphs(-.*)?")
_NAME = re.compile(r"[^\W_][\w.-]{0,63}")
_MARK = 8  # hexadecimal digits of a set's digest: which making of it


@dataclass(frozen=True)
class Kept:
    """A set that is ready, and what there is to tell of it."""

    folder: Folder
    dataset: str  # NAME@DIGEST: this making of it and no other
    about: Description
    made: Making


def names(root: Folder) -> list[str]:
    """The sets that a data root holds."""
    return (root / PLACE).names()


def is_named(root: Folder, dataset: str) -> bool:
    """Whether `dataset` asks for a set of one's own images: NAME, NAME@DIGEST of one that is there, or "folder"."""
    if dataset == GENERIC or RESERVED.fullmatch(dataset):  # nothing is asked of a store that is far away
        return dataset == GENERIC
    return dataset.partition("@")[0] in names(root)


def prepare(
    root: Folder, dataset: str, *, source: str | None, name: str | None, given: Mapping[str, Any], progress: Progress
) -> Kept:
    """Make a set ready: from the folder `source`, anew where that changed; without `source` what was made before.

    `given` are values of `How`; what is not among them is as it was. Raises UserError where the set is not there or
    cannot be made, where its name means another folder, and where `dataset` names a making that is no more.
    """
    name, _, mark = _called(root, dataset, source, name).partition("@")
    folder = root / PLACE / name
    made = _made(folder, name, source, given, progress) if source else _as_it_is(folder, name, given)
    about = store.describe(near(folder))
    if about.own is None or "images" not in about.digests:
        raise parquet.flaw(folder.file(store.DRAWINGS), "holds no images of one's own")
    now = about.digests["images"][:_MARK]
    if mark and mark != now:
        raise UserError(
            f"the data set '{name}' was made anew: it is {name}@{now} now, and not the {name}@{mark} that is asked for;"
            f" begin another run, or name {name} to take it as it is"
        )
    return Kept(folder, f"{name}@{now}", about, made)


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
    if not _NAME.fullmatch(name) or RESERVED.fullmatch(name):
        raise UserError(f"a data set cannot be called '{name}'; give --name another, of letters and digits")
    return name


def _as_it_is(folder: Folder, name: str, given: Mapping[str, Any]) -> Making:
    if given:
        raise UserError(f"what changes how {name} is made goes with --source, the folder of its images")
    if not _ready(folder):
        raise UserError(f"there is no data set '{name}'; --dataset {GENERIC} --source DIR --name {name} makes it")
    made, record = Making(), _record(folder)
    if record["source"] and Path(record["source"]).is_dir():  # elsewhere than where it was made, nobody can look
        try:
            what = changed(record["files"], scan(record["source"]).files)
        except UserError as error:
            what = str(error)
        if what:
            made.warnings.append(
                f"the images in {record['source']} are not those that '{name}' was made from ({what}): it is used as it"
                f" was made; `python -m oneshot.data --dataset {name} --source {record['source']}` makes it anew"
            )
    return made


def _made(folder: Folder, name: str, source: str, given: Mapping[str, Any], progress: Progress) -> Making:
    record, before, why = _record(folder), None, ""
    tree = scan(source)
    if _ready(folder):
        if record["source"] and record["source"] != text(str(tree.source)):
            raise UserError(
                f"the data set '{name}' is made from {record['source']}, not from {tree.source}; give --name another,"
                f" or remove {folder}"
            )
        before = store.describe(near(folder)).own
        why = _why(record, tree, given)
        if not why:
            return Making()
        if {"seed", "split_file"} & given.keys() or (before and before.flat != tree.flat):
            before = None
    how = How(**{**record["how"], "split_file": None, **given})
    made = own.build(folder, tree, name=name, how=how, before=before, progress=progress)
    folder.write_json(SOURCE, {"source": text(str(tree.source)), "how": asdict(how), "files": tree.files})
    if why:
        made.notes.insert(0, f"'{name}' is made anew: {why}; runs on it as it was cannot go on")
    return made


def _why(record: Mapping[str, Any], tree: Tree, given: Mapping[str, Any]) -> str:
    """Why a set has to be made again; empty where it has not."""
    other = [key for key, value in given.items() if record["how"].get(key) != value or key == "split_file"]
    reasons = ["it is to be made otherwise"] if other else []
    if what := changed(record["files"], tree.files):
        reasons.append(f"its images changed ({what})")
    return " and ".join(reasons)


def _ready(folder: Folder) -> bool:
    return folder.has(store.DRAWINGS) and (folder.is_local or folder.has(parquet.DIGESTS))


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
