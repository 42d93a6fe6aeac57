"""How trainings are placed on the nodes of a cluster: what fits at once, and the arithmetic of what never can."""

import os
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from oneshot.base.environment import cores
from oneshot.base.errors import UserError
from oneshot.base.settings import Scale

DRIVER = 0.2  # GB of the head node for each process that leads to a trial's workers
KIND, SLIVER = "accelerator_type:", 0.001  # resource of the nodes with a kind of GPU; how much a worker takes
DEVICES = ("nvidiactl", "dxg", "kfd")  # in /dev: of NVIDIA's driver, of WSL's and of AMD's


@dataclass(frozen=True)
class Node:
    """What a node offers: cores and GPUs. A node that an autoscaler may still bring has no name.

    `memory`: for a cluster's head node, which runs the drivers of all trials, the GB that Ray counts; 0 for others.
    `kinds`: the kinds of its GPUs, as Ray names them.
    """

    name: str
    cpus: float
    gpus: float
    memory: float = 0
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True)
class Packing:
    """How a run is placed on the nodes."""

    workers: int  # of a training, at the most
    cpus: int  # of a worker
    gpus: float  # of a worker
    concurrent: int  # trainings at once
    accelerator: str = ""  # the kind of GPU that a worker's node has

    @property
    def device(self) -> str:
        return "cuda" if self.gpus else "cpu"

    @property
    def kind(self) -> dict[str, float]:
        """What a worker asks of Ray beyond cores and GPUs, so that it gets a node with such GPUs."""
        return {f"{KIND}{self.accelerator}": SLIVER} if self.accelerator else {}


