"""Drawings as PNG bytes: decoded without trust, and encoded in one way everywhere."""

import io

import numpy as np
from PIL import Image

from oneshot.base.errors import UserError

SIZE = (105, 105)  # height, width


def decode(png: bytes, *, where: str) -> np.ndarray:
    """The drawing in a 1-bit PNG: uint8 (105, 105), 0 = paper, 255 = ink (a PNG's 0 is ink, its 1 is paper).

    Raises UserError, which names `where`, for anything but a 1-bit PNG of that size, and for a blank one.
    """
    if not png:
        raise UserError(f"{where} is empty, not a PNG; get the archive it lies in again")
    try:
        with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
            mode, found = image.mode, image.size[::-1]
            paper = np.asarray(image) if (mode, found) == ("1", SIZE) else None
    except Exception as error:  # Pillow raises some ten kinds of exception for damaged files
        raise UserError(f"{where} is not a readable PNG ({error}); get the archive it lies in again") from error
    if mode != "1":
        raise UserError(
            f"{where} is a PNG of mode '{mode}', and a drawing has one bit a pixel (mode '1'); get the archive again"
        )
    if paper is None:
        raise UserError(
            f"{where} is {found[1]} x {found[0]} pixels, and a drawing is {SIZE[1]} x {SIZE[0]}; get the archive again"
        )
    if paper.min() == paper.max():
        raise UserError(f"{where} is blank, all of one colour, and not a drawing; get the archive it lies in again")
    return np.where(paper, 0, 255).astype(np.uint8)


def encode(ink: np.ndarray) -> bytes:
    """PNG bytes of a drawing (height, width): 1-bit for bool (True = ink), grey for uint8 (255 = ink); ink is dark."""
    paper = ~ink if ink.dtype == bool else 255 - ink
    stream = io.BytesIO()
    Image.fromarray(paper).save(stream, "PNG")
    return stream.getvalue()
