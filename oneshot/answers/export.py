"""A network for programs without torch: encoder and scorer as ONNX, checked against torch before they are written.

`python -m oneshot.export RUN --onnx`; needs the packages of the extra `onnx`.
"""

import contextlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from oneshot.answers import artifact, port
from oneshot.base.environment import version
from oneshot.base.errors import RunFailed, UserError
from oneshot.base.markdown import table
from oneshot.base.reach import reach
from oneshot.base.storage import Folder
from oneshot.network.models import Siamese
from oneshot.run import cards
from oneshot.screen.console import console as make_console
from oneshot.screen.console import print_line
from oneshot.screen.words import words_for

PACKAGES = ("onnx", "onnxscript", "onnxruntime")  # the extra `onnx`
ENCODER, SCORER, README = "encoder.onnx", "scorer.onnx", "README.md"
TOLERANCE = 1e-4  # the greatest difference from torch that is allowed, in an embedding's numbers and in logits
BATCHES = (1, 2, 17)  # sizes that are checked: the exported batch is dynamic


@dataclass(frozen=True)
class Exported:
    """What was written, and the greatest absolute difference from torch over all that was checked."""

    folder: Folder
    files: tuple[str, ...]
    difference: float


def onnx(where: Folder, out: Folder | None = None) -> Exported:
    """Write `encoder.onnx` and `scorer.onnx` to `out` (default: `onnx/` beside the card), with what users need to know:
    the calibration's numbers, if there is one, an example and a README.

    Both take any number of images or pairs. Raises UserError if a package is missing or there is no network, and
    RunFailed, with nothing written, if onnxruntime does not answer as torch does.
    """
    _needed()
    net, card = artifact.read(where)
    out = out or cards.find(where) / artifact.EXPORTED
    x_B1SS = torch.rand(2, 1, net.size, net.size, generator=torch.Generator().manual_seed(0))
    z_BD = torch.rand(2, net.dimension, generator=torch.Generator().manual_seed(1))
    files = {
        ENCODER: _program(net, net.embed, {"image": x_B1SS}, "embedding"),
        SCORER: _program(net, net.score, {"query": z_BD, "support": z_BD.flip(0)}, "logit"),
    }
    difference = _check(net, files[ENCODER], files[SCORER])
    if not difference <= TOLERANCE:
        raise RunFailed(
            f"the exported network of {where} differs from torch by {difference:.1e}, more than {TOLERANCE:.0e}:"
            " nothing was written; try another version of torch or onnxruntime"
        )
    example = port.example(net, card)
    if calibration := card.get("calibration"):
        files[port.CALIBRATION] = f"{json.dumps(calibration, indent=1)}\n".encode()
    else:
        out.remove(port.CALIBRATION)  # left by another network that was here before
    files[README] = _readme(net, card, difference).encode()
    for folder, each in ((out / port.EXAMPLE, example), (out, files)):
        for name, data in each.items():
            folder.write(name, data)
    return Exported(out, (*files, *(f"{port.EXAMPLE}/{name}" for name in example)), difference)


def run(where: Folder, *, out: str | None) -> None:
    """Export a network, and print where it is and how far from torch. Raises UserError, RunFailed."""
    console = make_console()
    made = onnx(where, reach(out) if out else None)
    print_line(console, f"{made.folder}: {', '.join(made.files)}")
    print_line(
        console, f"checked on onnxruntime: at most {made.difference:.1e} from torch ({TOLERANCE:.0e} is allowed)"
    )


def _needed() -> None:
    missing = []
    for package in PACKAGES:
        try:
            __import__(package)
        except ImportError:
            missing.append(package)
    if missing:
        raise UserError(f"--onnx needs the extra 'onnx', which is not installed: pip install {' '.join(missing)}")


class _Function(nn.Module):
    """A part of a network as the module that torch exports."""

    def __init__(self, net: Siamese, part: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.net, self.part = net, part
        self.eval()

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.part(*inputs)


def _program(net: Siamese, part: Callable[..., torch.Tensor], inputs: dict[str, torch.Tensor], output: str) -> bytes:
    """A part of the network as a self-contained ONNX file; the first axis of all inputs is dynamic."""
    batch = torch.export.Dim("batch", min=1)
    with _quiet():
        program = torch.onnx.export(
            _Function(net, part), tuple(inputs.values()), dynamo=True, verbose=False, input_names=list(inputs),
            output_names=[output], dynamic_shapes=(tuple({0: batch} for _ in inputs),),
        )  # fmt: skip
    return program.model_proto.SerializeToString()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence what torch's exporter says to its own developers."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


@torch.no_grad()
def _check(net: Siamese, encoder: bytes, scorer: bytes) -> float:
    """The greatest difference between torch and onnxruntime, which scores its own embeddings."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    run_encoder, run_scorer = (
        onnxruntime.InferenceSession(part, options, providers=["CPUExecutionProvider"]) for part in (encoder, scorer)
    )
    generator = torch.Generator().manual_seed(2)
    differences = []
    for count in BATCHES:
        strokes = torch.rand(2 * count, 1, net.size, net.size, generator=generator)
        images = strokes * (torch.rand(2 * count, 1, 1, 1, generator=generator) < 0.7)  # blank ones among them
        z_BD = net.embed(images)
        logits = net.score(*z_BD.chunk(2))
        (found_BD,) = run_encoder.run(None, {"image": images.numpy()})
        left, right = np.split(found_BD, 2)
        (found,) = run_scorer.run(None, {"query": left, "support": right})
        differences += [(z_BD - torch.from_numpy(found_BD)).abs().max(), (logits - torch.from_numpy(found)).abs().max()]
    return float(torch.stack(differences).max())  # NaN if any difference is


def _readme(net: Siamese, card: dict[str, Any], difference: float) -> str:
    size, dimension, batches = net.size, net.dimension, ", ".join(map(str, BATCHES))
    seen = cards.seen(card.get("preprocessing", {}))
    files = (
        (f"`{ENCODER}`", f"`image`: float32 (batch, 1, {size}, {size})", f"`embedding`: float32 (batch, {dimension})"),
        (f"`{SCORER}`", f"`query`, `support`: float32 (batch, {dimension})", "`logit`: float32 (batch)"),
    )
    worth = ", its `probability`, and `limits` of evidence for some numbers of classes and of images per class"
    worth *= bool(card.get("calibration"))
    return f"""\
# {card.get("architecture", "A network")} as ONNX

Written by oneshot {version("oneshot")}; sha256 of the weights: {card["sha256"]}.
onnxruntime's answers differ from torch's by at most {difference:.1e}: measured when these files were written, on
embeddings and logits, in batches of {batches}.

{table(("file", "inputs", "output"), files)}

Both take any batch. An image is embedded once, whatever it is compared with; the embeddings of several images of a
class are averaged. The greater the logit, the more alike the images.

## From an image to the input

Ink is {seen["ink"]}; the image is
{seen["fit"]}. {port.recipe(seen, size)}

## From logits to probabilities

{port.probabilities(card.get("calibration"), words_for(card))}

## An example

`{port.EXAMPLE}/` holds two images and, in `{port.EXPECTED}`, what becomes of them: `inputs`, times 255, row by row;
`embeddings`; the `logit` of the two{worth}.
A port is right if its inputs differ from these by at most 1 or 2 of 255, and if it computes the same embeddings and
logit from these inputs, to within {TOLERANCE:.0e}.
"""
