"""Omniglot (Lake et al. 2015): its archives, found and verified; its drawings; Lake's 400 one-shot trials."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from oneshot.base.errors import UserError
from oneshot.base.storage import Folder, at_home
from oneshot.data import png, store
from oneshot.data.archives import Limits, content_digest, read_zip
from oneshot.data.download import NotThere, Patience, download
from oneshot.data.drawings import FixedTrials, Row

HOME = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"
Progress = Callable[[str, int, int | None], None]  # what is being done, how much of it is done, how much there is


@dataclass(frozen=True)
class Archive:
    """One of the official archives; `digest` is `archives.content_digest`, the same however it was zipped."""

    name: str
    digest: str
    places: tuple[str, ...]  # its possible paths below a source


BACKGROUND = Archive(
    "images_background",
    "deaa02f758afda524b3a045c7af40311f2d9ded3e2a39f715ece8470d474bc6a",
    ("images_background.zip",),
)
EVALUATION = Archive(
    "images_evaluation",
    "3d5e035f27423c362bf9a181af649b43cda64c1008f842177ddc5203269c901e",
    ("images_evaluation.zip",),
)
RUNS = Archive(
    "all_runs",
    "7378371052e6f1be022594d93b7e53770379d38a82d2b471cc6470f5bce82f07",
    ("one-shot-classification/all_runs.zip", "all_runs.zip"),
)


class Drawing(NamedTuple):
    """Where a drawing of images_background or images_evaluation lies."""

    alphabet: str
    character: str
    drawer: int
    path: str


def build(folder: Folder, *, source: str, downloads: Path, progress: Progress | None = None) -> None:
    """Write Omniglot's trials.parquet, then drawings.parquet, into `folder`.

    `source` is a local folder or a base URL (such as HOME) that holds the archives; fetched files stay in
    `downloads`. Raises UserError if an archive cannot be obtained or is not Omniglot's, or a folder cannot be written.
    """
    progress = progress or (lambda what, done, total: None)
    archives = (BACKGROUND, EVALUATION, RUNS)
    background, evaluation, runs = (
        obtain(archive, source=source, downloads=downloads, progress=progress) for archive in archives
    )
    first = len(drawings(background, BACKGROUND.name))
    trials, alphabets = resolve_trials(runs, evaluation, first_row=first)
    store.write_trials(folder, trials)
    store.write(
        folder,
        _rows({"background": background, "evaluation": evaluation}, progress),
        name="omniglot",
        source=source,
        digests={archive.name: archive.digest for archive in archives},
        trial_alphabets=alphabets,
    )


def obtain(
    archive: Archive,
    *,
    source: str,
    downloads: Path,
    progress: Progress,
    patience: Patience = Patience(),
) -> dict[str, bytes]:
    """The archive's members in memory, verified by its digest, from a local folder or a base URL.

    Raises UserError if that fails. A fetched file that proves wrong is removed. If it was there before, or continued
    an earlier part, it is fetched once more from its beginning before the error is raised.
    """
    if not source.startswith(("http://", "https://")):
        return _verified(archive, _local(archive, at_home(source)))
    target = downloads / f"{archive.name}.zip"
    fresh = False
    while True:
        found = target.exists()
        continued = found or _fetch(archive, source, target, progress, patience)
        try:
            return _verified(archive, target)
        except UserError as error:
            target.unlink(missing_ok=True)
            if fresh or not continued:
                raise UserError(f"{source} did not send Omniglot's {archive.name}: {error}") from error
            fresh = True


def _local(archive: Archive, folder: Path) -> Path:
    if not folder.is_dir():
        raise UserError(
            f"the source {folder} is not a folder; --source takes the folder or URL of the Omniglot archives"
        )
    for place in archive.places:
        if (folder / place).exists():
            return folder / place
    raise UserError(f"{folder} does not hold {' or '.join(archive.places)}; get it from {HOME}")


def _fetch(archive: Archive, source: str, target: Path, progress: Progress, patience: Patience) -> bool:
    """Download from the first place that has it; True if an earlier part was continued."""
    missing: NotThere | None = None
    for place in archive.places:
        try:
            return download(
                f"{source.rstrip('/')}/{place}",
                target,
                limit=Limits().archive,
                progress=lambda done, total: progress(f"fetching {archive.name}", done, total),
                patience=patience,
            )
        except NotThere as error:
            missing = missing or error
        except OSError as error:
            raise UserError(f"cannot write {target} ({error}); choose another data root with --data") from error
    raise missing or AssertionError("an archive has a place")


def _verified(archive: Archive, path: Path) -> dict[str, bytes]:
    members = read_zip(path)
    digest = content_digest(members)
    if digest != archive.digest:
        raise UserError(
            f"{path} is not Omniglot's {archive.name}: its drawings have the digest {digest[:12]}…, not "
            f"{archive.digest[:12]}…; get it from {HOME}{archive.places[0]}"
        )
    return members


def drawings(members: Mapping[str, bytes], archive: str) -> list[Drawing]:
    """The drawings of an image archive, sorted by alphabet, character, drawer. Raises UserError for other PNG paths."""
    shape = re.compile(rf"{archive}/([^/]+)/(character\d\d)/\d{{4}}_(\d\d)\.png")
    found = []
    for path in members:
        if path.endswith(".png"):
            match = shape.fullmatch(path)
            if not match:
                raise UserError(f"{archive}.zip holds '{path}', which is not <alphabet>/characterNN/NNNN_NN.png")
            found.append(Drawing(match[1], match[2], int(match[3]), path))
    return sorted(found)


def _rows(sets: Mapping[str, Mapping[str, bytes]], progress: Progress) -> Iterator[Row]:
    every = [(origin, drawing) for origin in sets for drawing in drawings(sets[origin], f"images_{origin}")]
    for done, (origin, drawing) in enumerate(every, 1):
        data = sets[origin][drawing.path]
        ink = png.decode(data, where=drawing.path)
        yield Row(data, ink, drawing.alphabet, drawing.character, drawing.drawer, origin)
        if done % 500 == 0 or done == len(every):
            progress("writing drawings", done, len(every))


def resolve_trials(
    runs: Mapping[str, bytes], evaluation: Mapping[str, bytes], *, first_row: int
) -> tuple[FixedTrials, tuple[str, ...]]:
    """Lake's fixed trials as rows of drawings.parquet, and the alphabets they are about, sorted.

    `first_row` is the row of the first drawing of images_evaluation. Each picture of a run must be pixel-identical to
    a drawing of images_evaluation. All of them must be of one alphabet, all queries by one drawer and all supports by
    one drawer. Raises UserError otherwise.
    """
    known = drawings(evaluation, EVALUATION.name)
    rows: dict[bytes, list[int]] = {}
    for position, drawing in enumerate(known):
        rows.setdefault(_pixels(evaluation[drawing.path], drawing.path), []).append(position)
    parts, alphabets = [], set()
    for name in sorted({path.split("/")[0] for path in runs}):
        query, support, target = _run(runs, name)
        one_by = [_side(known, rows, runs, paths, name) for paths in (query, support)]
        if len({known[position].alphabet for side in one_by for position in side}) != 1:
            raise UserError(f"all_runs.zip: {name} mixes alphabets; get the archive again from {HOME}")
        for asked, place in zip(one_by[0], target, strict=True):
            if known[asked].character != known[one_by[1][place]].character:
                raise UserError(f"all_runs.zip: {name} pairs two characters; get the archive again from {HOME}")
        alphabets.add(known[one_by[0][0]].alphabet)
        parts.append((int(name[3:]), np.array(one_by[0]), np.array(one_by[1]), np.array(target)))
    trials = FixedTrials(
        run=np.concatenate([np.full(len(query), run) for run, query, _, _ in parts]),
        query=first_row + np.concatenate([query for _, query, _, _ in parts]),
        support=first_row + np.concatenate([np.tile(support, (len(query), 1)) for _, query, support, _ in parts]),
        target=np.concatenate([target for _, _, _, target in parts]),
    )
    return trials, tuple(sorted(alphabets))


def _pixels(data: bytes, where: str) -> bytes:
    return np.packbits(png.decode(data, where=where) > 0).tobytes()


def _run(runs: Mapping[str, bytes], name: str) -> tuple[list[str], list[str], list[int]]:
    """The paths of a run's queries, those of its supports, and the index of the right support for each query."""
    labels = runs.get(f"{name}/class_labels.txt", b"").decode("utf-8", "replace").split()
    query, right = labels[0::2], labels[1::2]
    support = sorted(path for path in runs if path.startswith(f"{name}/training/") and path.endswith(".png"))
    if (
        not re.fullmatch(r"run\d\d", name)
        or len(query) != 20
        or sorted(right) != support
        or not set(query) <= set(runs)
    ):
        raise UserError(
            f"all_runs.zip: {name}/class_labels.txt does not pair 20 pictures with 20; get the archive again"
        )
    return query, support, [support.index(path) for path in right]


def _side(
    known: list[Drawing], rows: Mapping[bytes, list[int]], runs: Mapping[str, bytes], paths: list[str], name: str
) -> list[int]:
    """Which drawing each picture of one side of a run (queries or supports) is.

    Pixels alone do not always tell, as two drawings of Omniglot are identical. The side's one alphabet and drawer do.
    """
    found = [rows.get(_pixels(runs[path], f"all_runs.zip: {path}"), []) for path in paths]
    hands = set.intersection(*({(known[one].alphabet, known[one].drawer) for one in every} for every in found))
    sides = [[one for one in every if (known[one].alphabet, known[one].drawer) in hands] for every in found]
    if len(hands) != 1 or any(len(side) != 1 for side in sides):
        raise UserError(
            f"all_runs.zip: {name} is not by one drawer of images_evaluation; get the archive again from {HOME}"
        )
    return [side[0] for side in sides]
