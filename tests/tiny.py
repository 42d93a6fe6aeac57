"""Drawings, settings and networks so small that a training takes a second. They are made in memory, without files."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from oneshot.answers import artifact
from oneshot.base.jobs import parse
from oneshot.base.settings import Settings
from oneshot.base.storage import Folder
from oneshot.data.drawings import Drawings
from oneshot.network.models import Siamese
from oneshot.network.worker import Worker
from oneshot.run import checkpoint
from oneshot.run.checkpoint import Progress
from oneshot.run.watch import Watch
from oneshot.training.loop import fit
from oneshot.training.parts import Parts

CELLS = 7  # a character is a pattern of 7 x 7 cells


def drawings(
    sizes: dict[str, int], *, drawers: int = 4, side: int = 28, noise: float = 0.03, seed: int = 0
) -> Drawings:
    """Alphabets with these numbers of characters, each drawn once by every drawer, in random order.

    A character is a random pattern; in each drawing, a share `noise` of the pixels is wrong.
    """
    generator = np.random.default_rng(seed)
    names = [f"{alphabet}/character{n + 1:02d}" for alphabet, size in sizes.items() for n in range(size)]
    cell = generator.permutation(len(names) * drawers)
    patterns = generator.random((len(names), CELLS, CELLS)) < 0.3
    fine = np.kron(patterns, np.ones((1, -(-side // CELLS), -(-side // CELLS)), dtype=bool))[:, :side, :side]
    ink = fine[cell // drawers] ^ (generator.random((len(cell), side, side)) < noise)
    return Drawings(
        packed=np.packbits(ink.reshape(len(cell), -1), axis=1),
        height=side,
        width=side,
        bits=1,
        row=cell,
        character=cell // drawers,
        drawer=cell % drawers + 1,
        characters=tuple(names),
        alphabet_of=np.repeat(np.arange(len(sizes)), list(sizes.values())),
        alphabets=tuple(sizes),
    )


def parts(*, side: int = 28) -> Parts:
    """Four alphabets to train on and two others to validate on."""
    return Parts(
        train=drawings({"Greek": 6, "Latin": 8, "Runes": 5, "Kana": 7}, side=side, seed=1),
        validation=drawings({"Tifinagh": 6, "Ogham": 5}, side=side, seed=2),
    )


SETTINGS: dict[str, dict[str, Any]] = {
    "data": {"size": 28, "sampling": "pairs", "drawers": 2, "alphabets": 2},
    "model": {"name": "conv4", "head": "calibrated"},
    "train": {
        "optimizer": "sgd", "lr": 0.05, "batch": 16, "epochs": 4, "examples": 48, "precision": "fp32", "val_pairs": 32,
        "val_trials": 16,
    },
    "scale": {},
}  # fmt: skip


def settings(**changes: Any) -> Settings:
    """The settings of a training of about a second. `changes`: keys of the sections data, model, train and scale."""
    tree = {name: dict(section) for name, section in SETTINGS.items()}
    for key, value in changes.items():
        owner = [name for name in tree if key in Settings.model_fields[name].annotation.model_fields]
        assert len(owner) == 1, f"{key} is in {owner}"
        tree[owner[0]][key] = value
    return parse(tree, "tiny")


def train(where: Path | Folder, given: Settings, *, watch: Watch | None = None, data: Parts | None = None) -> Progress:
    """Train in this process, on the CPU."""
    return fit(Worker(torch.device("cpu"), precision="fp32"), given, data or parts(), Folder.of(where), watch=watch)


class Killed(Exception):
    """Stands for whatever ends a process."""


class Killer(Watch):
    """Ends a training after the epoch `after`, or within the epoch `within` when `steps` of its steps are done."""

    def __init__(self, *, after: int | None = None, within: int | None = None, steps: int = 2) -> None:
        self.after, self.within, self.steps, self.done = after, within, steps, 0
        self.notes: list[str] = []

    def start(self, *, epochs: int, steps_per_epoch: int, done: int = 0) -> None:
        self.done = done

    def step(self, done: int, loss: float, images_per_second: float) -> None:
        if done == self.steps and self.done + 1 == self.within:
            raise Killed

    def epoch(self, row: dict[str, Any], is_best: bool) -> None:
        self.done = row["epoch"]
        if self.done == self.after:
            raise Killed

    def note(self, sentence: str) -> None:
        self.notes.append(sentence)


def network(
    where: Path | Folder, net: Siamese, given: Settings, *, cleaning: dict[str, Any] | None = None
) -> Path:  # fmt: skip
    """Write a run of an untrained network, with its only checkpoint and its `best/`; returns the path."""
    run = Folder.of(where)
    recorded = {name: getattr(given, name).model_dump() for name in ("data", "model", "train")}
    progress = Progress(epoch=1, best_epoch=1, best_loss=0.5, history=[{"epoch": 1, "val_loss": 0.5, "best": True}])
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    checkpoint.save(
        run / "checkpoints", progress, settings=recorded, net=net, optimizer=optimizer, cleaning=cleaning
    )  # fmt: skip
    found = checkpoint.best(run / "checkpoints")
    assert found is not None
    artifact.save(run / "best", data=found, provenance={"settings": found.settings})
    return Path(run.path)


# Trainings small enough to be run three times. A batch of 12 is divisible by 1, 2 and 3 workers. With smooth networks
# (`ranks.smooth`), none of 190 runs whose initial weights differed by 1e-7 ended with losses 1e-6 apart. They avoid
# Adam, which divides small gradients by their own size, and the calibrated head, whose weights are large. The sigmoid
# units of Koch's network start almost alike; a faster head makes it move nevertheless.
SHARED: dict[str, Any] = {"batch": 12, "epochs": 3, "head": "plain", "rotations": True}
SMALL = SHARED | {"name": "conv4", "examples": 36}
AVERAGED = SMALL | {"name": "resnet", "width": 4, "ema": 0.8, "elastic": 2.0, "flips": True}
KOCH = SHARED | {"name": "koch", "size": 65, "examples": 12, "epochs": 4}
PAIRS: dict[str, Any] = {"sampling": "pairs", "objective": "bce"}
EPISODES: dict[str, Any] = {"sampling": "episodes", "objective": "both"}
CASES: dict[str, Settings] = {
    "conv4 on pairs": settings(**SMALL, **PAIRS, lr=2e-3),
    "conv4 on episodes": settings(**SMALL, **EPISODES, lr=2e-3),
    "resnet on pairs": settings(**AVERAGED, **PAIRS, lr=2e-3),
    "resnet on episodes": settings(**AVERAGED, **EPISODES, lr=2e-3),
    "koch on pairs": settings(**KOCH, **PAIRS, lr=0.5, head_lr=30.0),
    "koch on episodes": settings(**KOCH, **EPISODES, lr=0.05, head_lr=20.0),
}