def pack(scale: Scale, nodes: list[Node]) -> Packing:
    """Place trainings of `scale.workers` workers on the nodes, counting those that `scale.autoscaler` may bring.

    Raises UserError with the arithmetic if not even one training fits: Ray itself would wait for ever.
    """
    every, nodes = nodes, usable(scale.accelerator, nodes)
    if not nodes and scale.accelerator and not scale.autoscaler:
        kinds = ", ".join(sorted({kind for node in every for kind in node.kinds}))
        raise UserError(
            f"scale.accelerator = '{scale.accelerator}': no node has such a GPU; "
            + (f"there are: {kinds}" if kinds else "none reports the kind of its GPUs; leave it empty")
        )
    nodes = nodes + expected(scale, nodes)
    gpus = scale.gpus
    if gpus == "auto":
        gpus = 1.0 if any(node.gpus >= 1 for node in nodes) else 0.0
    if gpus > 1:
        raise UserError(f"scale.gpus = {gpus:g}: a worker trains on one GPU; scale.workers = {gpus:g} uses as many")
    if 0 < gpus < 1 and scale.most > 1:
        raise UserError(
            f"scale.gpus = {gpus:g}: only trainings with one worker can share a GPU; NCCL needs a GPU for"
            f" each of the {scale.most} workers of a training"
        )
    rooms = [room(node, scale.cpus, gpus) for node in nodes]
    if sum(rooms) < scale.least:
        need = f"{scale.cpus} core(s)" + (f" and {gpus:g} GPU(s)" if gpus else "")
        need += f" of a node with {scale.accelerator}" * bool(scale.accelerator)
        have = "; ".join(
            f"{node.name or 'one from the autoscaler'} ({node.cpus:g} cores, {node.gpus:g} GPUs) holds {held}"
            for node, held in zip(nodes, rooms, strict=True)
        )
        raise UserError(
            f"scale.workers = {scale.workers}: each needs {need}, and the cluster holds {sum(rooms)} such worker(s):"
            f" {have}; ask for fewer or smaller workers, or name in scale.autoscaler which nodes may still join"
        )
    fits = max(1, sum(rooms) // scale.most)
    concurrent = min([fits, *[scale.max_concurrent] * bool(scale.max_concurrent), *driven(scale, every)])
    return Packing(scale.most, scale.cpus, gpus, concurrent, scale.accelerator)


def usable(accelerator: str, nodes: list[Node]) -> list[Node]:
    """The nodes for workers that want this kind of GPU; all nodes if `accelerator` is empty."""
    return [node for node in nodes if not accelerator or accelerator in node.kinds]


def driven(scale: Scale, nodes: list[Node]) -> list[int]:
    """How many trials the head node has memory to drive, at least one, in a list; empty if the memory is not known."""
    return [max(1, int(node.memory / _driving(scale.ahead) + 1e-9)) for node in nodes if node.memory]


def _driving(ahead: bool) -> float:
    """GB of the head node for a trial: its driver, Ray Train's process where workers meet, and the next driver if
    `ahead`."""
    return DRIVER * (3 if ahead else 2)


def expected(scale: Scale, nodes: list[Node]) -> list[Node]:
    """The nodes that an autoscaler may still bring: of each size, as many as are named less those already there."""
    coming = Counter({(each.cpus, each.gpus): 0 for each in scale.autoscaler})
    for each in scale.autoscaler:
        coming[each.cpus, each.gpus] += each.nodes
    coming.subtract(size for node in nodes if (size := (node.cpus, node.gpus)) in coming)
    return [Node("", cpus, gpus) for (cpus, gpus), left in coming.items() for _ in range(left)]


def room(node: Node, cpus: int, gpus: float) -> int:
    """How many workers, each of so many cores and GPUs, a node holds."""
    held = int(node.cpus // cpus)
    if gpus >= 1:
        held = min(held, int(node.gpus // gpus))
    elif gpus:
        held = min(held, int(1 / gpus + 1e-9) * int(node.gpus))  # a worker's share lies on one GPU
    return held


def describe(
    packing: Packing, scale: Scale, nodes: list[Node], *, used: Node | None = None, training: str = "trial"
) -> str:
    """The packing in a line: the nodes that have cores, how many workers fit on them, how trainings share these, and
    what others have `used` of it now."""
    every, nodes = nodes, usable(scale.accelerator, nodes)
    nodes, coming = [node for node in nodes if node.cpus], expected(scale, nodes)
    places = [_sizes(nodes)] * bool(nodes) + [f"{_sizes(coming)} from the autoscaler"] * bool(coming)
    rooms = sum(room(node, packing.cpus, packing.gpus) for node in nodes + coming)
    worker = _size(Node("", packing.cpus, packing.gpus))
    each = f"{scale.workers} worker{'s' * (packing.workers > 1)}"
    more_room = packing.concurrent < rooms // packing.workers
    alone = training == "training" and not packing.gpus
    lie = " and ".join(places) + f", only those with {scale.accelerator}" * bool(scale.accelerator)
    return (
        f"{lie}: room for {_many(rooms, 'worker')} of {worker}; {_many(packing.concurrent, training)}"
        f" at once, with {each}{' each' * (packing.concurrent > 1)}"
        + _why_no_more(scale, every) * (more_room and packing.concurrent in driven(scale, every))
        + (_more_cores(packing, nodes) if alone else "")
        + _taken(packing, scale, nodes, used, training)
    )


def _why_no_more(scale: Scale, nodes: list[Node]) -> str:
    memory = max((node.memory for node in nodes), default=0)
    else_ = f" ({_driving(False):.1g} with --set scale.ahead=false)" * scale.ahead
    each = f"{_driving(scale.ahead):.1g} GB each{else_}"
    return f"; the head node's {memory:.3g} GB have no room for another trial's driver, {each}"


def _more_cores(packing: Packing, nodes: list[Node]) -> str:
    """How many cores the training's workers could have on these nodes, as text; empty if no more than they have."""
    sizes = range(int(max((node.cpus for node in nodes), default=0)), packing.cpus, -1)
    fits = (cpus for cpus in sizes if sum(room(node, cpus, 0) for node in nodes) >= packing.workers)
    most = next(fits, None)
    return f"; a worker here can have {most} cores: --set scale.cpus={most}" if most else ""


def _taken(packing: Packing, scale: Scale, nodes: list[Node], used: Node | None, training: str) -> str:
    """What others use of the nodes' cores and, if the workers need them, GPUs."""
    if used is None:
        return ""
    cores, gpus = sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)
    kinds = [(used.cpus, cores, "core"), (used.gpus if packing.gpus else 0, gpus, "GPU")]
    kinds = [each for each in kinds if each[0] > 0]
    if not kinds:
        return ""
    taken = " and ".join(f"{number:g} of {_many(all_, kind)}" for number, all_, kind in kinds)
    are = "are" if sum(number for number, *_ in kinds) > 1 else "is"
    wait = _minutes(patience(scale))
    return f"; {taken} {are} in use by others now: a {training} that finds no room waits up to {wait}"


def patience(scale: Scale) -> float:
    """Seconds for which a training waits for room, over all its tries."""
    return scale.timeout * (1 + max(scale.max_failures, scale.least < scale.most))  # see elastic.policy


def _minutes(seconds: float) -> str:
    return f"{seconds:g} s" if seconds < 120 else f"{seconds / 60:.3g} min"


def _sizes(nodes: list[Node]) -> str:
    """The nodes counted by size, as in `2 nodes of 8 cores and 1 GPU`."""
    sizes = Counter(_size(node) for node in nodes)
    return ", ".join(f"{_many(count, 'node')} of {size}" for size, count in sizes.items())


def _size(node: Node) -> str:
    gpus = f" and {_many(node.gpus, 'GPU')}" if node.gpus else ""
    return f"{_many(node.cpus, 'core')}{gpus}"


def _many(number: float, thing: str) -> str:
    return f"{number:g} {thing}{'s' * (number > 1 or number == 0)}"


def this_machine() -> Node:
    """What an embedded Ray will find, known before it starts. Imports torch if the system shows a GPU or is not
    Linux."""
    gpus = 0
    if sys.platform != "linux" or _shown():
        import torch

        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return Node("this machine", cores(), gpus)


def why_no_gpu() -> str:
    """Why torch cannot use a GPU that the system shows. Empty if it can, if there is none, or if GPUs are hidden from
    it on purpose (`CUDA_VISIBLE_DEVICES=""`)."""
    if not _shown() or os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return ""
    import torch

    if torch.cuda.is_available():
        return ""
    build = torch.version.cuda or torch.version.hip
    why = f"is built for {build}, and the driver may be older" if build else "is a build for CPUs"
    return f"this machine has a GPU that torch cannot use: torch {torch.__version__} {why}"


def _shown() -> bool:
    return any(Path("/dev", name).exists() for name in DEVICES)
