"""What fits on a cluster, the arithmetic of what does not, wrong addresses, and Ray's messages. Ray is not started."""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

from oneshot.base.errors import DiskFull, UserError
from oneshot.base.settings import Scale
from oneshot.cluster import addresses, capacity, chatter, connection, packing
from oneshot.cluster.packing import Node, describe, pack, this_machine, why_no_gpu
from oneshot.screen.console import console, print_line, print_warning

LAPTOP = Node("laptop", 8, 0)
GPU_NODE = Node("gpu", 16, 4)


def packed(nodes: list[Node], **scale: Any) -> tuple[int, float, int]:
    """Workers per training, GPUs per worker, trainings at once."""
    packing = pack(Scale(**scale), nodes)
    return packing.workers, packing.gpus, packing.concurrent


@pytest.mark.parametrize(
    ("nodes", "scale", "expected"),
    [
        # cores
        ([LAPTOP], {}, (1, 0, 8)),
        ([LAPTOP], {"cpus": 3}, (1, 0, 2)),
        ([LAPTOP], {"workers": 3}, (3, 0, 2)),
        ([LAPTOP], {"workers": 2, "cpus": 4}, (2, 0, 1)),
        # GPUs: one for each worker, if there are any and nothing else is set
        ([GPU_NODE], {}, (1, 1, 4)),
        ([GPU_NODE], {"workers": 2}, (2, 1, 2)),
        ([GPU_NODE], {"gpus": 0}, (1, 0, 16)),
        ([Node("gpu", 2, 4)], {}, (1, 1, 2)),  # too few cores for its GPUs
        ([Node("broken", 8, 0.5)], {}, (1, 0, 8)),  # no whole GPU
        # shares of a GPU: a worker's share is on one GPU
        ([GPU_NODE], {"gpus": 0.5}, (1, 0.5, 8)),
        ([GPU_NODE], {"gpus": 0.4}, (1, 0.4, 8)),  # two per GPU: 0.2 of each stay free
        ([GPU_NODE], {"gpus": 0.1}, (1, 0.1, 16)),  # GPUs for 40, cores for 16
        ([Node("gpu", 64, 1)], {"gpus": 1 / 3}, (1, 1 / 3, 3)),
        # several nodes: a training may span them, a worker may not
        ([LAPTOP, LAPTOP], {"workers": 16}, (16, 0, 1)),
        ([Node("a", 3, 0), Node("b", 3, 0)], {"cpus": 2}, (1, 0, 2)),
        ([GPU_NODE, LAPTOP], {}, (1, 1, 4)),  # the GPUs decide: the laptop has none
        ([Node("a", 8, 1), Node("b", 8, 1)], {"workers": 2}, (2, 1, 1)),
        # a range of workers: each training gets the most, if the nodes have room for it
        ([LAPTOP], {"workers": "1..4"}, (4, 0, 2)),
        ([LAPTOP], {"workers": "4..16"}, (16, 0, 1)),
        # nodes that an autoscaler may still add count
        ([], {"autoscaler": [{"nodes": 2, "cpus": 8, "gpus": 1}]}, (1, 1, 2)),
        ([LAPTOP], {"workers": 14, "autoscaler": [{"nodes": 1, "cpus": 6}]}, (14, 0, 1)),
        # and no node counts twice: those that it has added are some of those that it may add
        ([LAPTOP], {"autoscaler": [{"nodes": 2, "cpus": 8}]}, (1, 0, 16)),
        ([LAPTOP] * 3, {"autoscaler": [{"nodes": 1, "cpus": 8}, {"nodes": 1, "cpus": 8}]}, (1, 0, 24)),
        # at most as many at once as asked for
        ([LAPTOP], {"max_concurrent": 3}, (1, 0, 3)),
        ([LAPTOP], {"max_concurrent": 30}, (1, 0, 8)),
    ],
)
def test_workers_are_packed_by_cores_and_gpus(
    nodes: list[Node], scale: dict[str, Any], expected: tuple[int, float, int]
) -> None:
    assert packed(nodes, **scale) == pytest.approx(expected)


