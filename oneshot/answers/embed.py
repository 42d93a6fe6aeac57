"""`python -m oneshot.embed RUN IMAGE... --out FILE`: a file of embeddings, of images or of `--support`'s classes."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from oneshot.answers import artifact, embeddings, queries
from oneshot.answers.artifact import OneShot
from oneshot.answers.preprocess import looks_light
from oneshot.base.errors import RunFailed, UserError
from oneshot.base.storage import Folder, at_home
from oneshot.screen.console import console as make_console
from oneshot.screen.console import count, print_line, print_warning
from oneshot.screen.progress import Counting

# Columns of some of the rows, if there are any; of how many images they are; why others could not be read; and the
# classes that are left out.
Parts = Iterator[tuple[dict[str, Any], int, list[str], list[str]]]
NAMED = 10  # classes in a warning


def run(
    where: Folder, images: Sequence[str], *, support: str | None, out: str, as_json: bool, quiet: bool, device: str
) -> None:
    """Write the file and say what it holds. Raises UserError for a request that is wrong, and RunFailed at the end
    where some images could not be read; the file holds the others, and is not written where there are none."""
    console, aside = make_console(quiet=quiet or as_json), make_console(stderr=True)
    file = embeddings.place(out)
    net = artifact.load(where, device=device)
    votes = Counter[str]()
    kind, total, parts = _of_images(net, images, votes) if support is None else _of_classes(net, support, votes)
    unreadable, missing = 0, list[str]()
    with embeddings.writing(file, kind, net.identity) as rows, Counting(console, total) as counting:
        for columns, asked, errors, left_out in parts:
            for error in errors:
                print_warning(aside, error)
            if columns:
                rows.add(**columns)
            unreadable += len(errors)
            missing += left_out
            counting.advance(asked)
        if not rows.count:
            raise RunFailed(f"none of {count(total)} images could be read: {file} is not written")
        if why := looks_light(votes):
            print_warning(aside, why)
            rows.warnings.append(why)
        failed = f"{count(unreadable)} of {count(total)} images could not be read"
        if unreadable:
            rows.warnings.append(f"{failed} when {file.name} was made")
        if missing:
            rows.warnings.append(_left_out(missing))
            print_warning(aside, rows.warnings[-1])
        rate = f"{count(total / counting.seconds)} images/s"
    told = {"file": str(file), "images": total - unreadable, "unreadable": unreadable, "dimension": net.net.dimension}
    what = f"{count(total - unreadable)} images"
    if support is not None:
        told |= {"classes": rows.count, "left_out": missing}
        what = f"{count(rows.count)} classes of {what}"
    print_line(console, f"{file}: {what}, {count(net.net.dimension)} numbers each; {rate}")
    if support is not None:
        asks = f"python -m oneshot.classify {where.quoted} --support {file.quoted} IMAGE..."
        print_line(console, f"to ask it: {asks}")
    if as_json or quiet:
        print(json.dumps(told) if as_json else file)
    if unreadable:
        raise RunFailed(f"{failed}; {file} holds the others")


def _left_out(names: Sequence[str]) -> str:
    more = f" and {count(len(names) - NAMED)} more" if len(names) > NAMED else ""
    return f"no image of these classes could be read, so that they are no answer: {', '.join(names[:NAMED])}{more}"


def _of_images(net: OneShot, images: Sequence[str], votes: Counter[str]) -> tuple[str, int, Parts]:
    paths = queries.find(images)

    def parts() -> Parts:
        for read, z_BD in queries.embedded(net, paths, votes=votes):
            good = [str(path) for path, each in read if not isinstance(each, str)]
            errors = [each for _, each in read if isinstance(each, str)]
            yield {"path": good, "embedding": z_BD} if good else {}, len(read), errors, []

    return embeddings.IMAGES, len(paths), parts()


def _of_classes(net: OneShot, support: str, votes: Counter[str]) -> tuple[str, int, Parts]:
    if "://" in support:
        raise UserError(
            f"--support {support}: a folder of classes must lie on this machine; copy it, and name the copy"
        )
    paths = queries.classes_in(at_home(support))

    def parts() -> Parts:
        for classes, asked, errors, left_out in queries.classes_of(net, paths, votes=votes):
            yield classes.columns() if classes else {}, asked, errors, left_out

    return embeddings.CLASSES, sum(map(len, paths.values())), parts()
