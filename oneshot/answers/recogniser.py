"""A trained network to ask: embeddings of images, whether two show the same class, and which class an image is of.

`load(path)` returns it in evaluation mode. It takes images as they are stored in files.
"""

import os
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from oneshot.answers import artifact, matching, preprocess, queries
from oneshot.answers.calibration import RATE, Calibration
from oneshot.answers.classes import Classes, mark, uneven
from oneshot.answers.ranking import Ranking, rank
from oneshot.base.errors import UserError, shown
from oneshot.base.storage import Folder, at_home
from oneshot.network.embedding import chunk
from oneshot.network.models import Siamese
from oneshot.network.worker import pick_device, without_tf32

# An image, or the file that holds it: its path, its bytes, or the file opened in binary mode.
One = Image.Image | np.ndarray | str | os.PathLike[str] | preprocess.Opened
Images = One | Sequence[One]
Support = Mapping[str, Images] | str | os.PathLike[str] | Classes


class OneShot:
    """A trained network with the preprocessing it was trained with, and the calibration of its scores.

    `calibration` is None if there is none: for a checkpoint, for a `best/` that an older version wrote, and for a
    network whose scores do not tell classes apart. It is safe to call from several threads: no method changes it.
    """

    def __init__(self, net: Siamese, card: dict[str, Any], device: torch.device) -> None:
        self.net, self.card, self.device = net.to(device).eval(), card, device
        self.cleaning = card.get("preprocessing", {}).get("cleaning")
        found = card.get("calibration")
        self.calibration = Calibration(found) if found else None

    def __repr__(self) -> str:
        trained = self.card["provenance"]["settings"]
        data, name = trained.get("data", {}), trained.get("model", {}).get("name", "a network")
        source = f"trained on {data.get('dataset', 'unknown data')}, split {data.get('split', 'unknown')}"
        return f"OneShot({name} at {self.net.size} px, {source}; embeddings of {self.net.dimension} numbers)"

    def embed(self, images: Images) -> torch.Tensor:
        """Embeddings (B, D) of one image or of a sequence of images.

        Each is a PIL image, a uint8 array (H, W) or (H, W, 1), or a file: its path, its bytes, or the file opened in
        binary mode. It shows dark ink on light paper. A network that was trained on one's own images takes images of
        their kind instead, and cleans them as those were.

        An array (N, H, W) is a sequence; (H, W, 3) and (H, W, 4) are always one image in colour, which only a network
        trained on one's own images takes. Raises UserError if no image is given or one cannot be used."""
        votes: Counter[str] = Counter()
        pixels = self._prepare(images, votes)
        if why := preprocess.looks_light(votes):
            _warn(why)
        return self.embed_pixels(pixels)

    @torch.no_grad()
    def embed_pixels(self, pixels_BSS: torch.Tensor) -> torch.Tensor:
        """Embeddings (B, D) of images as `fit` and `read` return them: uint8 (B, S, S).

        They are computed in full float32, also on a GPU, as they were when the network was judged."""

        def embed(part: torch.Tensor) -> torch.Tensor:
            return self.net.embed(part[:, None].float().div_(255).to(self.device))

        with without_tf32():
            return torch.cat([embed(part) for part in pixels_BSS.split(chunk(self.device))])

    @property
    def identity(self) -> dict[str, Any]:
        """What an embedding depends on besides the image. Embeddings can be compared only if all of it is equal."""
        return {
            "sha256": self.card["sha256"], "views": self.card.get("views", 1), "size": self.net.size,
            "dimension": self.net.dimension, "cleaning": self.cleaning,
        }  # fmt: skip

    @property
    def head(self) -> dict[str, Any]:
        """How two embeddings a and b are scored: `weight`, D numbers of either sign, and `bias`.

        The score is the sum of weight * |a - b| plus bias. `classify` ranks by it, and `verify` rises with it; cosine
        and L2 give another order."""
        return {"weight": self.net.head.weight[0].tolist(), "bias": self.net.head.bias[0].item()}

    def similarity(self, left: Images, right: Images) -> torch.Tensor:
        """Probabilities (B,) that left and right image show the same character, as the network was taught them.

        They are not calibrated; those of `verify` are, and rise with them. Raises UserError if the numbers of left and
        right images differ or if an image cannot be used.
        """
        pairs = self._pairs(left, right)
        with torch.no_grad():  # as a decorator it would stand between a warning and whoever asks
            return self.net.score(*pairs).sigmoid().cpu()

    def verify(self, left: Images, right: Images) -> torch.Tensor:
        """Calibrated probabilities (B,) that left and right image show the same class, if half of all pairs do.

        Without a calibration, they are those of `similarity`. Raises UserError as `similarity` does."""
        return self.same(*self._pairs(left, right))

    def threshold(self, false_match: float) -> float:
        """The probability of `verify` above which to call two images the same, at a given false match rate.

        Of pairs that show two classes, no more than the share `false_match`, one of `matching.RATES`, is then called
        the same. The threshold was chosen on validation pairs, each from one group if groups have two classes. It is
        rough if `doubts.false_match` says so. Raises UserError for another rate, and if the calibration has none."""
        return matching.limit(self.calibration, false_match)

    @torch.no_grad()
    def same(self, a_BD: torch.Tensor, b_BD: torch.Tensor) -> torch.Tensor:
        """The probabilities of `verify`, from embeddings (B, D)."""
        logits = self.net.score(a_BD, b_BD).double().cpu()
        return torch.from_numpy(self.calibration.pair(logits.numpy())) if self.calibration else logits.sigmoid()

    def classify(
        self, query: Images, support: Support, *, false_accept: float = RATE, top: int | None = None
    ) -> list[Ranking]:
        """For each query, the classes ranked by probability, the best first: all of them, or the best `top`.

        `support` is what `classes` takes. `false_accept` is the share of images of no class that is taken for one of
        the classes: one of `calibration.RATES`, or 1 to always name the best class. It is rough if
        `doubts.false_accept` says so. Raises UserError as `classes` does, and for an image that cannot be used, another
        `false_accept`, a `top` below 1, and classes of another network.
        """
        classes = self.classes(support)
        if classes.network != self.identity:
            raise UserError("these classes were embedded by another network; make them with the one you ask")
        if top is not None and not (isinstance(top, Integral) and top >= 1):
            raise UserError(f"top = {shown(top)}: it must be a whole number, 1 or more")
        return rank(self.net, self.calibration, classes, self.embed(query), false_accept=false_accept, top=top)

    def classes(self, support: Support, *, per_class: int | None = None) -> Classes:
        """Embed the classes to choose from, once for many queries. `support` is one of these:

        - a mapping from the name of each class to one or more images of it;
        - a folder of classes, as `python -m oneshot.classify --support` takes it;
        - a file, by path or URI, that `python -m oneshot.embed` or `Classes.save` wrote;
        - a `Classes` object, which is returned as it is.

        The embeddings of a class's images are averaged; copies of an image count once. Give all classes the same number
        of images: a mean of more images is nearer to everything, so a class with more images is named too often. A
        warning says if numbers differ. `per_class` takes so many different images of each class, the first by name or
        as they are given; a warning names the classes that have fewer.

        Raises UserError if there is no class, a class has no image, an image cannot be used, or a file is damaged or of
        another network; and for a `per_class` below 1, or with classes that are embedded already.
        """
        if per_class is not None and not (isinstance(per_class, Integral) and per_class >= 1):
            raise UserError(f"per_class = {shown(per_class)}: it must be a whole number, 1 or more")
        if isinstance(support, Classes):
            if per_class is not None:
                raise UserError(
                    f"per_class = {per_class}: these classes are already embedded; pass it where they are made"
                )
            return support
        if isinstance(support, str | os.PathLike):
            found = queries.read_support(self, support, per_class=per_class)
        elif not isinstance(support, Mapping):
            raise UserError(
                f"an object of type {type(support).__name__} cannot be the support; give a mapping {{class name:"
                " image or images}, the path of a folder of classes or of a file of embeddings, or a `Classes` object"
            )
        else:
            votes: Counter[str] = Counter()
            pixels = {name: self._prepare(images, votes) for name, images in support.items()}
            if per_class is not None:
                pixels = {name: queries.different(each, per_class) for name, each in pixels.items()}
            why = preprocess.looks_light(votes)
            found = replace(self.averaged(pixels), warnings=(why,) if why else ())
        for why in filter(None, [*found.warnings, uneven(found.names, found.counts, per_class=per_class)]):
            _warn(why)
        return found

    def averaged(self, pixels: Mapping[str, torch.Tensor], paths: Sequence[str | None] = ()) -> Classes:
        """The classes of these images, given by name as `fit` or `read` returns them: uint8 (k, S, S).

        `paths` are those of the first image of each class. Raises UserError if there is no class."""
        if not pixels:
            raise UserError("the support has no classes; give at least one image of each class")
        different = [each.unique(dim=0) for each in pixels.values()]
        counts = tuple(map(len, different))
        z_SD = self.embed_pixels(torch.cat(different))
        return Classes(
            names=tuple(pixels),
            z_CD=torch.stack([part.mean(dim=0) for part in z_SD.split(counts)]),
            counts=counts,
            pixels=torch.stack([each[0] for each in pixels.values()]),
            paths=tuple(paths) or (None,) * len(counts),
            network=self.identity,
            head=self.head,
            seen=frozenset(mark(image) for each in different for image in each),
        )

    def fit(self, image: Image.Image | np.ndarray) -> torch.Tensor:
        """An image as this network sees it, see `preprocess.fit`: uint8 (1, S, S), ink 255. Raises UserError."""
        return preprocess.fit(image, self.net.size, self.cleaning)

    def read(self, file: Path | preprocess.Opened, *, votes: Counter[str] | None = None) -> torch.Tensor:
        """The image in a file as this network sees it, see `preprocess.read`. Raises UserError."""
        with preprocess.unwarned():
            return preprocess.read(file, self.net.size, self.cleaning, votes=votes)

    def _pairs(self, left: Images, right: Images) -> tuple[torch.Tensor, torch.Tensor]:
        a_BD, b_BD = self.embed(left), self.embed(right)
        if len(a_BD) != len(b_BD):
            raise UserError(f"{len(a_BD)} left and {len(b_BD)} right images: give as many of each")
        return a_BD, b_BD

    def _prepare(self, images: Images, votes: Counter[str]) -> torch.Tensor:
        """The images as uint8 (B, S, S), ink 255; `votes` as in `preprocess.fit`."""
        given = images if isinstance(images, Iterable) and not _is_one(images) else [images]
        fitted = [
            self.read(at_home(image) if isinstance(image, str | os.PathLike) else image, votes=votes)
            if _is_file(image)
            else preprocess.fit(image, self.net.size, self.cleaning, votes=votes)
            for image in given
        ]
        if not fitted:
            raise UserError("no image was given")
        return torch.cat(fitted)


