"""Named tensors as safetensors. When a file is read, nothing in it is trusted."""

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors

from oneshot.base.errors import Damaged


def pack(tensors: dict[str, torch.Tensor]) -> bytes:
    """Named tensors, such as those of `module.state_dict()`, as safetensors."""
    return safetensors.save({name: value.detach().cpu().contiguous() for name, value in tensors.items()})


def unpack(data: bytes, where: str) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file. Raises Damaged naming `where` if it is not whole or a value is not finite."""
    try:
        tensors = safetensors.load(data)
    except (SafetensorError, ValueError, KeyError, RuntimeError, OverflowError) as error:
        raise Damaged(f"{where} is not a whole safetensors file ({error})") from None
    for name, value in tensors.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise Damaged(f"{where}: '{name}' holds values that are not finite")
    return tensors
