"""The optimizers are torch's to the bit, and a training imports nothing that compiles."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from command import ROOT, environment

from oneshot.base.settings import Train
from oneshot.network import models
from oneshot.network.models import Siamese
from oneshot.training.optimizers import optimizer

TORCH = {
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.01, momentum=0.9, weight_decay=0.1, fused=True),
    "adam": lambda groups: torch.optim.Adam(groups, lr=0.01, weight_decay=0.1, fused=True),
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=0.01, weight_decay=0.1, fused=True),
}


def two_groups(net: Siamese) -> list[dict[str, Any]]:
    return [{"params": net.encoder.parameters()}, {"params": net.head.parameters()}]


@pytest.mark.parametrize("name", TORCH)
def test_a_step_is_that_of_torch(name: str) -> None:
    nets = []
    for make in (
        lambda net: optimizer(net, Train(optimizer=name, lr=0.01, weight_decay=0.1)),
        lambda net: TORCH[name](two_groups(net)),
    ):
        torch.manual_seed(0)
        net = models.build(tiny.settings().model, size=28)
        made = make(net)
        for _ in range(3):
            for parameter in net.parameters():
                parameter.grad = torch.randn(parameter.shape)
            made.step()
            made.zero_grad()
            made.load_state_dict(made.state_dict())
        assert all(parameter.grad is None for parameter in net.parameters())
        nets.append(net)
    assert all(map(torch.equal, nets[0].parameters(), nets[1].parameters()))


def test_a_training_imports_no_compiler(tmp_path: Path) -> None:
    script = (
        "import pathlib, sys, tiny\n"
        "tiny.train(pathlib.Path(sys.argv[1]), tiny.settings(optimizer='adam'))\n"
        "print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "run")], cwd=ROOT,
        env=environment(PYTHONPATH=f"{ROOT}:{ROOT / 'tests'}"), text=True, capture_output=True,
    )  # fmt: skip
    assert done.stdout.split()[-1:] == ["False"], done.stdout + done.stderr


def test_what_only_drives_imports_no_torch() -> None:
    """Neither a study's driver, a trial's actor nor Ray Train's controller multiplies anything."""
    script = (
        "import sys, oneshot.cli.commands, oneshot.search.tuning, oneshot.search.trial; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment(), text=True, capture_output=True)
    assert done.stdout.split() == ["False"], done.stderr
