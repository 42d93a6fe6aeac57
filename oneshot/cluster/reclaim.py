"""Cores given back: the placement groups of trainings are removed when who made them is gone, whatever ended it: Ray
Train's controller, or the trial's actor that holds it.

Tune ends a trial by ending its processes. Ray keeps a placement group until the whole job is over, or somebody removes
it; Ray Train has an actor for that (its PlacementGroupCleaner), which asks the dashboard whether the controller lives,
takes "not known yet" for "dead" and then leaves: in a busy start a group stays, and the next trial waits for its cores
for ever. What Ray's own table says of the group's creator is never in doubt, and asking takes a millisecond.
"""

import contextlib
from collections.abc import Iterator

import ray
from ray._private import state
from ray.core.generated.gcs_pb2 import PlacementGroupTableData
from ray.util.placement_group import PlacementGroup, remove_placement_group

from oneshot.base.beside import every


@contextlib.contextmanager
def reclaiming(*, seconds: float = 0.25) -> Iterator[None]:
    """Look for abandoned placement groups every so many seconds, for the time of the block, on a connected Ray."""

    def try_to() -> None:
        with contextlib.suppress(Exception):  # Ray's head may be out of reach for a moment
            reclaim()

    with every(seconds, try_to, name="reclaiming", patience=1):  # it hangs where Ray's head has died
        yield


def reclaim() -> int:
    """Remove the placement groups of this job whose creator, an actor, is dead; how many. Those of other jobs on the
    cluster are not touched."""
    job = ray.get_runtime_context().get_job_id()
    found = 0
    for data in state.state._connect_and_get_accessor().get_placement_group_table():
        group = PlacementGroupTableData.FromString(data)
        removed = group.state == PlacementGroupTableData.PlacementGroupState.REMOVED
        # A group that the driver itself made has no actor, which Ray's table calls dead.
        by_actor = not ray.ActorID(group.creator_actor_id).is_nil()
        if group.creator_job_id.hex() == job and by_actor and group.creator_actor_dead and not removed:
            remove_placement_group(PlacementGroup(ray.PlacementGroupID(group.placement_group_id)))
            found += 1
    return found
