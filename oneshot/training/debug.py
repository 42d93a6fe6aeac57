"""Looking inside a training before it starts: its parameters, a batch as the network sees it, whether it can learn."""

import io

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import nn

from oneshot.base.errors import RunFailed
from oneshot.base.settings import Settings
from oneshot.base.storage import Folder
from oneshot.data.clean import shown
from oneshot.network import models
from oneshot.network.images import Images
from oneshot.network.models import Siamese
from oneshot.screen.console import print_line
from oneshot.training.batches import Batch, batches
from oneshot.training.loop import Parts
from oneshot.training.optimizers import optimizer

PICTURE = "batch.png"
STEPS = 100  # of the one-batch check
FALL = 0.5  # the share of its first loss below which a network that learns has one batch after so many steps
SHOWN = 32  # pairs, or characters, in the picture


def inspect(console: Console, settings: Settings, parts: Parts, run: Folder, *, device: torch.device) -> None:
    """Turn anomaly detection on; print the parameters; save a picture of the first batch; learn that batch by heart.

    Raises RunFailed where the loss on a single batch does not fall: no amount of data would teach such a network.
    """
    torch.autograd.set_detect_anomaly(True)
    train = settings.train
    torch.manual_seed(train.seed)
    net = models.build(settings.model, size=settings.data.size).to(device)
    console.print(parameters(net))
    images = Images(parts.train, size=settings.data.size, device=device)
    source = batches(parts.train, images, data=settings.data, train=train)
    batch = source.get(epoch=1, step=0)
    run.write(PICTURE, picture(batch, pairs=settings.data.sampling == "pairs", polarity=parts.train.polarity))
    print_line(console, f"the first batch as the network sees it: {run.file(PICTURE)}")
    first, last = overfit(source.objective(net), batch, optimizer(net, train))
    print_line(console, f"one batch, {STEPS} steps at lr {train.lr:g}: loss {first:.4f} -> {last:.4f}")
    if not last < FALL * first:
        raise RunFailed(
            f"the loss on one batch went from {first:.4f} to {last:.4f} in {STEPS} steps, not to half: the network does"
            f" not learn with train.optimizer = '{train.optimizer}' and train.lr = {train.lr:g}; try another lr"
        )


def parameters(net: Siamese) -> Table:
    """A table of the layers that hold parameters, with their shapes and counts."""
    table = Table("layer", "kind", "shape of the weights", box=None, pad_edge=False, header_style="dim")
    table.add_column("parameters", justify="right")
    for name, module in net.named_modules():
        own = sum(value.numel() for value in module.parameters(recurse=False))
        if own:
            shape = " x ".join(str(side) for side in module.weight.shape)
            table.add_row(name, type(module).__name__, shape, f"{own:,}")
    table.add_row("", "", "[bold]in all", f"[bold]{sum(value.numel() for value in net.parameters()):,}")
    return table


def overfit(objective: nn.Module, batch: Batch, optimizer: torch.optim.Optimizer) -> tuple[float, float]:
    """Train on a single batch; its loss at the first and at the last step."""
    losses = []
    for _ in range(STEPS):
        loss, _ = objective(*batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses[0], losses[-1]


def picture(batch: Batch, *, pairs: bool, polarity: str = "dark") -> bytes:
    """A batch as PNG. Pairs: left above right, framed green where they are one character, red where not.

    Episodes: a tile for each character, its drawings side by side. `polarity`: of the images, see `clean`.
    """
    images, labels = batch
    seen = shown((images[:, 0].clamp(0, 1) * 255).byte().cpu().numpy(), polarity)
    if pairs:
        left, right = np.split(seen, 2)
        stacks = np.concatenate([left, right], axis=1)[:SHOWN]
        colours = [(0, 160, 0) if same else (220, 0, 0) for same in labels.tolist()]
        return _sheet(stacks, colours, columns=16)
    each = int((labels == labels[0]).sum())
    side = seen.shape[-1]
    rows = seen.reshape(-1, each, side, side).transpose(0, 2, 1, 3).reshape(-1, side, each * side)
    return _sheet(rows[:SHOWN], [(90, 90, 90)] * SHOWN, columns=4)


def _sheet(tiles: np.ndarray, colours: list[tuple[int, int, int]], *, columns: int, frame: int = 2) -> bytes:
    """Tiles (n, H, W), grey, each in its coloured frame."""
    height, width = tiles.shape[1] + 2 * frame, tiles.shape[2] + 2 * frame
    rows = -(-len(tiles) // columns)
    sheet = np.full((rows * height, min(columns, len(tiles)) * width, 3), 255, dtype=np.uint8)
    for index, (tile, colour) in enumerate(zip(tiles, colours, strict=False)):
        top, left = index // columns * height, index % columns * width
        sheet[top : top + height, left : left + width] = colour
        sheet[top + frame : top + height - frame, left + frame : left + width - frame] = tile[..., None]
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "PNG")
    return buffer.getvalue()
