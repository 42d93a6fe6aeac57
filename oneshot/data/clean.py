"""Turn an image of any kind into a drawing: upright, grey, square, paper = 0. For training and inference alike.

`prepare` does all of it. A whole set takes more steps, so that each file is read once: `fit` each image, choose the
polarity by their `vote`s, then call `ink` for each.
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
MOST_PIXELS = 120_000_000  # per image; one that declares more may be a decompression bomb and is not unpacked

_DEPTHS = (255, 4095, 65535)  # the largest pixel value of 8 bits, of a camera's 12 bits, and of 16
_FRAME = 1 / 16  # width of the border from which the paper level is estimated, as a share of a side
_UNEVEN = 48  # paper varies less than this, of 255, between the quartiles of the border
_FAINT = 12  # of 255: less contrast is noise on a blank page
_STROKE = 0.25  # pixels have no say in the polarity below this share of the strongest difference from paper
_GLINTS = 0.05  # the share of what is covered that may be light in a dark figure
_WIDE = 3  # if an image shrinks by twice this factor or more, whole blocks of pixels are averaged first
_TINT = 32  # of 255, between the channels of a pixel: less is a colour cast or off-white paper
_GRAIN = 0.05  # the share of the contrast that is paper grain, or JPEG artefacts around a line


class Unusable(UserError):
    """An image that cannot be read or shows nothing. The message continues after the image's name."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """A grey image whose longer side is `side`. Both arrays are (h, w) uint8."""

    light: np.ndarray  # brightness times opacity
    clear: np.ndarray | None  # 255 - opacity: 255 where the paper shows; None if all is opaque

    def on(self, paper: int) -> np.ndarray:
        """The image laid on paper of this brightness: float32 (h, w), 0 .. 255."""
        light = self.light.astype(np.float32)
        return light if self.clear is None else light + self.clear * np.float32(paper / 255)


def prepare(image: Image.Image, *, side: int, polarity: str) -> np.ndarray:
    """A PIL image of any mode and size as a drawing: uint8 (side, side), 0 = paper .. 255 = ink.

    The image is turned as its EXIF data say, laid on paper where it is transparent, made grey, scaled with its
    proportions kept and centred on a square of paper. `polarity` is one of POLARITIES. With "dark" and "light" ink,
    paper becomes 0 and the strongest ink 255, whatever the lighting was. A "photo" keeps its brightness, stretched to
    the whole range; where transparent, it is laid on black, or on white if all that it shows is dark. An animation
    gives its current frame. Raises Unusable for an image that is blank or whose values are of no known range,
    ValueError for an unknown polarity.
    """
    return ink(fit(image, side), side=side, polarity=polarity)


