"""A trained network to hand on: a self-contained folder with `model.safetensors` and `model.json`."""

import hashlib
from typing import Any

import torch

from oneshot.answers import preprocess
from oneshot.base import jobs, settings
from oneshot.base.errors import UserError
from oneshot.base.storage import Folder
from oneshot.network import models
from oneshot.network.models import Siamese
from oneshot.run import cards, checkpoint, tensors
from oneshot.run.cards import CARD, WEIGHTS
from oneshot.run.restore import load_weights

FORMAT = 1
EXPORTED = "onnx"  # in a network's folder: the folder that `export` writes


def save(
    folder: Folder,
    *,
    data: checkpoint.Checkpoint,
    provenance: dict[str, Any],
    calibration: dict[str, Any] | None = None,
) -> None:
    """Write a checkpoint's network as a self-contained folder: weights first, then the card that describes them.

    `calibration` is the measured calibration of its scores; without it, the probabilities are not calibrated.
    """
    weights = tensors.pack(data.weights)
    card = _card(data, weights, provenance=provenance, calibration=calibration)
    exported = folder / EXPORTED
    if exported.has() and not (folder.has(WEIGHTS) and folder.read(WEIGHTS) == weights):
        exported.remove()  # it belongs to the network that was here before
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
    """The card and the bytes of the weights file that `save` writes for the network that `read` finds.

    Raises UserError as `read` does."""
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
    """The network and what is known about it, from a network's folder, a run's folder (its `best/`) or a checkpoint.

    Raises UserError, which names the file, if one is missing, is damaged or does not fit the architecture.
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
    """All that a checkpoint records about the origin of its network."""
    return {"epoch": data.progress.epoch, "settings": data.settings, "start": data.start}


def of_card(card: dict[str, Any], data: bytes, folder: Folder) -> Siamese:
    """The network as it was trained, from its card and its weights."""
    weights = tensors.unpack(data, folder.file(WEIGHTS))
    if card["architecture"] not in models.ENCODERS:
        raise UserError(f"{folder} holds a network '{card['architecture']}', which this program does not know")
    width = {"width": card["width"]} if card.get("width") else {}
    model = settings.Model(name=card["architecture"], depth=card.get("depth", 1), **width)
    return _build(model, card["preprocessing"]["size"], weights, folder)


def of_checkpoint(data: checkpoint.Checkpoint, where: Folder) -> Siamese:
    """The network as it was trained, looking in one position."""
    trained = jobs.parse(data.settings, where.file(checkpoint.STATE))
    return _build(trained.model, trained.data.size, data.weights, where)


def views(data: checkpoint.Checkpoint) -> int:
    """In how many positions the trained network is to look; 1 for older checkpoints, which do not say."""
    return data.settings.get("model", {}).get("views", 1)


def _build(model: settings.Model, size: int, weights: dict[str, torch.Tensor], where: Folder) -> Siamese:
    # Built without storage: the weights come from the file, and a wrong size is found before memory is allocated.
    try:
        with torch.device("meta"):
            net = models.build(model, size=size)
    except UserError as error:  # too small for this network
        raise UserError(f"{where}: {error}") from None
    misfit = f"{where}: the weights do not fit the network '{model.name}' at {size} pixels"
    load_weights(net, weights, misfit, assign=True)
    return net.float().to(memory_format=torch.channels_last).eval()
