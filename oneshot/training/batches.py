"""Training batches on the device: drawings chosen by a dataset, gathered and distorted; and the objective they feed."""

import numpy as np
import torch
from torch import nn

from oneshot.base import settings
from oneshot.data.drawings import Drawings
from oneshot.data.pairs import EpisodeDataset, PairDataset, dataset
from oneshot.network.images import Images, bends, distort, distortions, on
from oneshot.network.losses import EpisodeObjective, PairObjective
from oneshot.network.models import Siamese

Batch = tuple[torch.Tensor, torch.Tensor]  # images of the rank's share and labels: what the objective takes


class _Batches:
    """What a dataset chooses, as a device sees it."""

    def __init__(
        self, dataset: PairDataset | EpisodeDataset, images: Images, data: settings.Data, train: settings.Train
    ) -> None:
        self.dataset, self.images, self.data, self.train = dataset, images, data, train

    def _seen(
        self, drawing: np.ndarray, image: np.ndarray, *, epoch: int, start: int, turn: np.ndarray
    ) -> torch.Tensor:
        """The drawings as the images number `image` of the global batch, of which `turn` has all and `start` is the
        first: distorted as the settings say."""
        data = self.data
        gathered = self.images.gather(drawing)
        if not (data.distort or data.elastic or data.rotations or data.flips):
            return gathered
        which = {"seed": self.train.seed, "epoch": epoch, "start": start, "count": len(turn)}
        maps = distortions(**which, chance=data.distort, turn=turn)[image]
        return distort(gathered, maps, bends(**which, spread=data.elastic)[image] if data.elastic else None)


class PairBatches(_Batches):
    """Independent pairs, half of them same. A rank gets its share of each global batch."""

    dataset: PairDataset

    def get(self, *, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> Batch:
        """Left twins, then right twins (2n, 1, S, S); labels (n,) bool; n = batch / world_size."""
        start, count = step * self.train.batch, self.train.batch
        pairs = self.dataset.pairs(epoch=epoch, start=start, count=count)
        # Twin t of pair i is image 2i + t: each twin is distorted on its own (Koch et al. 2015, section 4.1).
        drawing = np.stack([pairs.left, pairs.right], axis=1)[rank::world_size].T.reshape(-1)
        image = np.arange(2 * count).reshape(count, 2)[rank::world_size].T.reshape(-1)
        images = self._seen(drawing, image, epoch=epoch, start=2 * start, turn=pairs.turn.reshape(-1))
        return images, on(images.device, pairs.share(rank, world_size).same)

    def objective(self, net: Siamese) -> nn.Module:
        return PairObjective(net)


class EpisodeBatches(_Batches):
    """Episodes of P characters x K drawers. A rank gets its share of the drawings and all labels."""

    dataset: EpisodeDataset

    def get(self, *, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> Batch:
        """Drawings (batch / world_size, 1, S, S), every world_size-th of the episode; all labels (batch,) int64."""
        episode = self.dataset.episode(epoch=epoch, step=step)
        drawing, image = episode.drawing[rank::world_size], np.arange(len(episode))[rank::world_size]
        images = self._seen(drawing, image, epoch=epoch, start=step * self.train.batch, turn=episode.turn)
        return images, on(images.device, episode.label)

    def objective(self, net: Siamese) -> nn.Module:
        return EpisodeObjective(net, self.train.objective)


def batches(drawings: Drawings, images: Images, *, data: settings.Data, train: settings.Train):
    """The batches that the settings ask for. Raises UserError where the drawings cannot give them."""
    kind = PairBatches if data.sampling == "pairs" else EpisodeBatches
    return kind(dataset(drawings, data=data, train=train), images, data, train)
