"""Checks on every node of a cluster, before anything starts, that it sees the run folder and the data."""

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

SECONDS = 120  # for all nodes to answer; each has to start a process
HEALTH = 30.0  # seconds within which Ray learns that a node has died


def check(run: Folder, data: Folder) -> None:
    """Check from every node of the connected cluster that it sees the run folder and the data, and make it fetch remote
    data.

    Each node looks for a file that this process writes into the run folder, writes one beside it, and compares the
    data. Fetching has no time limit. Raises UserError that names the node and what it does not see. A node that dies
    meanwhile is passed over.
    """
    mark, made_here, digest = f"{PARTIAL}{uuid.uuid4().hex}", not run.has(), _digest(data)
    run.write(mark, b"")
    try:
        _ask_all(_look, run.uri, data.uri, mark, digest, seconds=SECONDS)
    finally:
        run.remove(mark)
        if made_here:
            run.remove_if_empty()  # another process may be training there by now
    if not data.is_local:
        _ask_all(_fetch, data.uri, seconds=None)


def _ask_all(question: Callable[..., str], *arguments: str, seconds: float | None) -> None:
    """Put a question to every node, which answers with what is wrong. Raises UserError if anything is, or if a node has
    not answered within `seconds` (None: no limit). A node that has died is passed over."""
    unable = _ask(question, arguments, _alive(), seconds)
    if unable and (unsure := _survivors(unable)):
        unable = _ask(question, arguments, unsure, seconds)
        for node in unable.keys() & _alive():
            raise UserError(_sentence(unsure[node], unable[node]))


def _ask(
    question: Callable[..., str], arguments: tuple[str, ...], nodes: dict[str, str], seconds: float | None
) -> dict[str, str]:  # fmt: skip
    """Ask these nodes (names by id). Returns, for each node that may have died, what came instead of an answer. Raises
    UserError if something is wrong on a node that is alive."""
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
    """The names of the nodes that are alive as far as Ray knows, by id."""
    import ray

    return {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}


def _survivors(unable: Iterable[str]) -> dict[str, str]:
    """Of nodes that may have died, those still alive once Ray has had the time to learn of a death."""
    end = time.monotonic() + HEALTH
    while True:
        alive = _alive()
        found = {node: alive[node] for node in unable if node in alive}
        if not found or time.monotonic() >= end:
            return found
        time.sleep(0.5)


def _answer(task: Any) -> tuple[str, bool]:
    """What is wrong on the node, and whether it may have died without Ray knowing yet."""
    import ray

    try:
        return ray.get(task, timeout=0), False
    except ray.exceptions.GetTimeoutError:
        return f"does not answer within {SECONDS} s", False
    except ray.exceptions.RayError as error:
        told = re.sub(r",? *\b\w+_id=\w+", "", last_line(str(error)))  # Ray's own ids mean nothing to people
        return f"cannot be asked ({told})", not isinstance(error, ray.exceptions.RayTaskError)


def _look(run: str, data: str, mark: str, digest: str) -> str:
    """What is wrong, seen from the node that this runs on; empty if all is well."""
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
    """Copy remote data to the node that this runs on. Returns what is wrong, empty if all is well."""
    try:
        cache.near(Folder.of(data))
    except TROUBLE as error:
        return f"cannot fetch the data in {data}: {error}"
    return ""


def _digest(data: Folder) -> str:
    """A digest of what the data are. Of remote data, only a small object is read for it."""
    return hashlib.sha256(data.read(DRAWINGS)).hexdigest() if data.is_local else cache.digest(data)
