"""What a record says of where it was made."""

import pytest
import torch

from oneshot.base import environment


def test_the_gpus_of_a_machine_are_those_of_what_ran_on_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"GPU {index}")
    found = environment.environment("cuda")
    assert found["hardware"]["gpus"] == ["GPU 0", "GPU 1"]
    cores = f"{found['hardware']['cores']} core"
    assert environment.hardware(found).startswith(f"GPU 0, GPU 1, {cores}")

    def opened(index: int) -> str:
        raise AssertionError("CUDA was opened by what runs on the CPU")

    monkeypatch.setattr(torch.cuda, "get_device_name", opened)
    found = environment.environment("cpu")
    assert found["hardware"]["gpus"] == [] and environment.hardware(found).startswith(cores)
