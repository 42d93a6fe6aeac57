"""A trained network to hand on: a folder with `model.safetensors` and `model.json`, complete in itself.

`load(path)` gives a network in evaluation mode that takes images as they lie in files.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from oneshot import checkpoint, formats, models, settings
from oneshot.errors import UserError
from oneshot.images import resize
from oneshot.models import Siamese
from oneshot.restore import load_weights
from oneshot.storage import Folder
from oneshot.worker import pick_device

WEIGHTS, CARD = "model.safetensors", "model.json"
FORMAT = 1

Images = Image.Image | np.ndarray | Sequence[Image.Image | np.ndarray]


def save(folder: Folder, *, data: checkpoint.Checkpoint, provenance: dict[str, Any]) -> None:
    """Write a checkpoint's network as a self-contained folder: weights first, then the card that describes them."""
    weights = checkpoint.pack_tensors(data.weights)
    card = {
        "format": FORMAT,
        "architecture": data.settings["model"]["name"],
        "width": data.settings["model"].get("width"),
        "preprocessing": {
            "size": data.settings["data"]["size"],
            "ink": "1 on paper 0: dark ink on light paper is inverted",
            "fit": "letterboxed to a square of paper, averaged over areas",
        },
        "sha256": hashlib.sha256(weights).hexdigest(),
        "provenance": provenance,
    }
    folder.write(WEIGHTS, weights)
    folder.write_json(CARD, card)


def read(where: Folder) -> tuple[Siamese, dict[str, Any]]:
    """The network and what is known of it, from a network's folder, a run's folder (its `best/`) or a checkpoint.

    Raises UserError naming the file where it is missing, damaged or does not fit the architecture.
    """
    for folder in (where, where / "best"):
        if folder.has(CARD):
            return _read_card(folder)
    if where.has(checkpoint.STATE):
        found = checkpoint.read(where)
        trained = settings.parse(found.settings, where.file(checkpoint.STATE))
        provenance = {"epoch": found.progress.epoch, "settings": found.settings}
        return _build(trained.model, trained.data.size, found.weights, where), {"provenance": provenance}
    raise _no_network(where)


def read_digest(run: Folder) -> str:
    """The sha256 of the weights in a run's `best/`: which network it is."""
    return _card(run / "best")["sha256"]


def recorded_settings(where: Folder) -> dict[str, Any]:
    """The sections `data`, `model` and `train` that a network's folder or a checkpoint was trained with.

    Raises UserError where nothing is recorded.
    """
    for folder in (where, where / "best"):
        if folder.has(CARD):
            return _card(folder)["provenance"]["settings"]
    if where.has(checkpoint.STATE):
        return checkpoint.read(where).settings
    raise _no_network(where)


def _no_network(where: Folder) -> UserError:
    if not where.has():
        return UserError(f"{where}: no such folder; name a run, its best/ or a checkpoint")
    return UserError(f"{where} holds no network: neither {CARD}, nor best/{CARD}, nor {checkpoint.STATE}")


def _read_card(folder: Folder) -> tuple[Siamese, dict[str, Any]]:
    card = _card(folder)
    try:
        data = folder.read(WEIGHTS)
    except OSError:
        raise UserError(f"{folder.file(WEIGHTS)} is missing or unreadable") from None
    if hashlib.sha256(data).hexdigest() != card["sha256"]:
        raise UserError(f"{folder.file(WEIGHTS)} is damaged: it does not match the digest in {CARD}")
    weights = checkpoint.unpack_weights(data, folder.file(WEIGHTS))
    if card["architecture"] not in models.ENCODERS:
        raise UserError(f"{folder} holds a network '{card['architecture']}', which this program does not know")
    width = {"width": card["width"]} if card.get("width") else {}
    model = settings.Model(name=card["architecture"], **width)
    return _build(model, card["preprocessing"]["size"], weights, folder), card


def _card(folder: Folder) -> dict[str, Any]:
    return formats.read(formats.Card, folder, CARD, advice="restore it or use another network")


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
    """A trained network with the preprocessing it was trained with."""

    def __init__(self, net: Siamese, card: dict[str, Any], device: torch.device) -> None:
        self.net, self.card, self.device = net.to(device).eval(), card, device

    @torch.no_grad()
    def embed(self, images: Images) -> torch.Tensor:
        """Embeddings (B, D) of dark ink on light paper: PIL images or uint8 arrays (H, W), one or a sequence."""
        return self.net.embed(self._prepare(images))

    @torch.no_grad()
    def similarity(self, left: Images, right: Images) -> torch.Tensor:
        """Probabilities (B,) that left and right image show the same character.

        Raises UserError where the counts differ or an image is none."""
        a_BD, b_BD = self.embed(left), self.embed(right)
        if len(a_BD) != len(b_BD):
            raise UserError(f"similarity: {len(a_BD)} left and {len(b_BD)} right images; they must be pairs")
        return self.net.score(a_BD, b_BD).sigmoid().cpu()

    def _prepare(self, images: Images) -> torch.Tensor:
        """float32 (B, 1, S, S), ink 1."""
        single = isinstance(images, Image.Image) or (isinstance(images, np.ndarray) and images.ndim == 2)
        fitted = [self._fit(image) for image in ([images] if single else images)]
        if not fitted:
            raise UserError("no image was given")
        return torch.cat(fitted)[:, None].float().div_(255).to(self.device)

    def _fit(self, image: Image.Image | np.ndarray) -> torch.Tensor:
        if isinstance(image, Image.Image) and image.mode.startswith(("I", "F")):  # "L" would cut them off at 255
            raise UserError(
                f"an image of mode '{image.mode}' has more than 8 bits; scale it to 8 and convert it to 'L'"
            )
        grey = np.asarray(image.convert("L")) if isinstance(image, Image.Image) else image
        if grey.ndim != 2 or grey.dtype != np.uint8 or 0 in grey.shape:
            raise UserError(f"an image must be grey, uint8 (height, width); got {grey.dtype} {grey.shape}")
        ink = 255 - grey
        return resize(torch.from_numpy(ink)[None], self.net.size)


def load(path: str | Path, *, device: str = "auto") -> OneShot:
    """The network of a run's folder, of its `best/`, or of a checkpoint: a path or a URI. Raises UserError."""
    net, card = read(Folder.of(path))
    return OneShot(net, card, pick_device(device))
