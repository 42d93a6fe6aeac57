"""A study on a cluster without a core: Ray's autoscaler adds the nodes that the settings announce. The nodes come from
Ray's provider for tests, which starts them on this machine."""

import json
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from command import environment, refused, run, settings

pytestmark = [pytest.mark.ray, pytest.mark.long]
RAY = str(Path(sys.executable).with_name("ray"))
NONE: dict[str, list] = {
    key: []
    for key in (
        "cluster_synced_files", "initialization_commands", "setup_commands", "head_setup_commands", "rsync_exclude",
        "worker_setup_commands", "head_start_ray_commands", "worker_start_ray_commands", "rsync_filter",
    )
}  # fmt: skip


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A head without a core, whose autoscaler may add two nodes of one core. Yields the variables that lead to it."""
    with socket.create_server(("127.0.0.1", 0)) as gcs, socket.create_server(("127.0.0.1", 0)) as client:
        address, other = (f"127.0.0.1:{each.getsockname()[1]}" for each in (gcs, client))
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    worker = {"resources": {"CPU": 1, "object_store_memory": 10**8}, "min_workers": 0, "max_workers": 2}
    head = {"resources": {"CPU": 0}, "max_workers": 0}
    config = NONE | {
        "cluster_name": "oneshot", "max_workers": 2, "upscaling_speed": 10.0, "idle_timeout_minutes": 5,
        "provider": {
            "type": "fake_multinode", "gcs_address": address, "disable_launch_config_check": True,
            "disable_node_updaters": True,
        },
        "available_node_types": {
            "ray.head.default": head | {"node_config": {}}, "worker": worker | {"node_config": {}}
        },
        "head_node_type": "ray.head.default", "auth": {}, "docker": {}, "file_mounts": {},
        "file_mounts_sync_continuously": False,
    }  # fmt: skip
    (tmp_path / "autoscaler.json").write_text(json.dumps(config))
    command = [
        RAY, "start", "--head", "--block", f"--port={address.rpartition(':')[2]}", "--num-cpus=0",
        "--node-ip-address=127.0.0.1", f"--autoscaling-config={tmp_path / 'autoscaler.json'}", "--disable-usage-stats",
        "--include-dashboard=false", "--object-store-memory=100000000",
        f"--ray-client-server-port={other.rpartition(':')[2]}", "--dashboard-agent-listen-port=0",
        "--min-worker-port=0", "--max-worker-port=0",
    ]  # fmt: skip
    variables = environment(RAY_FAKE_CLUSTER="1", AUTOSCALER_UPDATE_INTERVAL_S="1", **token)
    with open(tmp_path / "head.log", "w") as log:
        process = subprocess.Popen(command, env=variables, stdout=log, stderr=log, start_new_session=True)
    end = time.monotonic() + 300
    try:
        while process.poll() is None and time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), timeout=1).close()
                break
            except OSError:
                time.sleep(0.2)
        else:
            pytest.fail(f"the head does not answer:\n{(tmp_path / 'head.log').read_text()}")
        yield token | {"RAY_ADDRESS": address}
    finally:
        if process.poll() is None:
            for each in (*psutil.Process(process.pid).children(recursive=True), process):
                each.kill()
            process.wait()


def test_nodes_that_an_autoscaler_brings_are_waited_for(
    cluster: dict[str, str], tmp_path: Path, data_root: Path
) -> None:
    changes = settings(search__trials="2", search__grace="0", scale__workers="2", search__batch="[64]")
    study = ["tune", "quick", "--run", str(tmp_path / "run"), *changes]
    said = refused(*study, ONESHOT_DATA=str(data_root), **cluster)
    assert "the cluster holds 0 such worker(s)" in said and "name in scale.autoscaler which nodes may still" in said

    coming = ["--set", "scale.autoscaler=[{nodes=2, cpus=1}]"]
    text = run(*study, *coming, ONESHOT_DATA=str(data_root), **cluster)
    assert "2 nodes of 1 core from the autoscaler: room for 2 workers of 1 core; 1 trial at once" in text
    trials = json.loads((tmp_path / "run/study.json").read_text())["trials"]
    assert [trial["status"] for trial in trials] == ["finished", "finished"]
