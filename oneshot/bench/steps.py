"""Rows about training steps: with the input pipeline and without, and the Koch net on a CPU."""

import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F

from oneshot.base.errors import first_line
from oneshot.base.jobs import job_file, override, read
from oneshot.base.settings import Settings
from oneshot.base.storage import Folder
from oneshot.bench import flops, source
from oneshot.bench.data import part
from oneshot.bench.rows import OF_MATMUL, Measured, Request
from oneshot.bench.timing import apart, in_turns, rate
from oneshot.data.drawings import Drawings
from oneshot.network import models
from oneshot.network.worker import Worker
from oneshot.run.watch import Watch
from oneshot.training.loop import Training
from oneshot.training.parts import Parts

KOCH_SIZE = 105


def training(drawings: Drawings, settings: Settings, device: torch.device) -> Training:
    """The program's own training, ready for its first step. It validates on the same drawings, as validation is not
    measured here."""
    with tempfile.TemporaryDirectory(prefix="oneshot-bench-") as folder:  # nothing is written before an epoch is over
        worker = Worker(device, precision=settings.train.precision)
        return Training(worker, settings, Parts(drawings, drawings), Folder.of(folder), Watch())


def koch_settings(*, pairs: int, **changes: Any) -> Settings:
    """The job `koch` with batches of `pairs` pairs and as small a validation as can be."""
    given = {"train.batch": pairs, "train.examples": 1 << 20, "train.val_pairs": 2, "train.val_trials": 1} | changes
    return override(read(job_file("koch")), given, source="the bench")


def small_settings(**changes: Any) -> Settings:
    """The job `quick` with the network conv4, trained as when it was first measured, so that records compare over
    time."""
    given = {"model.name": "conv4", "model.views": 1, "train.ema": 0.0, "data.alphabets": 4, "data.flips": False}
    given |= {"train.examples": 1 << 20, "train.val_pairs": 2, "train.val_trials": 1} | changes
    return override(read(job_file("quick")), given, source="the bench")


def pipeline(request: Request) -> Measured:
    """The training step with batches made for it, against the same step on one fixed batch: both nets, on the CPU and
    on a GPU if there is one. Returns the case with the worst ratio."""
    drawings = part(request)
    cpu = torch.device("cpu")
    few, many = (request.repeats * (1 if request.quick else turns) for turns in (6, 20))
    cases: list[tuple[str, Settings, torch.device, int]] = [
        ("conv4 at 28 px", small_settings(), cpu, many),
        ("koch at 105 px", koch_settings(pairs=2 if request.quick else 32), cpu, few),  # more than a second a step
    ]
    if torch.cuda.is_available():
        gpu = torch.device("cuda", 0)
        cases += [
            ("conv4 on the GPU", small_settings(), gpu, many),
            ("koch on the GPU", koch_settings(pairs=128), gpu, many),
        ]
    figures = {name: _with_and_without(drawings, *case) for name, *case in cases}
    shares = {name: float(np.median(ours) / np.median(constant)) for name, (ours, constant) in figures.items()}
    worst = min(shares, key=lambda name: shares[name])
    note = "; ".join(f"{name} {100 * share:.1f} %" for name, share in shares.items())
    return Measured(*figures[worst], note, details=figures)


def _with_and_without(drawings: Drawings, settings: Settings, device: torch.device, turns: int) -> list[list[float]]:
    run = training(drawings, settings, device)
    # The difference sought is 2 %, and a machine's speed drifts by more from one second to the next. So a turn is as
    # short as possible: the steps whose batches are made at once.
    made, still, steps = fed(run), constant(run), run.batches.at_once()
    sides = [lambda side=side: rate(lambda: sum(side() for _ in range(steps)), seconds=0) for side in (made, still)]
    return in_turns(*sides, repeats=turns)


def fed(run: Training) -> Callable[[], int]:
    """A function that takes a training's next step as the loop does and returns the number of images."""
    batch, place = run.batch(1, 0), 0

    def step() -> int:
        nonlocal batch, place
        found = run.launch(*batch)
        place += 1
        batch = run.batch(1, place)
        run.update(found)
        return run.images_per_step

    return step


def constant(run: Training) -> Callable[[], int]:
    """As `fed`, but on the training's first batch every time: the difference is what the input pipeline costs."""
    batch = run.batch(1, 0)

    def step() -> int:
        run.update(run.launch(*batch))
        return run.images_per_step

    return step


def document_step(*, pairs: int, device: torch.device) -> Callable[[], int]:
    """The document's step of the Koch net (fp32, two calls of the encoder) on a fixed batch, as a function that returns
    the number of images."""
    loop = _document(device)
    left, right, same = noise(pairs, device)

    def step() -> int:
        loop.step(left, right, same)
        return 2 * pairs

    return step


