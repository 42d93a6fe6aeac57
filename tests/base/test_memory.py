"""A process keeps freed memory for itself instead of giving it back to the system."""

import platform
import subprocess
import sys

import pytest
from command import ROOT, environment

from oneshot.base import memory

ROUNDS = """
import ctypes, resource, sys, threading
from oneshot.base import memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

libc, size = ctypes.CDLL(None), int(sys.argv[3]) << 20
libc.prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: a huge page is touched once, and not 512 times
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def rounds():
    if sys.argv[1] == "keeping":
        memory.keep()
    for round in range(6):
        if round == 2:
            before = faults()
        layers = [libc.malloc(size) for _ in range(3)]
        for layer in layers:
            ctypes.memset(layer, 1, size)
        for layer in layers:
            libc.free(layer)
    print(faults() - before)

if sys.argv[2] == "first":
    rounds()
else:
    thread = threading.Thread(target=rounds)
    thread.start()
    thread.join()
"""
pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the rules that are changed are glibc's")


def first_touches(how: str, thread: str, size: int, **variables: str) -> int:
    """Pages touched for the first time in four rounds of the same three blocks of `size` MB."""
    command = [sys.executable, "-c", ROUNDS, how, thread, str(size)]
    done = subprocess.run(command, cwd=ROOT, env=environment(**variables), text=True, capture_output=True, check=True)
    return int(done.stdout)


@pytest.mark.parametrize("size", [20, 100])
def test_a_process_that_keeps_its_memory_gets_the_same_again(size: int) -> None:
    touched = 4 * 3 * size * 256 * 0.9
    assert first_touches("keeping", "first", size) < 100 < touched < first_touches("as glibc does", "first", size)


def test_so_does_another_thread_of_a_process_of_one_arena() -> None:
    assert first_touches("keeping", "another", 100, **memory.ONE_ARENA) < 100 < first_touches("keeping", "another", 100)
