"""What DDP costs on many GPUs, on paper: the bytes of a step over a link, against the time of its compute.

Gradients are averaged by a ring of N GPUs: each sends and receives 2 (N - 1) / N times the gradient (Patarasuk & Yuan
2009). Nothing is overlapped here, though DDP sends the gradients of the last layers while it computes those of the
first: the shares below are what is left in the worst case.
"""

import math
from dataclasses import dataclass

from oneshot.base import markdown

HALF = 2  # bytes of a bf16 number


@dataclass(frozen=True)
class Net:
    """What of a network the computation needs: `tests/bench/test_bench.py` holds it against the real one."""

    name: str
    parameters: int
    flops: float  # of one drawing in a training step
    collectives: int  # of a step: the gradient's buckets, batch norm's statistics there and back, the gathered episode
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
# What data sheets promise, less what collectives are commonly seen to lose; a cluster's own figures are better.
LINKS = (
    Link("NVLink 4", 360e9, 5e-6, "450 GB/s a direction, 80 % of it"),
    Link("PCIe 5 x16", 50e9, 10e-6, "63 GB/s a direction, 80 % of it"),
    Link("100 Gb/s Ethernet", 10e9, 30e-6, "12.5 GB/s a direction, 80 % of it, shared by no other GPU"),
)
PEAK = 989e12  # operations a second of an H100 in bf16, dense, by its data sheet
# Of that peak (MFU), assumed and not measured: what the bench wants of koch at 128 pairs (row `koch_gpu`), though there
# of the rate of matrix products that it measures, which is less than the data sheet's.
UTILISATION = 0.45
UTILISATION_SMALL = 0.05  # assumed: conv4's layers are too thin to fill the GPU
GPUS, SHARE = 64, 0.90


def utilisation(net: Net) -> float:
    return UTILISATION if net.name == "koch" else UTILISATION_SMALL


def compute(net: Net, batch: int) -> float:
    """Seconds of a step's operations on one GPU, for so many examples."""
    return batch * net.example * net.flops / (PEAK * utilisation(net))


def communication(net: Net, link: Link, *, bytes_each: int) -> float:
    """Seconds in which a ring of all GPUs averages the gradients, of so many bytes a parameter."""
    volume = 2 * (GPUS - 1) / GPUS * net.parameters * bytes_each
    return volume / link.bytes_per_second + net.collectives * 2 * (GPUS - 1) * link.latency


def least_batch(net: Net, link: Link, *, bytes_each: int) -> int:
    """The fewest examples a GPU, in steps of 64, at which 64 GPUs do the work of 90 % of 64."""
    busy = SHARE / (1 - SHARE) * communication(net, link, bytes_each=bytes_each)
    return math.ceil(busy / compute(net, 64) - 1e-9) * 64


def table() -> str:
    """Markdown: both nets over each link, and what follows; with the inputs it stands on."""
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