HEAD = Node("head", 0, 0, memory=3.2)


@pytest.mark.parametrize(
    ("nodes", "scale", "concurrent", "sentence"),
    [
        (
            [HEAD, LAPTOP],
            {},
            5,
            "; the head node's 3.2 GB have no room for another trial's driver, 0.6 GB each (0.4 with --set",
        ),
        ([HEAD, LAPTOP], {"ahead": False}, 8, ""),  # as many as there are cores for
        (
            [HEAD, LAPTOP, LAPTOP],
            {"ahead": False},
            8,
            "; the head node's 3.2 GB have no room for another trial's driver, 0.4 GB each",
        ),
        ([HEAD, LAPTOP], {"max_concurrent": 4}, 4, ""),
        ([HEAD, LAPTOP], {"workers": 2}, 4, ""),
        ([Node("small", 8, 0, memory=0.5)], {}, 1, "have no room for another trial's driver"),
        ([LAPTOP], {}, 8, ""),  # nothing is known of its memory
    ],
)
def test_trials_are_no_more_than_the_head_node_has_memory_to_drive(
    nodes: list[Node], scale: dict[str, Any], concurrent: int, sentence: str
) -> None:
    packing = pack(Scale(**scale), nodes)
    line = describe(packing, Scale(**scale), nodes)
    assert packing.concurrent == concurrent and sentence in line
    assert ("head node" in line) == bool(sentence)


def test_of_a_cluster_the_heads_memory_is_known() -> None:
    resources = {"CPU": 2.0, "memory": 5e9}
    assert capacity._node("a", resources) == Node("a", 2, 0)
    assert capacity._node("b", resources | {"node:__internal_head__": 1.0, "GPU": 1.0}) == Node("b", 2, 1, 5)
    shown = {"CPU": 2.0, "GPU": 1.0, "accelerator_type:H100": 1.0}
    assert capacity._node("c", shown) == Node("c", 2, 1, kinds=("H100",))


MIXED = [Node("head", 4, 0, memory=30), *[Node("fast", 8, 2, kinds=("H100",))] * 2, Node("slow", 16, 4, kinds=("T4",))]


@pytest.mark.parametrize(
    ("scale", "expected", "line"),
    [
        ({}, (1, 1, 8), "1 node of 4 cores, 2 nodes of 8 cores and 2 GPUs, 1 node of 16 cores and 4 GPUs: room for 8"),
        ({"accelerator": "H100"}, (1, 1, 4), "2 nodes of 8 cores and 2 GPUs, only those with H100: room for 4 workers"),
        ({"accelerator": "T4", "workers": 2}, (2, 1, 2), "1 node of 16 cores and 4 GPUs, only those with T4: room for"),
        ({"accelerator": "T4", "gpus": 0}, (1, 0, 16), "only those with T4: room for 16 workers of 1 core; 16 trials"),
        ({"accelerator": "T4", "gpus": 0, "cpus": 2, "max_concurrent": 3}, (1, 0, 3), "room for 8"),
        (
            {"accelerator": "H100", "autoscaler": [{"nodes": 3, "cpus": 8, "gpus": 2}]},  # two of them exist
            (1, 1, 6),
            "2 GPUs and 1 node of 8 cores and 2 GPUs from the autoscaler, only those with H100: room for 6 workers",
        ),
        (
            {"accelerator": "L4", "autoscaler": [{"nodes": 1, "cpus": 16, "gpus": 4}]},  # not the one with T4
            (1, 1, 4),
            "1 node of 16 cores and 4 GPUs from the autoscaler, only those with L4: room for 4 workers",
        ),
    ],
)
def test_of_a_mixed_cluster_the_nodes_with_one_kind_of_gpu_are_used_where_that_is_asked_for(
    scale: dict[str, Any], expected: tuple[int, float, int], line: str
) -> None:
    assert packed(MIXED, **scale) == expected
    made = pack(Scale(**scale), MIXED)
    assert line in describe(made, Scale(**scale), MIXED)
    assert made.kind == ({f"accelerator_type:{scale['accelerator']}": 0.001} if "accelerator" in scale else {})


