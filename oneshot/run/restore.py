"""Put saved tensors back into a network and an optimizer, once they are found to fit."""

import torch
from torch import nn

from oneshot.base.errors import UserError


def load_weights(net: nn.Module, weights: dict[str, torch.Tensor], what: str, *, assign: bool = False) -> None:
    """Give a network its weights; with `assign` these tensors become its own. Raises UserError naming `what` for a
    misfit."""
    _check_fit(weights, net.state_dict(), what)
    net.load_state_dict(weights, assign=assign)


def _check_fit(saved: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], what: str) -> None:
    for name in (*expected, *saved):
        found, own = (_kind(each[name]) if name in each else "absent" for each in (saved, expected))
        if found != own:
            raise UserError(f"{what} ('{name}' is {found}, not {own}); use another")


def _kind(value: torch.Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"


def pack_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """What an optimizer has gathered for each parameter, as `<index of the parameter>.<name>`. All of it is tensors."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{name}": value for index, gathered in state.items() for name, value in gathered.items()}


def load_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, torch.Tensor], what: str) -> None:
    """Give an optimizer what `pack_optimizer` took from one of its kind. Its settings stay its own.

    Raises UserError naming `what` unless `saved` holds for every parameter what this kind gathers, and nothing else.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    expected = {
        index: {name: torch.zeros(()) if name == "step" else parameter for name in _gathered(optimizer)}
        for index, parameter in enumerate(parameters)
    }
    _check_fit(saved, {f"{index}.{name}": each[name] for index, each in expected.items() for name in each}, what)
    state = {
        index: {name: _like(saved[f"{index}.{name}"], own) for name, own in each.items()}
        for index, each in expected.items()
    }
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _gathered(optimizer: torch.optim.Optimizer) -> tuple[str, ...]:
    """The names of what an optimizer keeps for each parameter."""
    if isinstance(optimizer, torch.optim.SGD):
        return ("momentum_buffer",) if optimizer.defaults["momentum"] else ()
    return ("step", "exp_avg", "exp_avg_sq")  # Adam and AdamW


def _like(value: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """The values in memory laid out like `own`: a file keeps no strides."""
    return torch.empty_like(own, requires_grad=False).copy_(value)
