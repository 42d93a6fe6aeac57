"""The processes of an embedded Ray, played by others: what the death of one leaves is found and ended."""

import subprocess
import sys

import psutil
import pytest

from oneshot.cluster import embedded


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process adopt another's children")
def test_what_a_dead_process_had_started_is_ended_and_what_was_there_before_is_not() -> None:
    before = subprocess.Popen(["sleep", "60"])
    with before, embedded.adopting() as spared:
        parent = subprocess.Popen(["sh", "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE, text=True)
        with parent:
            assert parent.stdout is not None
            orphan = psutil.Process(int(parent.stdout.readline()))
            parent.kill()
            parent.wait()
            assert orphan.ppid() == psutil.Process().pid and orphan.is_running()
            embedded.kill_all(spared)
            orphan.wait(10)
        assert before.poll() is None
        before.kill()


def test_all_that_was_started_is_ended_with_what_it_has_started() -> None:
    with embedded.adopting() as spared:
        with subprocess.Popen(["sh", "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE, text=True) as parent:
            assert parent.stdout is not None
            child = psutil.Process(int(parent.stdout.readline()))
            embedded.kill_all(spared)
            assert parent.wait(10) == -9
            child.wait(10)


@pytest.mark.parametrize("logs", [False, True])
def test_ray_starts_without_what_has_no_work_here_and_is_then_as_it_was(logs: bool) -> None:
    from ray._private.node import Node

    names = ("start_monitor", "start_api_server", "start_log_monitor")
    before = [getattr(Node, name) for name in names]
    with pytest.raises(RuntimeError), embedded.lean(Node, logs=logs):
        replaced = [name for name, start in zip(names, before, strict=True) if getattr(Node, name) is not start]
        assert replaced == list(names[: 2 if logs else 3])
        raise RuntimeError
    assert [getattr(Node, name) for name in names] == before