@pytest.mark.parametrize(
    ("nodes", "scale", "sentence"),
    [
        (MIXED, {"accelerator": "h100"}, r"^scale\.accelerator = 'h100': no node has such a GPU; there are: H100, T4$"),
        ([GPU_NODE], {"accelerator": "H100"}, r"no node has such a GPU; none reports the kind .*; leave it empty$"),
        (
            MIXED,
            {"accelerator": "T4", "workers": 5},
            r"each needs 1 core\(s\) and 1 GPU\(s\) of a node with T4, .* holds 4 such worker\(s\): slow \(16 cores, 4",
        ),
    ],
)
def test_a_kind_of_gpu_that_is_not_there_is_refused_with_those_that_are(
    nodes: list[Node], scale: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        pack(Scale(**scale), nodes)


def test_a_head_without_gpus_drives_the_trials_on_nodes_of_one_kind() -> None:
    nodes = [Node("head", 4, 0, memory=1.2), *MIXED[1:]]
    made = pack(Scale(accelerator="H100"), nodes)
    assert made.concurrent == 2 and "the head node's 1.2 GB" in describe(made, Scale(accelerator="H100"), nodes)


@pytest.mark.parametrize(
    ("nodes", "scale", "numbers"),
    [
        (
            [LAPTOP],
            {"workers": 9},
            ["scale.workers = 9", "1 core(s)", "holds 8 such worker(s)", "laptop (8 cores, 0 GPUs)"],
        ),
        ([LAPTOP], {"cpus": 9}, ["9 core(s)", "holds 0 such worker(s)"]),
        ([LAPTOP], {"gpus": 1}, ["1 core(s) and 1 GPU(s)", "holds 0 such", "laptop (8 cores, 0 GPUs) holds 0"]),
        ([LAPTOP], {"gpus": 0.5}, ["1 core(s) and 0.5 GPU(s)", "holds 0 such worker(s)"]),
        (
            [GPU_NODE, LAPTOP],
            {"workers": 5},
            ["scale.workers = 5", "holds 4", "gpu (16 cores, 4 GPUs) holds 4; laptop"],
        ),
        ([], {}, ["holds 0 such worker(s)"]),
    ],
)
def test_what_can_never_run_is_refused_with_the_arithmetic(
    nodes: list[Node], scale: dict[str, Any], numbers: list[str]
) -> None:
    with pytest.raises(UserError) as caught:
        pack(Scale(**scale), nodes)
    for number in numbers:
        assert number in str(caught.value)


def test_nodes_that_are_expected_stand_in_the_arithmetic() -> None:
    with pytest.raises(UserError) as caught:
        pack(Scale(workers=4, gpus=1, autoscaler=[{"nodes": 1, "cpus": 8, "gpus": 2}]), [LAPTOP])
    assert "holds 2 such worker(s)" in str(caught.value)
    assert "laptop (8 cores, 0 GPUs) holds 0; one from the autoscaler (8 cores, 2 GPUs) holds 2" in str(caught.value)
    assert "scale.autoscaler" in str(caught.value)


@pytest.mark.parametrize(
    ("nodes", "scale", "line"),
    [
        ([LAPTOP], {}, "1 node of 8 cores: room for 8 workers of 1 core; 8 trials at once, with 1 worker each"),
        (
            [GPU_NODE, GPU_NODE, LAPTOP],
            {"workers": "2..8", "cpus": 2},
            "2 nodes of 16 cores and 4 GPUs, 1 node of 8 cores: room for 8 workers of 2 cores and 1 GPU; 1 trial at"
            " once, with 2..8 workers",
        ),
        (
            [Node("head", 0, 0)],
            {"gpus": 0.5, "autoscaler": [{"nodes": 2, "cpus": 8, "gpus": 1}]},
            "2 nodes of 8 cores and 1 GPU from the autoscaler: room for 4 workers of 1 core and 0.5 GPU; 4 trials at"
            " once, with 1 worker each",
        ),
    ],
)
def test_the_packing_is_said_in_a_line(nodes: list[Node], scale: dict[str, Any], line: str) -> None:
    given = Scale(**scale)
    assert describe(pack(given, nodes), given, nodes) == line


@pytest.mark.parametrize(
    ("nodes", "scale", "clause"),
    [
        ([LAPTOP], {}, "; a worker here can have 8 cores: --set scale.cpus=8"),
        ([LAPTOP], {"workers": 3}, "; a worker here can have 2 cores: --set scale.cpus=2"),
        ([LAPTOP, LAPTOP], {"workers": 3, "cpus": 2}, "; a worker here can have 4 cores: --set scale.cpus=4"),
        ([LAPTOP], {"cpus": 8}, ""),
        ([LAPTOP], {"workers": "1..5"}, ""),
        ([GPU_NODE], {}, ""),  # they work on the GPU
    ],
)
def test_a_training_alone_is_told_of_the_cores_that_it_leaves(
    nodes: list[Node], scale: dict[str, Any], clause: str
) -> None:
    given = Scale(**scale)
    packing = pack(given, nodes)
    assert describe(packing, given, nodes, training="training").endswith(clause)
    assert ("scale.cpus" in describe(packing, given, nodes, training="training")) == bool(clause)
    assert "scale.cpus" not in describe(packing, given, nodes)


@pytest.mark.parametrize(
    ("nodes", "used", "scale", "clause"),
    [
        ([LAPTOP], Node("", 0, 0), {}, ""),
        (
            [LAPTOP],
            Node("", 8, 0),
            {"max_failures": 2},
            "; 8 of 8 cores are in use by others now: a trial that finds no room waits up to 15 min",
        ),
        (
            [LAPTOP],
            Node("", 1, 0),
            {"cpus": 2, "timeout": 20, "max_failures": 0},
            "; 1 of 8 cores is in use by others now: a trial that finds no room waits up to 20 s",
        ),
        (
            [GPU_NODE],
            Node("", 0, 1),
            {"workers": "1..2", "timeout": 20, "max_failures": 0},
            "; 1 of 4 GPUs is in use by others now: a trial that finds no room waits up to 40 s",
        ),
        (
            [GPU_NODE],
            Node("", 1, 0.5),
            {"max_failures": 2},
            "; 1 of 16 cores and 0.5 of 4 GPUs are in use by others now: a trial that finds no room waits up to 15 min",
        ),
        ([GPU_NODE], Node("", 0, 4), {"gpus": 0}, ""),  # no worker needs a GPU
    ],
)
def test_what_others_use_is_said_and_how_long_is_waited_for_it(
    nodes: list[Node], used: Node, scale: dict[str, Any], clause: str
) -> None:
    given = Scale(**scale)
    line = describe(pack(given, nodes), given, nodes)
    assert describe(pack(given, nodes), given, nodes, used=used) == line + clause


def test_others_use_what_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray
    from ray._private import state

    fast = {"CPU": 3.0, "GPU": 2.0, "accelerator_type:H100": 1.0}
    nodes = {"a": {"CPU": 1.0}, "b": fast, "dead": {"CPU": 9.0}, "new": {"CPU": 9.0}}
    there = [{"NodeID": name, "Alive": name != "dead", "Resources": has} for name, has in nodes.items()]
    free: dict[str, dict[str, float]] = {"a": {"CPU": 0.5}, "b": {"CPU": 2.0}, "dead": {}}
    monkeypatch.setattr(ray, "nodes", lambda: there)
    monkeypatch.setattr(state, "available_resources_per_node", lambda: free)
    assert capacity.in_use() == Node("", 1.5, 2)
    assert capacity.in_use("H100") == Node("", 1, 2)
    assert capacity.in_use("T4") == Node("", 0, 0)
    free |= {"a": {"CPU": 1.0}, "b": fast}
    assert capacity.in_use() == Node("", 0, 0)


@pytest.mark.parametrize(
    ("scale", "sentence"),
    [
        ({"gpus": 1.5}, "scale.gpus = 1.5: a worker trains on one GPU"),
        ({"gpus": 2}, "scale.gpus = 2: a worker trains on one GPU; scale.workers = 2 uses as many"),
        ({"gpus": 0.5, "workers": 2}, "NCCL needs a GPU for each of the 2 workers of a training"),
        ({"gpus": 0.5, "workers": "1..4"}, "NCCL needs a GPU for each of the 4 workers"),
    ],
)
def test_what_no_worker_can_use_is_refused(scale: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)):
        pack(Scale(**scale), [GPU_NODE])


