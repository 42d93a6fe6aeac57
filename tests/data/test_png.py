"""A drawing as PNG is the same after a round trip; every flaw is reported with the name of the file."""

import io

import numpy as np
import pytest
from PIL import Image

from oneshot.base.errors import UserError
from oneshot.data.png import decode, encode

INK = np.zeros((105, 105), bool)
INK[20:30, 40] = True


def png_of(mode: str, size: tuple[int, int] = (105, 105), kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new(mode, size).save(stream, kind)
    return stream.getvalue()


def test_ink_is_dark_in_the_file_and_bright_in_memory() -> None:
    png = encode(INK)
    assert not Image.open(io.BytesIO(png)).getpixel((40, 20))
    assert np.array_equal(decode(png, where="here"), np.where(INK, 255, 0))


def test_a_grey_drawing_keeps_its_greys() -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    assert np.array_equal(255 - np.asarray(Image.open(io.BytesIO(encode(grey)))), grey)


@pytest.mark.parametrize(
    ("data", "flaw"),
    [
        (b"", "is empty"),
        (b"GIF89a and so on", "is not a readable PNG"),
        (encode(INK)[:60], "is not a readable PNG"),
        (encode(INK)[:-30], "is not a readable PNG"),
        (png_of("1", (28, 28)), "is 28 x 28 pixels"),
        (png_of("1", (105, 104)), "is 105 x 104 pixels"),
        (png_of("L"), "mode 'L'"),
        (png_of("RGBA"), "mode 'RGBA'"),
        (png_of("I;16"), "mode 'I;16'"),
        (png_of("P"), "mode 'P'"),
        (encode(np.zeros((105, 105), bool)), "is blank"),
        (encode(np.ones((105, 105), bool)), "is blank"),
        (png_of("RGB", kind="JPEG"), "is not a readable PNG"),
    ],
)
def test_flaws_are_named(data: bytes, flaw: str) -> None:
    with pytest.raises(UserError, match=f"Greek/0001_01.png.* {flaw}"):
        decode(data, where="Greek/0001_01.png")
