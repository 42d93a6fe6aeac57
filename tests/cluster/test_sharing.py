"""Every node of a cluster must see the run folder and the data. Real nodes; one has its own view of the disk."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from command import ROOT, environment, refused, settings
from objects import ObjectStore

pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a node a view of the disk of its own"),
]
RAY = Path(sys.executable).parent / "ray"

# For each pair of a run folder and data, print what is reported on them; Ray is connected once for all pairs.
LOOK = """
import json, sys, time, ray
from oneshot.cluster import sharing
from oneshot.base.errors import UserError
from oneshot.base.storage import Folder

ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
end = time.monotonic() + 300
while sum(node["Alive"] for node in ray.nodes()) < 2:
    assert time.monotonic() < end, "the second node is missing"
    time.sleep(0.2)
for run, data in json.loads(sys.argv[2]):
    try:
        sharing.check(Folder.of(run), Folder.of(data))
        print(json.dumps(""))
    except UserError as error:
        print(json.dumps(str(error)))
"""


@dataclass
class Cluster:
    """Two nodes. Only the first has the object store's credentials and sees `hidden`, where the other has an empty file
    system of its own."""

    address: str
    hidden: Path
    variables: dict[str, str]

    def look(self, *pairs: tuple[Path | str, Path | str], **variables: str) -> list[str]:
        """What is reported on each pair of a run folder and data; empty if nothing is wrong."""
        asked = json.dumps([[str(run), str(data)] for run, data in pairs])
        done = subprocess.run(
            [sys.executable, "-c", LOOK, self.address, asked],
            cwd=ROOT, env=environment(**self.variables, **variables), text=True, capture_output=True, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def cluster(server: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    made = Cluster(f"127.0.0.1:{port}", tmp_path_factory.mktemp("hidden"), token)
    own = {key: value for key, value in environment(**token).items() if not key.startswith("AWS_")}
    own["ONESHOT_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    own["RAY_TMPDIR"] = tempfile.mkdtemp(prefix="os-", dir="/tmp")  # short, for sockets, and separate from others'
    start = [str(RAY), "start", "--num-cpus=1", "--block", "--disable-usage-stats"]
    nodes = [_start([*start, "--head", f"--port={port}", "--include-dashboard=false"], own | server.variables())]
    try:
        _wait_for(port, nodes[0])
        other = f"mount -t tmpfs none {made.hidden} && exec {' '.join(start)} --address={made.address}"
        nodes.append(_start(["unshare", "--mount", "sh", "-c", other], own))
        made.look()  # waits for both
        yield made
    finally:
        for node in reversed(nodes):
            node.terminate()
            node.wait()
        shutil.rmtree(own["RAY_TMPDIR"], ignore_errors=True)


def _start(command: list[str], variables: dict[str, str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(command, env=variables, cwd=ROOT, stdout=subprocess.DEVNULL)


def _wait_for(port: int, node: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + 300
    while node.poll() is None and time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.2)
    pytest.fail("the head node does not answer")


def test_folders_that_all_nodes_see_are_left_as_they_were_and_others_are_refused(
    cluster: Cluster, tmp_path: Path, data_root: Path
) -> None:
    data, old, hidden = data_root / "glyphs-10", tmp_path / "old", cluster.hidden / "glyphs-10"
    old.mkdir()
    shutil.copytree(data, hidden)
    new_run, old_run, other_data = cluster.look((tmp_path / "new", data), (old, data), (old, hidden))
    assert (new_run, old_run) == ("", "")
    assert other_data.startswith("node ") and f"cannot read the data in {hidden}: " in other_data
    assert os.listdir(tmp_path) == ["old"] and os.listdir(old) == []


def test_a_node_without_the_credentials_of_an_object_store_is_named(
    cluster: Cluster, bucket: str, object_store: ObjectStore, data_root: Path
) -> None:
    (sentence,) = cluster.look((f"{bucket}/run", data_root / "glyphs-10"), **object_store.variables())
    assert f"cannot use the run folder {bucket}/run: " in sentence and "AWS Error" in sentence
    assert "whose credentials each node has" in sentence


def test_a_study_with_a_run_folder_that_a_node_does_not_see_does_not_start(cluster: Cluster, data_root: Path) -> None:
    run = cluster.hidden / "run"
    sentence = refused(
        "tune", "quick", "--address", cluster.address, "--run", str(run), *settings(),
        ONESHOT_DATA=str(data_root), **cluster.variables,
    )  # fmt: skip
    assert f"does not see the run folder {run}" in sentence and "s3://bucket/runs" in sentence
    assert not run.exists()