def test_the_device_follows_from_the_gpus() -> None:
    assert pack(Scale(), [LAPTOP]).device == "cpu"
    assert pack(Scale(), [GPU_NODE]).device == pack(Scale(gpus=0.25), [GPU_NODE]).device == "cuda"


def test_this_machine_has_the_cores_that_a_training_may_use() -> None:
    here = this_machine()
    assert 1 <= here.cpus <= (os.cpu_count() or 1)
    assert pack(Scale(gpus=0), [here]).concurrent == here.cpus


@pytest.mark.parametrize(
    ("devices", "usable", "cuda", "said"),
    [
        ([], False, "13.0", ""),
        (["nvidiactl"], True, "13.0", ""),
        (["nvidiactl"], False, "13.0", "is built for 13.0, and the driver may be older"),
        (["nvidiactl"], False, None, "is a build for CPUs"),
    ],
)
def test_a_gpu_that_torch_cannot_use_is_spoken_of_and_not_counted(
    devices: list[str], usable: bool, cuda: str | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in devices:
        (tmp_path / name).touch()
    monkeypatch.setattr(packing, "DEVICES", [tmp_path / name for name in packing.DEVICES])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: usable)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)  # as the driver's library counts, even an old one
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert this_machine().gpus == (1 if usable else 0)
    assert (said in why_no_gpu()) if said else not why_no_gpu()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # hidden on purpose
    assert why_no_gpu() == ""


