"""A figure as marks on a canvas, drawn as SVG (on the page in the reader's colours, in files in light ones) or as PNG.

Lengths are CSS pixels, and y grows downwards. Colours are named by what they mean; a theme gives their values.
"""

import base64
import io
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from html import escape
from itertools import pairwise
from typing import Literal

from PIL import Image, ImageChops, ImageColor, ImageDraw, ImageFont

# Okabe and Ito's colours, which the colour-blind can tell apart, darker on light paper and lighter on dark.
LIGHT = {
    "paper": "#ffffff", "ink": "#1b1f24", "muted": "#5b6570", "grid": "#dfe3e8", "line": "#8a949e", "ours": "#0068b3",
    "good": "#00795a", "bad": "#c04a00", "c1": "#0068b3", "c2": "#c04a00", "c3": "#00795a", "c4": "#a8457e",
    "c5": "#a87400", "c6": "#5a4fcf",
}  # fmt: skip
DARK = {
    "paper": "#14181d", "ink": "#e8ebee", "muted": "#a2acb6", "grid": "#2c333b", "line": "#79838d", "ours": "#62b8f5",
    "good": "#3fcfa3", "bad": "#ff9152", "c1": "#62b8f5", "c2": "#ff9152", "c3": "#3fcfa3", "c4": "#ee9fcb",
    "c5": "#f0bd4f", "c6": "#b3abff",
}  # fmt: skip
SERIES = ("c1", "c2", "c3", "c4", "c5", "c6")
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
_SCALE, _FINER = 2, 2  # pixels of a PNG for each of the canvas; how much finer it is drawn before it is scaled down

_EDGE = 14  # pixels of paper around a figure in a file
_LARGE = 500_000  # square pixels of a canvas that is not drawn finer first: a sheet of drawings

Anchor = Literal["start", "middle", "end"]
Shape = Literal["circle", "square", "diamond", "cross"]
Point = tuple[float, float]


@dataclass(frozen=True)
class Mark:
    """A line, dot, many equal dots, rectangle, text or image. `of` is the trial that it belongs to: all marks of one
    trial are highlighted together."""

    kind: Literal["line", "dot", "dots", "rect", "text", "image"]
    points: tuple[Point, ...]  # of a rectangle and an image: a corner and (width, height)
    color: str = "ink"
    width: float = 1.5  # of a line; the radius of a dot; the size of a text
    opacity: float = 1.0
    shape: Shape = "circle"
    dashed: bool = False
    hollow: bool = False
    bold: bool = False
    halo: bool = False  # a text has an outline of paper, which keeps lines off it
    anchor: Anchor = "start"
    text: str = ""  # what a text says; of an image: base64 of its PNG
    tip: str = ""
    of: str = ""


@dataclass
class Canvas:
    """A figure as a list of marks. `title` names it, and `description` says in words what it shows."""

    width: float
    height: float
    title: str
    description: str = ""
    marks: list[Mark] = field(default_factory=list)

    def line(self, points: Sequence[Point], color: str = "ink", width: float = 1.5, **more: object) -> None:
        if len(points) > 1:
            self.marks.append(Mark("line", tuple(points), color, width, **more))  # type: ignore[arg-type]

    def dot(self, x: float, y: float, radius: float = 3, color: str = "ink", **more: object) -> None:
        self.marks.append(Mark("dot", ((x, y),), color, radius, **more))  # type: ignore[arg-type]

    def dots(self, points: Sequence[Point], radius: float = 3, color: str = "ink", **more: object) -> None:
        self.marks.append(Mark("dots", tuple(points), color, radius, **more))  # type: ignore[arg-type]

    def rect(self, x: float, y: float, across: float, down: float, color: str = "grid", **more: object) -> None:
        self.marks.append(Mark("rect", ((x, y), (across, down)), color, **more))  # type: ignore[arg-type]

    def text(self, x: float, y: float, text: str, color: str = "ink", size: float = 12, **more: object) -> None:
        """`y` is the base line."""
        self.marks.append(Mark("text", ((x, y),), color, size, text=text, **more))  # type: ignore[arg-type]

    def image(self, x: float, y: float, side: float, png: str, **more: object) -> None:
        self.marks.append(Mark("image", ((x, y), (side, side)), text=png, **more))  # type: ignore[arg-type]


