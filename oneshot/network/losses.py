"""Losses on logits: of independent pairs, and of all pairs inside an episode.

Shapes: n pairs; M = P x K drawings of an episode, of P characters by K drawers each.
"""

import torch
from torch import nn
from torch.nn import functional as F

from oneshot.network.distributed import gather
from oneshot.network.models import Siamese


def pair_loss(logits_n: torch.Tensor, same_n: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Binary cross-entropy and accuracy, both means over pairs (Koch et al. 2015, equation 2)."""
    loss = F.binary_cross_entropy_with_logits(logits_n, same_n.float())
    return loss, ((logits_n > 0) == same_n).float().mean()


def episode_loss(logits_MM: torch.Tensor, label_M: torch.Tensor, objective: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss and accuracy over all pairs of an episode; same pairs and different pairs have equal weight.

    `bce`: binary cross-entropy. `softmax`: for each anchor i and each of its positives p, the cross-entropy of picking
    p among p and the negatives of i, -log(exp z_ip / (exp z_ip + sum_n exp z_in)). `both`: their sum, which keeps the
    logits calibrated as probabilities. The diagonal (a drawing with itself) never counts.
    """
    alike = label_M[:, None] == label_M[None, :]
    positive = alike & ~torch.eye(len(label_M), dtype=torch.bool, device=label_M.device)
    negative = ~alike
    # Masked sums, not boolean indexing: shapes stay fixed and a GPU need not wait for the counts.
    positives, negatives = positive.sum(), negative.sum()
    right = ((logits_MM > 0) & positive).sum() / positives + ((logits_MM <= 0) & negative).sum() / negatives
    loss = logits_MM.new_zeros(())
    if objective in ("bce", "both"):
        loss = loss + (F.softplus(-logits_MM) * positive).sum() / positives / 2
        loss = loss + (F.softplus(logits_MM) * negative).sum() / negatives / 2
    if objective in ("softmax", "both"):
        # -log(e^p / (e^p + sum e^n)) = softplus(logsumexp(n) - p)
        others = logits_MM.masked_fill(~negative, -torch.inf).logsumexp(dim=1, keepdim=True)
        loss = loss + (F.softplus(others - logits_MM) * positive).sum() / positives
    return loss, right / 2


class PairObjective(nn.Module):
    """What DDP wraps: a network and its loss on independent pairs, the rank's share of a batch."""

    def __init__(self, net: Siamese) -> None:
        super().__init__()
        self.net = net

    def forward(self, images_2n: torch.Tensor, same_n: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Left twins, then right twins (2n, 1, S, S); labels (n,) bool -> loss and accuracy of the share."""
        a_nD, b_nD = self.net.embed(images_2n).chunk(2)
        return pair_loss(self.net.score(a_nD, b_nD), same_n)


class EpisodeObjective(nn.Module):
    """What DDP wraps: a network and its loss on all pairs of the global episode, of which the rank encodes a share."""

    def __init__(self, net: Siamese, objective: str) -> None:
        super().__init__()
        self.net, self.objective = net, objective

    def forward(self, images_m: torch.Tensor, label_M: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The share's drawings (M / world_size, 1, S, S); all labels (M,) -> loss and accuracy of the whole episode."""
        z_MD = gather(self.net.embed(images_m).float())
        return episode_loss(self.net.score_all(z_MD), label_M, self.objective)
