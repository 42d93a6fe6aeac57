"""An image file of any kind becomes a drawing: upright, grey, square, with paper as 0."""

import io
import struct
import zlib

import numpy as np
import pytest
from pictures import figure
from PIL import Image, ImageCms, ImageDraw

from oneshot.data import clean
from oneshot.data.clean import Unusable, prepare, vote

SIDE = 64


def through(image: Image.Image, kind: str, **how: object) -> Image.Image:
    """The image, written to a file of this format and read again."""
    stream = io.BytesIO()
    image.save(stream, kind, **how)
    return clean.read(stream.getvalue())


def drawn(image: Image.Image, polarity: str = "dark", side: int = SIDE) -> np.ndarray:
    return prepare(image, side=side, polarity=polarity)


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """The mean absolute difference of two drawings, in grey levels of 0 to 255."""
    return float(np.abs(one.astype(float) - other).mean())


def mark(size: tuple[int, int] = (60, 100), box: tuple[int, int, int, int] = (10, 20, 20, 50)) -> Image.Image:
    image = Image.new("L", size, 255)
    image.paste(0, box)
    return image


def test_what_has_colours_is_known_in_every_mode() -> None:
    grey, coloured = figure(3).convert("L").convert("RGB"), figure(3)
    for mode in ("RGB", "RGBA", "CMYK", "YCbCr", "HSV"):
        assert clean.coloured(coloured.convert(mode)) and not clean.coloured(grey.convert(mode)), mode
    assert clean.coloured(coloured.quantize()) and not clean.coloured(grey.quantize()), "P"
    for mode in ("1", "L", "LA", "I", "F"):
        assert not clean.coloured(coloured.convert("L").convert(mode)), mode
    assert clean.coloured(through(coloured, "JPEG", quality=60)) and not clean.coloured(through(grey, "JPEG"))
    warm = Image.fromarray((np.asarray(grey) * np.array([1, 0.96, 0.92])).astype(np.uint8))
    assert not clean.coloured(warm), "paper that is not quite white"
    large = figure(3, size=(3000, 2000))
    assert clean.coloured(large) and not clean.coloured(large.convert("L").convert("RGB"))
    hidden = np.dstack([np.asarray(grey), np.full((90, 120), 255, np.uint8)])
    hidden[:30] = (255, 0, 0, 0)
    assert not clean.coloured(Image.fromarray(hidden)), "what is transparent shows none"
    lab = ImageCms.profileToProfile(
        coloured, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert clean.coloured(lab)


# --- what a drawing is


def test_paper_is_0_and_ink_is_255_in_a_square_with_the_proportions_kept() -> None:
    ink = drawn(mark(), side=100)
    assert ink.shape == (100, 100) and ink.dtype == np.uint8
    assert set(np.unique(ink)) == {0, 255}
    assert np.argwhere(ink).min(0).tolist() == [20, 30] and np.argwhere(ink).max(0).tolist() == [49, 39]


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (3000, 40), (40, 3000), (64, 64), (63, 65)])
def test_any_size_fits(size: tuple[int, int]) -> None:
    values = np.add.outer(*(np.linspace(0, 127, length) for length in size)).astype(np.uint8)
    if size == (1, 1):
        with pytest.raises(Unusable, match="blank"):
            drawn(Image.fromarray(values))
    else:
        assert drawn(Image.fromarray(values)).shape == (SIDE, SIDE)


def test_what_is_beside_the_image_is_paper() -> None:
    for polarity in clean.POLARITIES:
        ink = drawn(figure(1, size=(200, 100), kind=polarity), polarity)
        assert not ink[:16].any() and not ink[48:].any() and ink[16:48].any()


