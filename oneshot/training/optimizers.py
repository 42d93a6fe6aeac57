"""The optimizers of the settings and their learning-rate schedules: torch's own, without the half that compiles.

torch.optim marks its methods for torch.compile and imports torch._dynamo when the first of them is called. That takes
a second or more, as much as the rest of torch, in each process that trains, and nothing here is compiled. These classes
call the functions below the marks; a step computes the same bits (tests/training/test_optimizers.py).
"""

import inspect
import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import optim

from oneshot.base.settings import Train
from oneshot.network.models import Siamese

MARKED = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")


def optimizer(net: Siamese, train: Train) -> optim.Optimizer:
    """The optimizer of the settings. Its parameter groups are the encoder's, then the head as the last. It is fused: a
    step takes one pass over the parameters of a group.

    Weight decay is for the encoder's weights: not for its biases and norms, whose size is no complexity, nor for the
    head, whose scale and bias say what a distance is worth. Only with weight decay does the encoder have several
    groups. Each is a run of its parameters, so that all stay in the order in which checkpoints name them.
    """
    decay = train.weight_decay
    runs = itertools.groupby(net.encoder.parameters(), lambda each: decay if each.ndim > 1 else 0.0)
    groups: list[dict[str, Any]] = [{"params": list(run), "weight_decay": each} for each, run in runs]
    groups.append({"params": list(net.head.parameters()), "weight_decay": 0.0})
    given = {"lr": train.lr, "fused": True}
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
