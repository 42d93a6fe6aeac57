"""Saved state is restored bit for bit where it fits, and refused where it does not fit."""

from collections.abc import Callable
from typing import Any

import pytest
import tiny
import torch

from oneshot.base.errors import UserError
from oneshot.network.models import Siamese, build
from oneshot.run import tensors
from oneshot.run.restore import load_optimizer, load_weights, pack_optimizer
from oneshot.training.optimizers import optimizer


def stepped(name: str, **changes: Any) -> tuple[Siamese, torch.optim.Optimizer]:
    """A network and its optimizer after two steps."""
    settings = tiny.settings(optimizer=name, **changes)
    torch.manual_seed(0)
    net = build(settings.model, size=28)
    made = optimizer(net, settings.train)
    for _ in range(2):
        made.zero_grad()
        net(torch.rand(4, 1, 28, 28), torch.rand(4, 1, 28, 28)).sum().backward()
        made.step()
    return net, made


def packed(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """An optimizer's state, as it is read back from a checkpoint's file."""
    return tensors.unpack(tensors.pack(pack_optimizer(optimizer)), "it")


@pytest.mark.parametrize(("optimizer", "momentum"), [("sgd", 0.9), ("sgd", 0.0), ("adam", 0.9), ("adamw", 0.9)])
def test_a_network_and_its_optimizer_go_on_as_if_nothing_had_been(optimizer: str, momentum: float) -> None:
    net, going = stepped(optimizer, momentum=momentum)
    other, resumed = stepped(optimizer, momentum=momentum)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
        for state in resumed.state.values():
            for value in state.values():
                value.zero_()
    load_weights(other, net.state_dict(), "it")
    load_optimizer(resumed, packed(going), "it")
    torch.manual_seed(1)
    left, right = torch.rand(4, 1, 28, 28), torch.rand(4, 1, 28, 28)
    for each, made in ((net, going), (other, resumed)):
        made.zero_grad()
        each(left, right).sum().backward()
        made.step()
    for name, value in net.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


def test_what_an_optimizer_gathered_has_the_same_names_with_weight_decay_and_without() -> None:
    _, one = stepped("adamw", weight_decay=0.0)
    _, other = stepped("adamw", weight_decay=0.5)
    shapes = [{name: value.shape for name, value in packed(each).items()} for each in (one, other)]
    assert shapes[0] == shapes[1]
    load_optimizer(other, packed(one), "it")


@pytest.mark.parametrize(("optimizer", "momentum"), [("sgd", 0.9), ("sgd", 0.0), ("adam", 0.9), ("adamw", 0.9)])
def test_what_an_optimizer_gathered_goes_through_a_file_to_the_bit(optimizer: str, momentum: float) -> None:
    _, going = stepped(optimizer, momentum=momentum)
    _, other = stepped(optimizer, momentum=momentum)
    expected = {name: value.clone() for name, value in pack_optimizer(going).items()}
    for state in other.state.values():
        for value in state.values():
            value.zero_()
    load_optimizer(other, packed(going), "it")
    found = pack_optimizer(other)
    assert list(found) == list(expected) and len(found) == {"sgd": momentum > 0}.get(optimizer, 3) * 14
    for name, value in expected.items():
        assert torch.equal(found[name], value) and found[name].dtype == value.dtype, name
        assert found[name].stride() == value.stride(), name
    if optimizer != "sgd":
        assert found["0.step"].shape == () and found["0.step"] == 2


def test_an_optimizers_settings_stay_its_own() -> None:
    _, going = stepped("sgd", weight_decay=0.5)
    _, other = stepped("sgd", lr=0.25)
    before = [{key: value for key, value in group.items() if key != "params"} for group in other.param_groups]
    load_optimizer(other, packed(going), "it")
    assert before == [{key: value for key, value in group.items() if key != "params"} for group in other.param_groups]


Change = Callable[[dict[str, torch.Tensor]], Any]


def instead(name: str, value: torch.Tensor) -> Change:
    return lambda saved: saved.update({name: value})


@pytest.mark.parametrize(
    ("optimizer", "change", "sentence"),
    [
        ("sgd", dict.clear, r"it \('0.momentum_buffer' is absent, not float32 \(64, 1, 3, 3\)\); use another"),
        ("sgd", lambda saved: saved.pop("1.momentum_buffer"), r"'1.momentum_buffer' is absent, not float32 \(64,\)"),
        ("sgd", instead("0.step", torch.zeros(())), r"'0.step' is float32 \(\), not absent"),
        ("sgd", instead("99.momentum_buffer", torch.zeros(1)), r"'99.momentum_buffer' is float32 \(1,\), not absent"),
        ("sgd", instead("0.momentum_buffer", torch.zeros(3)), r"float32 \(3,\), not float32 \(64, 1, 3, 3\)"),
        ("sgd", instead("1.momentum_buffer", torch.zeros(64).long()), r"int64 \(64,\), not float32 \(64,\)"),
        ("adam", lambda saved: saved.pop("0.step"), r"'0.step' is absent, not float32 \(\)"),
        ("adam", instead("0.step", torch.zeros(1)), r"'0.step' is float32 \(1,\), not float32 \(\)"),
        ("adam", instead("0.step", torch.tensor(2)), r"'0.step' is int64 \(\), not float32 \(\)"),
    ],
)
def test_a_state_of_another_optimizer_is_refused_and_nothing_taken(
    optimizer: str, change: Change, sentence: str
) -> None:
    _, going = stepped(optimizer)
    saved = {name: torch.zeros_like(value) for name, value in pack_optimizer(going).items()}
    before = packed(going)
    change(saved)
    with pytest.raises(UserError, match=sentence):
        load_optimizer(going, saved, "it")
    assert all(torch.equal(value, before[name]) for name, value in pack_optimizer(going).items())


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
