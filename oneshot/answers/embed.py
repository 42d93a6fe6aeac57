"""`python -m oneshot.embed RUN IMAGE... --out FILE`: a file of embeddings of images, or of the classes of `--support`.

`--add-to` and `--drop` start from the classes of another file."""

import contextlib
import json
import os
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from oneshot.answers import embeddings, queries
from oneshot.answers.classes import Classes, in_file, listed, uneven
from oneshot.answers.preprocess import looks_light
from oneshot.answers.recogniser import OneShot, load
from oneshot.base.errors import RunFailed, UserError
from oneshot.base.reach import reach
from oneshot.base.storage import Folder, at_home
from oneshot.data.tree import text
from oneshot.screen.console import console as make_console
from oneshot.screen.console import count, print_line, print_warning
from oneshot.screen.progress import Counting

# Of each part: the columns of its rows, if there are any; how many images were read or tried; why some could not be
# read; and the classes that are left out.
Parts = Iterator[tuple[dict[str, Any], int, list[str], list[str]]]
# In the past tense, as the file keeps this warning: the classes may have been added since.
LEFT_OUT = "no image of these classes could be read, so they were left out"


def run(
    where: Folder, images: Sequence[str], *, support: str | None, out: str, add_to: str | None, drop: Sequence[str],
    per_class: int | None, as_json: bool, quiet: bool, device: str,
) -> None:  # fmt: skip
    """Write a file of embeddings, of images or of the classes in `support`, and print what it holds.

    With `add_to`, it also holds the classes of that file except those in `drop`. Raises UserError for a wrong request,
    and RunFailed at the end if some images could not be read: the file then holds the others, and is not written if
    there are none, or with `add_to`. Raises RunFailed, too, if another process changed the file that is added to."""
    console, aside = make_console(quiet=quiet or as_json), make_console(stderr=True)
    file = embeddings.target(out)
    net = load(where, device=device)
    adding, drop = add_to is not None, [*map(text, drop)]
    before = file.parent.stamp(file.name) if add_to is not None and _one(reach(add_to), file) else None
    kept = _kept(net, add_to, drop, none=support is not None) if add_to is not None else None
    votes = Counter[str]()
    kind, total, parts = embeddings.CLASSES, 0, iter(())
    if support is not None:
        total, parts = _of_classes(net, support, votes, per_class, kept)
    elif not adding:
        kind, (total, parts) = embeddings.IMAGES, _of_images(net, images, votes)
    with (
        contextlib.ExitStack() as held,
        embeddings.writing(file, kind, net.identity, net.head) as rows,
        Counting(console, total) as counting,
    ):
        if kept is not None:
            rows.add(**kept.columns())
            rows.warnings += kept.warnings
        tally = _fill(rows, parts, counting, aside)
        if tally.looked and tally.looked == tally.unreadable:
            raise RunFailed(f"none of {count(tally.looked)} images could be read: {file} was not written")
        failed = f"{count(tally.unreadable)} of {count(tally.looked)} images could not be read"
        if tally.unreadable and adding:  # an added class cannot be added again, and a dropped one is gone
            raise RunFailed(f"{failed}: {file} was not written; repair or remove them and run the command again")
        if why := looks_light(votes):
            print_warning(aside, why)
            rows.warnings.append(why)
        if tally.unreadable:
            rows.warnings.append(f"{failed} when {file.name} was made")
        if tally.left_out:
            rows.warnings.append(f"{LEFT_OUT}: {listed(tally.left_out)}")
            print_warning(aside, rows.warnings[-1])
        if per_class and (why := uneven(tally.classes, tally.counts, per_class=per_class)):
            print_warning(aside, why)
        rate = f"; {count(tally.looked / counting.seconds)} images/s" if tally.looked else ""
        if before is not None:
            held.enter_context(file.parent.alone())  # until the file is replaced
            if file.parent.stamp(file.name) != before:
                raise RunFailed(f"{file} was changed meanwhile, and stays as it is now; give the command again")
    read, dimension = tally.looked - tally.unreadable, net.net.dimension
    told = {"file": str(file), "images": read, "unreadable": tally.unreadable, "dimension": dimension}
    what = f"{count(read)} images"
    if kind == embeddings.CLASSES:
        told |= {"classes": rows.count, "left_out": tally.left_out}
        what = f"{count(rows.count)} classes of {what}"
    if adding:
        told |= {"added": len(tally.classes), "dropped": len(set(drop))}
        changed = [f"{count(told[how])} {how}" for how in ("added", "dropped") if told[how]]
        what = f"{count(rows.count)} classes ({', '.join(changed)})"
    print_line(console, f"{file}: {what}, {count(dimension)} numbers each{rate}")
    if kind == embeddings.CLASSES:
        asks = f"python -m oneshot.classify {where.quoted} --support {file.quoted} IMAGE..."
        print_line(console, f"to use it: {asks}")
    if as_json or quiet:
        print(json.dumps(told) if as_json else file)
    if tally.unreadable:
        raise RunFailed(f"{failed}; {file} holds the others")


