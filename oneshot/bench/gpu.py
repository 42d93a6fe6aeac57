"""Rows that need a GPU. Correctness against the CPU comes first: a fast wrong step is no figure."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from oneshot.base.errors import RunFailed
from oneshot.bench import data, flops
from oneshot.bench.data import part
from oneshot.bench.rows import Measured, NotRun, Request
from oneshot.bench.steps import KOCH_SIZE, document_step, fed, koch_settings, matmul_rate, small_settings, training
from oneshot.bench.timing import in_turns, rate
from oneshot.data.drawings import Drawings
from oneshot.network.images import Images, distort, distortions

BATCHES = (128, 256, 512, 1024, 2048)  # pairs
CLOSE = 1e-3  # relative difference of fp32 losses between CPU and GPU, other orders of addition allowed for


def koch_gpu(request: Request) -> Measured:
    """Pairs a second of the Koch net's step on one GPU; utilisation against the measured bf16 ceiling; a profile."""
    if not torch.cuda.is_available():
        raise NotRun("this machine has no GPU that torch can use")
    device, drawings = torch.device("cuda", 0), part(request)
    agreement = _agreement(drawings, device)
    seconds = 0.05 if request.quick else 2.0
    first, *larger = (4, 8) if request.quick else BATCHES
    step = fed(training(drawings, koch_settings(pairs=first), device))
    usual = document_step(pairs=first, device=device)
    # Both wait for their loss, as a training does: no other clock of the GPU is needed.
    value, reference = in_turns(
        lambda: rate(step, seconds=seconds) / 2, lambda: rate(usual, seconds=seconds) / 2, repeats=request.repeats
    )
    ceiling = matmul_rate(device, side=8192, seconds=seconds)
    by_batch = {first: float(np.median(value))}
    for pairs in larger:
        try:
            run = fed(training(drawings, koch_settings(pairs=pairs), device))
            run()
            by_batch[pairs] = rate(run, seconds=seconds) / 2
        except torch.cuda.OutOfMemoryError:
            break
    each = 2 * flops.training(training(drawings, koch_settings(pairs=2), device).net.encoder, size=KOCH_SIZE)
    use = {pairs: found * each / ceiling for pairs, found in by_batch.items()}
    best = max(use, key=lambda pairs: use[pairs])
    profile = {"koch": _profile(step), "conv4": _profile(fed(training(drawings, small_settings(), device)))}
    note = (
        f"{first} pairs, batches made on the way; bf16 matmul {ceiling / 1e12:.0f} TFLOP/s, of it "
        + ", ".join(f"{100 * share:.0f} % at {pairs}" for pairs, share in use.items())
        + f" pairs; fp32 losses agree with the CPU's to {agreement:.0e}; most time in {profile['koch'][0]['kernel']}"
    )
    shares = {"MFU at 128": use[first], "MFU at best": use[best]}
    return Measured(value, reference, note, shares, {"pairs_per_second": by_batch, "profile": profile})


def distortion(request: Request) -> Measured:
    """The row of the CPU, and where there is a GPU the share of its step that distorting takes."""
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

    def alone() -> int:
        distort(images, distortions(seed=0, epoch=1, start=0, count=2 * pairs, chance=0.5))
        torch.cuda.synchronize()
        return 2 * pairs

    seconds = 0.05 if request.quick else 1.0
    whole, part_ = in_turns(
        lambda: rate(step, seconds=seconds), lambda: rate(alone, seconds=seconds), repeats=request.repeats
    )
    return float(np.median(whole) / np.median(part_))


def _agreement(drawings: Drawings, device: torch.device) -> float:
    """The greatest relative difference between the first fp32 losses of both nets on the CPU and on the GPU."""
    worst, usual = 0.0, torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False  # ten bits of a number; what is measured afterwards has them as usual
    exact = {"train.precision": "fp32"}
    for settings in (koch_settings(pairs=4, **exact), small_settings(**exact)):
        losses = []
        for where in (torch.device("cpu"), device):
            run = training(drawings, settings, where)
            losses.append([run.update(run.launch(*run.batch(1, step)))[0] for step in range(3)])
        worst = max(worst, *(abs(a - b) / abs(a) for a, b in zip(*losses, strict=True)))
    torch.backends.cudnn.allow_tf32 = usual
    if not worst < CLOSE:
        raise RunFailed(f"the GPU's fp32 losses differ from the CPU's by {worst:.1e}, above {CLOSE:g}: not measured")
    return worst


def _profile(step: Any, *, steps: int = 5, top: int = 10) -> list[dict[str, Any]]:
    """The kernels in which a step spends its time: name, milliseconds a step, share of the GPU's time."""
    from torch.profiler import ProfilerActivity, profile

    step()
    with profile(activities=[ProfilerActivity.CUDA]) as found:
        for _ in range(steps):
            step()
        torch.cuda.synchronize()
    rows = [(event.key, event.self_device_time_total) for event in found.key_averages()]
    whole = sum(time for _, time in rows) or 1.0
    rows = sorted(rows, key=lambda row: -row[1])[:top]
    return [{"kernel": key[:100], "ms": time / steps / 1000, "share": time / whole} for key, time in rows]
