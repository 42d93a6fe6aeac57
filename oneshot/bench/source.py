"""The usual way, built from the source document's description: what every row is measured against.

A dataframe of paths; boolean masks and `reset_index` for every pair; two PNGs decoded for every pair; two calls of the
encoder; a forward pass over every pair of a one-shot trial.
"""

import itertools
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from oneshot.base.storage import Folder
from oneshot.data.store import DRAWINGS, describe
from oneshot.evaluation.scoring import Trials
from oneshot.network.models import Encoder, FirstConv2d


def unpack(data: Folder, where: Path, *, alphabets: Sequence[str] | None = None) -> pd.DataFrame:
    """Write the drawings of some alphabets as PNG files; returns the dataframe of their paths: path, alphabet,
    character."""
    chosen = [index for index, name in enumerate(describe(data).alphabets) if alphabets is None or name in alphabets]
    with pq.ParquetFile(data.file(DRAWINGS)) as file:
        table = file.read_row_groups(chosen, columns=["image", "alphabet", "character"])
    rows = []
    for row in table.to_pylist():
        path = where / row["image"]["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(row["image"]["bytes"])
        rows.append((str(path), row["alphabet"], row["character"]))
    return pd.DataFrame(rows, columns=["path", "alphabet", "character"])


def decode(path: str) -> np.ndarray:
    """Read a drawing's file as uint8 (H, W), ink 255."""
    with Image.open(path) as image:
        return 255 - np.asarray(image.convert("L"))


class Pairs(Dataset):
    """Random pairs from a dataframe for `DataLoader`; every second pair is of the same character."""

    def __init__(self, frame: pd.DataFrame, *, length: int, size: int | None = None) -> None:
        self.frame, self.length, self.size = frame, length, size

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        frame, same = self.frame, index % 2
        one = frame.iloc[random.randrange(len(frame))]
        alike = (frame["alphabet"] == one["alphabet"]) & (frame["character"] == one["character"])
        others = frame[alike if same else ~alike].reset_index(drop=True)
        other = others.iloc[random.randrange(len(others))]
        return self._image(one["path"]), self._image(other["path"]), torch.tensor(float(same))

    def _image(self, path: str) -> torch.Tensor:
        with Image.open(path) as image:
            image = image.convert("L")
            if self.size and self.size != image.height:
                image = image.resize((self.size, self.size))
            return 1 - torch.from_numpy(np.array(image)).float().div(255)[None]


def batches(frame: pd.DataFrame, *, batch: int, size: int | None = None) -> Iterator[list[torch.Tensor]]:
    """Batches without end, made in this process: left, right (batch, 1, S, S), same (batch,)."""
    while True:
        yield from DataLoader(Pairs(frame, length=64 * batch, size=size), batch_size=batch)


class Net(nn.Module):
    """An encoder that is called twice, and a linear layer over |a - b| with torch's usual initialisation."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = _plain(encoder)
        self.head = nn.Linear(encoder.dimension, 1)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return self.head((self.encoder(left) - self.encoder(right)).abs())[:, 0]


def _plain(module: nn.Module) -> nn.Module:
    """Replace a network's layers, in place, by torch's own in their usual order; convolutions and linear layers keep
    their weights.

    Batch norm becomes torch's, which adds less exactly; the first convolution is no longer computed by rows; ReLU comes
    before the pooling.
    """
    children = list(module.named_children())
    for name, child in children:
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, nn.BatchNorm2d(child.num_features))
        elif isinstance(child, FirstConv2d):
            plain = nn.utils.skip_init(nn.Conv2d, 1, child.out_channels, child.kernel_size, padding=child.padding)
            plain.weight, plain.bias = child.weight, child.bias
            setattr(module, name, plain)
        else:
            _plain(child)
    for (name, child), (following, after) in itertools.pairwise(children):
        if isinstance(child, nn.MaxPool2d) and isinstance(after, nn.ReLU):
            setattr(module, name, after)
            setattr(module, following, child)
    return module


class Loop:
    """A step of the document's training: fp32, SGD at 1e-2 with momentum."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.optimizer = torch.optim.SGD(net.parameters(), lr=1e-2, momentum=0.9)

    def step(self, left: torch.Tensor, right: torch.Tensor, same: torch.Tensor) -> float:
        loss = F.binary_cross_entropy_with_logits(self.net(left, right), same)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()


@torch.no_grad()
def pairwise(net: nn.Module, pixels_N1SS: torch.Tensor, trials: Trials) -> np.ndarray:
    """The scores (T, n_way) of one-shot trials, each trial by a forward pass of its own over n_way pairs."""
    rows = []
    for query, support in zip(trials.query.tolist(), trials.support[:, :, 0], strict=True):
        right = pixels_N1SS[torch.from_numpy(support)]
        rows.append(net(pixels_N1SS[query].expand_as(right), right).double().cpu().numpy())
    return np.stack(rows)


def distorted(image: Image.Image) -> Image.Image:
    """Put one drawing (mode L, ink 255) through a random affine map in Koch's range, bilinear; its size stays."""
    angle, shear = random.uniform(-10, 10), random.uniform(-0.3, 0.3)
    scale = random.uniform(0.8, 1.2)
    most = 2 * image.width / 105  # two pixels of a drawing of 105
    shift_x, shift_y = random.uniform(-most, most), random.uniform(-most, most)
    centre = image.width / 2
    cos, sin = np.cos(np.radians(angle)) / scale, np.sin(np.radians(angle)) / scale
    a, b, d, e = cos, cos * shear - sin, sin, sin * shear + cos
    matrix = (a, b, centre - a * centre - b * centre + shift_x, d, e, centre - d * centre - e * centre + shift_y)
    return image.transform(image.size, Image.Transform.AFFINE, matrix, resample=Image.Resampling.BILINEAR)