def test_the_address_is_the_option_then_the_environment_then_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert addresses.chosen(None) is None
    monkeypatch.setenv("RAY_ADDRESS", "ray:6379")
    assert addresses.chosen(None) == "ray:6379"
    assert addresses.chosen("other:6379") == "other:6379"
    monkeypatch.setenv("RAY_ADDRESS", "")
    assert addresses.chosen(None) is None


# Addresses


def refused(where: str) -> str:
    with pytest.raises(UserError) as caught, connection.connect(where, console=Console(), verbose=True):
        pass
    return str(caught.value)


def test_an_address_at_which_something_else_listens_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "PATIENCE", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        where = f"127.0.0.1:{silent.getsockname()[1]}"
        assert refused(where) == f"'{where}' is not the address of a Ray cluster; give one, such as HOST:6379"


def test_an_address_of_the_dashboard_is_told_from_the_clusters() -> None:
    assert refused("http://head:8265").startswith("'http://head:8265' is for `ray job submit`; the cluster itself has")


def test_an_address_of_ray_client_is_refused_with_that_of_the_cluster() -> None:
    """It is refused without connecting: nothing listens at this address."""
    for where in ("ray://head:10001", "ray://head"):
        assert refused(where).startswith(f"'{where}' is a Ray Client address") and "as head:6379" in refused(where)


@pytest.mark.parametrize("where", ["head", "head:", "head:ray"])
def test_an_address_without_a_port_is_refused_with_one(where: str) -> None:
    assert refused(where) == f"'{where}' names no port; give the cluster's address as HOST:PORT, as head:6379"


