"""Batch normalisation over the global batch (Ioffe & Szegedy 2015), the same for any number of workers.

torch's SyncBatchNorm runs on GPUs only, and torch's fused CPU kernel for channels-last float32 adds up a batch term by
term: the variance is wrong in the fourth digit, so that one worker and two would differ visibly. Here float32 sums use
torch's own reductions, which add in cascades.
"""

import torch
from torch import distributed as dist
from torch import nn
from torch.nn import functional as F

from oneshot.network.distributed import world_size


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` whose statistics in training are those of all ranks' images, equally many per rank.

    One worker in bf16 or on a GPU uses torch's fused kernel: there it is exact enough, and faster.
    """

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        exact = x_BCHW.dtype == torch.float32 and x_BCHW.device.type == "cpu"
        if not self.training or (world_size() == 1 and not exact):
            return super().forward(x_BCHW)
        y_BCHW, mean_C, variance_C = _Normalise.apply(x_BCHW, self.weight, self.bias, self.eps)
        count = x_BCHW.numel() // x_BCHW.shape[1] * world_size()
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean_C, self.momentum)
            self.running_var.lerp_(variance_C * (count / (count - 1)), self.momentum)
        return y_BCHW


class _Normalise(torch.autograd.Function):
    """The rank's (B, C, H, W) normalised by the mean and variance over all ranks, which are returned as well."""

    @staticmethod
    def forward(ctx, x, weight, bias, eps):  # type: ignore[override]
        mean, variance = _combine(*_moments(x))
        y = F.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps)
        ctx.save_for_backward(x, weight, mean, variance)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    def backward(ctx, gradient, *_):  # type: ignore[override]
        x, weight, mean, variance = ctx.saved_tensors
        inverse = torch.rsqrt(variance + ctx.eps)
        # For y = weight * (x - mean) * inverse + bias: these sums are the gradients of weight and bias.
        for_bias, for_weight, scratch = _sums(x, gradient, mean, inverse)
        total = torch.stack([for_bias, for_weight])
        if world_size() > 1:
            dist.all_reduce(total)
        count = x.numel() // x.shape[1] * world_size()
        # dx = scale * (g - mean of g - xhat * mean of (g * xhat)), with means over all ranks; written as one affine map
        # of g and x per channel, g * scale + x * slope + shift, so that each tensor is passed over once.
        scale = weight * inverse
        slope = -scale * inverse * total[1] / count
        shift = -scale * total[0] / count - slope * mean
        if scratch is None:
            dx = _affine(x, slope, shift).addcmul_(gradient, _channels(scale, x))
        else:
            dx = torch.mul(x, _channels(slope, x), out=scratch)
            dx.addcmul_(gradient, _channels(scale, x)).add_(_channels(shift, x))
        return dx, for_weight, for_bias, None


def _moments(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance (C,) of each channel, in the type of the parameters."""
    if x.itemsize < 4:  # bf16: torch's fused kernels, which add in float32 and return the type of these zeros
        zeros = torch.zeros(x.shape[1], device=x.device)
        return torch.batch_norm_update_stats(x, zeros, zeros.clone(), momentum=0.0)
    mean = x.mean(dim=(0, 2, 3))
    centred = x - mean[:, None, None]  # before squaring: E[x^2] - E[x]^2 cancels
    return mean, centred.square_().mean(dim=(0, 2, 3))


def _combine(mean: torch.Tensor, variance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The moments of all ranks' images, from each rank's: the variance within ranks plus that between them."""
    if world_size() == 1:
        return mean, variance
    mine = torch.stack([mean, variance])
    parts = [torch.empty_like(mine) for _ in range(world_size())]
    dist.all_gather(parts, mine)
    means, variances = torch.stack(parts, dim=1)
    mean = means.mean(dim=0)
    return mean, variances.mean(dim=0) + (means - mean).square().mean(dim=0)


def _sums(
    x: torch.Tensor, gradient: torch.Tensor, mean: torch.Tensor, inverse: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """The rank's sums of g and of g * xhat, (C,) each; and a tensor like `x` to write into, if one was made."""
    if x.itemsize < 4:  # bf16: torch's fused kernels, which add in float32
        # A weight of ones: without a weight, CUDA's kernel returns no sums at all.
        ones, variance = torch.ones_like(mean), inverse.square().reciprocal()
        _, for_weight, for_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, x, ones, mean, variance, mean, inverse, True, 0.0, [False, True, True]
        )
        return for_bias.float(), for_weight.float(), None
    product = (x - mean[:, None, None]).mul_(gradient)
    return gradient.sum(dim=(0, 2, 3)), product.sum(dim=(0, 2, 3)) * inverse, product


def _affine(x: torch.Tensor, slope_C: torch.Tensor, shift_C: torch.Tensor) -> torch.Tensor:
    """x * slope + shift per channel, in float32 whatever the type of x, and in one pass: by batch norm's kernel."""
    mean, variance = torch.zeros_like(slope_C), torch.ones_like(slope_C)
    return F.batch_norm(x, mean, variance, slope_C, shift_C, training=False, eps=0.0)


def _channels(value: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """(C,) -> (C, 1, 1) of the type of x."""
    return value.to(x.dtype)[:, None, None]
