"""The worker of a process group."""

import pytest
import torch
from torch import distributed as dist

from oneshot.network.worker import ProcessGroupWorker


def test_a_group_of_one_talks_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def called(*_: object, **__: object) -> None:
        raise AssertionError("it waits for others")

    for name in ("all_reduce", "broadcast_object_list", "all_gather", "all_gather_object"):
        monkeypatch.setattr(dist, name, called)
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    monkeypatch.setattr(dist, "get_world_size", lambda: 1)
    worker = ProcessGroupWorker(torch.device("cpu"), precision="fp32")
    rows = torch.ones(3, 2)
    assert worker.precision == "fp32" and worker.agree("it") == "it" and worker.of_each("it") == ["it"]
    assert torch.equal(worker.mean(rows), rows) and torch.equal(worker.interleave(rows, 3), rows)
