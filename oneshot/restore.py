"""What was saved, put back into a network and an optimizer, once it is found to fit them."""

from typing import Any

import torch
from torch import nn

from oneshot.errors import UserError


def load_weights(net: nn.Module, weights: dict[str, torch.Tensor], what: str, *, assign: bool = False) -> None:
    """Give a network its weights; `assign`: these tensors become its own. Raises UserError, of `what`, for a misfit."""
    expected = net.state_dict()
    for name in (*expected, *weights):
        found, own = (_kind(each[name]) if name in each else "absent" for each in (weights, expected))
        if found != own:
            raise UserError(f"{what} ('{name}' is {found}, not {own}); use another")
    net.load_state_dict(weights, assign=assign)


def _kind(value: torch.Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"


def load_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any], what: str) -> None:
    """Give an optimizer what it had gathered of each parameter. Its settings stay its own.

    Raises UserError, of `what`, unless `saved["state"]` holds for every parameter what this kind of optimizer gathers.
    """
    names = _gathered(optimizer)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    try:
        state = {
            index: {name: _like(_table(_table(saved["state"])[index])[name], parameter, name) for name in names}
            for index, parameter in enumerate(parameters)
        }
    except ValueError as error:
        raise UserError(f"{what} ({error}); use another") from None
    except (KeyError, TypeError, RuntimeError):
        raise UserError(f"{what} (it is not the state of {type(optimizer).__name__}); use another") from None
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _gathered(optimizer: torch.optim.Optimizer) -> tuple[str, ...]:
    """What an optimizer keeps of each parameter."""
    if isinstance(optimizer, torch.optim.SGD):
        return ("momentum_buffer",) if optimizer.defaults["momentum"] else ()
    return ("step", "exp_avg", "exp_avg_sq")  # Adam and AdamW


def _table(value: Any) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise TypeError("not a table")
    return value


def _like(value: Any, parameter: torch.Tensor, name: str) -> torch.Tensor:
    """The values in memory of the parameter's own layout, whatever strides the file gives them; or a count of steps."""
    if not isinstance(value, torch.Tensor):
        raise TypeError("not a tensor")
    if name == "step":
        return torch.tensor(float(value))
    if _kind(value) != _kind(parameter):
        raise ValueError(f"'{name}' is {_kind(value)}, not {_kind(parameter)}")
    return torch.empty_like(parameter, requires_grad=False).copy_(value)
