"""The networks are those of the papers, and a score depends on its two drawings alone."""

import numpy as np
import pytest
import torch
from torch import nn

from oneshot.base import settings
from oneshot.base.errors import UserError
from oneshot.network import models, pairwise
from oneshot.network.images import distort, distortions
from oneshot.network.models import ENCODERS, FirstConv2d, Siamese, WeightedL1, build, koch, looking

NAMES = sorted(ENCODERS)
SIZES = {"koch": 65, "conv4": 28, "resnet": 28}  # small sizes, for tests in which the size does not matter


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def made(name: str, size: int | None = None, **options: str | int) -> Siamese:
    torch.manual_seed(0)
    return build(settings.Model(name=name, **options), size=size or SIZES[name])


def drawings(count: int, size: int) -> torch.Tensor:
    return (torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(count)) < 0.2).float()


# The papers' numbers


def test_koch_has_the_papers_parameters_and_embedding() -> None:
    net = made("koch", 105)
    assert sum(parameter.numel() for parameter in net.parameters()) == 38_951_745
    with torch.no_grad():
        embedding = net.embed(drawings(2, 105))
    assert embedding.shape == (2, 4096)
    assert ((embedding > 0) & (embedding < 1)).all()  # sigmoid units


def test_conv4_maps_28_pixels_to_64_numbers() -> None:
    net = made("conv4", 28)
    assert net.eval().embed(drawings(2, 28)).shape == (2, 64)
    assert net.dimension == net.head.in_features == 64


def test_each_block_more_of_the_residual_network_is_two_in_its_last_stages() -> None:
    one, three = (made("resnet", 28, width=16, depth=depth) for depth in (1, 3))
    block = 2 * 9 * 64 * 64 + 64 * 64 + 4 * 64  # two convolutions, the shortcut, two batch norms
    count = [sum(parameter.numel() for parameter in net.parameters()) for net in (one, three)]
    assert count[1] - count[0] == 2 * 2 * block
    assert one.dimension == three.dimension == 3 * 3 * 64
    assert [name for name in one.state_dict() if name.startswith("encoder.6.")], "where older checkpoints have it"


@pytest.mark.parametrize(
    ("name", "size"), [("koch", 66), ("koch", 105), *((n, s) for n in ("conv4", "resnet") for s in (16, 23, 35))]
)
def test_an_encoder_says_how_long_its_embeddings_are(name: str, size: int) -> None:
    net = made(name, size)
    for seen in (net, looking(net, 2)):
        assert seen.eval().embed(drawings(1, size)).shape == (1, seen.dimension)


@pytest.mark.parametrize(("name", "least"), [("koch", 65), ("conv4", 16)])
def test_the_smallest_size_that_works_is_the_one_the_refusal_names(name: str, least: int) -> None:
    assert made(name, least).eval().embed(drawings(1, least)).shape[0] == 1
    with pytest.raises(UserError, match=rf"data\.size = {least - 1}: .* at least {least} pixels"):
        made(name, least - 1)


def test_koch_init_draws_weights_and_biases_as_the_paper_says() -> None:
    net = made("koch", 65, init="koch")
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            spread = 0.01 if isinstance(module, nn.Conv2d) else 0.2
            sure = 6 / module.weight.numel() ** 0.5  # six standard errors
            assert abs(module.weight.mean() / spread) < sure
            assert abs(module.weight.std() / spread - 1) < sure
            assert (module.bias - 0.5).abs().max() < 0.06  # N(0.5, 0.01)
    assert abs(net.encoder[-2].bias.mean() - 0.5) < 1e-3
    assert abs(net.encoder[-2].bias.std() - 0.01) < 1e-3


def test_the_same_seed_builds_the_same_network() -> None:
    one, other = made("conv4"), made("conv4")
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


# Scores


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_swapping_left_and_right_changes_no_score(name: str) -> None:
    net = made(name).eval()
    left, right = drawings(6, net.size), drawings(6, net.size).flip(0)
    assert torch.equal(net(left, right), net(right, left))
    a_BD, b_BD = net.embed(left), net.embed(right)
    assert torch.equal(net.score(a_BD, b_BD), net.score(b_BD, a_BD))


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_in_evaluation_an_embedding_does_not_depend_on_its_neighbours(name: str) -> None:
    net = made(name).eval()
    one, others = drawings(1, net.size), drawings(14, net.size)
    first, second = (net.embed(torch.cat([one, part]))[0] for part in others.chunk(2))
    assert torch.equal(first, second)
    assert (net.embed(one)[0] - first).abs().max() < 1e-5  # a batch of one uses other kernels, with other rounding


@torch.no_grad()
def test_in_training_batch_norm_does_see_the_neighbours() -> None:
    net = made("conv4")
    one, others = drawings(1, 28), drawings(14, 28)
    first, second = (net.embed(torch.cat([one, part]))[0] for part in others.chunk(2))
    assert (first - second).abs().max() > 1e-2


@pytest.mark.parametrize(("name", "views"), [("resnet", 8), ("conv4", 4)])
@torch.no_grad()
def test_the_logit_of_several_views_is_the_mean_of_theirs(name: str, views: int) -> None:
    """View v shows both drawings in position v, numbered as in training."""
    net = made(name).eval()
    left, right = drawings(3, net.size), drawings(3, net.size).flip(0)

    def turned(images: torch.Tensor, view: int) -> torch.Tensor:
        maps = distortions(seed=0, epoch=0, start=0, count=3, chance=0.0, turn=np.full(3, view))
        return distort(images, maps)

    logits = [net(turned(left, view), turned(right, view)) for view in range(views)]
    seen = looking(net, views)
    assert torch.allclose(seen(left, right), torch.stack(logits).mean(dim=0), atol=1e-3)
    assert seen.embed(left).shape == (3, views * net.dimension)
    assert torch.allclose(seen(turned(left, 1), turned(right, 1)), seen(left, right), atol=1e-3)
    assert torch.allclose(seen.score_all(seen.embed(left))[0, 1], seen(left[:1], left[1:2])[0], atol=1e-5)
    assert looking(net, 1) is net


