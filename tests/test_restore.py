"""What was saved goes back where it fits, to the bit, and is refused where it does not, before anything is changed."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import tiny
import torch

from oneshot import loop
from oneshot.errors import UserError
from oneshot.models import Siamese, build
from oneshot.restore import load_optimizer, load_weights


def stepped(optimizer: str, **changes: Any) -> tuple[Siamese, torch.optim.Optimizer]:
    """A network and its optimizer after two steps."""
    settings = tiny.settings(optimizer=optimizer, **changes)
    torch.manual_seed(0)
    net = build(settings.model, size=28)
    made = loop.optimizer(net, settings.train)
    for _ in range(2):
        made.zero_grad()
        net(torch.rand(4, 1, 28, 28), torch.rand(4, 1, 28, 28)).sum().backward()
        made.step()
    return net, made


@pytest.mark.parametrize(("optimizer", "momentum"), [("sgd", 0.9), ("sgd", 0.0), ("adam", 0.9), ("adamw", 0.9)])
def test_a_network_and_its_optimizer_go_on_as_if_nothing_had_been(optimizer: str, momentum: float) -> None:
    net, going = stepped(optimizer, momentum=momentum)
    other, resumed = stepped(optimizer, momentum=momentum)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    load_weights(other, net.state_dict(), "it")
    load_optimizer(resumed, copy.deepcopy(going.state_dict()), "it")
    torch.manual_seed(1)
    left, right = torch.rand(4, 1, 28, 28), torch.rand(4, 1, 28, 28)
    for each, made in ((net, going), (other, resumed)):
        made.zero_grad()
        each(left, right).sum().backward()
        made.step()
    for name, value in net.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


def test_an_optimizers_settings_are_not_taken_from_the_file() -> None:
    _, going = stepped("sgd")
    saved = going.state_dict()
    saved["param_groups"] = [{"lr": "fast"}]
    load_optimizer(going, saved, "it")
    assert going.param_groups[0]["momentum"] == 0.9


def momentum(value: Any) -> Callable[[dict], None]:
    return lambda saved: saved["state"][0].update(momentum_buffer=value)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda saved: saved.pop("state"), r"it \(it is not the state of SGD\); use another"),
        (lambda saved: saved.update(state=3), "not the state of SGD"),
        (lambda saved: saved["state"].pop(0), "not the state of SGD"),
        (lambda saved: saved["state"].update({0: [1]}), "not the state of SGD"),
        (momentum(None), "not the state of SGD"),
        (momentum(torch.zeros(3)), r"'momentum_buffer' is float32 \(3,\), not float32 \(64, 1, 3, 3\)"),
        (momentum(torch.zeros(64, 1, 3, 3, dtype=torch.int64)), r"is int64 \(64, 1, 3, 3\), not float32"),
    ],
)
def test_a_state_of_another_optimizer_is_refused(change: Callable[[dict], Any], sentence: str) -> None:
    _, going = stepped("sgd")
    saved = copy.deepcopy(going.state_dict())
    change(saved)
    with pytest.raises(UserError, match=sentence):
        load_optimizer(going, saved, "it")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda weights: weights.pop("head.bias"), r"it \('head.bias' is absent, not float32 \(1,\)\); use another"),
        (lambda weights: weights.update(more=torch.zeros(1)), r"'more' is float32 \(1,\), not absent"),
        (lambda weights: weights.update({"head.bias": torch.zeros(2)}), r"is float32 \(2,\), not float32 \(1,\)"),
        (lambda weights: weights.update({"head.bias": torch.zeros(1).bool()}), r"is bool \(1,\), not float32"),
    ],
)
def test_weights_of_another_network_are_refused(change: Callable[[dict], Any], sentence: str) -> None:
    net, _ = stepped("sgd")
    weights = dict(net.state_dict())
    change(weights)
    with pytest.raises(UserError, match=sentence):
        load_weights(net, weights, "it")
