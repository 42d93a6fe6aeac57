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


def test_where_there_is_no_checkout_the_commit_is_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    environment.commit.cache_clear()
    monkeypatch.setenv("ONESHOT_COMMIT", "0123456789ab+changes")
    assert environment.commit() == "0123456789ab+changes"
    environment.commit.cache_clear()
    monkeypatch.setenv("ONESHOT_COMMIT", "")  # an image that was built without it
    monkeypatch.setenv("PATH", "")  # nor is there git
    assert environment.commit() is None
    environment.commit.cache_clear()
