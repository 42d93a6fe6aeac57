"""How an image is prepared for a trained network. It is done only here, so that it is the same for all who ask one."""

import contextlib
import io
import re
import stat
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from oneshot.base.errors import UserError
from oneshot.data import clean
from oneshot.network.images import resize
from oneshot.run.cards import STEPS

SUFFIXES = (*sorted(clean.ENDINGS), ".gif")
FORMATS = (*clean.FORMATS, "GIF")  # no decoder is started for others
Opened = bytes | bytearray | memoryview | BinaryIO  # the bytes of a file, or the file opened in binary mode
_OF_PILLOW = ("ignore", None, Warning, re.compile(r"PIL\."), 0)  # a filter of Python's warnings
_OPEN = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")  # what the shell has opened for this process, which may be a pipe


def steps(cleaning: dict[str, Any] | None) -> dict[str, Any]:
    """What model.json says about preprocessing. `cleaning` is `Drawings.cleaning` of the network's training data."""
    if not cleaning:
        return STEPS
    how = "cleaned as `oneshot.data.clean.prepare(side={side}, polarity='{polarity}')` does, then averaged over areas"
    how = how.format(**cleaning)
    return {"ink": f"1 on paper 0: {clean.MEANING[cleaning['polarity']]}", "fit": how, "cleaning": cleaning}


_AREAS = """\
    ends = [(i * side // size, -(-(i + 1) * side // size)) for i in range(size)]  # each new pixel: the mean of an area
    small = [[square[a:b, c:d].mean() for c, d in ends] for a, b in ends]
    return (np.round(small) / 255).astype(np.float32)[None]
"""

RECIPE = f'''\
import numpy as np


def preprocess(grey, size):
    """uint8 (height, width), dark ink on light paper, as in the file -> float32 (1, size, size), ink 1 on paper 0."""
    ink = np.float32(255) - grey.astype(np.float32)
    height, width = ink.shape
    top, left = max(1, round(height / 16)), max(1, round(width / 16))
    border = np.ones(ink.shape, bool)
    border[top:-top, left:-left] = False
    least, most = ink.min(), ink.max()
    paper = min(np.median(ink[border]), np.median(ink))  # most of the border is paper, or most of the image
    paper = paper if paper < (least + most) / 2 else least
    ink = ((ink - paper) / max(most - paper, 1) - 0.05) / 0.95  # paper with its grain to 0, the strongest ink to 1
    ink = np.round(255 * ink.clip(0, 1)).astype(np.int64) * int(most - least >= 12)  # less contrast: a blank page
    side = max(height, width)
    square = np.zeros((side, side), np.int64)  # letterboxed: paper all around
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = ink
{_AREAS}'''

# For a network trained on one's own images, to be formatted with their `cleaning`.
CLEANED = f'''\
import numpy as np
from oneshot.data.clean import prepare


def preprocess(image, size):
    """A PIL image as it was opened -> float32 (1, size, size)."""
    side = {{side}}
    square = prepare(image, side=side, polarity={{polarity!r}})  # uint8 (side, side)
{_AREAS}'''


def fit(
    image: Image.Image | np.ndarray, size: int, cleaning: dict[str, Any] | None = None,
    *, votes: Counter[str] | None = None,
) -> torch.Tensor:  # fmt: skip
    """Dark ink on light paper, a PIL image or uint8 (H, W[, 1]) -> uint8 (1, size, size), 0 paper .. 255 ink.

    A PIL image is turned upright, and laid on white where it is transparent. Levels are stretched: paper of any grey
    becomes 0, the strongest ink 255. The polarity that it seems to have is counted in `votes`, see `looks_light`.
    For a network that was trained on one's own images, `cleaning` is theirs: an image of any kind is prepared as those
    were. Raises UserError for what is not a grey image of 8 bits and cannot be made one without loss."""
    if not isinstance(image, Image.Image | np.ndarray):
        raise UserError(f"an object of type {type(image).__name__} is not an image; give PIL images or uint8 arrays")
    if isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if cleaning:
        return torch.from_numpy(resize(_cleaned(image, **cleaning)[None], size))
    if isinstance(image, Image.Image) and image.mode.startswith(("I", "F")):  # "L" would cut them off at 255
        raise UserError(f"an image of mode '{image.mode}' has more than 8 bits; scale it to 8 and convert it to 'L'")
    grey: Any = np.asarray(clean.brightness(_upright(image))) if isinstance(image, Image.Image) else image
    if grey.ndim != 2 or grey.dtype != np.uint8 or 0 in grey.shape:
        got = f"got {grey.dtype} {grey.shape}; a PIL image in colour is made grey"
        raise UserError(f"an image must be grey, uint8 (height, width); {got}")
    if votes is not None:
        votes.update([clean.look(grey)])  # in C, so that several threads may do it at once
    return torch.from_numpy(resize(clean.stretched(grey)[None], size))