@pytest.mark.parametrize("light", [(255, 0), (180, 60), (250, 200), (140, 20)])
def test_the_light_that_an_image_was_taken_in_does_not_matter(light: tuple[int, int]) -> None:
    paper, pen = light
    taken = mark().point([pen + (paper - pen) * value // 255 for value in range(256)])
    assert apart(drawn(taken), drawn(mark())) < 0.5


def test_the_grain_of_paper_goes() -> None:
    noise = np.random.default_rng(0).normal(0, 2, (200, 200))
    page = Image.fromarray((200 + noise - 150 * (np.hypot(*np.indices((200, 200)) - 100) < 30)).astype(np.uint8))
    ink = drawn(page)
    assert (ink[:12] == 0).mean() > 0.95 and ink[32, 32] > 240


def test_light_ink_is_as_dark_ink_reversed() -> None:
    for seed in range(5):
        image = figure(seed).convert("L")
        reverse = Image.fromarray(255 - np.asarray(image))
        assert apart(drawn(reverse, "light"), drawn(image, "dark")) < 0.5


def test_photos_keep_their_brightness() -> None:
    ramp = np.tile(np.linspace(60, 200, SIDE).astype(np.uint8), (SIDE, 1))
    ink = drawn(Image.fromarray(ramp), "photo")
    assert (np.diff(ink.astype(int), axis=1) >= 0).all() and ink.min() == 0 and ink.max() == 255


@pytest.mark.parametrize("polarity", clean.POLARITIES)
def test_a_drawing_shown_and_cleaned_again_is_itself(polarity: str) -> None:
    ink = drawn(figure(3, kind=polarity), polarity)
    assert apart(drawn(Image.fromarray(clean.shown(ink, polarity)), polarity), ink) < 4


def test_ink_where_paper_should_be_is_ink_all_the_same() -> None:
    ink = drawn(figure(2, kind="light"), "dark")
    assert np.median(ink[20:44]) > 200


# --- files


@pytest.mark.parametrize(("kind", "how"), [
    ("PNG", {}), ("JPEG", {"quality": 90}), ("WEBP", {"lossless": True}), ("WEBP", {"quality": 90}), ("BMP", {}),
    ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}),
])  # fmt: skip
def test_every_format_gives_the_same_drawing(kind: str, how: dict[str, object]) -> None:
    image = figure(4)
    assert apart(drawn(through(image, kind, **how)), drawn(image)) < 3


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "I;16", "I", "F"])
def test_every_mode_gives_the_same_drawing(mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray(np.asarray(mark()).astype(np.uint16) * 257)
    else:
        image = mark().convert("RGB").convert(mode) if mode in ("RGBX", "YCbCr", "HSV") else mark().convert(mode)
    assert image.mode == mode
    assert apart(drawn(image), drawn(mark())) < 1


def test_twelve_bits_in_sixteen_are_not_cut_to_a_few_greys() -> None:
    ramp = np.tile(np.linspace(0, 4095, 200).astype(np.uint16), (200, 1))
    assert len(np.unique(drawn(through(Image.fromarray(ramp), "PNG"), "photo"))) > 50


@pytest.mark.parametrize("values", [[-1.0, 5.0], [0.0, 1e9], [0.0, float("nan")]])
def test_values_of_no_known_depth_are_refused(values: list[float]) -> None:
    with pytest.raises(Unusable, match="which fit no depth of 8, 12 or 16 bits"):
        drawn(Image.fromarray(np.array([values], dtype=np.float32)))


@pytest.mark.parametrize("turned", range(1, 9))
def test_cameras_say_which_side_is_up(turned: int) -> None:
    upright = mark((60, 100), (5, 10, 15, 60))
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    stored = upright.transpose(undo[turned]) if turned > 1 else upright.copy()
    exif = Image.Exif()
    exif[0x0112] = turned
    found = through(stored.convert("RGB"), "JPEG", exif=exif, quality=95)
    assert found.size == stored.size
    assert apart(drawn(found), drawn(upright)) < 2


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_exif_data_that_are_damaged_do_not_cost_the_image() -> None:
    stream = io.BytesIO()
    mark().convert("RGB").save(stream, "JPEG", exif=b"Exif\0\0II*\0" + b"\xff" * 40, quality=95)
    assert apart(drawn(clean.read(stream.getvalue())), drawn(mark())) < 2


@pytest.mark.parametrize(("polarity", "pen"), [("dark", 0), ("light", 255)])
@pytest.mark.parametrize("hidden", [0, 255])
def test_what_is_transparent_is_paper_whatever_colour_lies_below(polarity: str, pen: int, hidden: int) -> None:
    whole = np.full((100, 60, 4), (hidden, hidden, hidden, 0), dtype=np.uint8)
    whole[20:50, 10:20] = (pen, pen, pen, 255)
    image = through(Image.fromarray(whole), "PNG")
    assert vote(clean.fit(image, SIDE)) == polarity
    assert np.array_equal(drawn(image, polarity), drawn(mark()))


@pytest.mark.parametrize(("pen", "ground"), [(0, 255), (90, 255), (170, 0), (255, 0)])
def test_a_transparent_photo_lies_on_what_it_stands_out_from(pen: int, ground: int) -> None:
    clear, opaque = np.zeros((100, 60, 4), np.uint8), np.full((100, 60), ground, np.uint8)
    clear[20:50, 10:20] = (pen, pen, pen, 255)
    opaque[20:50, 10:20] = pen
    assert apart(drawn(Image.fromarray(clear), "photo"), drawn(Image.fromarray(opaque), "photo")) < 1


def test_photos_that_were_cut_out_lie_on_one_ground_though_some_are_darker() -> None:
    for bright in (100, 120, 140, 160):
        whole = np.full((SIDE, SIDE, 4), 255, np.uint8)
        whole[..., :3] = np.random.default_rng(bright).normal(bright, 30, (SIDE, SIDE, 1)).clip(0, 255)
        whole[:8, :, 3] = 0
        assert not drawn(Image.fromarray(whole), "photo")[:8].any()


def test_a_colour_that_a_palette_calls_transparent_is_paper() -> None:
    image = Image.new("P", (60, 100), 0)
    image.putpalette([0, 0, 0, 10, 10, 10])
    image.paste(1, (10, 20, 20, 50))
    assert apart(drawn(through(image, "PNG", transparency=0)), drawn(mark())) < 0.5


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_of_several_pictures_the_first_is_taken(kind: str) -> None:
    others = [figure(number).convert("RGB") for number in (6, 7)]
    image = through(
        figure(5), kind, save_all=True, append_images=others, **({"lossless": True} if kind == "WEBP" else {})
    )
    assert image.n_frames == 3
    assert apart(drawn(image), drawn(figure(5))) < 1


def bomb(side: int) -> bytes:
    """A PNG of a few bytes that claims to have side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 9)) + chunk(b"IEND", b"")


def cut() -> bytes:
    stream = io.BytesIO()
    figure(1).save(stream, "PNG")
    return stream.getvalue()[: len(stream.getvalue()) // 2]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is empty"),
        (b"hello", "is not a PNG, JPEG, WEBP, BMP or TIFF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not a PNG, "),
        (bomb(11_000), "is 11,000 x 11,000 pixels, more than 120,000,000"),
        (bomb(60_000), r"cannot be read \(Image size \(3600000000 pixels\) exceeds limit"),
        (cut(), "cannot be read"),
    ],
    ids=["empty", "text", "postscript", "bomb", "larger bomb", "cut off"],
)
def test_what_is_no_image_is_said_and_not_unpacked(data: bytes, why: str) -> None:
    with pytest.raises(Unusable, match=why):
        clean.read(data)


@pytest.mark.parametrize("polarity", clean.POLARITIES)
def test_a_blank_image_is_said(polarity: str) -> None:
    noise = np.random.default_rng(0).integers(250, 255, (50, 50), dtype=np.uint8)
    with pytest.raises(Unusable, match="blank"):
        drawn(Image.fromarray(noise), polarity)
    with pytest.raises(ValueError, match="polarity is 'grey'"):
        drawn(mark(), "grey")


# --- the vote on which shade is ink


@pytest.mark.parametrize("kind", clean.POLARITIES)
def test_an_image_tells_what_is_ink_by_its_border(kind: str) -> None:
    assert [vote(clean.fit(figure(seed, kind=kind), 105)) for seed in range(20)].count(kind) >= 18


def test_a_figure_that_runs_off_the_page_still_tells() -> None:
    page = Image.new("L", (100, 100), 240)
    page.paste(10, (40, 0, 60, 100))
    assert vote(clean.fit(page, 64)) == "dark"


@pytest.mark.parametrize("kind", ["dark", "light"])
def test_paper_that_is_lit_unevenly_does_not_outweigh_a_thin_line(kind: str) -> None:
    votes = []
    for seed in range(20):
        rng, side = np.random.default_rng(seed), 160
        page = Image.new("L", (side, side), 205)
        corners = [tuple(point) for point in side * (0.25 + 0.5 * rng.random((4, 2)))]
        ImageDraw.Draw(page).line(corners, fill=40, width=2)
        taken = np.asarray(page) * np.linspace(0.85, 1.05, side) + rng.normal(0, 4, (side, side))
        grey = taken.clip(0, 255).astype(np.uint8)
        votes.append(vote(clean.fit(Image.fromarray(grey if kind == "dark" else 255 - grey), 105)))
    assert votes == [kind] * 20
