"""An image of any kind made a drawing: upright, grey, on paper of 0, in a square. For training and inference alike.

`prepare` is all of it. A whole set is done in two steps, so that each file is read once: `fit` each image, settle what
is ink by their `vote`s, then `ink` of each.
"""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageOps

from oneshot.base.errors import UserError

POLARITIES = ("dark", "light", "photo")
MEANING = {
    "dark": "dark ink on light paper",
    "light": "light ink on dark paper",
    "photo": "neither ink nor paper; brightness is kept, black is 0",
}
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
ENDINGS = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".tif", ".tiff"}
MOST_PIXELS = 120_000_000  # of an image; what says that it has more may be a bomb, and is not unpacked

_DEPTHS = (255, 4095, 65535)  # the largest value of a pixel: 8 bits, a camera's 12, 16
_FRAME = 1 / 16  # of a side: how wide the border is by which paper is known
_UNEVEN = 48  # of 255, between the quartiles of the border: no paper varies so much
_FAINT = 12  # of 255: less contrast is noise on a blank page
_STROKE = 0.25  # of the strongest difference from paper: what differs less is no ink to judge polarity by
_GLINTS = 0.05  # of what is covered: so little may be light in a figure that is dark
_WIDE = 3  # where an image gets smaller by two times that or more, whole blocks of pixels are averaged first
_TINT = 32  # of 255, between the channels of a pixel: less is a cast of the light, or paper that is not quite white
_GRAIN = 0.05  # of the contrast: paper's own grain, and what JPEG leaves around a line


class Unusable(UserError):
    """An image that cannot be read or shows nothing. The message goes on from the image's name."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """A grey image whose longer side is `side`. Both (h, w) uint8; brightness counts as far as something covers."""

    light: np.ndarray  # brightness times opacity
    clear: np.ndarray | None  # 255 where nothing covers the paper; None where everything is covered

    def on(self, paper: int) -> np.ndarray:
        """float32 (h, w), 0 .. 255, laid on paper of this brightness."""
        light = self.light.astype(np.float32)
        return light if self.clear is None else light + self.clear * np.float32(paper / 255)


def prepare(image: Image.Image, *, side: int, polarity: str) -> np.ndarray:
    """A PIL image of any mode and size as a drawing: uint8 (side, side), 0 = paper .. 255 = ink.

    Turned as its EXIF data say, laid on paper where it is transparent, made grey, scaled with its proportions kept and
    centred on a square of paper. `polarity` is one of POLARITIES: of "dark" and "light" ink, paper becomes 0 and the
    strongest ink 255, whatever the light was; a "photo" keeps its brightness, stretched to the whole range, and is laid
    on black where it is transparent, or on white where all that it shows is dark. Of several pictures in one image (an
    animation) it is the present one. Raises Unusable for an image that is blank or whose values are of no known range,
    ValueError for an unknown polarity.
    """
    return ink(fit(image, side), side=side, polarity=polarity)


def steps(*, side: int, polarity: str) -> list[str]:
    """What `prepare` does, in sentences for those who write it anew without this module: one a step, with all numbers.

    g is the grey of a pixel, c how clear it is."""
    inked = polarity != "photo"
    laid = {
        "dark": "Lay it on white, and turn it over: g becomes 255 - (g + c).",
        "light": "It lies on black: g stays.",
        "photo": "Where some c is not 0: take the sum of 255 - c of all pixels, and that of those whose g is greater"
        f" than (255 - c) / 2. Where this is less than {_GLINTS} times that, the figure is dark and is laid on white: g"
        " becomes g + c. Else it lies on black: g stays.",
    }[polarity]
    levels = (
        f"The border is the first and last max(1, round(h / {1 / _FRAME:g})) rows and max(1, round(w / {1 / _FRAME:g}))"
        " columns. Paper is the lesser of two medians of g, that of the border and that of all. low is paper, or the"
        " least g where paper is not below the middle between the least and the greatest; high is the greatest g."
        if inked
        else "low and high are the 1st and the 99th percentile of g, on lines between ranks."
    )
    stretched = (
        f"((g - low) / max(high - low, 1) - {_GRAIN}) / {1 - _GRAIN}" if inked else "(g - low) / max(high - low, 1)"
    )
    return [
        "Turn and mirror the image as its EXIF orientation says.",
        "g = floor((19595 R + 38470 G + 7471 B + 32768) / 65536), of red, green and blue of 8 bits; of an image that is"
        " grey already, its grey. Of values v of more bits g = round(255 v / d), where d is the least of"
        f" {', '.join(map(str, _DEPTHS))} that none exceeds; of fractions up to 1 g = round(255 v).",
        "Of an image with an opacity of 0 to 255 that is not 255 everywhere, c = 255 - opacity, and g becomes"
        " floor(g · opacity / 255). Of others c = 0.",
        f"Scale g and c, so that the longer side gets {side} pixels and the other round({side} · shorter / longer), at"
        f" least 1. Of a width or height that shrinks by a factor f of {2 * _WIDE} or more b = floor(f / {_WIDE}), else"
        " b = 1: first take means, rounded, of blocks of the width's b by the height's b pixels; those at the end hold"
        " what is left. Then along each row, and after that along each column, the new pixel i is the mean, rounded, of"
        " all old x with the weights max(0, 1 - |x + 1/2 - (i + 1/2) s| / max(s, 1)), where s = length before the"
        " blocks / b / new length. (Halves of these means are rounded up.) The result has h rows and w columns.",
        laid,
        f"Where the greatest g is less than {_FAINT} above the least, the image is blank: refuse it.",
        levels,
        f"v = {stretched}, cut to 0 .. 1.",
        f"In a square of zeros, {side} x {side}, place round(255 v) from row floor(({side} - h) / 2) and column"
        f" floor(({side} - w) / 2) on.",
    ]


def read(data: bytes) -> Image.Image:
    """The image in a file of one of FORMATS. Raises Unusable where it is none, is damaged or too large."""
    if not data:
        raise Unusable("is empty")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        if image.width * image.height > MOST_PIXELS:
            raise Unusable(f"is {image.width:,} x {image.height:,} pixels, more than {MOST_PIXELS:,}")
        image.load()
    except Unusable:
        raise
    except Image.UnidentifiedImageError:
        raise Unusable(f"is no image of {', '.join(FORMATS[:-1])} or {FORMATS[-1]}") from None
    except Exception as error:  # Pillow answers damage with some ten kinds of exception
        raise Unusable(f"cannot be read ({' '.join(str(error).split())[:100]})") from None
    return image


def fit(image: Image.Image, side: int) -> Fitted:
    """The image upright, grey, and as large as fits into a square of `side`. Raises Unusable."""
    if 0 in image.size:
        raise Unusable("has no pixels")
    image = upright(image)
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    grey, cover = _grey(image)
    light, clear = (
        layer and np.asarray(layer.resize(size, Image.Resampling.BILINEAR, reducing_gap=_WIDE))
        for layer in (grey, cover and ImageChops.invert(cover))
    )
    return Fitted(light, clear)


def upright(image: Image.Image) -> Image.Image:
    """As its EXIF data say; damaged ones say nothing."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # Pillow answers damage with some ten kinds of exception
        return image


