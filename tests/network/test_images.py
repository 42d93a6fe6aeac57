"""What a network sees of drawings: resized, gathered and distorted as in Koch et al. 2015, section 4.1."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch.nn import functional as F

from oneshot.base import counter
from oneshot.data.drawings import Drawings
from oneshot.network.images import Images, bends, distort, distortions, fitted, resize
from oneshot.training.batches import batches

CPU = torch.device("cpu")
ROUNDING = 5e-5  # error of bilinear sampling in float32; one grey level is 4e-3


def maps(count: int, *, chance: float, seed: int = 0, start: int = 0, turn: np.ndarray | None = None) -> np.ndarray:
    return distortions(seed=seed, epoch=1, start=start, count=count, chance=chance, turn=turn)


def grey(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


# Resizing to the network's size


@pytest.mark.parametrize(("side", "size"), [(105, 28), (105, 35), (105, 56), (56, 28), (97, 64), (20, 28), (600, 2)])
def test_resizing_averages_over_areas_as_torch_does(side: int, size: int) -> None:
    drawings = grey(5, side, side)
    theirs = F.interpolate(drawings[:, None].float(), (size, size), mode="area")[:, 0].round().to(torch.uint8)
    assert np.array_equal(resize(drawings.numpy(), size), theirs.numpy())


def test_a_drawing_of_the_right_size_is_left_alone() -> None:
    drawing = grey(3, 28, 28).numpy()
    assert np.array_equal(resize(drawing, 28), drawing)


@pytest.mark.parametrize(("height", "width"), [(12, 28), (28, 12)])
def test_an_oblong_is_centred_on_a_square_of_paper(height: int, width: int) -> None:
    square = resize(np.full((1, height, width), 255, np.uint8), 28)[0]
    ink = np.zeros((28, 28), np.uint8)
    ink[(28 - height) // 2 : (28 + height) // 2, (28 - width) // 2 : (28 + width) // 2] = 255
    assert np.array_equal(square, ink)


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (517, 31)])
def test_any_size_fits(shape: tuple[int, int]) -> None:
    fitted = resize(np.full((2, *shape), 255, np.uint8), 28)
    assert fitted.shape == (2, 28, 28) and fitted.dtype == np.uint8
    assert fitted.max() > 0


# Gathering


def as_bytes(drawings: Drawings) -> Drawings:
    return dataclasses.replace(drawings, packed=drawings.pixels().reshape(len(drawings), -1), bits=8)


def test_gathered_images_are_floats_with_ink_1_on_paper_0() -> None:
    drawings = tiny.drawings({"Greek": 3})
    images = Images(drawings, size=28, device=CPU)
    gathered = images.gather(np.array([7, 0, 7]))
    assert gathered.shape == (3, 1, 28, 28) and gathered.dtype == torch.float32
    assert torch.equal(gathered[0], gathered[2])
    assert torch.equal(gathered[:, 0], torch.from_numpy(drawings.pixels([7, 0, 7]) / np.float32(255)))
    assert set(gathered.unique().tolist()) == {0.0, 1.0}


def test_more_drawings_than_a_slice_come_out_in_order() -> None:
    drawings = tiny.drawings({"Greek": 26}, drawers=200, side=16)
    images = Images(drawings, size=16, device=CPU)
    assert len(images) == 5_200
    assert np.array_equal(images.gather(np.arange(5_200))[:, 0].numpy() * 255, drawings.pixels())
    assert np.array_equal(fitted(drawings, 16), drawings.pixels())


@pytest.mark.parametrize("side", [28, 31])  # 31 x 31 bits do not fill whole bytes
def test_as_bits_or_as_bytes_they_are_the_same_images(side: int) -> None:
    """On a CPU, black-on-white drawings of the right size are kept as bits; others are kept as bytes."""
    drawings = tiny.drawings({"Greek": 3, "Latin": 4}, side=side)
    bits, pixels = (Images(each, size=side, device=CPU) for each in (drawings, as_bytes(drawings)))
    assert len(bits) == len(pixels) == len(drawings)
    some = np.array([5, 0, 5, len(drawings) - 1])
    assert torch.equal(bits.gather(some), pixels.gather(some))
    assert torch.equal(bits.gather(some[::2]), bits.gather(some)[::2])


def test_bits_are_not_copied() -> None:
    drawings = tiny.drawings({"Greek": 3})
    images = Images(drawings, size=28, device=CPU)
    drawings.packed[0] = 255
    assert images.gather(np.array([0])).min() == 1


# Distortion


def test_without_chance_every_map_is_exactly_the_identity() -> None:
    assert np.array_equal(maps(100, chance=0.0), np.broadcast_to(np.eye(2, 3, dtype=np.float32), (100, 2, 3)))


def test_the_identity_leaves_an_image_as_it_is() -> None:
    image = grey(4, 1, 105, 105) / 255
    assert (distort(image, maps(4, chance=0.0)) - image).abs().max() < ROUNDING


@pytest.mark.parametrize("size", [28, 29, 105])
def test_quarter_turns_move_pixels_to_pixels(size: int) -> None:
    image = grey(4, 1, size, size) / 255
    turned = distort(image, maps(4, chance=0.0, turn=np.arange(4)))
    for quarters in range(4):
        assert (turned[quarters] - torch.rot90(image[quarters], quarters, (1, 2))).abs().max() < ROUNDING


def test_a_map_depends_on_seed_epoch_and_index_alone() -> None:
    whole = maps(100, chance=0.5)
    assert np.array_equal(maps(10, chance=0.5, start=40), whole[40:50])
    assert not np.array_equal(maps(100, chance=0.5, seed=1), whole)
    assert not np.array_equal(distortions(seed=0, epoch=2, start=0, count=100, chance=0.5), whole)


@pytest.fixture(scope="module")
def rare() -> np.ndarray:
    """Maps that mostly have one component or none, so that each component can be recognised by its form."""
    return maps(60_000, chance=0.05)


def components(rare: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Each component with its amounts in the maps that have only it: degrees, shears, scales, pixels (of 105)."""
    (a, b), (c, d) = rare[:, 0, :2].T, rare[:, 1, :2].T
    x, y = rare[:, :, 2].T * 105 / 2  # the grid spans -1 .. 1
    still = (x == 0) & (y == 0)
    plain = (a == 1) & (b == 0) & (c == 0) & (d == 1)
    turned = still & (b != 0) & (np.abs(b + c) < 1e-7) & (np.abs(a - d) < 1e-7)
    yield "rotation", np.degrees(np.arctan2(c, a))[turned]
    yield "shear along x", b[still & (a == 1) & (d == 1) & (c == 0) & (b != 0)]
    yield "shear along y", c[still & (a == 1) & (d == 1) & (b == 0) & (c != 0)]
    yield "scale along x", a[still & (b == 0) & (c == 0) & (d == 1) & (a != 1)]
    yield "scale along y", d[still & (b == 0) & (c == 0) & (a == 1) & (d != 1)]
    yield "translation along x", x[plain & (x != 0) & (y == 0)]
    yield "translation along y", y[plain & (y != 0) & (x == 0)]