def svg(canvas: Canvas, *, name: str, theme: dict[str, str] | None = None) -> str:
    """The figure as SVG. Without a theme its colours are the page's CSS variables, and it has no size and no paper."""
    label = (
        f'<title id="{name}-t">{escape(canvas.title)}</title><desc id="{name}-d">{escape(canvas.description)}</desc>'
    )
    body = "".join(_svg_mark(mark, theme) for mark in canvas.marks)
    edge = _EDGE if theme else 0
    size = canvas.width + 2 * edge, canvas.height + 2 * edge
    head = f'<svg viewBox="{-edge} {-edge} {size[0]:g} {size[1]:g}" role="img" aria-labelledby="{name}-t {name}-d"'
    if theme is None:
        return f"{head}>{label}{body}</svg>"
    head += f' xmlns="http://www.w3.org/2000/svg" width="{size[0]:g}" height="{size[1]:g}"'
    paper = f'<rect x="{-edge}" y="{-edge}" width="{size[0]:g}" height="{size[1]:g}" fill="{theme["paper"]}"/>'
    return f'{head} font-family="{FONT}">{label}{paper}{body}</svg>\n'


def _svg_mark(mark: Mark, theme: dict[str, str] | None) -> str:
    color = f"var(--{mark.color})" if theme is None else theme[mark.color]
    paper = "var(--paper)" if theme is None else theme["paper"]
    more = (f' opacity="{mark.opacity:g}"' if mark.opacity < 1 else "") + (f' data-of="{mark.of}"' if mark.of else "")
    tip = f"<title>{escape(mark.tip)}</title>" if mark.tip else ""
    (x, y), *others = mark.points
    if mark.kind == "text":
        bold = ' font-weight="600"' if mark.bold else ""
        place = f'x="{x:.1f}" y="{y:.1f}" font-size="{mark.width:g}" text-anchor="{mark.anchor}"{bold}'
        halo = f";stroke:{paper};stroke-width:3px;stroke-linejoin:round;paint-order:stroke" if mark.halo else ""
        return f'<text {place} style="fill:{color}{halo}"{more}>{escape(mark.text)}{tip}</text>'
    if mark.kind == "image":
        side = others[0][0]
        blend = "" if theme is None else ' style="mix-blend-mode:multiply"'
        place = f'x="{x:.1f}" y="{y:.1f}" width="{side:g}" height="{side:g}"{blend}'
        return f'<image {place} href="data:image/png;base64,{mark.text}"{more}>{tip}</image>'
    if mark.kind == "rect":
        (width, height), fill = others[0], "none" if mark.hollow else color
        stroke = f";stroke:{color};stroke-width:{mark.width:g}" if mark.hollow else ""
        place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="2"'
        return f'<rect {place} style="fill:{fill}{stroke}"{more}>{tip}</rect>'
    if mark.kind == "dots":
        path = "".join(f"M{a:.1f} {b:.1f}h0" for a, b in mark.points)
        style = f"fill:none;stroke:{color};stroke-width:{2 * mark.width:g};stroke-linecap:round"
        return f'<path d="{path}" style="{style}"{more}>{tip}</path>'
    stroke = f"stroke:{color};stroke-width:{mark.width if mark.kind == 'line' else 1.5:g}"
    if mark.kind == "line":
        dashes = ";stroke-dasharray:4 3" if mark.dashed else ""
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in mark.points)
        style = f"fill:none;{stroke}{dashes};stroke-linejoin:round;stroke-linecap:round"
        return f'<polyline points="{path}" style="{style}"{more}>{tip}</polyline>'
    r = mark.width
    if mark.shape == "cross":
        path = f"M{x - r:.1f} {y - r:.1f}l{2 * r:g} {2 * r:g}m0 {-2 * r:g}l{-2 * r:g} {2 * r:g}"
        return f'<path d="{path}" style="fill:none;{stroke}"{more}>{tip}</path>'
    style = f"fill:{paper if mark.hollow else color};stroke:{color if mark.hollow else paper};stroke-width:1.2"
    if mark.shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:g}" style="{style}"{more}>{tip}</circle>'
    path = "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in _corners(mark.shape, x, y, r)) + "Z"
    return f'<path d="{path}" style="{style}"{more}>{tip}</path>'


def _corners(shape: Shape, x: float, y: float, r: float) -> list[Point]:
    if shape == "square":
        r *= 0.88  # to look as large as the circle
        return [(x - r, y - r), (x + r, y - r), (x + r, y + r), (x - r, y + r)]
    r *= 1.25
    return [(x, y - r), (x + r, y), (x, y + r), (x - r, y)]


