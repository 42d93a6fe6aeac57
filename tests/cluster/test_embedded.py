"""What an embedded Ray started is found and ended, and no file is left; a cluster on this machine is found."""

import socket
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from oneshot.cluster import addresses, connection, embedded
from oneshot.screen.console import console


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


@pytest.mark.ray
def test_an_embedded_ray_leaves_no_file() -> None:
    import ray

    with connection.connect(None, console=console()):
        temp = Path(ray.get_runtime_context().get_temp_dir())
        assert stat.S_IMODE(temp.parent.stat().st_mode) == 0o700 and next(temp.glob("session_2*/sockets/raylet"))
    assert not temp.parent.exists()


def test_a_cluster_that_runs_on_this_machine_is_found_while_it_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert addresses.beside() is None
    (tmp_path / "ray").mkdir()
    file = tmp_path / "ray" / "ray_current_cluster"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        file.write_text(f"127.0.0.1:{port}\n")
        assert addresses.beside() == f"127.0.0.1:{port}"
    assert addresses.beside() is None
    for damaged in ("", "127.0.0.1", "127.0.0.1:99999999", "\0:1", "[::1]:x"):
        file.write_text(damaged)
        assert addresses.beside() is None
    file.unlink()
    file.mkdir()
    assert addresses.beside() is None
