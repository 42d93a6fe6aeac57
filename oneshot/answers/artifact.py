"""A trained network to hand on: a folder with `model.safetensors` and `model.json`, complete in itself.

`load(path)` gives a network in evaluation mode that takes images as they lie in files.
"""

import hashlib
import os
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

from oneshot.answers import matching, preprocess, queries
from oneshot.answers.calibration import RATE, Calibration
from oneshot.answers.embeddings import Classes, mark, uneven
from oneshot.answers.ranking import Ranking, rank
from oneshot.base import jobs, settings
from oneshot.base.errors import UserError, shown
from oneshot.base.storage import Folder, at_home
from oneshot.network import models
from oneshot.network.embedding import chunk
from oneshot.network.models import Siamese
from oneshot.network.worker import pick_device, without_tf32
from oneshot.run import cards, checkpoint, tensors
from oneshot.run.cards import CARD, WEIGHTS
from oneshot.run.restore import load_weights

FORMAT = 1
EXPORTED = "onnx"  # in a network's folder: what `export` made of it

# An image, or the file that it lies in: its path, its bytes, or the file opened to read these.
One = Image.Image | np.ndarray | str | os.PathLike[str] | preprocess.Opened
Images = One | Sequence[One]
Support = Mapping[str, Images] | str | os.PathLike[str] | Classes


def save(
    folder: Folder,
    *,
    data: checkpoint.Checkpoint,
    provenance: dict[str, Any],
    calibration: dict[str, Any] | None = None,
) -> None:
    """Write a checkpoint's network as a self-contained folder: weights first, then the card that describes them.

    `calibration`: what its scores are worth, as measured; without, its probabilities are not calibrated.
    """
    weights = tensors.pack(data.weights)
    card = _card(data, weights, provenance=provenance, calibration=calibration)
    exported = folder / EXPORTED
    if exported.has() and not (folder.has(WEIGHTS) and folder.read(WEIGHTS) == weights):
        exported.remove()  # it is of the network that was here before
    folder.write(WEIGHTS, weights)
    folder.write_json(CARD, card)


def _card(
    data: checkpoint.Checkpoint, weights: bytes, *, provenance: dict[str, Any], calibration: dict[str, Any] | None
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "architecture": data.settings["model"]["name"],
        "width": data.settings["model"].get("width"),
        "depth": data.settings["model"].get("depth", 1),
        "views": views(data),
        "preprocessing": {"size": data.settings["data"]["size"], **preprocess.steps(data.cleaning)},
        "sha256": hashlib.sha256(weights).hexdigest(),
        "provenance": provenance,
        "calibration": calibration,
    }


def card_and_weights(where: Folder) -> tuple[dict[str, Any], bytes]:
    """What `save` writes of the network that `read` finds there: its card, and its weights as they lie in their file.

    Raises UserError as that."""
    folder = cards.find(where)
    if folder.has(CARD):
        card, weights = cards.load(folder)
        of_card(card, weights, folder)
        return card, weights
    found = checkpoint.read(folder)
    of_checkpoint(found, folder)
    weights = tensors.pack(found.weights)
    return _card(found, weights, provenance=_provenance(found), calibration=None), weights


def read(where: Folder) -> tuple[Siamese, dict[str, Any]]:
    """The network and what is known of it, from a network's folder, a run's folder (its `best/`) or a checkpoint.

    Raises UserError naming the file where it is missing, damaged or does not fit the architecture.
    """
    folder = cards.find(where)
    if folder.has(CARD):
        card, weights = cards.load(folder)
        return models.looking(of_card(card, weights, folder), card.get("views", 1)), card
    found = checkpoint.read(folder)
    card = {
        "provenance": _provenance(found), "preprocessing": preprocess.steps(found.cleaning), "views": views(found),
        "sha256": found.sha256,
    }  # fmt: skip
    return models.looking(of_checkpoint(found, folder), card["views"]), card


def _provenance(data: checkpoint.Checkpoint) -> dict[str, Any]:
    """All that a checkpoint knows of where its network is from."""
    return {"epoch": data.progress.epoch, "settings": data.settings, "start": data.start}


def of_card(card: dict[str, Any], data: bytes, folder: Folder) -> Siamese:
    """The network as it was trained, of a card and its weights."""
    weights = tensors.unpack(data, folder.file(WEIGHTS))
    if card["architecture"] not in models.ENCODERS:
        raise UserError(f"{folder} holds a network '{card['architecture']}', which this program does not know")
    width = {"width": card["width"]} if card.get("width") else {}
    model = settings.Model(name=card["architecture"], depth=card.get("depth", 1), **width)
    return _build(model, card["preprocessing"]["size"], weights, folder)


