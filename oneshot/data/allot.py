"""Which of one's own classes teach, validate and judge: settled once by a seed, or by a file, and kept."""

import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence

from oneshot.base.errors import UserError, nearest
from oneshot.base.storage import at_home
from oneshot.data.tree import name as plain

PARTS = ("train", "validation", "test")
LEAST = 2  # classes of a part: pairs of two classes need them
SHARE = 0.2  # of the groups, or of the classes, that validates; and as many judge
GROUPS = 5  # so many groups, and the split is by group
Split = dict[str, tuple[str, ...]]  # of each part the classes, as "group/class"


def by_seed(classes: Sequence[str], *, flat: bool, seed: int) -> tuple[str, Split]:
    """Groups, or where they are too few classes, put into parts by lot: (group | class, the split).

    The lot of each is a function of the seed and its name. Raises UserError where there are too few classes.
    """
    groups = {name.partition("/")[0] for name in classes}
    if not flat and len(groups) >= GROUPS:
        part_of = _drawn(groups, seed, least=1)
        split = _split({name: part_of[name.partition("/")[0]] for name in classes})
        if all(len(split[part]) >= LEAST for part in PARTS):
            return "group", split
    if len(classes) < LEAST * len(PARTS):
        raise UserError(
            f"{len(classes)} class(es) have enough images, and training, validation and test need {LEAST} each, all"
            f" different: {LEAST * len(PARTS)}; add classes, or images to those that have too few"
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
    """The split of an earlier making, which held the classes `known`: every class stays where it was, be it in no part.

    A new class goes with its group where groups were split, and teaches elsewhere. Raises UserError where too few
    classes of a part are left.
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
                f"{len(split[part])} class(es) of the {part} part are left, and it needs {LEAST}; give --seed (or"
                " --split-file) to split anew"
            )
    return split


def by_file(path: str, classes: Sequence[str], *, flat: bool, gone: Iterable[str] = ()) -> Split:
    """The split that a JSON or TOML file names: `train`, `validation` and `test`, each a list of groups and classes.

    A class is named as its folder is, "class" or "group/class". Those of `gone`, which had too few images, are passed
    over, and who is not named is not used. Raises UserError naming the file where it is wrong.
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
        content = at_home(path).read_text("utf-8-sig")  # as some editors write it
        tree = tomllib.loads(content) if path.lower().endswith(".toml") else json.loads(content)
    except OSError as error:
        raise UserError(f"the split file {path} cannot be read ({error.strerror}); name another") from None
    except (ValueError, RecursionError) as error:
        kind = "TOML" if path.lower().endswith(".toml") else "JSON"
        raise UserError(f"the split file {path} is not {kind} ({error}); mend it") from None
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
