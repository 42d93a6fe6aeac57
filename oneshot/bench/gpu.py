"""Rows that use a GPU. Agreement with the CPU is checked before the Koch step is timed: the speed of a wrong step means
nothing."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from oneshot.base.errors import RunFailed, first_line
from oneshot.base.storage import Folder
from oneshot.bench import data, flops, source
from oneshot.bench.data import part
from oneshot.bench.rows import OF_MATMUL, Measured, NotRun, Request
from oneshot.bench.steps import (
    KOCH_SIZE,
    document_loop,
    document_step,
    fed,
    koch_settings,
    matmul_rate,
    small_settings,
    training,
)
from oneshot.bench.timing import in_turns, rate
from oneshot.data.drawings import Drawings
from oneshot.network.images import Images, distort, distortions
from oneshot.network.worker import without_tf32

BATCHES = (128, 256, 512, 1024, 2048)  # pairs
# Relative difference allowed between a first fp32 loss or gradient on CPU and on GPU, which add in other orders.
CLOSE = 1e-3


def koch_gpu(request: Request) -> Measured:
    """Pairs a second of the Koch net's training on one GPU, against the document's way; both sides make their batches
    as they go. Also measured: the share of the bf16 matmul rate that this reaches at each batch size, a profile, and
    the document's step on a batch that is already there."""
    if not torch.cuda.is_available():
        raise NotRun("this machine has no GPU that torch can use")
    device, drawings = torch.device("cuda", 0), part(request)
    agreement = _agreement(drawings, device)
    seconds = 0.05 if request.quick else 2.0
    first, *larger = (4, 8) if request.quick else BATCHES
    run = training(drawings, koch_settings(pairs=first), device)
    step, still = fed(run), document_step(pairs=first, device=device)
    # All sides wait for their loss, as a training does, so the host's clock is enough.
    with tempfile.TemporaryDirectory(prefix="oneshot-bench-") as folder:
        frame = source.unpack(Folder.of(request.data), Path(folder), alphabets=drawings.alphabets)
        usual = document_loop(frame, pairs=first, device=device)
        value, reference, one_batch = in_turns(
            *(lambda side=side: rate(side, seconds=seconds) / 2 for side in (step, usual, still)),
            repeats=request.repeats,
        )  # fmt: skip
    ceiling = matmul_rate(device, side=8192, seconds=seconds)
    each = 2 * flops.training(run.net.encoder, size=KOCH_SIZE)
    profile = {"koch": _profile(step), "conv4": _profile(fed(training(drawings, small_settings(), device)))}
    tuned = _chosen_by_trial(drawings, device, first, seconds=seconds)
    # Last, because a failure here may leave the GPU unusable.
    by_batch, failed = _larger(drawings, device, larger, seconds=seconds)
    by_batch = {first: float(np.median(value)), **by_batch}
    use = {pairs: found * each / ceiling for pairs, found in by_batch.items()}
    best = max(use, key=lambda pairs: use[pairs])
    most = f"most time in {profile['koch'][0]['kernel']}" if profile["koch"] else "the profiler saw no kernel"
    note = (
        f"{first} pairs, batches made on the way; the reference on a batch that is there:"
        f" {np.median(one_batch):,.0f} pairs/s; bf16 matmul {ceiling / 1e12:.0f} TFLOP/s, of it "
        + ", ".join(f"{100 * share:.0f} % at {pairs}" for pairs, share in use.items())
        + f" pairs{failed}; first fp32 losses and gradients agree with the CPU's to {agreement:.0e}; {most}"
    )
    shares = {f"{OF_MATMUL} at 128": use[first], f"{OF_MATMUL} at best": use[best]}
    details = {
        "pairs_per_second": by_batch, "reference_on_one_batch": one_batch, "cudnn_benchmark": tuned, "profile": profile,
    }  # fmt: skip
    return Measured(value, reference, note, shares, details)


def _chosen_by_trial(drawings: Drawings, device: torch.device, pairs: int, *, seconds: float) -> float:
    """Pairs a second if cuDNN times its convolutions and takes the fastest, instead of choosing by a rule. Trainings do
    not do so; the figure shows what it would be worth."""
    torch.backends.cudnn.benchmark = True
    try:
        step = fed(training(drawings, koch_settings(pairs=pairs), device))
        step()
        return rate(step, seconds=seconds) / 2
    finally:
        torch.backends.cudnn.benchmark = False


