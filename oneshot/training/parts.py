"""Load the drawings of a training as its settings say, and check whether they suffice. Checking needs no torch."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from oneshot.base.errors import UserError
from oneshot.base.jobs import with_point
from oneshot.base.settings import Data, Settings
from oneshot.base.storage import Folder
from oneshot.data import composed, glyphs, splits, store
from oneshot.data.cache import near
from oneshot.data.drawings import Drawings, joined
from oneshot.data.pairs import Characters, dataset

BATCH = ("batch", "train.batch")  # the two names by which a point may set it


@dataclass(frozen=True)
class Parts:
    """The drawings a training may see: never those of the test alphabets."""

    train: Drawings
    validation: Drawings


def load_parts(data: Folder, how: Data, *, moved: Callable[[], object] = lambda: None) -> Parts:
    """The training and validation drawings; the test alphabets' pixels are not read. `moved` is called now and then,
    since a thousand extra alphabets take minutes. Raises UserError."""
    data, split = _split(data, how)
    taught = _taught(splits.load_part(data, split.train), how, moved=moved)
    moved()
    return Parts(taught, splits.load_part(data, split.validation))


def load_validation(data: Folder, how: Data) -> Drawings:
    """The validation drawings alone. Raises UserError."""
    data, split = _split(data, how)
    return splits.load_part(data, split.validation)


def check(settings: Settings, data: Folder) -> str:
    """Which alphabets the batches leave out (`EpisodeDataset.untaught`). Raises UserError if the training drawings
    cannot give the batches that the settings ask for. No pixel is read."""
    taught = _taught(_unseen(settings, data), settings.data, pixels=False)
    return dataset(taught, data=settings.data, train=settings.train).untaught()


def check_each(settings: Settings, data: Folder, points: Iterable[tuple[str, dict[str, Any]]]) -> list[str]:
    """Do what `check` does for all the points that a search may try; returns the distinct sentences.

    Each point comes with the setting that asks for it, which the error names.
    """
    own = _unseen(settings, data)
    untaught: dict[str, None] = {}
    tables: dict[tuple[int, int], Characters] = {}
    seen: set[tuple[tuple[str, Any], ...]] = set()
    for where, point in points:
        asked = tuple(each for each in point.items() if each[0].startswith("data.") or each[0] in BATCH)
        if asked in seen:  # points may differ only in what asks nothing of the drawings
            continue
        seen.add(asked)
        chosen = with_point(settings, point)
        added = (chosen.data.composed_alphabets, chosen.data.extra_alphabets)
        try:
            if added not in tables:
                tables[added] = Characters(_taught(own, chosen.data, pixels=False))
            untaught[dataset(tables[added], data=chosen.data, train=chosen.train).untaught()] = None
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
    return [sentence for sentence in untaught if sentence]


def _split(data: Folder, how: Data) -> tuple[Folder, splits.Split]:
    """The folder from which this machine reads the data, and how they are split."""
    data = near(data)
    about = store.describe(data)
    about.require(how.dataset)
    return data, splits.split(how.split, about)


def _unseen(settings: Settings, data: Folder) -> Drawings:
    """The data set's own training drawings, without their pixels."""
    data, split = _split(data, settings.data)
    return splits.load_part(data, split.train, pixels=False)


def _taught(
    own: Drawings, how: Data, *, pixels: bool = True, moved: Callable[[], object] = lambda: None
) -> Drawings:  # fmt: skip
    taught = own
    if how.composed_alphabets:
        taught = joined(taught, composed.extra(own, how.composed_alphabets, pixels=pixels, moved=moved))
    if how.extra_alphabets:
        taught = joined(taught, glyphs.extra(how.extra_alphabets, pixels=pixels, moved=moved))
    return taught
