"""What DDP costs on many GPUs, on paper: the time to send a step's bytes over a link, against the time to compute the
step.

Gradients are averaged by a ring of N GPUs: each sends and receives 2 (N - 1) / N times the gradient (Patarasuk & Yuan
2009). No overlap is assumed, though DDP sends the gradients of the last layers while it computes those of the first:
the figures below are the worst case.
"""

import math
from dataclasses import dataclass

from oneshot.base import markdown

HALF = 2  # bytes of a bf16 number


@dataclass(frozen=True)
class Net:
    """What the computation needs to know of a network. `tests/bench/test_bench.py` compares it with the real one."""

    name: str
    parameters: int
    flops: float  # of one drawing in a training step
    collectives: int  # in a step: gradient buckets, batch norm's statistics forward and back, the gathered episode
    example: int  # drawings in an example: a pair has two
    unit: str


@dataclass(frozen=True)
class Link:
    name: str
    bytes_per_second: float  # of a GPU, in one direction
    latency: float  # seconds of one hop
    sources: str


NETS = (
    Net("koch", 38_951_745, 5_333_778_432, 2, 2, "pairs"),
    Net("conv4", 111_745, 57_987_072, 10, 1, "drawings"),
)
# Data-sheet rates less the usual loss of collectives; figures measured on the cluster itself would be better.
LINKS = (
    Link("NVLink 4", 360e9, 5e-6, "450 GB/s a direction, 80 % of it"),
    Link("PCIe 5 x16", 50e9, 10e-6, "63 GB/s a direction, 80 % of it"),
    Link("100 Gb/s Ethernet", 10e9, 30e-6, "12.5 GB/s a direction, 80 % of it, shared by no other GPU"),
)
PEAK = 989e12  # operations a second of an H100 in bf16, dense, by its data sheet
# The share of that peak (MFU), assumed and not measured. It is the bench's goal for koch at 128 pairs (row `koch_gpu`);
# but there it is a share of the measured rate of matrix products, which is less than the data sheet's.
UTILISATION = 0.45
UTILISATION_SMALL = 0.05  # assumed: conv4's layers are too thin to fill the GPU
GPUS, SHARE = 64, 0.90


def utilisation(net: Net) -> float:
    return UTILISATION if net.name == "koch" else UTILISATION_SMALL


def compute(net: Net, batch: int) -> float:
    """Seconds that one GPU computes in a step on `batch` examples."""
    return batch * net.example * net.flops / (PEAK * utilisation(net))


def communication(net: Net, link: Link, *, bytes_each: int) -> float:
    """Seconds in which a ring of all GPUs averages the gradients, at `bytes_each` bytes a parameter."""
    volume = 2 * (GPUS - 1) / GPUS * net.parameters * bytes_each
    return volume / link.bytes_per_second + net.collectives * 2 * (GPUS - 1) * link.latency


def least_batch(net: Net, link: Link, *, bytes_each: int) -> int:
    """The fewest examples a GPU, in steps of 64, at which 64 GPUs do 90 % of the work of 64 that need not
    communicate."""
    busy = SHARE / (1 - SHARE) * communication(net, link, bytes_each=bytes_each)
    return math.ceil(busy / compute(net, 64) - 1e-9) * 64


def table() -> str:
    """Markdown: the figures of both nets over each link, and the inputs they are computed from."""
    heads = ("net", "link", "fp32 gradients, ms", "bf16, ms", "compute at 128, ms")
    heads += ("examples a GPU for ≥ 90 %: fp32", "bf16")
    rows = []
    for net in NETS:
        for link in LINKS:
            full, half = (1000 * communication(net, link, bytes_each=size) for size in (4, HALF))
            least = [f"{least_batch(net, link, bytes_each=size):,}" for size in (4, HALF)]
            times = (f"{each:.2f}" for each in (full, half, 1000 * compute(net, 128)))
            rows.append((f"`{net.name}`", link.name, *times, f"{least[0]} {net.unit}", least[1]))
    inputs = [
        f"`{net.name}`: {net.parameters:,} parameters, {net.flops / 1e9:.3g} GFLOP a drawing and step,"
        f" {net.collectives} collectives a step"
        for net in NETS
    ]
    inputs += [f"{link.name}: {link.sources}, {link.latency * 1e6:.0f} µs a hop" for link in LINKS]
    return "\n".join([markdown.table(heads, rows), "", *(f"- {line}" for line in inputs)])
