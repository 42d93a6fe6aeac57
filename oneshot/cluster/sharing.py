"""Whether every node of a cluster sees the run folder and the data: looked at on each, before anything starts."""

import hashlib
import re
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from oneshot.base.errors import TROUBLE, UserError, last_line
from oneshot.base.storage import PARTIAL, Folder
from oneshot.data import cache
from oneshot.data.store import DRAWINGS

SECONDS = 120  # for all nodes to answer: each starts a process
HEALTH = 30.0  # seconds within which Ray learns that a node has died


def check(run: Folder, data: Folder) -> None:
    """Look from every node of the connected cluster for a file that this process writes into the run folder, write one
    beside it, and compare the data; then have each node fetch them where they lie far away, which takes as long as it
    takes. Raises UserError that names the node and what it does not see. A node that dies meanwhile is passed over."""
    mark, made_here, digest = f"{PARTIAL}{uuid.uuid4().hex}", not run.has(), _digest(data)
    run.write(mark, b"")
    try:
        _ask_all(_look, run.uri, data.uri, mark, digest, seconds=SECONDS)
    finally:
        run.remove(mark)
        if made_here:
            run.remove_if_empty()  # the one who got here first may be training by now
    if not data.is_local:
        _ask_all(_fetch, data.uri, seconds=None)


def _ask_all(question: Callable[..., str], *arguments: str, seconds: float | None) -> None:
    """Put a question on every node, which answers with what is wrong. Raises UserError where anything is, or where a
    node has not answered within so many seconds; None: however long it takes. One that has died is passed over."""
    unable = _ask(question, arguments, _alive(), seconds)
    if unable and (unsure := _survivors(unable)):
        unable = _ask(question, arguments, unsure, seconds)
        for node in unable.keys() & _alive():
            raise UserError(_sentence(unsure[node], unable[node]))


def _ask(
    question: Callable[..., str], arguments: tuple[str, ...], nodes: dict[str, str], seconds: float | None
) -> dict[str, str]:  # fmt: skip
    """Ask these nodes, names by their ids; of each that may have died: what came instead of an answer. Raises
    UserError."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from oneshot.cluster import ahead

    put = ray.remote(num_cpus=0, max_retries=0, runtime_env=ahead.environment(ahead.OTHER))(question)
    asked = {}
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node, soft=False)
        asked[put.options(scheduling_strategy=there).remote(*arguments)] = node
    ray.wait(list(asked), num_returns=len(asked), timeout=seconds)
    unable = {}
    for task, node in asked.items():
        wrong, perhaps_dead = _answer(task)
        if perhaps_dead:
            unable[node] = wrong
        elif wrong and node in _alive():
            raise UserError(_sentence(nodes[node], wrong))
    return unable


def _sentence(node: str, wrong: str) -> str:
    return (
        f"node {node} {wrong}; every node has to see the run folder and the data: on a shared disk, or at a URI such as"
        " s3://bucket/runs whose credentials each node has"
    )


def _alive() -> dict[str, str]:
    """The names of the nodes that are, as far as Ray knows, by their ids."""
    import ray

    return {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}


def _survivors(unable: Iterable[str]) -> dict[str, str]:
    """Of nodes that may have died those that are alive when Ray has had the time to learn of a death."""
    end = time.monotonic() + HEALTH
    while True:
        alive = _alive()
        found = {node: alive[node] for node in unable if node in alive}
        if not found or time.monotonic() >= end:
            return found
        time.sleep(0.5)


def _answer(task: Any) -> tuple[str, bool]:
    """What is wrong; whether that may be said of a node of which Ray has yet to learn that it died."""
    import ray

    try:
        return ray.get(task, timeout=0), False
    except ray.exceptions.GetTimeoutError:
        return f"does not answer within {SECONDS} s", False
    except ray.exceptions.RayError as error:
        told = re.sub(r",? *\b\w+_id=\w+", "", last_line(str(error)))  # Ray's own names of things say nothing to people
        return f"cannot be asked ({told})", not isinstance(error, ray.exceptions.RayTaskError)


def _look(run: str, data: str, mark: str, digest: str) -> str:
    """What is wrong, seen from the node that this runs on; nothing where all is well."""
    try:
        folder = Folder.of(run)
        if not folder.has(mark):
            return f"does not see the run folder {run}"
        own = f"{mark}-{uuid.uuid4().hex[:8]}"
        folder.write(own, b"")
        folder.remove(own)
    except TROUBLE as error:
        return f"cannot use the run folder {run}: {error}"
    try:
        if _digest(Folder.of(data)) != digest:
            return f"sees other data in {data}"
    except TROUBLE as error:
        return f"cannot read the data in {data}: {error}"
    return ""


def _fetch(data: str) -> str:
    """Copy data that lie far away to the node that this runs on; what is wrong, nothing where all is well."""
    try:
        cache.near(Folder.of(data))
    except TROUBLE as error:
        return f"cannot fetch the data in {data}: {error}"
    return ""


def _digest(data: Folder) -> str:
    """What the data are; of those that lie far away no more is read for it than a small object."""
    return hashlib.sha256(data.read(DRAWINGS)).hexdigest() if data.is_local else cache.digest(data)
