"""Frees cores: removes the placement groups of trainings whose creator is gone, whatever ended it.

The creator is Ray Train's controller, or the trial's actor that holds it. Tune ends a trial by ending its processes.
Ray keeps a placement group until the whole job is over or somebody removes it. Ray Train has an actor for that (its
PlacementGroupCleaner), which asks the dashboard whether the controller lives, takes "not known yet" for "dead" and then
exits. In a busy start a group can thus stay, and the next trial waits for its cores for ever. Ray's own table always
knows whether a group's creator is dead. It keeps every group that ever was, and looking at one takes 10 us of a core,
so a long study cannot do it all the time.
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
_ENDED = threading.Event()  # set if a process that may have held a group has ended since the last look


def soon() -> None:
    """Look again soon: a process that held cores has just ended, and not by itself."""
    _ENDED.set()


@contextlib.contextmanager
def reclaiming(*, seconds: float = 0.25) -> Iterator[None]:
    """Remove abandoned placement groups every `seconds` for the time of the block; Ray must be connected.

    If that takes more than a hundredth of a core, it is done less often; after `soon`, at first as often as ever.
    """
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
        pause = min(2 * pause + seconds, 100 * (time.thread_time() - spent))  # Ray learns of a death with a delay
        due = time.monotonic() + pause

    with every(seconds, look, name="reclaiming", patience=1):  # `look` hangs if Ray's head has died
        yield


def reclaim() -> int:
    """Remove this job's placement groups whose creator, an actor, is dead, and return how many they were. The groups of
    other jobs on the cluster are not touched."""
    job, removed = ray.JobID.from_hex(ray.get_runtime_context().get_job_id()).binary(), _STATES.REMOVED
    found = 0
    for data in state.state._connect_and_get_accessor().get_placement_group_table():
        group = PlacementGroupTableData.FromString(data)
        if group.state == removed or not group.creator_actor_dead or group.creator_job_id != job:
            continue
        # Ray's table also calls the creator dead if there is none, as for a group that the driver itself made.
        if not ray.ActorID(group.creator_actor_id).is_nil():
            remove_placement_group(PlacementGroup(ray.PlacementGroupID(group.placement_group_id)))
            found += 1
    return found