def looks_light(votes: Counter[str]) -> str:
    """A warning if most of the images in `votes` look like light ink on dark paper; else empty."""
    if 2 * votes["light"] <= votes.total():
        return ""
    some, them = "the image looks", "it"
    if votes.total() > 1:
        some, them = f"{votes['light']} of {votes.total()} images look", "them"
    return f"{some} like light ink on dark paper, but this network reads dark ink on light paper: invert {them}"


def _cleaned(image: Image.Image | np.ndarray, *, side: int, polarity: str) -> np.ndarray:
    try:
        picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
        return clean.prepare(picture, side=side, polarity=polarity)
    except clean.Unusable as error:
        raise UserError(f"the image {error}; use another") from None
    except (TypeError, ValueError) as error:
        raise UserError(f"this is not an image ({error}); give PIL images or uint8 arrays") from None


@contextlib.contextmanager
def unwarned() -> Iterator[None]:
    """Silence Pillow's warnings, about damage that it recovers from and about sizes, which `read` checks.

    Python's warning filters belong to the whole process. Several threads may be in this block at once, because each
    removes only the filter that it added. Restoring the filters found on entry, as `warnings.catch_warnings` does,
    would also restore those of other threads."""
    filters: Any = warnings.filters  # this list itself: another may have replaced it when the block ends
    filters.insert(0, _OF_PILLOW)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # all filters were removed meanwhile
            filters.remove(_OF_PILLOW)


def read(
    file: Path | Opened, size: int, cleaning: dict[str, Any] | None = None, *, votes: Counter[str] | None = None
) -> torch.Tensor:
    """The image in a file as `fit` returns it: uint8 (1, size, size). An open file is read from its beginning, if it
    can be rewound, and stays open.

    Only the small image is kept. Callers silence Pillow's warnings by `unwarned`. Raises UserError, which names the
    file, if it is not an image that can be read."""
    name = file if isinstance(file, Path) else _named(file)
    try:
        with Image.open(_opened(file), formats=FORMATS) as image:
            if image.width * image.height > clean.MOST_PIXELS:
                raise UserError(f"it has {image.width} x {image.height} pixels; make it smaller")
            return fit(image, size, cleaning, votes=votes)
    except UserError as error:
        raise UserError(f"{name} cannot be used: {error}") from None
    except FileNotFoundError:
        raise UserError(f"{name}: no such file; name an image") from None
    except Exception as error:  # Pillow answers damage with some ten kinds of exception
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = "cannot identify image file"  # without the name, or the address of the bytes in memory
        raise UserError(f"{name} is not a readable image ({reason}); use {', '.join(FORMATS)}") from None


def _named(file: Opened) -> str:
    """What a message calls a file: by the name under which it was opened or uploaded, if it has one."""
    name = getattr(file, "name", None)
    return name if name and isinstance(name, str) else "what was given as bytes"


def _opened(file: Path | Opened) -> Path | BinaryIO:
    """The file as Pillow opens it. Raises UserError if it is not a regular file or does not yield bytes."""
    if isinstance(file, Path):
        # Opening a pipe to which nobody writes would wait for ever, in a thread that no signal reaches.
        if not stat.S_ISREG(file.stat().st_mode) and not str(file).startswith(_OPEN):
            raise UserError("it is not a file; name an image")
        return file
    if isinstance(file, bytes | bytearray | memoryview):
        return io.BytesIO(file)
    if not isinstance(file.read(0), bytes):
        raise UserError("it does not yield bytes; open it in binary mode, 'rb'")
    return file


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF data say, on white where it is transparent."""
    image = clean.upright(image)
    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
