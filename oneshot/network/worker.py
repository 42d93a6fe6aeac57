"""The Worker: what the training loop knows of where it runs. Local mode, Ray Train and gloo processes build one."""

import contextlib
import functools
import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import torch
from torch import distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from oneshot.base import memory
from oneshot.base.environment import bf16_instructions
from oneshot.base.errors import UserError
from oneshot.network.distributed import average_in_bf16, interleaved

T = TypeVar("T")

_switching = threading.Lock()
_usual: list[list[bool]] = []  # what `without_tf32` restores in the end, one entry per open block


class Worker:
    """A single process: rank 0 of 1. `report` takes the row of each epoch; here it does nothing."""

    rank = 0
    world_size = 1

    def __init__(self, device: torch.device, *, precision: str = "fp32") -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.set_device(device)  # NCCL and pinned memory use the current GPU: make it this one
        self.precision = resolve_precision(precision, device)
        if device.type == "cpu":
            warm_up()
            memory.keep()

    def prepare(self, module: nn.Module) -> nn.Module:
        """The module on the worker's device, wrapped so that its gradients are those of the global batch."""
        return module.to(self.device)

    def autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    def agree(self, value: T) -> T:
        """Rank 0's value, on every rank."""
        return value

    def of_each(self, value: T) -> list[T]:
        """Every rank's value, in the order of ranks, on every rank."""
        return [value]

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """The mean over ranks; each rank's values are means over equally many examples."""
        return values

    def interleave(self, rows: torch.Tensor, count: int) -> torch.Tensor:
        """The `count` rows of all ranks, of which this one holds every world_size-th; the same on every rank."""
        return rows

    def report(self, row: dict[str, Any]) -> None:
        """Report an epoch that is done, its checkpoint written. Every rank calls it once an epoch."""


class ProcessGroupWorker(Worker):
    """One of several processes joined by an initialised `torch.distributed` group (nccl on GPUs, gloo on CPU)."""

    def __init__(self, device: torch.device, *, precision: str = "fp32", compress: str = "none") -> None:
        super().__init__(device, precision=precision)
        self.compress = compress
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        if self.world_size > 1:
            # `auto` may mean different things on different nodes: all use the precision of the least able one.
            able = torch.tensor(self.precision == "bf16", dtype=torch.int32, device=device)
            dist.all_reduce(able, dist.ReduceOp.MIN)
            self.precision = "bf16" if able else "fp32"

    def prepare(self, module: nn.Module) -> nn.Module:
        module = super().prepare(module)
        if self.world_size == 1:
            return module
        ids = [self.device.index] if self.device.type == "cuda" else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # newer torch calls broadcast_buffers forward_sync_buffers
            # Buffers (batch statistics) are computed alike on every rank: nothing to broadcast.
            wrapped = DistributedDataParallel(
                module, device_ids=ids, broadcast_buffers=False, gradient_as_bucket_view=True
            )  # fmt: skip
        if self.compress == "bf16":
            wrapped.register_comm_hook(None, average_in_bf16)
        return wrapped

    def agree(self, value: T) -> T:
        if self.world_size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def of_each(self, value: T) -> list[T]:
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        if self.world_size > 1:
            dist.all_reduce(values)
            values /= self.world_size
        return values

    def interleave(self, rows: torch.Tensor, count: int) -> torch.Tensor:
        if self.world_size == 1:
            return rows
        longest = -(-count // self.world_size)  # later ranks may hold one row less: padded here, cut off again
        padded = torch.cat([rows, rows.new_zeros(longest - len(rows), *rows.shape[1:])])
        return interleaved(padded)[:count]


@contextlib.contextmanager
def without_tf32() -> Iterator[None]:
    """Within the block, float32 convolutions and products on a GPU keep all bits of a number.

    TF32, which keeps ten, is cuDNN's default, and a container image may make it the default of products, too. This uses
    torch's older switches: every version has them, the newer ones follow them, and a process may use only one kind.

    The switches are process-wide: if several threads are inside at once, the last to leave restores what the first
    found.
    """
    switches = (torch.backends.cudnn, torch.backends.cuda.matmul)
    with _switching:
        _usual.append(_usual[0] if _usual else [each.allow_tf32 for each in switches])
        for each in switches:
            each.allow_tf32 = False
    try:
        yield
    finally:
        with _switching:
            usual = _usual.pop()
            for each, allowed in zip(switches, usual, strict=True):
                each.allow_tf32 = allowed and not _usual


@functools.cache
def warm_up() -> None:
    """Make this process compute the same bits as others.

    5 of 12 processes on a Xeon had other last bits in a training's first `exp`, which two threads compute, and never in
    a later one: as if MKL picked the kernel of a vector function at its first call, for each thread. After a call on so
    few numbers that one thread computes them, 12 of 12 agreed. These are the vector functions that are used here.
    """
    for kind in (torch.float32, torch.float64):
        few = torch.ones(8, dtype=kind)
        for function in (torch.exp, torch.log, torch.sqrt):
            function(few)


@functools.cache
def resolve_precision(precision: str, device: torch.device) -> str:
    """Resolve `auto`: bf16 if the hardware multiplies it, else fp32. Raises UserError for bf16 on a GPU without it."""
    if device.type == "cuda":
        able = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        able = bool(bf16_instructions())
    if precision == "auto":
        return "bf16" if able else "fp32"
    if precision == "bf16" and device.type == "cuda" and not able:
        raise UserError(f"train.precision = 'bf16': {torch.cuda.get_device_name(device)} has no bf16; use fp32")
    return precision


def pick_device(name: str = "auto") -> torch.device:
    """`auto` (the GPU if there is one), `cpu`, `cuda` or `cuda:N`. Raises UserError for a device that is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise UserError(f"unknown device '{name}'; use cpu, cuda or cuda:N") from None
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise UserError(f"device '{name}': this machine has {count} GPU(s) that torch can use")
        if not torch.cuda.is_available():  # counting them does not ask the driver whether it suits
            raise UserError(
                f"device '{name}': the GPU's driver may be older than torch {torch.__version__} is built for"
            )
        return torch.device("cuda", device.index or 0)
    if device.type != "cpu":
        raise UserError(f"device '{name}' is not supported; use cpu, cuda or cuda:N")
    return device