@pytest.mark.parametrize(
    ("mode", "asked"), [("", "does it need RAY_AUTH_MODE=token?"), ("token", "does it have the same token?")]
)
def test_a_cluster_that_does_not_let_in_may_want_a_token_or_another(
    mode: str, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    def init(**_: object) -> None:
        raise ConnectionError("Failed to connect")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    assert f"Failed to connect; is it running, and {asked}" in refused("auto")


def test_a_ray_of_another_version_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's own version check raises, as when it is attached to a cluster; the cluster's answer is made up."""
    import ray
    from ray._private.utils import check_version_info

    theirs = {"ray_version": "2.9.0", "python_version": "3.10.1"}
    monkeypatch.setattr(ray, "init", lambda **_: check_version_info(theirs, "node 10.0.0.1"))
    said = refused("auto")
    assert said.startswith(
        f"the cluster at 'auto' runs Ray 2.9.0 on Python 3.10.1, and this program Ray {ray.__version__}"
    )
    assert said.endswith(": both need the same")


@pytest.mark.parametrize("quiet", [False, True])
def test_what_has_to_be_heard_is_heard_while_ray_writes_to_a_file(
    quiet: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    screen = console(quiet=quiet)
    with pytest.raises(KeyboardInterrupt), chatter.to_file(screen):
        os.write(1, b"what Ray writes")
        os.write(2, b"what Ray writes")
        print_line(screen, "a line")
        print_warning(screen, "a warning")
        raise KeyboardInterrupt
    assert capfd.readouterr() == (("", "warning: a warning\n") if quiet else ("a line\nwarning: a warning\n", ""))
    assert list(tmp_path.iterdir()) == []  # Ray's messages would not explain an interrupt


@pytest.mark.parametrize(("error", "stays"), [(RuntimeError("a fault"), True), (UserError("a request"), False)])
def test_what_ray_wrote_stays_where_a_failure_may_be_explained_by_it(
    error: Exception, stays: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(type(error)), chatter.to_file(console()):
        os.write(1, b"what Ray writes")
        raise error
    kept = list(tmp_path.iterdir())
    assert [path.read_text() for path in kept] == ["what Ray writes"] * stays
    said = capfd.readouterr().out.replace("\n", "")
    assert said == "".join(f"Ray's own messages are in {path}" for path in kept)


def test_a_ray_that_does_not_start_here_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def init(**_: object) -> None:
        raise RuntimeError("no room in /dev/shm\nand much more")

    monkeypatch.setattr(ray, "init", init)
    said = "cannot start Ray on this machine: no room in /dev/shm; --verbose shows its own messages"
    with pytest.raises(UserError, match=f"^{said}$"), connection.connect(None, console=Console(), verbose=True):
        pass


def test_a_ray_that_has_no_room_on_the_disk_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray itself reports only that a file did not appear."""
    import ray

    def init(**_: object) -> None:
        raise RuntimeError("Timed out waiting for file gcs_server_port")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=4096 if path != "/" else 2**40))
    said = r"^no space left on the disk for /.*: free some and go on$"
    with pytest.raises(DiskFull, match=said), connection.connect(None, console=Console(), verbose=True):
        pass


def test_a_ray_that_is_too_slow_to_start_is_started_once_more(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import ray

    tries: list[None] = []

    def init(**_: object) -> None:
        tries.append(None)
        raise RuntimeError(f"the node {connection.TOO_SLOW}")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(UserError, match=connection.TOO_SLOW), connection.connect(None, console=console(), verbose=True):
        pass
    assert len(tries) == 2
    assert capsys.readouterr().out.count("it is started once more") == 1


FULL = """
import os, sys
from oneshot.cluster import chatter
from oneshot.screen.console import console, print_error
chatter.tempfile.mkstemp = lambda **options: (os.open("/dev/full", os.O_WRONLY), sys.argv[1])
try:
    with chatter.to_file(console()):
        print("what Ray writes")
        raise KeyboardInterrupt
except KeyboardInterrupt:
    print_error(console(stderr=True), "no room")
    sys.exit(1)
"""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_where_rays_messages_find_no_room_the_last_word_is_heard_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "messages").touch()
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "messages")], env=os.environ | {"PYTHONUNBUFFERED": ""}, text=True,
        capture_output=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "error: no room\n")
