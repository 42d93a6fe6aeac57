"""Weighted L1 distances in blocks: of all pairs of a batch, with their gradient, and of queries from classes.

Autograd would keep several (M, M, D) tensors. For a few hundred drawings these cost more time on a CPU than the encoder
and gigabytes on a GPU. Here only one block of rows exists at a time, and each symmetric pair is computed once.
"""

import torch

# Numbers in a block: what fits a core's cache; on a GPU, what is worth a launch.
_CPU_BLOCK, _GPU_BLOCK = 1 << 17, 1 << 24


class _Distances(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z, weight):  # type: ignore[override]
        table = z.new_empty(len(z), len(z))
        for first, last in _blocks(z):
            apart = (z[first:last, None] - z[None, first:]).abs_()
            # Not a matrix product: BLAS libraries may choose the order of its sum anew in every process.
            part = apart.mul_(weight).sum(dim=-1)
            table[first:last, first:] = part
            table[first:, first:last] = part.T
        ctx.save_for_backward(z, weight)
        return table

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[override]
        z, weight = ctx.saved_tensors
        both = (gradient + gradient.T).triu_(1)  # of the pairs i < j
        # d |z_i - z_j| / d z_i is the sign of z_i - z_j, and for z_j the opposite.
        signs = torch.zeros_like(z)
        for first, last in _blocks(z):
            part = (z[first:last, None] - z[None, first:]).sign_().mul_(both[first:last, first:, None])
            signs[first:last] += part.sum(dim=1)
            signs[first:] -= part.sum(dim=0)
        # sum_ij g_ij |z_i - z_j| = sum_ij g_ij sign_ij (z_i - z_j) = sum_i z_i times its sum of signs
        return signs * weight, (signs * z).sum(dim=0)


def _blocks(z: torch.Tensor) -> list[tuple[int, int]]:
    """Ranges (first, last) of rows: each as many rows as make a block when paired with all rows from `first` on."""
    size = _CPU_BLOCK if z.device.type == "cpu" else _GPU_BLOCK
    blocks, first = [], 0
    while first < len(z):
        last = min(len(z), first + max(1, size // ((len(z) - first) * z.shape[1])))
        blocks.append((first, last))
        first = last
    return blocks


def distances(z_MD: torch.Tensor, weight_D: torch.Tensor) -> torch.Tensor:
    """(M, D), (D,) -> (M, M): sum_k weight_k |z_ik - z_jk|; differentiable, exactly symmetric, 0 on the diagonal."""
    return _Distances.apply(z_MD, weight_D)


@torch.no_grad()
def between(a_QD: torch.Tensor, b_CD: torch.Tensor, weight_D: torch.Tensor, *, numbers: int) -> torch.Tensor:
    """(Q, D), (C, D), (D,) -> (Q, C): sum_k weight_k |a_ik - b_jk|, for answering queries.

    Besides the table, one block of about `numbers` numbers is held at a time, in one piece: allocating fresh memory
    takes longer than the computation in it.
    """
    some = max(1, min(len(b_CD), numbers // b_CD.shape[1]))
    step = max(1, numbers // (some * b_CD.shape[1]))
    table = a_QD.new_empty(len(a_QD), len(b_CD))
    for b in range(0, len(b_CD), some):  # these are read from memory once, and meet all queries
        for a in range(0, len(a_QD), step):
            apart = (a_QD[a : a + step, None] - b_CD[b : b + some]).abs_()
            table[a : a + step, b : b + some] = apart.mul_(weight_D).sum(dim=-1)
    return table
