"""Looking inside a training before it starts: its parameters, a batch as the network sees it, whether it can learn."""

import io
import math
import tempfile

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from oneshot.base.errors import RunFailed
from oneshot.base.settings import Settings
from oneshot.base.storage import Folder
from oneshot.data.clean import shown
from oneshot.network.models import Siamese
from oneshot.network.worker import Worker
from oneshot.run import cards
from oneshot.run.watch import Watch
from oneshot.screen.console import print_line
from oneshot.training.batches import Batch
from oneshot.training.loop import Diverged, Training
from oneshot.training.parts import Parts

PICTURE = "batch.png"
STEPS = 100  # of the one-batch check
FALL = 0.5  # a network that learns brings the loss of one batch below this share of its first value in these steps
SHOWN = 32  # pairs, or characters, in the picture
FRAME = 2  # pixels around each


def inspect(console: Console, settings: Settings, parts: Parts, run: Folder, *, device: torch.device) -> None:
    """Print the parameters, save a picture of the first batch, overfit that batch with the training's own steps, and
    turn anomaly detection on for the training that follows.

    Raises RunFailed if the loss on the single batch does not fall: no amount of data would teach such a network.
    """
    train = settings.train
    with tempfile.TemporaryDirectory(prefix="oneshot-debug-", ignore_cleanup_errors=True) as nowhere:
        worker = Worker(device, precision=train.precision)
        training = Training(worker, settings, parts, Folder.of(nowhere), Watch(), cards.started(run))
    console.print(parameters(training.net))
    batch = training.batch(1, 0)
    run.write(PICTURE, picture(batch, pairs=settings.data.sampling == "pairs", polarity=parts.train.polarity))
    print_line(console, f"the first batch as the network sees it: {run.file(PICTURE)}")
    first, last = overfit(training, batch)
    print_line(console, f"one batch, {STEPS} steps at lr {train.lr:g}: loss {first:.4f} -> {last:.4f}")
    # The loss of a network that has already learnt falls less, at the small rates used to tune it.
    least, to = (1.0, "less") if train.start else (FALL, "less than half")
    if not last < least * first:
        rates = f"train.lr = {train.lr:g}"
        if train.head_lr != 1:
            rates += f" and train.head_lr = {train.head_lr:g}"
        raise RunFailed(
            f"the loss on one batch went from {first:.4f} to {last:.4f} in {STEPS} steps, but {to} was expected: the"
            f" network does not learn with train.optimizer = '{train.optimizer}', {rates}; try other values"
        )
    torch.autograd.set_detect_anomaly(True)


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


def overfit(training: Training, batch: Batch) -> tuple[float, float]:
    """Repeat the training's own step on a single batch; the learning rate warms up but never falls.

    Returns the batch's loss at the first and at the last step; the latter is infinite if the network diverges before.
    """
    losses = []
    for step in range(STEPS):
        training.set_lr(1, min(step, training.settings.train.warmup))
        found = training.launch(*batch)
        losses.append(float(found[0]))
        try:
            training.update(found)
        except Diverged:
            return losses[0], math.inf
    return losses[0], losses[-1]


def picture(batch: Batch, *, pairs: bool, polarity: str = "dark") -> bytes:
    """A batch as PNG. Pairs: left above right, framed green if they are one character, else red.

    Episodes: a tile for each character, its drawings side by side. `polarity` is that of the images, see `clean`.
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


def _sheet(tiles: np.ndarray, colours: list[tuple[int, int, int]], *, columns: int) -> bytes:
    """A PNG of grey tiles (n, H, W), each in its coloured frame."""
    height, width = tiles.shape[1] + 2 * FRAME, tiles.shape[2] + 2 * FRAME
    rows = -(-len(tiles) // columns)
    sheet = np.full((rows * height, min(columns, len(tiles)) * width, 3), 255, dtype=np.uint8)
    for index, (tile, colour) in enumerate(zip(tiles, colours, strict=False)):
        top, left = index // columns * height, index % columns * width
        sheet[top : top + height, left : left + width] = colour
        sheet[top + FRAME : top + height - FRAME, left + FRAME : left + width - FRAME] = tile[..., None]
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "PNG")
    return buffer.getvalue()