def coloured(image: Image.Image) -> bool:
    """Whether an image has colours, which `fit` drops; of a large one by some of its pixels."""
    if image.mode in ("1", "L", "LA", "La") or image.mode.startswith(("I", "F")):
        return False
    width, height = (min(length, 256) for length in image.size)
    some = image.resize((width, height), Image.Resampling.NEAREST)
    pixels = np.asarray(some.convert("RGBA" if some.has_transparency_data else "RGB"))
    tinted = np.ptp(pixels[..., :3], axis=-1) > _TINT
    return bool((tinted if pixels.shape[-1] == 3 else tinted & (pixels[..., 3] > 127)).any())


def _grey(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Brightness (times opacity) and opacity, both of mode L; None for opacity where all is opaque."""
    if image.mode.startswith(("I", "F")):
        return _shallow(image), None
    if not image.has_transparency_data:
        return brightness(image), None
    whole = image.convert("RGBA")
    cover = whole.getchannel("A")
    grey = whole.convert("RGB").convert("L")
    return (grey, None) if cover.getextrema()[0] == 255 else (ImageChops.multiply(grey, cover), cover)


def brightness(image: Image.Image) -> Image.Image:
    """An opaque image of 8 bits a channel and of any mode as mode L. By way of RGB: Pillow makes no other of LAB."""
    return image.convert("L" if image.mode in ("1", "L", "RGB") else "RGB").convert("L")


def _shallow(image: Image.Image) -> Image.Image:
    """An image of more than 8 bits a pixel with 8: by the least depth that holds its values."""
    values = np.asarray(image).astype(np.float32)
    most = values.max()
    if not np.isfinite(values).all() or values.min() < 0 or most > _DEPTHS[-1]:
        raise Unusable(f"has values from {values.min():g} to {most:g}, of no depth of 8, 12 or 16 bits")
    if image.mode.startswith("F") and most <= 1:
        return Image.fromarray((values * 255).round().astype(np.uint8))
    depth = next(depth for depth in _DEPTHS if most <= depth)
    return Image.fromarray((values * (255 / depth)).round().astype(np.uint8))


def vote(fitted: Fitted) -> str:
    """What this image alone says of its polarity: its border is paper, and ink is what differs from that.

    "photo" where the border varies too much for paper, or as much is lighter than it as is darker.
    """
    frame = _frame(fitted.light.shape)
    if fitted.clear is not None and np.median(fitted.clear[frame]) > 127:
        covered = 255.0 - fitted.clear
        return "dark" if fitted.light.sum() < covered.sum() / 2 else "light"
    grey = fitted.on(255)
    low, paper, high = np.percentile(grey[frame], (25, 50, 75))
    if high - low > _UNEVEN:
        return "photo"
    away = grey - paper
    # Paper's own shading and grain lie on both sides of its median, all over it, and would outweigh a thin line.
    away *= np.abs(away) > max(_FAINT, _STROKE * np.abs(away).max())
    darker, lighter = -away[away < 0].sum(), away[away > 0].sum()
    if darker >= 3 * lighter:
        return "dark"
    return "light" if lighter >= 3 * darker else "photo"


def ink(fitted: Fitted, *, side: int, polarity: str) -> np.ndarray:
    """The drawing: uint8 (side, side), 0 = paper .. 255 = ink. Raises Unusable where it is blank."""
    if polarity not in POLARITIES:
        raise ValueError(f"polarity is {polarity!r}, not one of {', '.join(POLARITIES)}")
    grey = 255 - fitted.on(255) if polarity == "dark" else fitted.on(_ground(fitted) if polarity == "photo" else 0)
    if grey.max() - grey.min() < _FAINT:
        raise Unusable("is blank, all of one brightness")
    drawn = _between(grey, *((*np.percentile(grey, (1, 99)), 0.0) if polarity == "photo" else _levels(grey)))
    square = np.zeros((side, side), np.uint8)
    top, left = ((side - length) // 2 for length in drawn.shape)
    square[top : top + drawn.shape[0], left : left + drawn.shape[1]] = (drawn * 255).round()
    return square


def _ground(fitted: Fitted) -> int:
    """The paper of a photo that is transparent: black, or white where all that it shows is dark, as a drawing in ink,
    which on black would be nothing or its own negative. A photo that was cut out has light parts and stays on black,
    be it a bit darker than the next of its class."""
    if fitted.clear is None:
        return 0
    covered = 255.0 - fitted.clear
    return 255 if covered[fitted.light > covered / 2].sum() < _GLINTS * covered.sum() else 0


def stretched(grey: np.ndarray) -> np.ndarray:
    """Dark ink on light paper, uint8 (h, w), at its own size: 0 = paper .. 255 = the strongest ink, by the levels that
    `ink` takes; all 0 where it is blank. Black on white is the same but inverted."""
    upside = 255 - grey
    if int(upside.max()) - int(upside.min()) < _FAINT:
        return np.zeros_like(upside)
    low, high, grain = _levels(upside)
    table = _between(np.arange(256, dtype=np.float32), np.float32(low), np.float32(high), grain)
    return (table * 255).round().astype(np.uint8)[upside]


def look(grey: np.ndarray) -> str:
    """The `vote` of an opaque image, uint8 (h, w); of a large one by some of its pixels."""
    step = -(-max(grey.shape) // 256)
    return vote(Fitted(grey[::step, ::step], None))


def _between(grey: np.ndarray, low: np.floating, high: np.floating, grain: float) -> np.ndarray:
    """What is between two levels as 0 .. 1, without the share that is grain."""
    return (((grey - low) / max(high - low, 1) - grain) / (1 - grain)).clip(0, 1)


def _levels(grey: np.ndarray) -> tuple[np.floating, np.floating, float]:
    """Where paper and the strongest ink are in a picture whose ink is high, and the share that is paper's grain."""
    least, most = grey.min().astype(np.float32), grey.max().astype(np.float32)
    # Most of the border is paper; where ink reaches it all around, most of the picture may still be.
    paper = min(np.median(grey[_frame(grey.shape)]), np.median(grey))
    return (paper if paper < (least + most) / 2 else least), most, _GRAIN


def shown(ink: np.ndarray, polarity: str) -> np.ndarray:
    """A drawing as brightness, as the image it comes from had it: what `prepare` of it gives back."""
    return 255 - ink if polarity == "dark" else ink


def _frame(shape: tuple[int, ...]) -> np.ndarray:
    """The border of a picture: bool (h, w)."""
    frame = np.ones(shape, dtype=bool)
    height, width = (max(1, round(length * _FRAME)) for length in shape)
    frame[height:-height, width:-width] = False
    return frame
