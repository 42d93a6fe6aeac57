"""The average of the weights: what it follows, and that the validated weights are the ones that are kept."""

from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from torch import nn

from oneshot.answers import artifact
from oneshot.base.errors import UserError
from oneshot.base.storage import Folder
from oneshot.network.worker import Worker
from oneshot.run import checkpoint
from oneshot.run.watch import Watch
from oneshot.training.average import Average
from oneshot.training.loop import Training
from oneshot.training.train import finish

CPU = torch.device("cpu")
AVERAGED = {"name": "resnet", "width": 4, "ema": 0.9, "sampling": "episodes", "objective": "both"}


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3))


def test_it_is_the_exponential_moving_average_of_the_weights_and_of_the_running_statistics() -> None:
    trained = net()
    average = Average(trained, 0.8)
    expected = {name: value.clone() for name, value in trained.state_dict().items()}
    for step in range(1, 60):
        with torch.no_grad():
            trained[0].weight += torch.randn_like(trained[0].weight)
        trained(torch.randn(4, 1, 8, 8))
        average.follow(step)
        keep = min(0.8, (1 + step) / (10 + step))
        expected = {name: keep * old + (1 - keep) * trained.state_dict()[name] for name, old in expected.items()}
    for name, value in average.net.state_dict().items():
        if value.is_floating_point():
            assert torch.allclose(value, expected[name], atol=1e-5), name
    assert (average.net[0].weight - trained[0].weight).abs().max() > 0.1
    assert (average.net[1].running_var - trained[1].running_var).abs().max() > 1e-4


def test_of_weights_that_stand_still_it_is_these_weights() -> None:
    trained = net()
    average = Average(trained, 0.999)
    with torch.no_grad():
        trained[0].weight += 1
    for step in range(1, 3_000):
        average.follow(step)
    assert torch.allclose(average.net[0].weight, trained[0].weight, atol=1e-4)


def test_it_has_no_gradient_and_leaves_the_trained_network_alone() -> None:
    trained = net()
    before = trained[0].weight.clone()
    average = Average(trained, 0.5)
    trained(torch.randn(4, 1, 8, 8)).square().mean().backward()
    average.follow(1)
    assert trained[0].weight.grad is not None
    assert all(not value.requires_grad and value.grad is None for value in average.net.parameters())
    assert torch.equal(trained[0].weight, before)


def test_what_is_validated_is_what_is_kept(tmp_path: Path) -> None:
    given, run = tiny.settings(**AVERAGED, keep="last"), Folder.of(tmp_path)
    training = Training(Worker(CPU, precision="fp32"), given, tiny.parts(), run, Watch())
    for epoch in (1, 2, 3, 4):
        training.finish_epoch(training.run_epoch(epoch))
    finish(given, run)
    kept, _ = artifact.read(run)
    found = checkpoint.best(run / "checkpoints")
    assert found is not None
    measured = training.validation.measure(kept, training.worker)
    row = training.progress.history[found.progress.best_epoch - 1]
    assert {key: row[key] for key in measured} == measured
    assert found.progress.best_epoch == 4
    trained = training.validation.measure(training.net, training.worker)
    assert trained["val_loss"] != measured["val_loss"]


def test_without_it_a_checkpoint_holds_the_weights_once(tmp_path: Path) -> None:
    for name, ema in (("with", 0.9), ("without", 0.0)):
        tiny.train(tmp_path / name, tiny.settings(**AVERAGED | {"ema": ema, "epochs": 1}))
        found, _ = checkpoint.newest(Folder.of(tmp_path / name / "checkpoints"))
        assert found is not None and bool(found.trained) == bool(ema)


def test_a_training_state_without_the_trained_weights_is_refused(tmp_path: Path) -> None:
    given = tiny.settings(**AVERAGED | {"epochs": 2})
    tiny.train(tmp_path, given)
    found, _ = checkpoint.newest(Folder.of(tmp_path / "checkpoints"))
    assert found is not None
    broken = replace(found, trained={})
    training = Training(Worker(CPU, precision="fp32"), given, tiny.parts(), Folder.of(tmp_path / "other"), Watch())
    training._find = lambda: broken  # type: ignore[method-assign]
    with pytest.raises(UserError, match=r"of another network .*is absent"):
        training._resume()