RANGES = {"rotation": (-10, 10), "shear": (-0.3, 0.3), "scale": (0.8, 1.2), "translation": (-2, 2)}


def test_each_component_is_uniform_in_the_papers_range(rare: np.ndarray) -> None:
    for name, amounts in components(rare):
        low, high = RANGES[name.split()[0]]
        place = (amounts - low) / (high - low)
        assert -1e-4 < place.min() < 0.01, name
        assert 0.99 < place.max() < 1 + 1e-4, name
        counts = np.bincount((place * 10).clip(0, 9).astype(int), minlength=10)
        assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 40, name  # chi-square, 9 degrees of freedom


def test_each_component_is_there_with_the_given_chance_on_its_own(rare: np.ndarray) -> None:
    alone = 60_000 * 0.05 * 0.95**6
    for name, amounts in components(rare):
        assert abs(len(amounts) - alone) < 5 * alone**0.5, name
    none = (rare == np.eye(2, 3, dtype=np.float32)).all(axis=(1, 2)).mean()
    assert abs(none - 0.95**7) < 0.01


def test_all_components_together_stay_within_bounds() -> None:
    every = maps(20_000, chance=1.0)
    assert np.abs(every[:, :, 2]).max() <= 2 * 2 / 105 + 1e-6
    stretch = np.linalg.svd(every[:, :, :2], compute_uv=False)
    assert 0.8 * 0.7 - 1e-4 < stretch.min() and stretch.max() < 1.2 * 1.3 + 1e-4
    assert (np.linalg.det(every[:, :, :2]) > 0).all()  # never mirrored


