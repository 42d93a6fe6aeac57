"""The optimizers equal torch's bit for bit, and a training does not import torch's compiler."""

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
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.01, momentum=0.9, fused=True),
    "adam": lambda groups: torch.optim.Adam(groups, lr=0.01, fused=True),
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=0.01, fused=True),
}


def by_hand(net: Siamese, decay: float) -> list[dict[str, Any]]:
    """Weight decay for the kernels of convolutions and nothing else; the groups are not in the program's order."""
    kernels = [module.weight for module in net.encoder.modules() if isinstance(module, torch.nn.Conv2d)]
    others = [each for each in net.parameters() if not any(each is kernel for kernel in kernels)]
    return [{"params": others, "weight_decay": 0.0}, {"params": kernels, "weight_decay": decay}]


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("name", TORCH)
def test_a_step_is_that_of_torch_and_only_weights_of_the_encoder_decay(name: str, decay: float) -> None:
    nets = []
    for make in (
        lambda net: optimizer(net, Train(optimizer=name, lr=0.01, weight_decay=decay)),
        lambda net: TORCH[name](by_hand(net, decay)),
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


@pytest.mark.parametrize("name", ["conv4", "resnet"])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_parameters_stay_in_the_order_in_which_checkpoints_name_them(name: str, decay: float) -> None:
    net = models.build(tiny.settings(name=name).model, size=28)
    groups = optimizer(net, Train(optimizer="adamw", weight_decay=decay)).param_groups
    assert len(groups) == 2 if decay == 0 else len(groups) > 2
    found = [parameter for group in groups for parameter in group["params"]]
    expected = [*net.encoder.parameters(), *net.head.parameters()]
    assert len(found) == len(expected) and all(one is other for one, other in zip(found, expected, strict=True))


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
    """A study's driver, a trial's actor and Ray Train's controller compute nothing."""
    script = "import sys, oneshot.cli.tune, oneshot.search.tuning, oneshot.search.trial; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment(), text=True, capture_output=True)
    assert done.stdout.split() == ["False"], done.stderr
