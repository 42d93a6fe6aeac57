"""The drawings of a training, loaded as its settings say."""

from oneshot.batches import dataset
from oneshot.data import composed, glyphs, splits, store
from oneshot.data.cache import near
from oneshot.data.drawings import Drawings, joined
from oneshot.loop import Parts
from oneshot.settings import Data, Settings
from oneshot.storage import Folder


def load_parts(data: Folder, how: Data) -> Parts:
    """The training and validation drawings; the test alphabets' pixels are not read. Raises UserError."""
    data = near(data)
    about = store.describe(data)
    about.require(how.dataset)
    parts = splits.split(how.split, about)
    return Parts(_taught(data, parts.train, how), splits.load_part(data, parts.validation))


def check(settings: Settings, data: Folder) -> None:
    """Raises UserError where the training drawings cannot give the batches that the settings ask for. No pixel is
    read."""
    data = near(data)
    part = splits.split(settings.data.split, store.describe(data)).train
    taught = _taught(data, part, settings.data, pixels=False)
    dataset(taught, data=settings.data, train=settings.train)


def _taught(data: Folder, part: splits.Part, how: Data, *, pixels: bool = True) -> Drawings:
    own = splits.load_part(data, part, pixels=pixels)
    taught = own
    if how.composed_alphabets:
        taught = joined(taught, composed.extra(own, how.composed_alphabets, pixels=pixels))
    if how.extra_alphabets:
        taught = joined(taught, glyphs.extra(how.extra_alphabets, pixels=pixels))
    return taught
