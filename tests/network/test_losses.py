"""The losses of pairs and of episodes equal those that a plain double loop computes."""

import math

import pytest
import tiny
import torch
from torch.nn import functional as F

from oneshot.network.losses import EpisodeObjective, PairObjective, episode_loss, pair_loss
from oneshot.network.models import build

OBJECTIVES = ("bce", "softmax", "both")


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def looped(logits: list[list[float]], label: list[int], objective: str) -> tuple[float, float]:
    """Loss and accuracy by definition: same and different pairs have equal weight, no drawing is paired with itself."""
    count = range(len(label))
    same = [(i, j) for i in count for j in count if i != j and label[i] == label[j]]
    different = [(i, j) for i in count for j in count if label[i] != label[j]]
    bce = -sum(math.log(sigmoid(logits[i][j])) for i, j in same) / len(same) / 2
    bce -= sum(math.log(1 - sigmoid(logits[i][j])) for i, j in different) / len(different) / 2
    softmax = 0.0
    for i, p in same:
        against = sum(math.exp(logits[i][n]) for n in count if label[n] != label[i])
        softmax -= math.log(math.exp(logits[i][p]) / (math.exp(logits[i][p]) + against)) / len(same)
    right = sum(logits[i][j] > 0 for i, j in same) / len(same) / 2
    right += sum(logits[i][j] <= 0 for i, j in different) / len(different) / 2
    return {"bce": bce, "softmax": softmax, "both": bce + softmax}[objective], right


def episode(characters: int = 4, drawers: int = 3, *, scale: float = 2.0) -> tuple[torch.Tensor, torch.Tensor]:
    size = characters * drawers
    logits = torch.randn(size, size, generator=torch.Generator().manual_seed(size)) * scale
    return logits, torch.arange(characters).repeat_interleave(drawers)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("shape", [(2, 2), (4, 3), (9, 2)])
def test_an_episodes_loss_and_accuracy_are_those_of_a_double_loop(objective: str, shape: tuple[int, int]) -> None:
    logits, label = episode(*shape)
    loss, accuracy = episode_loss(logits, label, objective)
    expected_loss, expected_accuracy = looped(logits.tolist(), label.tolist(), objective)
    assert loss.item() == pytest.approx(expected_loss, rel=1e-5)
    assert accuracy.item() == pytest.approx(expected_accuracy, rel=1e-5)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_drawing_with_itself_never_counts(objective: str) -> None:
    logits, label = episode()
    logits.requires_grad_()
    loss, accuracy = episode_loss(logits, label, objective)
    loss.backward()
    assert not logits.grad.diagonal().any()
    other = logits.detach().clone().fill_diagonal_(100.0)
    assert [each.item() for each in episode_loss(other, label, objective)] == [loss.item(), accuracy.item()]


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("scale", [0.0, 2.0, 1e3])
def test_the_gradient_is_finite_however_sure_the_scores_are(objective: str, scale: float) -> None:
    logits, label = episode(scale=scale)
    logits.requires_grad_()
    loss, _ = episode_loss(logits, label, objective)
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_order_of_an_episodes_drawings_does_not_matter(objective: str) -> None:
    logits, label = episode()
    order = torch.randperm(len(label), generator=torch.Generator().manual_seed(1))
    expected = episode_loss(logits, label, objective)
    shuffled = episode_loss(logits[order][:, order], label[order], objective)
    for one, other in zip(expected, shuffled, strict=True):
        assert one.item() == pytest.approx(other.item(), rel=1e-6)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_scores_that_are_right_and_sure_cost_nothing_and_wrong_ones_much(objective: str) -> None:
    _, label = episode()
    truth = torch.where(label[:, None] == label[None, :], 20.0, -20.0)
    right, wrong = (episode_loss(sign * truth, label, objective) for sign in (1, -1))
    assert right[0] < 1e-6 and right[1] == 1
    assert wrong[0] > 10 and wrong[1] == 0


def test_indifferent_scores_cost_chance() -> None:
    logits, label = torch.zeros(12, 12), episode()[1]
    assert episode_loss(logits, label, "bce")[0].item() == pytest.approx(math.log(2))
    assert episode_loss(logits, label, "softmax")[0].item() == pytest.approx(
        math.log(1 + 9)
    )  # one positive, 9 negatives
    same = torch.tensor([True, False])
    assert pair_loss(torch.zeros(2), same)[0].item() == pytest.approx(math.log(2))


def test_the_loss_of_pairs_is_the_mean_binary_cross_entropy() -> None:
    logits = torch.tensor([2.0, -1.0, 0.5, -3.0])
    same = torch.tensor([True, True, False, False])
    loss, accuracy = pair_loss(logits, same)
    expected = [
        -math.log(sigmoid(x) if s else 1 - sigmoid(x)) for x, s in zip(logits.tolist(), same.tolist(), strict=True)
    ]
    assert loss.item() == pytest.approx(sum(expected) / 4)
    assert accuracy.item() == 0.5


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_objectives_score_what_the_network_scores(objective: str) -> None:
    torch.manual_seed(0)
    net = build(tiny.settings().model, size=28).eval()
    images, label = torch.rand(8, 1, 28, 28), torch.arange(4).repeat_interleave(2)
    with torch.no_grad():
        z = net.embed(images)
        table = torch.stack([torch.stack([net.score(a[None], b[None])[0] for b in z]) for a in z])
        loss, accuracy = EpisodeObjective(net, objective)(images, label)
        expected = looped(table.tolist(), label.tolist(), objective)
        assert (loss.item(), accuracy.item()) == pytest.approx(expected, rel=1e-4)
        same = torch.tensor([True, False, True, False])
        loss, _ = PairObjective(net)(images, same)
        logits = net.score(z[:4], z[4:])
        assert loss.item() == pytest.approx(F.binary_cross_entropy_with_logits(logits, same.float()).item(), rel=1e-5)
