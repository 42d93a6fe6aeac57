"""Where Ray puts the workers that the packing promised room for. The nodes are real, their GPUs only numbers. No
network is trained: each worker notes where it is and what it was given."""

import json
import secrets
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from command import ROOT, environment

pytestmark = [pytest.mark.ray, pytest.mark.long]
RAY = str(Path(sys.executable).with_name("ray"))

# Each trial is driven as the program drives it. A worker stays until the workers of all trials have started.
TRIALS = """
import functools, json, pathlib, sys, time
import ray
from ray import tune

def note(config):
    from ray import train
    context = train.get_context()
    folder = pathlib.Path(config["run"]).parent
    given = {"trial": config["run"], "node": ray.get_runtime_context().get_node_id(), "gpus": ray.get_gpu_ids()}
    here = next(node["Resources"] for node in ray.nodes() if node["NodeID"] == given["node"])
    given["kind"] = "".join(key for key in here if key.startswith("accelerator_type:"))
    (folder / f"{pathlib.Path(config['run']).name}-{context.get_world_rank()}.json").write_text(json.dumps(given))
    end = time.monotonic() + 300
    while len(list(folder.glob("*.json"))) < config["all"]:
        assert time.monotonic() < end, "the others do not come"
        time.sleep(0.1)
    train.report({"val_loss": 0.0, "epoch": 1})

def drive(config, packing, note):
    import oneshot.cluster.trainer as t
    from oneshot.base.jobs import parse
    from oneshot.base.storage import Folder
    from oneshot.search.trial import Report
    everyone = packing.workers * packing.concurrent
    t._train_worker = lambda config: note(config | {"all": everyone})
    t.ProcessGroup = functools.partial(t.ProcessGroup, kind="gloo")  # nccl wants GPUs that are there
    run, data = Folder.of(f"{config['folder']}/{config['trial']}"), Folder.of("/nowhere")
    given = parse({"scale": config["scale"]}, "the test")
    t._trainer(
        given, data, run, packing, known=0, until=None, name=config["trial"], callbacks=[Report()], followed=False,
        mark="",
    ).fit()

address, folder, scale, nodes = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4])
from rich.console import Console
from oneshot.cluster import connection
from oneshot.cluster.packing import describe, pack
from oneshot.base.settings import Scale
from oneshot.search.trial import DRIVER

for _ in range(2):
    with connection.connect(address, console=Console(), verbose=True) as there:
        if len(there) < nodes:
            while sum(node["Alive"] for node in ray.nodes()) < nodes:
                time.sleep(0.2)
            continue
        packing = pack(Scale(**scale), there)
        print(describe(packing, Scale(**scale), there), flush=True)
        space = {"trial": tune.grid_search(list("ab")), "folder": folder, "scale": scale}
        driver = tune.with_parameters(drive, packing=packing, note=note)
        grid = tune.Tuner(
            tune.with_resources(driver, DRIVER), param_space=space,
            tune_config=tune.TuneConfig(max_concurrent_trials=packing.concurrent),
            run_config=tune.RunConfig(name="study", storage_path=folder, verbose=0),
        ).fit()
        assert not grid.errors, grid.errors
        break
"""


def place(
    folder: Path, nodes: int, *, cores: int, cards: int, kinds: Sequence[str] = (), **scale: Any
) -> tuple[str, list[dict]]:  # fmt: skip
    """Run two trials at once on `nodes` nodes of equal size. `kinds`: the kind of GPU of each, the head first. Returns
    what was printed about the packing, and what each worker was given."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    variables = environment(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
    del variables["CUDA_VISIBLE_DEVICES"]  # Ray refuses more GPUs than this variable shows
    start = [RAY, "start", f"--num-cpus={cores}", f"--num-gpus={cards}", "--block", "--disable-usage-stats"]
    places = [["--head", f"--port={port}"]] + [[f"--address=127.0.0.1:{port}"]] * (nodes - 1)
    shown = [[f'--resources={{"accelerator_type:{kind}": 1}}'] for kind in kinds] or [[]] * nodes
    begun = []
    try:
        for each in [[*one, *other] for one, other in zip(places, shown, strict=True)]:
            log, end = open(folder / f"node{len(begun)}.log", "w"), time.monotonic() + 300
            begun.append(subprocess.Popen([*start, *each], env=variables, stdout=log, stderr=log))
            while begun[0].poll() is None:
                assert time.monotonic() < end, "the head does not answer"
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    time.sleep(0.1)
        arguments = [f"127.0.0.1:{port}", str(folder), json.dumps(scale), str(nodes)]
        done = subprocess.run(
            [sys.executable, "-c", TRIALS, *arguments],
            cwd=ROOT, env=variables | {"PYTHONPATH": str(ROOT)}, text=True, capture_output=True, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    finally:
        for each in reversed(begun):
            each.terminate()
            each.wait()
    return done.stdout, [json.loads(path.read_text()) for path in sorted(folder.glob("?-*.json"))]


def test_two_trials_of_four_workers_fill_two_nodes_of_four_gpus(tmp_path: Path) -> None:
    text, given = place(tmp_path, 2, cores=4, cards=4, workers=4, gpus=1)
    assert "2 nodes of 4 cores and 4 GPUs: room for 8 workers of 1 core and 1 GPU; 2 trials at once" in text
    assert Counter(each["trial"] for each in given) == {str(tmp_path / "a"): 4, str(tmp_path / "b"): 4}
    assert sorted(Counter(each["node"] for each in given).values()) == [4, 4]
    assert len({(each["node"], *each["gpus"]) for each in given}) == 8  # each its own GPU


def test_two_trials_share_a_gpu(tmp_path: Path) -> None:
    text, given = place(tmp_path, 1, cores=2, cards=1, gpus=0.5)
    assert "room for 2 workers of 1 core and 0.5 GPU; 2 trials at once, with 1 worker each" in text
    assert [each["gpus"] for each in given] == [[0], [0]]
    assert len({each["trial"] for each in given}) == 2


def test_two_trials_lie_on_the_node_with_the_kind_of_gpu_that_is_asked_for(tmp_path: Path) -> None:
    kinds = ["T4", "H100"]
    text, given = place(tmp_path, 2, cores=4, cards=4, kinds=kinds, workers=2, gpus=1, accelerator="H100")
    assert "1 node of 4 cores and 4 GPUs, only those with H100: room for 4 workers of 1 core and 1 GPU; 2" in text
    assert {each["kind"] for each in given} == {"accelerator_type:H100"}
    assert len({(each["node"], *each["gpus"]) for each in given}) == len(given) == 4