def test_a_map_scales_then_shears_then_rotates_then_moves() -> None:
    draw = counter.uniforms(counter.DISTORTIONS, seed=0, epoch=1, start=0, count=50, width=14)
    for made, amount in zip(maps(50, chance=1.0), 2 * draw[:, 7:] - 1, strict=True):
        angle = math.radians(10) * amount[0]
        rotate = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        shear = np.array([[1, 0.3 * amount[1]], [0.3 * amount[2], 1]])
        scale = np.diag(1 + 0.2 * amount[3:5])
        assert np.abs(made[:, :2] - rotate @ shear @ scale).max() < 1e-6
        assert np.abs(made[:, 2] - 4 / 105 * amount[5:7]).max() < 1e-6


@pytest.mark.parametrize("size", [28, 29])
def test_from_4_on_a_drawing_is_mirrored_before_it_is_turned(size: int) -> None:
    image = grey(4, 1, size, size) / 255
    turned = distort(image, maps(4, chance=0.0, turn=np.arange(4, 8)))
    for quarters in range(4):
        assert (turned[quarters] - torch.rot90(image[quarters].flip(2), quarters, (1, 2))).abs().max() < ROUNDING


def bent(count: int, *, spread: float, start: int = 0, epoch: int = 1) -> np.ndarray:
    return bends(seed=0, epoch=epoch, start=start, count=count, spread=spread)


def test_an_elastic_distortion_depends_on_seed_epoch_and_index_alone() -> None:
    whole = bent(50, spread=3.0)
    assert np.array_equal(bent(10, spread=3.0, start=20), whole[20:30])
    assert not np.array_equal(bent(50, spread=3.0, epoch=2), whole)


