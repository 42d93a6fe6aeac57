"""Rows about what training is for: how soon a net is good, and how soon it is evaluated."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from oneshot.base.errors import RunFailed
from oneshot.base.settings import Data, Settings
from oneshot.base.storage import Folder
from oneshot.bench import source
from oneshot.bench.rows import ACCURACY, Measured, Request
from oneshot.bench.steps import small_settings
from oneshot.bench.timing import in_turns
from oneshot.data import splits, store
from oneshot.data.drawings import Drawings
from oneshot.evaluation.scoring import Trials, score
from oneshot.evaluation.trials import lake400, within
from oneshot.evaluation.validation import Validation
from oneshot.network import models
from oneshot.network.embedding import embed, similarity
from oneshot.network.images import Images
from oneshot.network.models import Siamese
from oneshot.network.worker import Worker
from oneshot.run.watch import Watch
from oneshot.training.loop import Training
from oneshot.training.parts import Parts, load_parts

ENOUGH = 20  # times our seconds: then the row's goal is met, and the reference is broken off
LOOK = 0.1  # of our seconds between two validations of the reference
EVERY = 30  # steps between two validations of our network
CPU = torch.device("cpu")
# What the search found best for conv4, with the learning rate falling over five epochs.
FAST = {"train.optimizer": "adam", "train.lr": 4e-3, "train.batch": 64, "train.examples": 11_520, "train.epochs": 5}


def time_to_accuracy(request: Request) -> Measured:
    """Seconds of training until the goal's share of the validation trials is right, on either side without the time
    spent validating. A reference that is not there after ENOUGH times our seconds, or `request.cap`, is broken off: a
    bound."""
    parts = load_parts(Folder.of(request.data), Data())
    goal, limit = (0.0, 1.0) if request.quick else (ACCURACY, request.cap)
    value, images = [], []
    for seed in range(request.repeats):
        seconds, taken = _ours(parts, goal=goal, seed=seed)
        if seconds is None:
            raise RunFailed(f"seed {seed}: {taken:,} images did not reach {goal:.0%}; nothing to compare")
        value.append(seconds)
        images.append(taken)
    ours = float(np.median(value))
    with tempfile.TemporaryDirectory(prefix="oneshot-bench-") as folder:
        seconds, reached, taken = _theirs(
            request, parts, Path(folder), goal=goal, cap=min(limit, ENOUGH * ours * 1.02), every=LOOK * ours
        )  # fmt: skip
    note = f"{int(np.median(images)):,} images, median of {request.repeats} seeds; "
    if reached >= goal:
        note += f"the reference took {taken:,}, one seed"
    else:
        note += f"the reference was at {100 * reached:.1f} % after {taken:,} when it was broken off: a bound"
    details = {"images": images, "reference_reached": reached}
    return Measured(value, [seconds], note, details=details, bound=reached < goal)


def _settings(seed: int) -> Settings:
    return small_settings(**FAST, **{"train.seed": seed, "train.val_pairs": 200, "train.val_trials": 2000})


def _ours(parts: Parts, *, goal: float, seed: int) -> tuple[float | None, int]:
    """Train until the goal. Returns seconds, None if the goal was not reached, and images."""
    settings = _settings(seed)
    with tempfile.TemporaryDirectory(prefix="oneshot-bench-") as folder:
        run = Training(Worker(CPU, precision=settings.train.precision), settings, parts, Folder.of(folder), Watch())
    spent, images = 0.0, 0
    for epoch in range(1, settings.train.epochs + 1):
        for step in range(run.steps):
            began = time.perf_counter()
            run.set_lr(epoch, step)
            run.update(run.launch(*run.batch(epoch, step)))
            spent += time.perf_counter() - began
            images += run.images_per_step
            if (step + 1) % EVERY == 0 and run.validation.measure(run.net, run.worker)["val_oneshot"] >= goal:
                return spent, images
    return None, images


def _theirs(
    request: Request, parts: Parts, folder: Path, *, goal: float, cap: float, every: float
) -> tuple[float, float, int]:
    """Train the same net the document's way until the goal or `cap` seconds. Returns seconds, the best accuracy and
    images. The accuracy is measured every `every` seconds, and at the end."""
    settings = _settings(0)
    torch.manual_seed(0)
    net = source.Net(models.conv4(settings.data.size))
    loop, validation = source.Loop(net), _judge(parts.validation, settings)
    frame = source.unpack(Folder.of(request.data), folder, alphabets=parts.train.alphabets)
    usual = source.batches(frame, batch=128, size=settings.data.size)
    spent, images, best, looked = 0.0, 0, -1.0, 0.0  # -1: not validated yet
    while best < goal and spent < cap:
        began = time.perf_counter()
        left, right, same = next(usual)
        loop.step(left, right, same)
        spent += time.perf_counter() - began
        images += 2 * len(left)
        if spent - looked >= every or spent >= cap:
            looked, best = spent, max(best, validation(net))
    return spent, best, images


def _judge(drawings: Drawings, settings: Settings) -> Callable[[source.Net], float]:
    """A function giving the share of the same validation trials that a net of the document's kind gets right."""
    validation = Validation(drawings, settings.train, size=settings.data.size, device=CPU)

    def share(net: source.Net) -> float:
        twin = Siamese(net.encoder, size=settings.data.size)
        twin.head.load_state_dict(net.head.state_dict())
        found = validation.measure(twin, Worker(CPU))["val_oneshot"]
        net.train()
        return found

    return share


def evaluate(request: Request) -> Measured:
    """Seconds for 400 trials: each drawing embedded once, against a forward pass over every pair. Raises RunFailed if
    the two sides predict differently."""
    data = Folder.of(request.data)
    about = store.describe(data)
    test = splits.load_part(data, splits.split("lake", about).test)
    trials = lake400(store.load_trials(data), test) if about.trial_alphabets else within(test, trials=400)
    if request.quick:
        trials = Trials(trials.name, trials.query[:5], trials.support[:5], trials.target[:5])
    settings = small_settings()
    torch.manual_seed(0)
    net = models.build(settings.model, size=settings.data.size).eval()
    asked, place = np.unique(np.concatenate([trials.query[:, None], trials.support[:, :, 0]], 1), return_inverse=True)
    place = place.reshape(len(trials), -1)
    drawings = test.where(np.isin(np.arange(len(test)), asked))
    placed = Trials(trials.name, place[:, 0], place[:, 1:, None], trials.target)
    images = Images(drawings, size=net.size, device=CPU)
    answers: dict[str, np.ndarray] = {}

    def once() -> float:
        began = time.perf_counter()
        answers["once"] = score(placed, similarity(net, embed(net, images, Worker(CPU)))).argmax(axis=1)
        return time.perf_counter() - began

    def pairwise() -> float:
        began = time.perf_counter()
        pixels = images.gather(np.arange(len(images)))
        answers["pairwise"] = source.pairwise(net, pixels, placed).argmax(axis=1)
        return time.perf_counter() - began

    value, reference = in_turns(once, pairwise, repeats=request.repeats)
    differ = int((answers["once"] != answers["pairwise"]).sum())
    if differ:
        raise RunFailed(f"{differ} of {len(trials)} predictions differ between the two sides: nothing to compare")
    note = f"{trials.name}, conv4 at 28 px in fp32, {len(images)} drawings; all {len(trials)} predictions equal"
    return Measured(value, reference, note)
