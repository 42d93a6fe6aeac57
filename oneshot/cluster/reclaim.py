"""Cores given back: the placement groups of trainings are removed when who made them is gone, whatever ended it: Ray
Train's controller, or the trial's actor that holds it.

Tune ends a trial by ending its processes. Ray keeps a placement group until the whole job is over, or somebody removes
it; Ray Train has an actor for that (its PlacementGroupCleaner), which asks the dashboard whether the controller lives,
takes "not known yet" for "dead" and then leaves: in a busy start a group stays, and the next trial waits for its cores
for ever. What Ray's own table says of the group's creator is never in doubt. The table keeps every group that ever
was, and to look at one takes 10 us of a core: a long study cannot do it all the time.
"""

import contextlib
import threading
import time
from collections.abc import Iterator

import ray
from ray._private import state
from ray.core.generated.gcs_pb2 import PlacementGroupTableData
from ray.util.placement_group import PlacementGroup, remove_placement_group

from oneshot.base.beside import every

_STATES = PlacementGroupTableData.PlacementGroupState
_ENDED = threading.Event()  # a process that may have held a group is gone, and nobody has looked since


def soon() -> None:
    """Look soon, as a process that held cores has just ended otherwise than by itself."""
    _ENDED.set()


@contextlib.contextmanager
def reclaiming(*, seconds: float = 0.25) -> Iterator[None]:
    """Look for abandoned placement groups every so many seconds, for the time of the block, on a connected Ray. Where
    that takes more than a hundredth of a core it is done less often; after `soon`, at first as often as ever."""
    pause = due = 0.0

    def look() -> None:
        nonlocal pause, due
        if _ENDED.is_set():
            _ENDED.clear()
            pause = due = 0.0
        if time.monotonic() < due:
            return
        spent = time.thread_time()
        with contextlib.suppress(Exception):  # Ray's head may be out of reach for a moment
            reclaim()
        pause = min(2 * pause + seconds, 100 * (time.thread_time() - spent))  # Ray hears of a death a moment later
        due = time.monotonic() + pause

    with every(seconds, look, name="reclaiming", patience=1):  # it hangs where Ray's head has died
        yield


def reclaim() -> int:
    """Remove the placement groups of this job whose creator, an actor, is dead; how many. Those of other jobs on the
    cluster are not touched."""
    job, removed = ray.JobID.from_hex(ray.get_runtime_context().get_job_id()).binary(), _STATES.REMOVED
    found = 0
    for data in state.state._connect_and_get_accessor().get_placement_group_table():
        group = PlacementGroupTableData.FromString(data)
        if group.state == removed or not group.creator_actor_dead or group.creator_job_id != job:
            continue
        # A group that the driver itself made has no actor, which Ray's table calls dead.
        if not ray.ActorID(group.creator_actor_id).is_nil():
            remove_placement_group(PlacementGroup(ray.PlacementGroupID(group.placement_group_id)))
            found += 1
    return found
