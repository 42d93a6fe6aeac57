"""Operations by which N workers compute what one would: above all, gathering the embeddings of a batch."""

import torch
from torch import distributed as dist


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def interleaved(rows: torch.Tensor) -> torch.Tensor:
    """(n, ...) on each rank -> (world_size * n, ...) on all: row i of rank r becomes row i * world_size + r.

    This restores the order of a batch of which each rank holds every world_size-th row. It has no gradient.
    """
    parts = [torch.empty_like(rows) for _ in range(world_size())]
    dist.all_gather(parts, rows.contiguous())
    return torch.stack(parts, dim=1).flatten(0, 1)


class _Gather(torch.autograd.Function):
    """`interleaved`, with a gradient.

    Every rank computes the same loss from the result, so the gradient of a rank's own rows is the same on all ranks. It
    is multiplied by world_size because DDP's average, which follows, divides by it.
    """

    @staticmethod
    def forward(ctx, rows: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return interleaved(rows)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return gradient[dist.get_rank() :: world_size()] * world_size()


def gather(rows: torch.Tensor) -> torch.Tensor:
    """The whole batch's rows, in order, on every rank; differentiable. Every rank must bring equally many rows."""
    return rows if world_size() == 1 else _Gather.apply(rows)


def average_in_bf16(_: object, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
    """A DDP hook that sends a bucket of gradients as bf16: half the bytes, eight bits of each number.

    It does the same as torch's bf16_compress_hook, which refuses gloo.
    """
    whole = bucket.buffer()
    half = whole.to(torch.bfloat16).div_(dist.get_world_size())
    return dist.all_reduce(half, async_op=True).get_future().then(lambda done: whole.copy_(done.value()[0]))
