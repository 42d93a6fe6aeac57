"""Split the user's own classes into train, validation and test: once, by a seed or a file, and then kept."""

import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence

from oneshot.base.errors import UserError, nearest
from oneshot.base.storage import at_home
from oneshot.data.tree import name as plain

PARTS = ("train", "validation", "test")
LEAST = 2  # fewest classes in a part: a pair of different classes needs two
SHARE = 0.2  # share of the groups, or of the classes, for validation; test gets the same share
GROUPS = 5  # fewest groups for a split by group
Split = dict[str, tuple[str, ...]]  # the classes of each part, as "group/class"


def by_seed(classes: Sequence[str], *, flat: bool, seed: int) -> tuple[str, Split]:
    """Assign groups to parts at random, or classes if there are too few groups: ("group" | "class", the split).

    The random order depends only on the seed and the names. Raises UserError if there are too few classes.
    """
    groups = {name.partition("/")[0] for name in classes}
    if not flat and len(groups) >= GROUPS:
        part_of = _drawn(groups, seed, least=1)
        split = _split({name: part_of[name.partition("/")[0]] for name in classes})
        if all(len(split[part]) >= LEAST for part in PARTS):
            return "group", split
    if len(classes) < LEAST * len(PARTS):
        raise UserError(
            f"{len(classes)} class(es) have enough images, and training, validation and test need {LEAST} each,"
            f" {LEAST * len(PARTS)} different ones in all; add classes, or images to those that have too few"
        )
    return "class", _split(_drawn(classes, seed, least=LEAST))


def _drawn(names: Iterable[str], seed: int, *, least: int) -> dict[str, str]:
    drawn = sorted(names, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
    count = max(least, round(SHARE * len(drawn)))
    parts = ["test"] * count + ["validation"] * count
    return dict(zip(drawn, parts + ["train"] * (len(drawn) - 2 * count), strict=True))


def _split(part_of: Mapping[str, str]) -> Split:
    return {part: tuple(sorted(name for name, its in part_of.items() if its == part)) for part in PARTS}


def as_before(classes: Sequence[str], before: Split, *, by: str, known: Iterable[str]) -> Split:
    """Extend the split `before`, of a set with the classes `known`. They keep their part; unused ones stay unused.

    In a split by group, a new class joins the part of its group. Any other new class joins train. Raises UserError if
    a part has too few classes left.
    """
    part_of = {name: part for part in PARTS for name in before[part]}
    group_of = {name.partition("/")[0]: part for name, part in part_of.items()} if by == "group" else {}
    unused = set(known) - part_of.keys()
    split = _split(
        {
            name: part_of.get(name) or group_of.get(name.partition("/")[0], "train")
            for name in classes
            if name not in unused
        }
    )
    for part in PARTS:
        if len(split[part]) < LEAST:
            raise UserError(
                f"{len(split[part])} class(es) of the {part} part are left, and it needs {LEAST}; split again with"
                " --seed or --split-file"
            )
    return split


def by_file(path: str, classes: Sequence[str], *, flat: bool, gone: Iterable[str] = ()) -> Split:
    """Read a split from a JSON or TOML file: `train`, `validation` and `test`, each a list of groups and classes.

    A class is named as its folder is, "class" or "group/class". Classes in `gone`, which had too few images, are
    ignored; classes that the file does not name are not used. Raises UserError naming the file if it is wrong.
    """
    named = _read(path)
    prefix = classes[0].partition("/")[0] + "/" if flat and classes else ""
    groups: dict[str, list[str]] = {}
    for one in classes:
        groups.setdefault(one.partition("/")[0], []).append(one)
    known, missing = set(classes), set(gone)
    split = {}
    for part in PARTS:
        chosen: dict[str, None] = {}
        for name in named[part]:
            full = prefix + plain(name)
            if full in known:
                chosen[full] = None
            elif not flat and full in groups:
                chosen |= dict.fromkeys(groups[full])
            elif full not in missing:
                hints = [one.removeprefix(prefix) for one in classes] + ([] if flat else list(groups))
                raise UserError(f"{path}: {part} names '{name}', and there is no such class; {nearest(name, hints)}")
        if len(chosen) < LEAST:
            raise UserError(f"{path}: {part} has {len(chosen)} class(es) that can be used, and it needs {LEAST}")
        split[part] = tuple(sorted(chosen))
    return split


def _read(path: str) -> dict[str, list[str]]:
    try:
        content = at_home(path).read_text("utf-8-sig")  # some editors write a byte order mark
        tree = tomllib.loads(content) if path.lower().endswith(".toml") else json.loads(content)
    except OSError as error:
        raise UserError(f"the split file {path} cannot be read ({error.strerror}); name another") from None
    except (ValueError, RecursionError) as error:
        kind = "TOML" if path.lower().endswith(".toml") else "JSON"
        raise UserError(f"the split file {path} is not {kind} ({error}); correct it") from None
    if not isinstance(tree, dict):
        raise UserError(f"the split file {path} has no keys; give it {', '.join(PARTS)}, each a list of names")
    for key in tree:
        if key not in PARTS and key != "about":
            raise UserError(f"the split file {path} has a key '{key}'; {nearest(key, PARTS)}")
    for part in PARTS:
        names = tree.get(part)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UserError(f"the split file {path} has no list of names at '{part}'; name groups or classes there")
    return {part: tree[part] for part in PARTS}