def steps(*, side: int, polarity: str) -> list[str]:
    """The steps of `prepare` as sentences with all numbers, for readers who reimplement it without this module.

    In them g is the grey of a pixel and c its transparency."""
    inked = polarity != "photo"
    laid = {
        "dark": "Lay it on white and invert it: g becomes 255 - (g + c).",
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
        else "low and high are the 1st and the 99th percentile of g, interpolated linearly between ranks."
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
    """The image in a file of one of FORMATS. Raises Unusable if it is no such file, is damaged or too large."""
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
        raise Unusable(f"is not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image") from None
    except Exception as error:  # Pillow raises some ten kinds of exception for damaged files
        raise Unusable(f"cannot be read ({' '.join(str(error).split())[:100]})") from None
    return image


def fit(image: Image.Image, side: int) -> Fitted:
    """The image upright, grey, and as large as fits into a square of `side`.

    Raises Unusable if it has no pixels or its values are of no known range."""
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
    """The image turned as its EXIF data say; damaged EXIF data are ignored."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # Pillow raises some ten kinds of exception for damaged files
        return image


def coloured(image: Image.Image) -> bool:
    """Whether an image has colours, which `fit` drops. A large image is judged by some of its pixels."""
    if image.mode in ("1", "L", "LA", "La") or image.mode.startswith(("I", "F")):
        return False
    width, height = (min(length, 256) for length in image.size)
    some = image.resize((width, height), Image.Resampling.NEAREST)
    pixels = np.asarray(some.convert("RGBA" if some.has_transparency_data else "RGB"))
    tinted = np.ptp(pixels[..., :3], axis=-1) > _TINT
    return bool((tinted if pixels.shape[-1] == 3 else tinted & (pixels[..., 3] > 127)).any())


def _grey(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Brightness (times opacity) and opacity, both of mode L. Opacity is None if all is opaque."""
    if image.mode.startswith(("I", "F")):
        return _shallow(image), None
    if not image.has_transparency_data:
        return brightness(image), None
    whole = image.convert("RGBA")
    cover = whole.getchannel("A")
    grey = whole.convert("RGB").convert("L")
    return (grey, None) if cover.getextrema()[0] == 255 else (ImageChops.multiply(grey, cover), cover)


def brightness(image: Image.Image) -> Image.Image:
    """Convert an opaque image of 8 bits a channel to mode L, through RGB: Pillow converts LAB to nothing else."""
    return image.convert("L" if image.mode in ("1", "L", "RGB") else "RGB").convert("L")


def _shallow(image: Image.Image) -> Image.Image:
    """Reduce an image of more than 8 bits a pixel to 8, from the least depth that holds its values."""
    values = np.asarray(image).astype(np.float32)
    most = values.max()
    if not np.isfinite(values).all() or values.min() < 0 or most > _DEPTHS[-1]:
        raise Unusable(f"has values from {values.min():g} to {most:g}, which fit no depth of 8, 12 or 16 bits")
    if image.mode.startswith("F") and most <= 1:
        return Image.fromarray((values * 255).round().astype(np.uint8))
    depth = next(depth for depth in _DEPTHS if most <= depth)
    return Image.fromarray((values * (255 / depth)).round().astype(np.uint8))


def vote(fitted: Fitted) -> str:
    """The polarity of this image alone, on the assumption that its border is paper and that ink differs from it.

    If most of the border is transparent, the brightness of the rest decides between "dark" and "light". Otherwise the
    vote is "photo" if the border varies too much for paper, or if neither the darker nor the lighter pixels outweigh
    the others three to one.
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
    # Shading and grain of the paper lie on both sides of its median everywhere and would outweigh a thin line.
    away *= np.abs(away) > max(_FAINT, _STROKE * np.abs(away).max())
    darker, lighter = -away[away < 0].sum(), away[away > 0].sum()
    if darker >= 3 * lighter:
        return "dark"
    return "light" if lighter >= 3 * darker else "photo"


def ink(fitted: Fitted, *, side: int, polarity: str) -> np.ndarray:
    """The drawing: uint8 (side, side), 0 = paper .. 255 = ink. Raises Unusable if it is blank."""
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
    """The paper of a transparent photo: black, or white if all that it shows is dark.

    A dark figure, such as a drawing in ink, would vanish on black or become its own negative. A cut-out photo has light
    parts and stays on black, even if it is a bit darker than others of its class."""
    if fitted.clear is None:
        return 0
    covered = 255.0 - fitted.clear
    return 255 if covered[fitted.light > covered / 2].sum() < _GLINTS * covered.sum() else 0


def stretched(grey: np.ndarray) -> np.ndarray:
    """Dark ink on light paper at its own size: uint8 (h, w), 0 = paper .. 255 = the strongest ink.

    The levels are those that `ink` takes. A blank image gives all 0; pure black on white is only inverted."""
    upside = 255 - grey
    if int(upside.max()) - int(upside.min()) < _FAINT:
        return np.zeros_like(upside)
    low, high, grain = _levels(upside)
    table = _between(np.arange(256, dtype=np.float32), np.float32(low), np.float32(high), grain)
    return (table * 255).round().astype(np.uint8)[upside]


def look(grey: np.ndarray) -> str:
    """The `vote` of an opaque image, uint8 (h, w). A large image is judged by some of its pixels."""
    step = -(-max(grey.shape) // 256)
    return vote(Fitted(grey[::step, ::step], None))


def _between(grey: np.ndarray, low: np.floating, high: np.floating, grain: float) -> np.ndarray:
    """Scale values between two levels to 0 .. 1; the lowest share, `grain`, becomes 0."""
    return (((grey - low) / max(high - low, 1) - grain) / (1 - grain)).clip(0, 1)


def _levels(grey: np.ndarray) -> tuple[np.floating, np.floating, float]:
    """The levels of paper and of the strongest ink, and the share that is grain; in `grey`, ink is high."""
    least, most = grey.min().astype(np.float32), grey.max().astype(np.float32)
    # Most of the border is paper. If ink fills the border, most of the whole picture may still be paper.
    paper = min(np.median(grey[_frame(grey.shape)]), np.median(grey))
    return (paper if paper < (least + most) / 2 else least), most, _GRAIN


def shown(ink: np.ndarray, polarity: str) -> np.ndarray:
    """A drawing with the brightness of its source image; `prepare` of the result gives the drawing again."""
    return 255 - ink if polarity == "dark" else ink


def _frame(shape: tuple[int, ...]) -> np.ndarray:
    """The border of a picture: bool (h, w)."""
    frame = np.ones(shape, dtype=bool)
    height, width = (max(1, round(length * _FRAME)) for length in shape)
    frame[height:-height, width:-width] = False
    return frame
