"""Whether every node of a cluster sees the run folder and the data: looked at on each, before anything starts."""

import hashlib
import uuid
from typing import Any

from oneshot.base.errors import RunFailed, UserError
from oneshot.base.storage import PARTIAL, Folder
from oneshot.data.cache import near
from oneshot.data.store import DRAWINGS

SECONDS = 120  # for all nodes to answer: each starts a process, and fetches the data where they lie far away


def check(run: Folder, data: Folder) -> None:
    """Look from every node of the connected cluster for a file that this process writes into the run folder, write one
    beside it, and compare the data. Raises UserError that names the node and what it does not see."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from oneshot.cluster import ahead

    mark, made_here, digest = f"{PARTIAL}{uuid.uuid4().hex}", not run.has(), _digest(data)
    run.write(mark, b"")
    try:
        look = ray.remote(num_cpus=0, max_retries=0, runtime_env=ahead.environment(ahead.OTHER))(_look)
        asked = {}
        for node in ray.nodes():
            if node["Alive"]:
                there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                task = look.options(scheduling_strategy=there).remote(run.uri, data.uri, mark, digest)
                asked[task] = node["NodeManagerAddress"]
        ray.wait(list(asked), num_returns=len(asked), timeout=SECONDS)
        for task, node in asked.items():
            wrong = _answer(task)
            if wrong:
                raise UserError(
                    f"node {node} {wrong}; every node has to see the run folder and the data: on a shared disk, or at a"
                    " URI such as s3://bucket/runs whose credentials each node has"
                )
    finally:
        run.remove(mark)
        if made_here:
            run.remove_if_empty()  # the one who got here first may be training by now


def _answer(task: Any) -> str:
    import ray

    try:
        return ray.get(task, timeout=0)
    except ray.exceptions.GetTimeoutError:
        return f"does not answer within {SECONDS} s"
    except ray.exceptions.RayError as error:
        return f"cannot be asked ({str(error).strip().splitlines()[-1]})"


def _look(run: str, data: str, mark: str, digest: str) -> str:
    """What is wrong, seen from the node that this runs on; nothing where all is well."""
    try:
        folder = Folder.of(run)
        if not folder.has(mark):
            return f"does not see the run folder {run}"
        own = f"{mark}-{uuid.uuid4().hex[:8]}"
        folder.write(own, b"")
        folder.remove(own)
    except (UserError, RunFailed, OSError) as error:
        return f"cannot use the run folder {run}: {error}"
    try:
        if _digest(Folder.of(data)) != digest:
            return f"sees other data in {data}"
    except (UserError, RunFailed, OSError) as error:
        return f"cannot read the data in {data}: {error}"
    return ""


def _digest(data: Folder) -> str:
    return hashlib.sha256(near(data).read(DRAWINGS)).hexdigest()