def document_loop(frame: pd.DataFrame, *, pairs: int, device: torch.device) -> Callable[[], int]:
    """As `document_step`, but with a batch made from the frame for every step."""
    loop, made = _document(device), source.batches(frame, batch=pairs, size=KOCH_SIZE)

    def step() -> int:
        loop.step(*(each.to(device) for each in next(made)))
        return 2 * pairs

    return step


def _document(device: torch.device) -> source.Loop:
    torch.manual_seed(0)
    return source.Loop(source.Net(models.koch(KOCH_SIZE)).to(device))


def noise(pairs: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A batch of random pixels of the Koch net's size: left, right (pairs, 1, 105, 105), same (pairs,) float32."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.rand(pairs, 1, KOCH_SIZE, KOCH_SIZE, generator=generator).to(device) for _ in range(2))
    return left, right, (torch.arange(pairs) % 2).float().to(device)


def matmul_rate(device: torch.device, *, side: int, seconds: float) -> float:
    """Operations a second of a bf16 product of two matrices of `side` rows and columns. A GPU is waited for once in ten
    products, so that the wait hardly counts."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))

    at_once = 10 if device.type == "cuda" else 1

    def product() -> int:
        for _ in range(at_once):
            a @ b
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return at_once * 2 * side**3

    product()
    return rate(product, seconds=seconds)


def koch_cpu(request: Request) -> Measured:
    """Images a second of the Koch net's step on all cores, against the document's step; the note has the rates of other
    layouts."""
    cpu, quick = torch.device("cpu"), request.quick
    pairs, seconds = (2, 0.01) if quick else (64, 2.0)
    run = training(part(request), koch_settings(pairs=pairs), cpu)
    ours = constant(run)
    with apart(document_step, pairs=pairs, device=cpu) as theirs:
        value, reference = in_turns(
            lambda: rate(ours, seconds=seconds), lambda: theirs(seconds), repeats=request.repeats
        )  # fmt: skip
    ceiling = matmul_rate(cpu, side=256 if quick else 2048, seconds=seconds)
    share = float(np.median(value)) * flops.training(run.net.encoder, size=KOCH_SIZE) / ceiling
    tried = _layouts(quick)
    note = (
        f"{pairs} pairs, {run.worker.precision}; bf16 matmul {ceiling / 1e9:,.0f} GFLOP/s, of which the step's"
        f" products are {100 * share:.0f} %; images/s of "
        + ", ".join(f"{name} {found if isinstance(found, str) else f'{found:.0f}'}" for name, found in tried.items())
    )
    details = {"layouts": tried, "matmul_gflops": ceiling / 1e9}
    return Measured(value, reference, note, {OF_MATMUL: share}, details)


def _layouts(quick: bool) -> dict[str, float | str]:
    """Images a second of one step by precision, memory format, batch and compilation; or why a case failed."""
    small, batches = (2, [4]) if quick else (32, [16, 64, 128])
    cases: dict[str, tuple[bool, bool, int, bool]] = {
        f"{'bf16' if half else 'fp32'}{' channels-last' if last else ''} ({small} pairs)": (half, last, small, False)
        for half in (False, True)
        for last in (False, True)
    }
    cases |= {f"bf16 channels-last ({pairs} pairs)": (True, True, pairs, False) for pairs in batches}
    if not quick:
        cases[f"the same compiled ({small} pairs)"] = (True, True, small, True)
    found: dict[str, float | str] = {}
    for name, (half, last, pairs, compiled) in cases.items():
        try:
            found[name] = _layout(half, last, pairs, compiled)
        except Exception as error:  # no compiler or no memory: the other cases still count
            found[name] = f"failed ({first_line(error)[:80]})"
    return found


def _layout(half: bool, last: bool, pairs: int, compiled: bool) -> float | str:
    torch.manual_seed(0)
    shape = torch.channels_last if last else torch.contiguous_format
    net = source.Net(models.koch(KOCH_SIZE)).to(memory_format=shape)
    encoder: Any = torch.compile(net.encoder) if compiled else net.encoder
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, fused=True)
    left, right, same = noise(pairs, torch.device("cpu"))
    both = torch.cat([left, right]).contiguous(memory_format=shape)

    def step() -> int:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            a, b = encoder(both).float().chunk(2)
        loss = F.binary_cross_entropy_with_logits(net.head((a - b).abs())[:, 0], same)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return 2 * pairs

    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a compiler's warnings do not matter here
        step()
    first = time.perf_counter() - began
    found = rate(step, seconds=0.01 if pairs < 8 else 2.0)
    return f"{found:.0f} (after {first:.0f} s)" if compiled else found
