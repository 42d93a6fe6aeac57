"""Several workers as plain processes that meet over gloo, without Ray: tasks for them, and `run`, which runs one."""

import contextlib
import multiprocessing
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import tiny
import torch
from torch import distributed as dist
from torch import nn
from torch.nn import functional as F

from oneshot.base.errors import UserError
from oneshot.base.settings import Settings
from oneshot.base.storage import Folder
from oneshot.network.distributed import gather
from oneshot.network.embedding import embed
from oneshot.network.images import Images
from oneshot.network.models import build
from oneshot.network.norm import GlobalBatchNorm2d
from oneshot.network.worker import ProcessGroupWorker, Worker
from oneshot.training.loop import Training, fit

CPU = torch.device("cpu")


@contextlib.contextmanager
def smooth() -> Iterator[None]:
    """Networks made and used in the block have no kinks: softplus replaces ReLU, the mean replaces the maximum.

    Ranks add the same numbers in a different order, so gradients differ by about 1e-7, depending on the processor. At a
    kink that may be enough to change the branch taken: drawings have large areas of one colour, whose activations all
    cross it together, and a gradient was seen to jump by a twentieth and the loss by 1e-4. Without kinks, the
    difference stays at 1e-7.
    """
    with (
        patch.object(F, "relu", lambda x, inplace=False: F.softplus(x)),
        patch.object(nn, "ReLU", lambda inplace=False: nn.Softplus()),
        patch.object(nn, "MaxPool2d", nn.AvgPool2d),
    ):
        yield


def run(task: Callable[..., Any], *, world_size: int, where: Path, **options: Any) -> list[Any]:
    """What `task(**options)` returns in each of `world_size` processes, by rank."""
    where.mkdir(parents=True)
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_rank, args=(rank, world_size, task, where, options)) for rank in range(world_size)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=300)
    hung = [process for process in processes if process.is_alive()]
    for process in hung:
        process.kill()
    assert not hung, "the ranks wait for each other"
    assert [process.exitcode for process in processes] == [0] * world_size
    return [torch.load(where / f"rank-{rank}.pt", weights_only=False) for rank in range(world_size)]


def _rank(rank: int, world_size: int, task: Callable[..., Any], where: Path, options: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    # The ranks meet through a file, because another process might take a port.
    meeting = f"file://{where / 'meeting'}"
    dist.init_process_group("gloo", meeting, timeout=timedelta(seconds=200), rank=rank, world_size=world_size)
    torch.save(task(**options), where / f"rank-{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def together(**tasks: dict[str, Any]) -> dict[str, Any]:
    """Run several of this module's functions, by name, in one process group, as processes are slow to start."""
    return {name: globals()[name](**options) for name, options in tasks.items()}


def share(whole: torch.Tensor) -> torch.Tensor:
    """The rank's rows of a batch: every world_size-th."""
    return whole[dist.get_rank() :: dist.get_world_size()]


def normalise(x: torch.Tensor, upstream: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> dict[str, Any]:
    """One step of batch normalisation in training mode on the rank's share."""
    norm = GlobalBatchNorm2d(x.shape[1])
    norm.load_state_dict(norm.state_dict() | {"weight": weight, "bias": bias})
    x = share(x).clone().requires_grad_()
    y = norm(x)
    (y * share(upstream)).sum().backward()
    return {
        "y": y.detach(), "x": x.grad, "weight": norm.weight.grad, "bias": norm.bias.grad, "mean": norm.running_mean,
        "variance": norm.running_var, "batches": int(norm.num_batches_tracked),
    }  # fmt: skip


def gathered(rows: torch.Tensor, upstream: torch.Tensor) -> dict[str, Any]:
    """The gathered rows, and the gradient that reaches the rank's own rows."""
    rows = share(rows).clone().requires_grad_()
    whole = gather(rows)
    (whole.square() * upstream).sum().backward()
    return {"whole": whole.detach(), "gradient": rows.grad}


def refused(folder: Path) -> str:
    """The error that this rank raises when only rank 0 looks for a checkpoint, and refuses it."""

    def find(self: Training) -> None:
        raise UserError(f"rank {dist.get_rank()} refuses it")

    with patch.object(Training, "_find", find):
        try:
            fit(ProcessGroupWorker(CPU, precision="fp32"), tiny.settings(), tiny.parts(), Folder.of(folder))
        except UserError as error:
            return str(error)
    return ""


def talk(rows: torch.Tensor) -> dict[str, Any]:
    """The results of all of a worker's ways to communicate with the others."""
    worker = ProcessGroupWorker(CPU)
    return {
        "place": (worker.rank, worker.world_size),
        "agreed": worker.agree({"from": worker.rank}),
        "of each": worker.of_each(f"GPU {worker.rank}"),
        "mean": worker.mean(torch.tensor([float(worker.rank), 1.0])),
        "rows": worker.interleave(share(rows), len(rows)),
        "precision": ProcessGroupWorker(CPU, precision="fp32" if worker.rank else "bf16").precision,
    }


def embedded(drawings: int) -> torch.Tensor:
    """The embeddings of `drawings` drawings."""
    torch.manual_seed(0)
    net, images = (
        build(tiny.settings().model, size=28),
        Images(tiny.drawings({"Greek": 1}, drawers=drawings), size=28, device=CPU),
    )
    return embed(net, images, ProcessGroupWorker(CPU, precision="fp32") if dist.is_initialized() else Worker(CPU))


def interrupted(settings: Settings, folder: Path) -> None:
    """Train a smooth network, end after the first epoch, and resume."""
    for until in (1, None):
        with smooth():
            worker = ProcessGroupWorker(CPU, precision="fp32")
            fit(worker, settings, tiny.parts(side=settings.data.size), Folder.of(folder), until=until)


def train(cases: dict[str, Settings], folder: Path) -> dict[str, Any]:
    """Train smooth networks one after the other; returns their histories."""
    made = {}
    for name, settings in cases.items():
        worker = ProcessGroupWorker(CPU, precision="fp32", compress=settings.scale.compress)
        with smooth():
            progress = fit(worker, settings, tiny.parts(side=settings.data.size), Folder.of(folder / name))
        made[name] = {"history": progress.history, "ended": progress.ended}
    return made
