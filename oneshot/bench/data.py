"""Rows about data: pairs made, drawings loaded, drawings distorted."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from oneshot.base.storage import Folder
from oneshot.bench import source
from oneshot.bench.rows import Measured, Request
from oneshot.bench.timing import in_turns, rate
from oneshot.data import splits, store
from oneshot.data.drawings import Drawings
from oneshot.data.pairs import PairDataset
from oneshot.network.images import Images, distort, distortions, fitted

BATCH = 128


def part(request: Request) -> Drawings:
    """The training drawings of Lake's split; in a quick look, those of its first six alphabets."""
    data = Folder.of(request.data)
    wanted = splits.split("lake", store.describe(data)).train
    if request.quick:
        return store.load(data, alphabets=wanted.alphabets[:6])
    return splits.load_part(data, wanted)


def pairs(request: Request) -> Measured:
    """Pairs a second, on both sides up to finished float tensors (batch, 1, 105, 105)."""
    drawings, seconds = part(request), 0.05 if request.quick else 2.0
    images = Images(drawings, size=drawings.height, device=torch.device("cpu"))
    dataset, place = PairDataset(drawings, seed=0), 0

    def made(*, ready: bool) -> int:
        nonlocal place
        found = dataset.pairs(epoch=1, start=place, count=BATCH)
        place += BATCH
        where = np.concatenate([found.left, found.right])
        images.gather(where) if ready else drawings.pixels(where)
        return BATCH

    with tempfile.TemporaryDirectory(prefix="oneshot-bench-") as folder:
        frame = source.unpack(Folder.of(request.data), Path(folder), alphabets=drawings.alphabets)
        usual = source.batches(frame, batch=BATCH)
        ours, reference, bytes_ = in_turns(
            lambda: rate(lambda: made(ready=True), seconds=seconds),
            lambda: rate(lambda: len(next(usual)[0]), seconds=seconds),
            lambda: rate(lambda: made(ready=False), seconds=seconds),
            repeats=request.repeats,
        )
    note = f"float32 in [0, 1], {len(drawings):,} drawings; left as bytes: {np.median(bytes_):,.0f} pairs/s"
    return Measured(ours, reference, note, details={"as_bytes": bytes_})


_COLD = """
import json, sys, time
import numpy as np, torch
from oneshot.data import store
from oneshot.network.images import Images, fitted
from oneshot.base.storage import Folder
began = time.perf_counter()
drawings = store.load(Folder.of(sys.argv[1]))
images = Images(drawings, size=drawings.height, device=torch.device("cpu"))
ready = time.perf_counter() - began
pixels = fitted(drawings, drawings.height)
print(json.dumps({"ready": ready, "bytes": time.perf_counter() - began, "ink": int(pixels.sum(dtype="int64"))}))
some = np.arange(0, len(images), 97)
assert torch.equal(images.gather(some)[:, 0], torch.from_numpy(pixels[some]) / 255)
"""


def load(request: Request) -> Measured:
    """Seconds from a fresh process's imports until all drawings are in memory as a CPU trains on them, as bits at their
    own size, against decoding their PNGs. The details tell the seconds until they are there as bytes, as a GPU holds
    them."""
    data, as_bytes = Folder.of(request.data), []
    about = store.describe(data)
    chosen = about.alphabets[:3] if request.quick else about.alphabets
    with tempfile.TemporaryDirectory(prefix="oneshot-bench-") as folder:
        paths = source.unpack(data, Path(folder), alphabets=chosen)["path"].tolist()
        ink = 0

        def cold() -> float:
            nonlocal ink
            done = subprocess.run(
                [sys.executable, "-c", _COLD, request.data], capture_output=True, text=True, check=True
            )  # fmt: skip
            found = json.loads(done.stdout)
            ink = found["ink"]
            as_bytes.append(found["bytes"])
            return found["ready"]

        def decoded() -> float:
            began = time.perf_counter()
            pixels = np.stack([source.decode(path) for path in paths])
            passed = time.perf_counter() - began
            assert request.quick or int(pixels.sum(dtype=np.int64)) == ink, "the two sides read different drawings"
            return passed * about.rows / len(paths)

        ours, reference = in_turns(cold, decoded, repeats=request.repeats)
    del as_bytes[0]  # of the warm-up call, which `in_turns` does not count
    pixels = about.rows * about.height * about.width / 1e6
    note = (
        f"{about.rows:,} drawings as a CPU trains on them, bits, {pixels / 8:.0f} MB; imports apart;"
        f" as a GPU has them, bytes, {pixels:.0f} MB: {np.median(as_bytes) * 1000:.0f} ms"
    )
    return Measured(ours, reference, note, details={"as_bytes": as_bytes})


def distortion(request: Request) -> Measured:
    """Images a second on the CPU through random affine maps, drawing the maps included, against one image at a time.
    Both sides start from images in memory, already of the final size and in the form that they distort."""
    drawings, seconds = part(request), 0.05 if request.quick else 1.5
    some = drawings.where(np.arange(len(drawings)) % max(1, len(drawings) // 2000) == 0)
    place = 0

    def ours(images: torch.Tensor) -> int:
        nonlocal place
        maps = distortions(seed=0, epoch=1, start=place, count=len(images), chance=0.5)
        place += len(images)
        distort(images, maps)
        return len(images)

    def theirs(pictures: list[Image.Image]) -> int:
        nonlocal place
        place += 1
        source.distorted(pictures[place % len(pictures)])
        return 1

    figures = {}
    for size in (28, drawings.height):
        gathered = Images(drawings, size=size, device=torch.device("cpu")).gather(np.arange(256) % len(drawings))
        pictures = [Image.fromarray(ink) for ink in fitted(some, size)]
        figures[size] = in_turns(
            lambda batch=gathered: rate(lambda: ours(batch), seconds=seconds),
            lambda pictures=pictures: rate(lambda: theirs(pictures), seconds=seconds),
            repeats=request.repeats,
        )
    large = [float(np.median(side)) for side in figures[drawings.height]]
    note = f"at {drawings.height} px {large[0]:,.0f} against {large[1]:,.0f} images/s: {large[0] / large[1]:.1f} x"
    return Measured(*figures[28], note, details={str(size): pair for size, pair in figures.items()})
