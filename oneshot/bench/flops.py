"""Floating-point operations of a network, counted layer by layer."""

import math

import torch
from torch import nn


def forward(encoder: nn.Module, *, size: int) -> tuple[float, float]:
    """Count the operations of one drawing (1, size, size) through an encoder, and those of its first layer alone.

    A multiplication and an addition count as two operations. Only convolutions and linear layers are counted.
    """
    counts: list[float] = []

    def count(module: nn.Module, _: object, output: torch.Tensor) -> None:
        each = math.prod(module.weight.shape[1:])
        counts.append(2.0 * each * output.numel())

    layers = [module for module in encoder.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    hooks = [module.register_forward_hook(count) for module in layers]
    training = encoder.training
    try:
        with torch.no_grad():
            encoder.eval()(torch.zeros(1, 1, size, size, device=next(encoder.parameters()).device))
    finally:
        encoder.train(training)
        for hook in hooks:
            hook.remove()
    return sum(counts), counts[0]


def training(encoder: nn.Module, *, size: int) -> float:
    """Operations of one drawing in a training step: the forward pass and twice as many in the backward pass, less the
    gradient of the first layer's input, which is not computed."""
    whole, first = forward(encoder, size=size)
    return 3 * whole - first