def _larger(
    drawings: Drawings, device: torch.device, batches: Sequence[int], *, seconds: float
) -> tuple[dict[int, float], str]:
    """Pairs a second at each of these batch sizes, up to the first that fails, and a note that names that one and the
    reason; empty if none failed."""
    found: dict[int, float] = {}
    for pairs in batches:
        try:
            step = fed(training(drawings, koch_settings(pairs=pairs), device))
            step()
            found[pairs] = rate(step, seconds=seconds) / 2
        except RuntimeError as error:  # out of memory, or another CUDA error at this size
            why = first_line(error)[:80]
            return found, f", {pairs} failed ({why})"
    return found, ""


def distortion(request: Request) -> Measured:
    """The CPU's row and, if there is a GPU, the share of its training step that distorting takes."""
    found = data.distortion(request)
    if not torch.cuda.is_available():
        return found
    share = _share_of_distortion(request, part(request))
    note = f"{found.note}; {100 * share:.1f} % of a GPU step of the Koch net"
    return replace(found, note=note, shares={"of a GPU step": share})


def _share_of_distortion(request: Request, drawings: Drawings) -> float:
    """The share of a GPU training step of the Koch net that goes into distorting its batch."""
    device, pairs = torch.device("cuda", 0), 128
    step = fed(training(drawings, koch_settings(pairs=pairs), device))
    images = Images(drawings, size=KOCH_SIZE, device=device).gather(np.arange(2 * pairs) % len(drawings))
    maps = distortions(seed=0, epoch=1, start=0, count=2 * pairs, chance=0.5)  # drawn by the host beside the step
    seconds = 0.05 if request.quick else 1.0
    whole, part_ = in_turns(
        lambda: 2 * pairs / rate(step, seconds=seconds), lambda: _on_the_gpu(lambda: distort(images, maps), device),
        repeats=request.repeats,
    )  # fmt: skip
    return float(np.median(part_) / np.median(whole))


def _on_the_gpu(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of GPU time that `work` takes. All repetitions are launched while the GPU is still busy with something
    else, so that it never waits for the host and the host's time is not counted."""
    times = 50
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    busy = torch.ones(8192, 8192, device=device, dtype=torch.bfloat16)
    for _ in range(20):  # a millisecond or two each
        busy @ busy
    began.record()
    for _ in range(times):
        work()
    ended.record()
    torch.cuda.synchronize(device)
    return began.elapsed_time(ended) / 1000 / times


def _agreement(drawings: Drawings, device: torch.device) -> float:
    """The greatest relative difference between the loss and gradient norm that the CPU and the GPU compute for a first
    fp32 batch, over both nets. Raises RunFailed if it is not below CLOSE. Later losses are not compared: Adam's first
    steps turn a last bit of a small gradient into a whole step, so that they differ by more than either is wrong."""
    worst, exact = 0.0, {"train.precision": "fp32"}
    for settings in (koch_settings(pairs=4, **exact), small_settings(**exact)):
        made = []
        for where in (torch.device("cpu"), device):
            with without_tf32():
                run = training(drawings, settings, where)
                loss, _, norm = run.launch(*run.batch(1, 0)).tolist()
                made.append((loss, norm))
        worst = max(worst, *(abs(a - b) / abs(a) for a, b in zip(*made, strict=True)))
    if not worst < CLOSE:
        raise RunFailed(
            f"the GPU's fp32 losses and gradients differ from the CPU's by {worst:.1e}, above {CLOSE:g}: not measured"
        )
    return worst


def _profile(step: Any) -> list[dict[str, Any]]:
    """The ten kernels in which a step spends most time: name, milliseconds a step, share of the GPU's time."""
    from torch.profiler import ProfilerActivity, profile

    steps = 5
    step()
    with profile(activities=[ProfilerActivity.CUDA]) as found:
        for _ in range(steps):
            step()
        torch.cuda.synchronize()
    rows = [(event.key, event.self_device_time_total) for event in found.key_averages()]
    whole = sum(time for _, time in rows) or 1.0
    rows = sorted(rows, key=lambda row: -row[1])[:10]
    return [{"kernel": key[:100], "ms": time / steps / 1000, "share": time / whole} for key, time in rows]
