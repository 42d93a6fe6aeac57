"""What several workers do together: gather embeddings and share batch statistics, so that N workers equal one."""

import torch
from torch import distributed as dist
from torch import nn


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _Gather(torch.autograd.Function):
    """(n, ...) on each rank -> (world_size * n, ...) on all, interleaved: row i of rank r comes to place i * world_size + r.

    That is the order of a batch of which rank r holds every world_size-th row. Every rank goes on to compute the same
    loss from the result, so the gradient of a rank's own rows is the same everywhere; times world_size, because the
    average that follows (DDP's) divides by it.
    """

    @staticmethod
    def forward(ctx, rows: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        parts = [torch.empty_like(rows) for _ in range(world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.stack(parts, dim=1).flatten(0, 1)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return gradient[dist.get_rank() :: world_size()] * world_size()


def gather(rows: torch.Tensor) -> torch.Tensor:
    """The whole batch's rows, in order, on every rank; differentiable. Every rank must bring as many rows."""
    return rows if world_size() == 1 else _Gather.apply(rows)


class _Sum(torch.autograd.Function):
    """The sum over ranks; its gradient is the sum of the ranks' gradients."""

    @staticmethod
    def forward(ctx, value: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation over the global batch. torch's SyncBatchNorm does the same on GPUs only; this runs on gloo too.

    One worker, or evaluation: torch's own fused kernel.
    """

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        if not self.training or world_size() == 1:
            return super().forward(x_BCHW)
        # float32 sums: in bf16 a sum over the batch would lose the variance. The mean is subtracted before squaring,
        # because E[x^2] - E[x]^2 cancels.
        x = x_BCHW.float()
        count = x.shape[0] * x.shape[2] * x.shape[3] * world_size()
        mean = _Sum.apply(x.sum(dim=(0, 2, 3))) / count
        centred = x - mean[:, None, None]
        variance = _Sum.apply(centred.square().sum(dim=(0, 2, 3))) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x_BCHW.dtype)
