"""Generated folders of images like a user's own, and the data sets prepared from them. A class is one figure; its
images differ slightly."""

from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from rich.console import Console

from oneshot.base.errors import UserError
from oneshot.data.sets import Prepared, prepare


def figure(seed: int, take: int = 0, *, size: tuple[int, int] = (120, 90), kind: str = "dark") -> Image.Image:
    """A figure of lines that depends on `seed`; `take` moves its corners. With `kind` "photo" its background is
    cluttered, with "light" its colours are inverted."""
    rng = np.random.default_rng([seed, take])
    corners = np.random.default_rng(seed).random((5, 2)) + rng.normal(0, 0.02, (5, 2))
    points = [tuple(point) for point in (0.15 + 0.7 * corners.clip(0, 1)) * size]
    image = Image.new("RGB", size, (236, 232, 220))
    if kind == "photo":
        blots = rng.integers(0, 255, (6, 6, 3), dtype=np.uint8)
        image = Image.fromarray(blots).resize(size, Image.Resampling.BILINEAR)
    ImageDraw.Draw(image).line(points, fill=(24, 30, 70), width=max(3, size[0] // 20), joint="curve")
    return Image.fromarray(255 - np.asarray(image)) if kind == "light" else image


def tree(
    root: Path, *, classes: int, images: int, groups: int = 0, kind: str = "dark", ending: str = "png"
) -> Path:  # fmt: skip
    """Fill `root` with `classes` classes of `images` images each, in groups if `groups` is given; sizes differ."""
    for number in range(classes):
        group = f"group{number % groups}" if groups else ""
        folder = root / group / f"class{number:02d}"
        folder.mkdir(parents=True)
        for take in range(images):
            size = (80 + 10 * (take % 3), 60 + 7 * (number % 5))
            figure(number, take, size=size, kind=kind).save(folder / f"image{take}.{ending}")
    return root


def made(
    root: Path | str, source: Path | str | None, dataset: str = "folder", **how: object
) -> tuple[Prepared, str]:  # fmt: skip
    """Prepare the set. Returns it and what was printed meanwhile."""
    stream = StringIO()
    console = Console(file=stream, width=100_000)
    name = how.pop("name", None)
    where = source and str(source)
    return prepare(dataset, data_root=root, source=where, console=console, name=name, how=how), stream.getvalue()


def refusal(root: Path, source: Path | None, dataset: str = "folder", **how: object) -> str:
    """The error message with which preparing a set is refused."""
    with pytest.raises(UserError) as refused:
        made(root, source, dataset, **how)
    return str(refused.value)