def _warn(why: str) -> None:
    """Warn with the line that called this module, through however many of its methods."""
    level, frame = 1, sys._getframe()
    while frame and frame.f_globals is globals():
        level, frame = level + 1, frame.f_back
    warnings.warn(why, stacklevel=level)


def _is_one(images: Images) -> bool:
    """Whether this is one image, not a sequence; an array may have 1, 3 or 4 channels in a last axis."""
    if isinstance(images, np.ndarray):
        return images.ndim == 2 or (images.ndim == 3 and images.shape[-1] in (1, 3, 4))
    return isinstance(images, Image.Image) or _is_file(images)


def _is_file(image: One) -> bool:
    """Whether an image must still be read: from a path, from bytes or from an open file."""
    return isinstance(image, str | os.PathLike | bytes | bytearray | memoryview) or hasattr(image, "read")


def load(path: str | Path | Folder, *, device: str = "auto") -> OneShot:
    """Load the network of a run's folder, of its `best/`, or of a checkpoint: a path or a URI.

    `device` is `auto` (the GPU if there is one), `cpu`, `cuda` or `cuda:N`. Raises UserError."""
    if not isinstance(path, str | os.PathLike | Folder):
        raise UserError(
            f"an object of type {type(path).__name__} cannot name a network; name a run, its best/ or a checkpoint"
        )
    net, card = artifact.read(Folder.of(path))
    return OneShot(net, card, pick_device(device))