@pytest.mark.parametrize("size", [28, 105])
def test_its_displacements_have_the_spread_asked_for_at_every_pixel_and_are_smooth(size: int) -> None:
    where = torch.linspace(-1, 1, size + 1, dtype=torch.float64)[:-1] + 1 / size
    ramp = ((where + 1) / 2).float().expand(4_000, 1, size, size)  # each pixel shows its own x coordinate
    still = maps(4_000, chance=0.0)
    inside = slice(size // 4, -(size // 4))  # far enough from the margin that no paper moves in
    moved = ((distort(ramp.clone(), still, bent(4_000, spread=2.0)) - ramp) * 105)[:, 0, inside, inside]
    assert (moved.std(dim=0) - 2.0).abs().max() < 0.15 and moved.mean(dim=0).abs().max() < 0.2
    step = 105 / size
    assert moved.diff(dim=2).std() < 0.2 * step  # neighbours move together


def test_without_spread_nothing_bends() -> None:
    image = grey(4, 1, 28, 28) / 255
    still = maps(4, chance=0.0)
    assert torch.equal(distort(image, still, bent(4, spread=0.0)), distort(image, still))


def test_what_leaves_the_image_is_paper() -> None:
    ink = torch.ones(1, 1, 28, 28)
    away = np.array([[[1, 0, 4.0], [0, 1, 0]]], dtype=np.float32)
    assert not distort(ink, away).any()


# Batches


def alike() -> Drawings:
    """Characters whose drawings are all the same picture."""
    return tiny.drawings({"Greek": 6, "Latin": 6}, noise=0.0)


def make(drawings: Drawings, **changes: object):
    given = tiny.settings(**changes)
    return batches(drawings, Images(drawings, size=28, device=CPU), data=given.data, train=given.train)


def test_twins_are_distorted_each_on_its_own() -> None:
    images, same = make(alike(), distort=0.0).get(epoch=1, step=0)
    left, right = images.chunk(2)
    assert torch.equal(left[same], right[same])
    images, same = make(alike(), distort=1.0).get(epoch=1, step=0)
    left, right = images.chunk(2)
    assert ((left[same] - right[same]).abs().amax(dim=(1, 2, 3)) > 0.05).all()


def test_turned_twins_of_one_character_turn_together() -> None:
    images, same = make(alike(), distort=0.0, rotations=True).get(epoch=1, step=0)
    left, right = images.chunk(2)
    assert (left[same] - right[same]).abs().max() < ROUNDING


@pytest.mark.parametrize("world_size", [2, 4])
@pytest.mark.parametrize("sampling", ["pairs", "episodes"])
def test_any_number_of_workers_sees_the_same_images(sampling: str, world_size: int) -> None:
    made = make(tiny.parts().train, sampling=sampling, distort=0.5, elastic=2.0, rotations=True, flips=True)
    images, labels = made.get(epoch=2, step=1)
    shares = [made.get(epoch=2, step=1, rank=rank, world_size=world_size) for rank in range(world_size)]
    twins = 2 if sampling == "pairs" else 1
    parts = [share[0].reshape(twins, -1, 1, 28, 28) for share in shares]
    assert torch.equal(torch.stack(parts, dim=2).reshape(images.shape), images)
    if sampling == "pairs":
        assert torch.equal(torch.stack([share[1] for share in shares], dim=1).reshape(-1), labels)
    else:
        assert all(torch.equal(share[1], labels) for share in shares)


@pytest.mark.parametrize("sampling", ["pairs", "episodes"])
def test_batches_made_at_once_are_those_made_one_by_one(sampling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawings, changes = tiny.parts().train, {"distort": 0.5, "elastic": 2.0, "rotations": True, "flips": True}

    def blocks_of(batches: Any) -> list[int]:
        """A list of how many batches are made at once, each time that some are made."""
        blocks, make = [], batches._make
        monkeypatch.setattr(batches, "_make", lambda *given: blocks.append(len(given[1])) or make(*given))
        return blocks

    together = make(drawings, sampling=sampling, **changes)
    many = blocks_of(together)
    asked = [(1, 0), (1, 1), (1, 2), (2, 2), (2, 1)]  # an epoch has three steps
    found = [together.get(epoch=epoch, step=step) for epoch, step in asked]
    assert many == [3, 1, 2]
    monkeypatch.setattr("oneshot.training.batches.AT_ONCE", 1)
    alone = make(drawings, sampling=sampling, **changes)
    single = blocks_of(alone)
    for (epoch, step), (images, labels) in zip(asked, found, strict=True):
        one = alone.get(epoch=epoch, step=step)
        assert torch.equal(images, one[0]) and torch.equal(labels, one[1])
    assert single == [1] * 5


def test_no_two_steps_and_no_two_epochs_bring_the_same_images() -> None:
    made = make(tiny.parts().train, distort=0.5)
    first, step, epoch = (made.get(epoch=e, step=s)[0] for e, s in [(1, 0), (1, 1), (2, 0)])
    assert not torch.equal(first, step) and not torch.equal(first, epoch)
    assert torch.equal(first, made.get(epoch=1, step=0)[0])


@pytest.mark.parametrize("size", [28, 105])
@pytest.mark.parametrize("bits", [1, 8])
def test_a_batch_is_made_of_the_same_bits_as_its_images_one_by_one(bits: int, size: int) -> None:
    """The number of images that are processed at once changes no bit."""
    drawings = tiny.parts(side=size).train
    images = Images(drawings if bits == 1 else as_bytes(drawings), size=size, device=CPU)
    count = 80
    maps = distortions(seed=3, epoch=1, start=0, count=count, chance=0.5)
    batch = images.gather(np.arange(count))
    assert torch.equal(batch, torch.cat([images.gather(np.array([one])) for one in range(count)]))
    assert torch.equal(batch, torch.from_numpy(drawings.pixels(slice(count)))[:, None].float() / 255)
    theta = torch.from_numpy(maps)
    sampled = F.grid_sample(batch, F.affine_grid(theta, list(batch.shape), align_corners=False), align_corners=False)
    assert (distort(batch, maps) - sampled).abs().max() < ROUNDING
    alone = [distort(batch[one : one + 1], maps[one : one + 1]) for one in range(count)]
    assert torch.equal(distort(batch, maps), torch.cat(alone))
