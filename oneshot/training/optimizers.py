"""The optimizers of the settings, and how their learning rate goes: torch's own, without the half that compiles.

torch.optim marks its methods for torch.compile and imports torch._dynamo where the first of them is called. That takes
a second or more, as much as the rest of torch, in each process that trains, and nothing here is compiled. These classes
call what lies below the marks; a step computes the same bits (tests/training/test_optimizers.py).
"""

import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import optim

from oneshot.base.settings import Train
from oneshot.network.models import Siamese

MARKED = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")


def optimizer(net: Siamese, train: Train) -> optim.Optimizer:
    """The optimizer of the settings, two groups: the encoder, the head. Fused: one pass over the parameters a step."""
    groups = [{"params": net.encoder.parameters()}, {"params": net.head.parameters()}]
    given = {"lr": train.lr, "weight_decay": train.weight_decay, "fused": True}
    if train.optimizer == "sgd":
        given["momentum"] = train.momentum
    return KINDS[train.optimizer](groups, **given)


def schedule(train: Train, *, epoch: int, step: int, steps: int) -> float:
    """The learning rate as a multiple of `lr`: a pure function of the place in the run, so a resume needs no state."""
    done = (epoch - 1) * steps + step
    rise = min(1.0, (done + 1) / (train.warmup + 1))
    if train.schedule == "step":
        return rise * 0.99 ** (epoch - 1)
    if train.schedule == "cosine":
        return rise * 0.5 * (1 + math.cos(math.pi * done / (train.epochs * steps)))
    return rise


def _uncompiled(kind: type[optim.Optimizer]) -> type[optim.Optimizer]:
    below = {name: inspect.unwrap(getattr(optim.Optimizer, name)) for name in MARKED}
    return type(kind.__name__, (kind,), below | {"step": _step(inspect.unwrap(kind.step)), "__doc__": kind.__doc__})


def _step(below: Callable[..., Any]) -> Callable[..., Any]:
    @torch.no_grad()
    def step(self: optim.Optimizer) -> None:
        below(self)

    return step


KINDS = {"sgd": _uncompiled(optim.SGD), "adam": _uncompiled(optim.Adam), "adamw": _uncompiled(optim.AdamW)}
