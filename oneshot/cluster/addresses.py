"""The address of a cluster: which one, whether anything answers there, and whether that is Ray."""

import os
import re

from oneshot.base.errors import UserError, first_line
from oneshot.cluster import watching

PATIENCE = 10.0  # seconds for a cluster to answer


def chosen(option: str | None) -> str | None:
    """The cluster to attach to: the option, else `RAY_ADDRESS` (set by `ray job submit`), else None to embed a Ray."""
    return option or os.environ.get("RAY_ADDRESS") or None


def beside() -> str | None:
    """The address of the cluster that `ray start` has made this machine a part of; None if there is none or its head
    does not answer. A user may embed a Ray beside it unawares."""
    from ray._private.utils import read_ray_address

    try:
        where = read_ray_address()
        return where if where and watching.why_not(where, seconds=1.0) is None else None
    except (OSError, ValueError):  # another user's, or damaged
        return None


def check_answers(where: str) -> None:
    """Raises UserError if `where` has a wrong form or nothing listens there: Ray itself would try for minutes."""
    if where.startswith(("http://", "https://")):
        raise UserError(f"'{where}' is for `ray job submit`; the cluster itself has another address, as HOST:6379")
    if where.startswith("ray://"):
        host = _place(where).rpartition(":")[0] or _place(where)
        raise UserError(
            f"'{where}' is a Ray Client address, through which nothing of a run would be recorded; run on a node of"
            f" the cluster or with `ray job submit`, and give the cluster's own address, such as {host}:6379"
        )
    host, colon, port = _place(where).rpartition(":")
    if not colon or not port.isdigit():
        if where in ("auto", "local") or "://" in where:
            return  # Ray looks these up
        name = host if colon else port
        raise UserError(f"'{where}' names no port; give the cluster's address as HOST:PORT, as {name}:6379")
    if error := watching.why_not(_place(where), seconds=PATIENCE):
        raise UserError(f"cannot reach the Ray cluster at '{where}': {error}; is it running?")


def check_speaks(where: str) -> None:
    """Raises UserError if something other than Ray listens there: Ray itself would try for minutes."""
    import grpc
    from ray._private.gcs_utils import create_gcs_channel

    if ":" not in _place(where):
        return
    channel = create_gcs_channel(_place(where))
    try:
        grpc.channel_ready_future(channel).result(timeout=PATIENCE)
    except grpc.FutureTimeoutError:
        raise UserError(f"'{where}' is not the address of a Ray cluster; give one, such as HOST:6379") from None
    finally:
        channel.close()


def why_refused(where: str, error: Exception) -> str:
    """Why Ray could not connect to the cluster at `where`, in a sentence."""
    versions = re.findall(r"^ +(?:Ray|Python): (\S+)$", str(error), re.MULTILINE)
    if len(versions) == 4:
        theirs, ours = (f"Ray {ray} on Python {python}" for ray, python in (versions[:2], versions[2:]))
        return f"the cluster at '{where}' runs {theirs}, and this program {ours}: both need the same"
    token = os.environ.get("RAY_AUTH_MODE") == "token"
    key = "does it have the same token" if token else "does it need RAY_AUTH_MODE=token"
    return f"cannot reach the Ray cluster at '{where}': {first_line(error)}; is it running, and {key}?"


def _place(where: str) -> str:
    return where.rpartition("://")[2]
