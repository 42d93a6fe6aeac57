"""Training batches on the device: drawings chosen by a dataset, gathered and distorted; and the objective they feed."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

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

# Pixels of the batches that are made in a row, some 4 MB. A training step drives all that makes a batch out of a CPU's
# cache, so the first batch after it takes three times as long as those made directly after the first.
AT_ONCE = 1 << 20


class _Batches(ABC):
    """The batches that a dataset chooses, as images on a device."""

    def __init__(
        self, dataset: PairDataset | EpisodeDataset, images: Images, data: settings.Data, train: settings.Train
    ) -> None:
        self.dataset, self.images, self.data, self.train = dataset, images, data, train
        self.images_per_step = train.batch * (2 if data.sampling == "pairs" else 1)  # of all ranks
        self._made: tuple[tuple[int, int, int], range, list[Batch]] = ((0, 0, 0), range(0), [])

    def get(self, *, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> Batch:
        """Batch number `step` of an epoch: every world_size-th of its pairs or drawings, from the rank-th on. The
        batches that follow it are made with it and kept until they are asked for."""
        asked = (epoch, rank, world_size)
        found, steps, made = self._made
        if found != asked or step not in steps:
            steps = range(step, max(step + 1, min(step + self.at_once(world_size), self.train.steps)))
            made = self._make(epoch, steps, rank, world_size)
            self._made = asked, steps, made
        return made[step - steps.start]

    def at_once(self, world_size: int = 1) -> int:
        """How many batches are made at once, at least one."""
        return max(1, AT_ONCE // (self.images_per_step // world_size * self.images.size**2))

    @abstractmethod
    def _make(self, epoch: int, steps: range, rank: int, world_size: int) -> list[Batch]:
        """The rank's share of these batches of an epoch."""

    def _seen(
        self, drawing: np.ndarray, image: np.ndarray, turn: np.ndarray, *, epoch: int, start: int
    ) -> Iterator[torch.Tensor]:
        """Yield one batch after the other, its images distorted as the settings say.

        `drawing` (batches, n) holds positions of drawings, and `image` (batches, n) which of the N images of these
        batches each becomes. `turn` (N,) is the view of every image, `start` the number of the first in its epoch.
        """
        data = self.data
        if not (data.distort or data.elastic or data.rotations or data.flips):
            yield from map(self.images.gather, drawing)
            return
        which = {"seed": self.train.seed, "epoch": epoch, "start": start, "count": len(turn)}
        maps = distortions(**which, chance=data.distort, turn=turn)
        bent = bends(**which, spread=data.elastic) if data.elastic else None
        for drawings, images in zip(drawing, image, strict=True):
            yield distort(self.images.gather(drawings), maps[images], None if bent is None else bent[images])


class PairBatches(_Batches):
    """Independent pairs, half of them same. A rank gets its share of each batch: left twins, then right twins
    (2n, 1, S, S), and labels (n,) bool; n = batch / world_size."""

    dataset: PairDataset

    def _make(self, epoch: int, steps: range, rank: int, world_size: int) -> list[Batch]:
        batch, start = self.train.batch, steps.start * self.train.batch
        pairs = self.dataset.pairs(epoch=epoch, start=start, count=len(steps) * batch)

        def share(twins: np.ndarray) -> np.ndarray:  # (N, 2) -> one row a batch: left twins, then right twins
            return twins.reshape(len(steps), batch, 2)[:, rank::world_size].swapaxes(1, 2).reshape(len(steps), -1)

        # Twin t of pair i is image 2i + t: each twin is distorted on its own (Koch et al. 2015, section 3.2).
        drawing, image = np.stack([pairs.left, pairs.right], axis=1), np.arange(2 * len(pairs))
        made = self._seen(share(drawing), share(image), pairs.turn.reshape(-1), epoch=epoch, start=2 * start)
        same = pairs.same.reshape(len(steps), batch)[:, rank::world_size]
        return [(images, on(images.device, labels)) for images, labels in zip(made, same, strict=True)]

    def objective(self, net: Siamese) -> nn.Module:
        return PairObjective(net)


class EpisodeBatches(_Batches):
    """Episodes of P characters x K drawers. Of each episode a rank gets every world_size-th drawing
    (batch / world_size, 1, S, S) and all labels (batch,) int64."""

    dataset: EpisodeDataset

    def _make(self, epoch: int, steps: range, rank: int, world_size: int) -> list[Batch]:
        batch = self.train.batch
        episodes = [self.dataset.episode(epoch=epoch, step=step) for step in steps]
        drawing = np.stack([each.drawing for each in episodes])[:, rank::world_size]
        image = np.arange(drawing.shape[0] * batch).reshape(-1, batch)[:, rank::world_size]
        turn = np.concatenate([each.turn for each in episodes])
        made = self._seen(drawing, image, turn, epoch=epoch, start=steps.start * batch)
        return [(images, on(images.device, each.label)) for images, each in zip(made, episodes, strict=True)]

    def objective(self, net: Siamese) -> nn.Module:
        return EpisodeObjective(net, self.train.objective)


def batches(
    drawings: Drawings, images: Images, *, data: settings.Data, train: settings.Train
) -> "PairBatches | EpisodeBatches":
    """The batches that the settings ask for. Raises UserError if the drawings cannot give them."""
    kind = PairBatches if data.sampling == "pairs" else EpisodeBatches
    return kind(dataset(drawings, data=data, train=train), images, data, train)
