"""Drawings on the training device: resident there, gathered, distorted and normalised in whole batches."""

import functools
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch.nn import functional as F

from oneshot.base import counter
from oneshot.data.drawings import Drawings

# Koch et al. 2015, section 3.2: the ranges of the affine distortion. Translation is in pixels of a 105-pixel drawing.
ROTATION, SHEAR, SCALE, TRANSLATION = math.radians(10), 0.3, (0.8, 1.2), 2 / 105
# The elastic distortion: a field of displacements made of BUMPS x BUMPS Gaussian bumps, each with a standard deviation
# of BUMP_WIDTH. The image spans -1 .. 1.
BUMPS, BUMP_WIDTH = 6, 0.3

SLICE = 256  # drawings unpacked at a time
CACHED = 350_000  # pixels a CPU works on at once: each result is still in its cache for the next operation


def resize(pixels: np.ndarray, size: int) -> np.ndarray:
    """uint8 (N, H, W) -> uint8 (N, size, size): letterboxed to a square of paper (0), then averaged over areas.

    Training and inference share it, so a network sees images made in the same way. The areas are those of torch's
    `interpolate` with mode "area", and the result is the same to the bit; but sums of integers take a third of the time
    and no second thread.
    """
    n, height, width = pixels.shape
    side = max(height, width)
    if height != width:
        square = np.zeros((n, side, side), np.uint8)
        top, left = (side - height) // 2, (side - width) // 2
        square[:, top : top + height, left : left + width] = pixels
        pixels = square
    if side == size:
        return pixels
    begin = np.arange(size) * side // size
    end = -(-np.arange(1, size + 1) * side // size)
    areas = [slice(*area) for area in zip(begin.tolist(), end.tolist(), strict=True)]
    most = 255 * int((end - begin).max())
    rows = np.empty((n, size, side), np.min_scalar_type(most))
    for at, area in enumerate(areas):
        np.add.reduce(pixels[:, area], axis=1, dtype=rows.dtype, out=rows[:, at])
    across = np.ascontiguousarray(rows.reshape(n * size, side).T)
    sums = np.empty((size, n * size), np.uint32)
    for at, area in enumerate(areas):
        np.add.reduce(across[area], axis=0, dtype=sums.dtype, out=sums[at])
    extent = (end - begin).astype(np.float32)
    means = sums.astype(np.float32) / np.tile(extent, n) / extent[:, None]
    return np.rint(means).astype(np.uint8).T.reshape(n, size, size)


class Images:
    """All drawings of one part of the data on a device, as uint8 pixels of side `size`.

    A CPU keeps drawings that are already black on white and of this size as packed bits: that takes no time to prepare
    and an eighth of the memory.
    """

    def __init__(self, drawings: Drawings, *, size: int, device: torch.device) -> None:
        self.size, self.device = size, device
        as_they_come = drawings.bits == 1 and drawings.height == drawings.width == size
        self._bits = drawings.packed if device.type == "cpu" and as_they_come else None
        self._pixels = None if self._bits is not None else torch.from_numpy(fitted(drawings, size)).to(device)

    def __len__(self) -> int:
        return len(self._pixels if self._bits is None else self._bits)

    def gather(self, positions: np.ndarray) -> torch.Tensor:
        """float32 (n, 1, size, size) in [0, 1], ink 1."""
        if self._bits is not None:
            ink = np.unpackbits(self._bits[positions], axis=1, count=self.size * self.size)
            return torch.from_numpy(ink).view(-1, 1, self.size, self.size).float()
        index = on(self.device, positions)
        images = torch.empty(len(index), 1, self.size, self.size, device=self.device)
        for part in _parts(images):
            torch.div(self._pixels.index_select(0, index[part])[:, None], 255, out=images[part])
        return images


def fitted(drawings: Drawings, size: int) -> np.ndarray:
    """All drawings as uint8 (N, size, size), 0 paper .. 255 ink."""
    pixels = np.empty((len(drawings), size, size), np.uint8)

    def fit(at: int) -> None:
        some = slice(at, at + SLICE)
        pixels[some] = resize(drawings.pixels(some), size)

    # Slices that fit a CPU's cache take a fifth of the time, and the unpacked drawings are never held twice.
    # The threads do run in parallel: numpy releases the GIL while it computes.
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        list(pool.map(fit, range(0, len(drawings), SLICE)))
    return pixels


def on(device: torch.device, values: np.ndarray) -> torch.Tensor:
    """The numbers from which a batch is made, on the device; does not wait for what a GPU is still computing."""
    tensor = torch.from_numpy(np.ascontiguousarray(values))  # else torch would copy it to memory that is not pinned
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def distortions(
    *, seed: int, epoch: int, start: int, count: int, chance: float, turn: np.ndarray | None = None
) -> np.ndarray:
    """Affine maps, float32 (count, 2, 3); map j is a pure function of (seed, epoch, start + j).

    The seven components are rotation, and shear, scale and translation along each axis. Each is present with
    probability `chance` and uniform in Koch's range. `turn`, (count,) in 0..7, adds quarter turns, from 4 on of the
    mirrored drawing: an alphabet in another position serves as a further alphabet.
    """
    draw = counter.uniforms(counter.DISTORTIONS, seed=seed, epoch=epoch, start=start, count=count, width=14)
    amount = np.where(draw[:, :7] < chance, 2 * draw[:, 7:] - 1, 0.0)  # (count, 7) in [-1, 1], 0 where absent
    angle = amount[:, 0] * ROTATION + (0 if turn is None else turn * (math.pi / 2))
    shear_x, shear_y = amount[:, 1] * SHEAR, amount[:, 2] * SHEAR
    # (0.8, 1.2) is symmetric about 1, so an absent component (0) is scale 1.
    scale_x, scale_y = (1 + amount[:, i] * (SCALE[1] - SCALE[0]) / 2 for i in (3, 4))
    cos, sin = np.cos(angle), np.sin(angle)
    linear = np.empty((count, 2, 2))
    linear[:, 0, 0] = (cos - sin * shear_y) * scale_x
    linear[:, 0, 1] = (cos * shear_x - sin) * scale_y
    linear[:, 1, 0] = (sin + cos * shear_y) * scale_x
    linear[:, 1, 1] = (sin * shear_x + cos) * scale_y
    maps = np.zeros((count, 2, 3), dtype=np.float32)
    if turn is not None:
        linear[turn >= 4, 0] *= -1  # mirrored before they are turned
    maps[:, :, :2] = linear
    maps[:, :, 2] = amount[:, 5:7] * (2 * TRANSLATION)  # the grid spans -1 .. 1: two units a side
    return maps


def bends(*, seed: int, epoch: int, start: int, count: int, spread: float) -> np.ndarray:
    """Elastic distortions (Simard et al. 2003), float32 (count, 2, BUMPS * BUMPS): the heights of the bumps that
    make up the displacements along x and y. Distortion j is a pure function of (seed, epoch, start + j).

    `spread`: the standard deviation of a pixel's displacement along each axis, in pixels of a 105-pixel drawing.
    """
    width = 2 * BUMPS * BUMPS
    draw = counter.uniforms(counter.BENDS, seed=seed, epoch=epoch, start=start, count=count, width=width)
    unit = math.sqrt(3) * (2 * draw - 1)  # uniform, with standard deviation 1
    return (unit * (spread * 2 / 105)).astype(np.float32).reshape(count, 2, BUMPS * BUMPS)


@functools.cache
def _bumps(size: int, device: torch.device) -> torch.Tensor:
    """(BUMPS * BUMPS, size * size): Gaussian bumps on a grid. At each pixel their squares sum to 1, so the
    displacement has the standard deviation of the random heights."""
    pixels = (torch.arange(size, dtype=torch.float64) + 0.5) * (2 / size) - 1
    bump = torch.exp(-0.5 * ((pixels - torch.linspace(-1, 1, BUMPS, dtype=torch.float64)[:, None]) / BUMP_WIDTH) ** 2)
    bump /= bump.square().sum(dim=0).sqrt()
    return torch.einsum("iy,jx->ijyx", bump, bump).reshape(BUMPS * BUMPS, size * size).float().to(device)


def distort(images_B1SS: torch.Tensor, maps: np.ndarray, bends: np.ndarray | None = None) -> torch.Tensor:
    """Distort images by affine maps (B, 2, 3) and, with `bends`, elastic distortions; bilinear, paper outside.

    A map of quarter turns alone moves pixels onto pixels, up to the rounding of float32 (2e-5 at 105 pixels).
    """
    theta = on(images_B1SS.device, maps)
    heights = None if bends is None else on(images_B1SS.device, bends)
    made = []
    for part in _parts(images_B1SS):
        images = images_B1SS[part]
        size = images.shape[-1]
        grid = _grid(theta[part], size)
        if heights is not None:
            grid += (heights[part] @ _bumps(size, grid.device)).unflatten(2, (size, size))
        # A view (B, size, size, 2) of separate planes: a CPU need not pick x and y apart.
        grid = grid.permute(0, 2, 3, 1)
        made.append(F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False))
    return made[0] if len(made) == 1 else torch.cat(made)


def _grid(theta_B23: torch.Tensor, size: int) -> torch.Tensor:
    """Where each pixel of a square image is looked up, x and y in -1 .. 1, (B, 2, size, size).

    Computes term by term the sums that torch's `affine_grid` computes as a matrix product at a multiple of the cost.
    """
    along = torch.linspace(-1, 1, size, device=theta_B23.device) * (size - 1) / size
    a, b, c = theta_B23[..., None, None].unbind(dim=2)
    return torch.add(a * along, b * along[:, None]).add_(c)


def _parts(images_B1SS: torch.Tensor) -> list[slice]:
    """Slices of a batch that fit a CPU's cache; a single one on a GPU, which has no cache to spare."""
    count = len(images_B1SS)
    on_cpu = images_B1SS.device.type == "cpu"
    step = max(1, CACHED // (images_B1SS.shape[-1] * images_B1SS.shape[-2])) if on_cpu else max(1, count)
    return [slice(at, at + step) for at in range(0, count, step)]