@dataclass
class _Tally:
    """How many images were read or tried, and how many of these could not be read; the classes and the number of images
    of each; the classes that are left out."""

    looked: int = 0
    unreadable: int = 0
    classes: list[str] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def _fill(rows: embeddings.Rows, parts: Parts, counting: Counting, aside: Console) -> _Tally:
    """Write the rows of all parts, and print which images could not be read."""
    tally = _Tally()
    for columns, asked, errors, left_out in parts:
        for error in errors:
            print_warning(aside, error)
        if columns:
            rows.add(**columns)
        tally.classes += columns.get("class", ())
        tally.counts += columns.get("images", ())
        tally.unreadable += len(errors)
        tally.looked += asked
        tally.left_out += left_out
        counting.advance(asked)
    return tally


def _one(file: Folder, other: Folder) -> bool:
    """Whether two names are those of one file, which on this machine may be reached by several paths."""
    if file.is_local and other.is_local:
        return os.path.realpath(file.path) == os.path.realpath(other.path)
    return file.uri == other.uri


def _kept(net: OneShot, add_to: str, drop: Sequence[str], *, none: bool) -> Classes | None:
    """The classes of the file `add_to` without those in `drop`; None if no class is left, which `none` allows. Raises
    UserError."""
    found = in_file(reach(add_to), net.identity)
    if none and set(drop) == set(found.names):
        return None
    try:
        return found.without(drop)
    except UserError as error:
        raise UserError(f"--drop: {add_to}: {error}") from None


def _of_images(net: OneShot, images: Sequence[str], votes: Counter[str]) -> tuple[int, Parts]:
    paths = queries.find(images)

    def parts() -> Parts:
        for read, z_BD in queries.embedded(net, paths, votes=votes):
            good = [str(path) for path, each in read if not isinstance(each, str)]
            errors = [each for _, each in read if isinstance(each, str)]
            yield {"path": good, "embedding": z_BD} if good else {}, len(read), errors, []

    return len(paths), parts()


def _of_classes(
    net: OneShot, support: str, votes: Counter[str], per_class: int | None, kept: Classes | None
) -> tuple[int, Parts]:
    if "://" in support:
        raise UserError(
            f"--support {support}: a folder of classes must be on this machine; copy it here and name the copy"
        )
    paths = queries.classes_in(at_home(support))
    known = set(kept.names if kept else ())
    if twice := [name for name in map(text, paths) if name in known]:
        raise UserError(
            f"--add-to: the file already has a class '{twice[0]}'; --drop {shlex.quote(twice[0])} removes it first"
        )

    def parts() -> Parts:
        for classes, asked, errors, left_out in queries.classes_of(net, paths, votes=votes, per_class=per_class):
            yield classes.columns() if classes else {}, asked, errors, left_out

    return sum(queries.images_of(inside, per_class) for inside in paths.values()), parts()