def png(canvas: Canvas) -> bytes:
    """The figure as PNG in light colours, two pixels for each of the canvas."""
    finer = _FINER if canvas.width * canvas.height < _LARGE else 1
    scale = _SCALE * finer
    size = round((canvas.width + 2 * _EDGE) * scale), round((canvas.height + 2 * _EDGE) * scale)
    picture = Image.new("RGB", size, LIGHT["paper"])
    draw = ImageDraw.Draw(picture)
    for mark in canvas.marks:
        _png_mark(picture, draw, mark, scale)
    small = picture.resize((size[0] // finer, size[1] // finer), Image.Resampling.BOX) if finer > 1 else picture
    stream = io.BytesIO()
    # Of Pillow's methods to get 128 colours, this one keeps rare ones: no colour is off by more than 10 of 255, against
    # 66 with the median cut. `optimize` would make the file a tenth smaller and take twice as long.
    small.quantize(128, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(stream, "PNG", dpi=(192, 192))
    return stream.getvalue()


def _png_mark(picture: Image.Image, draw: ImageDraw.ImageDraw, mark: Mark, scale: int) -> None:
    color = _faded(mark.color, mark.opacity)
    points = [((x + _EDGE) * scale, (y + _EDGE) * scale) for x, y in mark.points]
    across, down = (length * scale for length in mark.points[-1])  # of a rectangle and an image
    (x, y), r = points[0], mark.width * scale
    if mark.kind == "text":
        font = _font(round(r), mark.bold)
        place = {"start": "ls", "middle": "ms", "end": "rs"}[mark.anchor]
        said = _sayable(mark.text, font)
        if mark.halo:
            draw.text((x, y), said, LIGHT["paper"], font=font, anchor=place, stroke_width=round(1.5 * scale))
        draw.text((x, y), said, color, font=font, anchor=place)
    elif mark.kind == "image":
        _paste(picture, mark.text, (round(x), round(y)), round(across))
    elif mark.kind == "rect":
        box = (x, y, x + across, y + down)
        draw.rectangle(box, None if mark.hollow else color, color if mark.hollow else None, width=round(r))
    elif mark.kind == "line":
        for one, other in pairwise(points):
            for a, b in _dashes(one, other, scale) if mark.dashed else [(one, other)]:
                draw.line((*a, *b), color, width=max(1, round(r)), joint="curve")
    elif mark.kind == "dots":
        for a, b in points:
            draw.ellipse((a - r, b - r, a + r, b + r), color)
    elif mark.shape == "cross":
        for dx in (-r, r):
            draw.line((x + dx, y - r, x - dx, y + r), color, width=round(1.5 * scale))
    else:
        paper = LIGHT["paper"]
        fill, edge = (paper, color) if mark.hollow else (color, paper)
        if mark.shape == "circle":
            draw.ellipse((x - r, y - r, x + r, y + r), fill, edge, width=round(1.2 * scale))
        else:
            draw.polygon(_corners(mark.shape, x, y, r), fill, edge, width=round(1.2 * scale))


def _faded(name: str, opacity: float) -> tuple[int, ...]:
    front, back = ImageColor.getrgb(LIGHT[name]), ImageColor.getrgb(LIGHT["paper"])
    return tuple(round(a * opacity + b * (1 - opacity)) for a, b in zip(front, back, strict=True))


def _dashes(a: Point, b: Point, scale: int) -> list[tuple[Point, Point]]:
    length = ((b[0] - a[0]) ** 2 + (b[1] - a[1]) ** 2) ** 0.5
    step, dash = 7 * scale, 4 * scale

    def at(distance: float) -> Point:
        share = min(1.0, distance / length)
        return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share

    return [(at(n * step), at(n * step + dash)) for n in range(int(length / step) + 1)] if length else []


def _paste(picture: Image.Image, png_base64: str, corner: tuple[int, int], side: int) -> None:
    with Image.open(io.BytesIO(base64.b64decode(png_base64)), formats=["PNG"]) as image:
        grey = image.convert("L")
    grey.thumbnail((side, side)) if max(grey.size) > side else None
    grow = side / max(grey.size)
    grey = grey.resize((max(1, round(grey.width * grow)), max(1, round(grey.height * grow))), Image.Resampling.BILINEAR)
    place = corner[0] + (side - grey.width) // 2, corner[1] + (side - grey.height) // 2
    box = (*place, place[0] + grey.width, place[1] + grey.height)
    picture.paste(ImageChops.multiply(picture.crop(box), grey.convert("RGB")), place)


@cache
def _font(size: int, bold: bool) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    try:
        return ImageFont.truetype("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf", size)
    except OSError:
        return ImageFont.load_default(size)  # Pillow's own, which knows Latin only


def _sayable(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The text as a font that lacks some characters can show it."""
    if getattr(font, "path", None) and "DejaVu" in str(font.path):
        return text
    plain = text.translate({ord("–"): "-", ord("×"): "x", ord("★"): "*", ord("→"): ">", ord("≤"): "<"})
    return unicodedata.normalize("NFKD", plain).encode("ascii", "replace").decode()
