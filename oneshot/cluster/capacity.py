"""What the nodes of the connected cluster have, and how much of it others use."""

from oneshot.cluster.packing import KIND, Node

HEAD = "node:__internal_head__"  # a resource that only the head node has


def nodes() -> list[Node]:
    """The nodes of the connected cluster that are alive."""
    import ray

    return [_node(node["NodeManagerAddress"], node["Resources"]) for node in ray.nodes() if node["Alive"]]


def in_use(accelerator: str = "") -> Node:
    """What others use of the connected cluster now, on its nodes with this kind of GPU, or on all if none is named.
    Nothing of this process may run there yet."""
    import ray
    from ray._private.state import available_resources_per_node

    free = available_resources_per_node()
    all_ = [(node["NodeID"], node["Resources"]) for node in ray.nodes() if node["Alive"] and node["NodeID"] in free]
    there = [each for each in all_ if not accelerator or f"{KIND}{accelerator}" in each[1]]
    cpus, gpus = (
        max(0.0, round(sum(has.get(kind, 0) - free[name].get(kind, 0) for name, has in there), 4))
        for kind in ("CPU", "GPU")
    )
    return Node("", cpus, gpus)


def _node(name: str, resources: dict[str, float]) -> Node:
    memory = resources.get("memory", 0) / 1e9 if HEAD in resources else 0
    kinds = tuple(sorted(key.removeprefix(KIND) for key in resources if key.startswith(KIND)))
    return Node(name, resources.get("CPU", 0), resources.get("GPU", 0), memory, kinds)
