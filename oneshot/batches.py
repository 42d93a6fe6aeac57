"""Training batches on the device: drawings chosen by a dataset, gathered and distorted; and the objective they feed."""

import numpy as np
import torch
from torch import nn

from oneshot import settings
from oneshot.data.store import Drawings
from oneshot.images import Images, distort, distortions
from oneshot.losses import EpisodeObjective, PairObjective
from oneshot.models import Siamese
from oneshot.pairs import EpisodeDataset, PairDataset

Batch = tuple[torch.Tensor, torch.Tensor]  # images of the rank's share and labels: what the objective takes


def dataset(drawings: Drawings, *, data: settings.Data, train: settings.Train) -> PairDataset | EpisodeDataset:
    """Which drawings meet, as the settings say. Raises UserError where these drawings cannot."""
    if data.sampling == "pairs":
        return PairDataset(
            drawings, seed=train.seed, balance=data.balance, hard_negatives=data.hard_negatives,
            rotations=data.rotations,
        )  # fmt: skip
    return EpisodeDataset(
        drawings, seed=train.seed, batch=train.batch, drawers=data.drawers, alphabets=data.alphabets,
        balance=data.balance, rotations=data.rotations,
    )  # fmt: skip


class PairBatches:
    """Independent pairs, half of them same. A rank gets its share of each global batch."""

    def __init__(self, dataset: PairDataset, images: Images, data: settings.Data, train: settings.Train) -> None:
        self.dataset, self.images, self.data, self.train = dataset, images, data, train

    def get(self, *, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> Batch:
        """Left twins, then right twins (2n, 1, S, S); labels (n,) bool; n = batch / world_size."""
        start, count = step * self.train.batch, self.train.batch
        pairs = self.dataset.pairs(epoch=epoch, start=start, count=count)
        # Twin t of pair i has map 2i + t: each twin is distorted on its own (Koch et al. 2015, section 4.1).
        maps = _maps(self.data, self.train, epoch=epoch, start=2 * start, turn=pairs.turn.reshape(-1))
        pairs = pairs.share(rank, world_size)
        images = self.images.gather(np.concatenate([pairs.left, pairs.right]))
        if maps is not None:
            share = maps.reshape(count, 2, 2, 3)[rank::world_size]
            images = distort(images, np.concatenate([share[:, 0], share[:, 1]]))
        return images, torch.from_numpy(pairs.same).to(images.device)

    def objective(self, net: Siamese) -> nn.Module:
        return PairObjective(net)


class EpisodeBatches:
    """Episodes of P characters x K drawers. A rank gets its share of the drawings and all labels."""

    def __init__(self, dataset: EpisodeDataset, images: Images, data: settings.Data, train: settings.Train) -> None:
        self.dataset, self.images, self.data, self.train = dataset, images, data, train

    def get(self, *, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> Batch:
        """Drawings (batch / world_size, 1, S, S), every world_size-th of the episode; all labels (batch,) int64."""
        episode = self.dataset.episode(epoch=epoch, step=step)
        maps = _maps(self.data, self.train, epoch=epoch, start=step * self.train.batch, turn=episode.turn)
        images = self.images.gather(episode.drawing[rank::world_size])
        if maps is not None:
            images = distort(images, maps[rank::world_size])
        return images, torch.from_numpy(episode.label).to(images.device)

    def objective(self, net: Siamese) -> nn.Module:
        return EpisodeObjective(net, self.train.objective)


def batches(drawings: Drawings, images: Images, *, data: settings.Data, train: settings.Train):
    """The batches that the settings ask for. Raises UserError where the drawings cannot give them."""
    kind = PairBatches if data.sampling == "pairs" else EpisodeBatches
    return kind(dataset(drawings, data=data, train=train), images, data, train)


def _maps(
    data: settings.Data, train: settings.Train, *, epoch: int, start: int, turn: np.ndarray
) -> np.ndarray | None:  # fmt: skip
    """The affine maps (len(turn), 2, 3) of a global batch, or None where nothing is distorted."""
    if not data.distort and not data.rotations:
        return None
    return distortions(
        seed=train.seed, epoch=epoch, start=start, count=len(turn), chance=data.distort, turn=turn
    )  # fmt: skip