def test_the_head_is_the_weighted_l1_distance() -> None:
    head = WeightedL1(3)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, -2.0, 0.5]]))
        head.bias.fill_(0.25)
    a, b = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[0.0, 4.0, 3.5]])
    assert head(a, b).tolist() == [1 * 1 - 2 * 2 + 0.5 * 0.5 + 0.25]


def test_the_head_scores_all_pairs_by_broadcasting() -> None:
    head, z_MD = WeightedL1(8), torch.randn(5, 8)
    table = head(z_MD[:, None], z_MD[None, :])
    assert table.shape == (5, 5)
    for i in range(5):
        for j in range(5):
            assert (table[i, j] - head(z_MD[i : i + 1], z_MD[j : j + 1])[0]).abs() < 1e-6


@pytest.mark.parametrize("block", [1, 700, 1 << 17])
def test_the_table_of_all_pairs_and_its_gradient_are_those_of_the_pairs(
    monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(pairwise, "_CPU_BLOCK", block)
    head, upstream = WeightedL1(8), torch.randn(13, 13)
    z_MD = torch.randn(13, 8, requires_grad=True)
    wanted = (z_MD, *head.parameters())
    table, plain = head.table(z_MD), head(z_MD[:, None], z_MD[None, :])
    assert torch.equal(table, table.T) and (table - plain).abs().max() < 1e-6
    found, expected = (torch.autograd.grad((each * upstream).sum(), wanted) for each in (table, plain))
    for one, other in zip(found, expected, strict=True):
        assert (one - other).abs().max() < 1e-4


@pytest.mark.parametrize("numbers", [1, 50, 1 << 19])
def test_queries_and_classes_are_scored_in_blocks_as_in_pairs(numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "at_once", lambda device, each: max(1, numbers // each))
    head, a_QD, b_CD = WeightedL1(12), torch.rand(5, 12), torch.rand(7, 12)
    assert (head.between(a_QD, b_CD) - head(a_QD[:, None], b_CD)).abs().max() < 1e-6
    assert head.between(a_QD[:0], b_CD).shape == (0, 7)


def test_the_residual_network_keeps_where_things_are() -> None:
    net = made("resnet", 28, width=8)
    assert net.dimension == 32 * 3 * 3
    assert sum(value.numel() for value in made("resnet", 28, width=16).parameters()) == 153_233


def test_the_head_computes_in_float32_whatever_the_encoder_does() -> None:
    head, a_BD, b_BD = WeightedL1(64), torch.randn(9, 64), torch.randn(9, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = head(a_BD, b_BD)
    assert scores.dtype == torch.float32
    assert torch.equal(scores, head(a_BD, b_BD))


def test_a_calibrated_head_starts_with_logits_of_mean_minus_1_and_spread_1_that_fall_with_distance() -> None:
    head = WeightedL1(64)
    a_BD, b_BD = torch.randn(500, 64) * 3, torch.randn(500, 64)
    distance = (a_BD - b_BD).abs().sum(dim=1)
    head.calibrate(distance)
    logits = head(a_BD, b_BD)
    assert abs(logits.mean() + 1) < 1e-3
    assert abs(logits.std() - 1) < 1e-3
    order = distance.argsort()
    gaps = distance[order].diff() > 1e-2
    assert (logits[order].diff()[gaps] < 0).all()


def test_a_dead_encoder_does_not_make_the_calibrated_head_infinite() -> None:
    head = WeightedL1(4)
    head.calibrate(torch.zeros(10))
    assert head.weight.isfinite().all() and head.bias.isfinite().all()


def assert_same(ours: nn.Module, theirs: nn.Module, x_B1SS: torch.Tensor, *, tolerance: float) -> None:
    """Asserts that both modules give the same output and the same gradients of their parameters."""
    found = []
    for net in (ours, theirs):
        y = net(x_B1SS).float()
        (y**2).sum().backward()
        found.append([y.detach(), *(each.grad for each in net.parameters())])
    for mine, reference in zip(*found, strict=True):
        assert torch.allclose(mine, reference, rtol=tolerance, atol=tolerance * float(reference.abs().max()))


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(("taps", "padding", "bias"), [(10, 0, True), (3, 1, False)])
def test_convolution_of_drawings_by_rows_is_the_convolution(taps: int, padding: int, bias: bool, half: bool) -> None:
    torch.manual_seed(0)
    ours = FirstConv2d(16, taps, padding=padding, bias=bias)
    theirs = nn.Conv2d(1, 16, taps, padding=padding, bias=bias)
    theirs.load_state_dict(ours.state_dict())
    x_B1SS = torch.rand(5, 1, 21, 21)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        assert ours(x_B1SS).dtype == (torch.bfloat16 if half else torch.float32)
        assert_same(ours, theirs, x_B1SS, tolerance=2e-2 if half else 1e-5)


def test_koch_is_the_papers_figure_4_layer_by_layer() -> None:
    torch.manual_seed(0)
    encoder = koch(65)
    papers = nn.Sequential(
        nn.Conv2d(1, 64, 10), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(64, 128, 7), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(128, 128, 4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(128, 256, 4), nn.ReLU(), nn.Flatten(),
        nn.Linear(256, 4096), nn.Sigmoid(),
    )  # fmt: skip
    papers.load_state_dict(encoder.state_dict())
    assert_same(encoder, papers, torch.rand(2, 1, 65, 65), tolerance=1e-4)