def of_checkpoint(data: checkpoint.Checkpoint, where: Folder) -> Siamese:
    """The network as it was trained: it looks in one position."""
    trained = jobs.parse(data.settings, where.file(checkpoint.STATE))
    return _build(trained.model, trained.data.size, data.weights, where)


def views(data: checkpoint.Checkpoint) -> int:
    """In how many positions the trained network is to look; older checkpoints do not say."""
    return data.settings.get("model", {}).get("views", 1)


def _build(model: settings.Model, size: int, weights: dict[str, torch.Tensor], where: Folder) -> Siamese:
    # Without storage: the weights come from the file, and a wrong size asks for no memory before it is found out.
    try:
        with torch.device("meta"):
            net = models.build(model, size=size)
    except UserError as error:  # too small for this network
        raise UserError(f"{where}: {error}") from None
    misfit = f"{where}: the weights do not fit the network '{model.name}' at {size} pixels"
    load_weights(net, weights, misfit, assign=True)
    return net.float().to(memory_format=torch.channels_last).eval()


class OneShot:
    """A trained network with the preprocessing it was trained with, and what its scores are worth.

    `calibration` is None where that was not measured: of a checkpoint, and of a `best/` that an older version wrote.
    It is safe to call from several threads: nothing that is asked of it changes it.
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
        """Embeddings (B, D) of images, one or a sequence, each a PIL image, a uint8 array (H, W) or (H, W, 1), or a
        file, by its path, its bytes, or opened in binary mode: dark ink on light paper, or, of a network that was
        trained on one's own images, such images, which are cleaned as those were.

        An array (N, H, W) is a sequence; (H, W, 3) and (H, W, 4) are one image in colour, whatever they were meant for,
        which only a network of one's own images takes. Raises UserError."""
        votes: Counter[str] = Counter()
        pixels = self._prepare(images, votes)
        if why := preprocess.looks_light(votes):
            warnings.warn(why, stacklevel=3)
        return self.embed_pixels(pixels)

    @torch.no_grad()
    def embed_pixels(self, pixels_BSS: torch.Tensor) -> torch.Tensor:
        """Embeddings (B, D) of what `fit` and `read` made: uint8 (B, S, S). As the network was judged: in full float32
        on a GPU, too."""

        def embed(part: torch.Tensor) -> torch.Tensor:
            return self.net.embed(part[:, None].float().div_(255).to(self.device))

        with without_tf32():
            return torch.cat([embed(part) for part in pixels_BSS.split(chunk(self.device))])

    @property
    def identity(self) -> dict[str, Any]:
        """What an embedding depends on besides the image: where any of it differs, embeddings do not compare."""
        return {
            "sha256": self.card["sha256"], "views": self.card.get("views", 1), "size": self.net.size,
            "dimension": self.net.dimension, "cleaning": self.cleaning,
        }  # fmt: skip

    @property
    def head(self) -> dict[str, Any]:
        """What scores two embeddings a and b: the sum of `weight`, D numbers of either sign, times |a - b|, and `bias`.

        `classify` ranks by that, and `verify` rises with it; cosine and L2 give another order."""
        return {"weight": self.net.head.weight[0].tolist(), "bias": self.net.head.bias[0].item()}

    @torch.no_grad()
    def similarity(self, left: Images, right: Images) -> torch.Tensor:
        """Probabilities (B,) that left and right image show the same character, as the network was taught them.

        They rise with `verify`'s, which are calibrated. Raises UserError where the counts differ or an image is none.
        """
        return self.net.score(*self._pairs(left, right)).sigmoid().cpu()

    def verify(self, left: Images, right: Images) -> torch.Tensor:
        """Calibrated probabilities (B,) that left and right image show the same class, where half of all pairs do.

        Where the calibration was not measured: those of `similarity`. Raises UserError as that."""
        return self.same(*self._pairs(left, right))

    def threshold(self, false_match: float) -> float:
        """The probability of `verify` above which two images are to be called the same, so that of pairs of two classes
        no more than the share `false_match` is (one of `matching.RATES`). Chosen on validation pairs, each of one group
        where groups have two classes; rough where `matching.doubt` says so.

        Raises UserError for another rate, and where the calibration has none."""
        return matching.limit(self.calibration, false_match)

    @torch.no_grad()
    def same(self, a_BD: torch.Tensor, b_BD: torch.Tensor) -> torch.Tensor:
        """As `verify`, of embeddings."""
        logits = self.net.score(a_BD, b_BD).double().cpu()
        return torch.from_numpy(self.calibration.pair(logits.numpy())) if self.calibration else logits.sigmoid()

    def classify(
        self, query: Images, support: Support, *, false_accept: float = RATE, top: int | None = None
    ) -> list[Ranking]:
        """For each query the classes by probability, the best first: all, or of many the `top`.

        `support` is what `classes` takes. `false_accept`: of images of no class, the share that is taken
        for one of them (one of `calibration.RATES`, or 1: always name the best); it is rough where `calibration.doubt`
        says so. Raises UserError as `classes` does, for an image that is none, another `false_accept`, a `top` below 1,
        and for classes of another network.
        """
        classes = self.classes(support)
        if classes.network != self.identity:
            raise UserError("these classes are embeddings of another network; make them with the one that is asked")
        if top is not None and not (isinstance(top, Integral) and top >= 1):
            raise UserError(f"top = {shown(top)}: at least one class is to be named, by a whole number")
        return rank(self.net, self.calibration, classes, self.embed(query), false_accept=false_accept, top=top)

    def classes(self, support: Support, *, per_class: int | None = None) -> Classes:
        """Classes to choose from, embedded once and asked often: one or more images of each, by its name; a folder of
        them, as `python -m oneshot.classify --support` takes it; or a file of `python -m oneshot.embed` or of
        `Classes.save`, a path or a URI. What it has made comes back as it is.

        The embeddings of a class's images are averaged; copies of an image count once. A mean of more images is nearer
        to everything: give each class as many, or those with more are named too often, of which a warning is given.
        `per_class`: take so many different images of each, the first by name or as they are given; which classes have
        fewer is said in a warning. Raises UserError where there is no class, a class without an image, an image that is
        none, or a file that is damaged or of another network, and for `per_class` below 1, or of what is embedded.
        """
        if per_class is not None and not (isinstance(per_class, Integral) and per_class >= 1):
            raise UserError(f"per_class = {shown(per_class)}: at least one image of each class, by a whole number")
        if isinstance(support, Classes):
            if per_class is not None:
                raise UserError(
                    f"per_class = {per_class}: these classes are embedded already; give it where they are made"
                )
            return support
        if isinstance(support, str | os.PathLike):
            found = queries.read_support(self, support, per_class=per_class)
        elif not isinstance(support, Mapping):
            raise UserError(
                f"an object of type {type(support).__name__} is no support; give images by the name of their class,"
                " {name: image or images}, the path of a folder of classes or of a file of them, or what `classes` made"
            )
        else:
            votes: Counter[str] = Counter()
            pixels = {name: self._prepare(images, votes) for name, images in support.items()}
            if per_class is not None:
                pixels = {name: queries.different(each, per_class) for name, each in pixels.items()}
            why = preprocess.looks_light(votes)
            found = replace(self.averaged(pixels), warnings=(why,) if why else ())
        for why in filter(None, [*found.warnings, uneven(found.names, found.counts, per_class=per_class)]):
            warnings.warn(why, stacklevel=3)
        return found

    def averaged(self, pixels: Mapping[str, torch.Tensor], paths: Sequence[str | None] = ()) -> Classes:
        """Classes, each of what `fit` or `read` made of its images, uint8 (k, S, S); `paths`: of the first of each."""
        if not pixels:
            raise UserError("the support holds no class; give one image of each class at least")
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
            raise UserError(f"similarity: {len(a_BD)} left and {len(b_BD)} right images; they must be pairs")
        return a_BD, b_BD

    def _prepare(self, images: Images, votes: Counter[str]) -> torch.Tensor:
        """uint8 (B, S, S), ink 255; `votes` as in `preprocess.fit`."""
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


def _is_one(images: Images) -> bool:
    """Whether it is one image; an array may have its colours in the last axis, or the one that a grey image has."""
    if isinstance(images, np.ndarray):
        return images.ndim == 2 or (images.ndim == 3 and images.shape[-1] in (1, 3, 4))
    return isinstance(images, Image.Image) or _is_file(images)


def _is_file(image: One) -> bool:
    """Whether an image is yet to be read: from a path, bytes, or what is open to be read."""
    return isinstance(image, str | os.PathLike | bytes | bytearray | memoryview) or hasattr(image, "read")


def load(path: str | Path | Folder, *, device: str = "auto") -> OneShot:
    """The network of a run's folder, of its `best/`, or of a checkpoint: a path or a URI. Raises UserError."""
    if not isinstance(path, str | os.PathLike | Folder):
        raise UserError(
            f"an object of type {type(path).__name__} names no network; name a run, its best/ or a checkpoint"
        )
    net, card = read(Folder.of(path))
    return OneShot(net, card, pick_device(device))
