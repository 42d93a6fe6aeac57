"""What a process is told before it computes."""

import platform
import subprocess
import sys

import pytest
import torch
from command import ROOT, environment
from torch import distributed as dist

from oneshot.network.worker import ProcessGroupWorker

ROUNDS = """
import ctypes, resource, sys
from oneshot.network.worker import keep_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

libc, size = ctypes.CDLL(None), 20 << 20
libc.prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: a huge page is touched once, and not 512 times
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
if sys.argv[1] == "keeping":
    keep_memory()
for round in range(6):
    if round == 2:
        before = faults()
    layers = [libc.malloc(size) for _ in range(3)]
    for layer in layers:
        ctypes.memset(layer, 1, size)
    for layer in layers:
        libc.free(layer)
print(faults() - before)
"""


def first_touches(how: str) -> int:
    """Pages touched for the first time in four rounds of the same 60 MB, which are 15,360 pages each."""
    done = subprocess.run(
        [sys.executable, "-c", ROUNDS, how], cwd=ROOT, env=environment(), text=True, capture_output=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the rules of malloc that are changed are glibc's")
def test_a_process_that_keeps_its_memory_gets_the_same_again() -> None:
    assert first_touches("keeping") < 100 < 4 * 15_000 < first_touches("as glibc does")


def test_a_group_of_one_talks_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def called(*_: object, **__: object) -> None:
        raise AssertionError("it waits for others")

    for name in ("all_reduce", "broadcast_object_list", "all_gather", "all_gather_object", "all_gather_object"):
        monkeypatch.setattr(dist, name, called)
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    monkeypatch.setattr(dist, "get_world_size", lambda: 1)
    worker = ProcessGroupWorker(torch.device("cpu"), precision="fp32")
    rows = torch.ones(3, 2)
    assert (
        worker.precision == "fp32"
        and worker.agree("it") == "it"
        and worker.of_each("it") == ["it"]
        and worker.of_each("it") == ["it"]
    )
    assert torch.equal(worker.mean(rows), rows) and torch.equal(worker.interleave(rows, 3), rows)
