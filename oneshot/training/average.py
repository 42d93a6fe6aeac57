"""An average of the weights over the steps of a training, which generalises better than the last weights.

Polyak & Juditsky 1992; as an exponential moving average e.g. in Tarvainen & Valpola 2017, "Mean teachers".
"""

import copy

import torch
from torch import nn


class Average:
    """A network whose weights follow those of the trained one: after each step, average = d average + (1 - d) weights.

    d is `decay`, but at most (1 + steps) / (10 + steps), so that the start is soon forgotten. The running statistics of
    batch norm are averaged in the same way: they are averages themselves, gathered under the very weights that are
    averaged. The average depends only on the weights, which all workers share, so it needs no communication.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.net = copy.deepcopy(net).requires_grad_(False)
        self.decay = decay
        self.followed = _floats(net)
        self.following = _floats(self.net)

    @torch.no_grad()
    def follow(self, steps: int) -> None:
        """Take in the last step of the trained network, after which `steps` are done."""
        torch._foreach_lerp_(self.following, self.followed, 1 - min(self.decay, (1 + steps) / (10 + steps)))


def _floats(net: nn.Module) -> list[torch.Tensor]:
    """All that is averaged: parameters and running statistics, but not counts of batches."""
    return [value for value in (*net.parameters(), *net.buffers()) if value.is_floating_point()]
