"""Where Ray runs: a cluster that is there, or one embedded in this process."""

import contextlib
import errno
import json
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from oneshot.base.errors import RayDied, UserError, first_line
from oneshot.base.storage import needing_room
from oneshot.cluster import embedded, watching
from oneshot.cluster.packing import KIND, Node, this_machine
from oneshot.screen.console import heard, print_line, print_warning

# Read by Ray when it is imported, here and in its actors. The health check's interval bounds how long a report may
# block (2 s at Ray's default); the others cost time for what this program does not use.
FAST = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",  # its own state, which nobody reads, it writes again and again, ever longer
}
# Of an embedded Ray: processes that it would keep ready run without this program's environment, so none is ever used.
EMBEDDED = {"RAY_prestart_worker_first_driver": "0"}
QUIET = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's coming default; set so that it does not announce it
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # an interrupt is handled by this program, see commands.py
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",  # the new one, told to be silent, still writes a text of all resources at every step
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # nobody is served here: a SIGTERM need not wait for that
}
# Who looks at a cluster: its dashboard, which shows trainings and their workers, and what collects its metrics. At an
# embedded Ray nobody does.
WATCHED = {"RAY_TRAIN_ENABLE_STATE_TRACKING": "1"}
UNWATCHED = {"RAY_TRAIN_METRICS_ENABLED": "0"}
HEAD = "node:__internal_head__"  # a resource that only the head node has
PATIENCE = 10.0  # seconds for a cluster to answer
CHATTER = "Ray's own messages are in {}"
TOO_SLOW = "timed out during startup"  # so says Ray where its own raylet did not come up within 30 s
LITTLE = 2**20  # bytes; with less on the disk Ray does not start
OBJECT_STORE = 256 * 2**20  # bytes; embedded: drawings are read from Parquet by each worker, little passes through Ray


def address(option: str | None) -> str | None:
    """The cluster to attach to: the option, else `RAY_ADDRESS` (which `ray job submit` sets), else None: embedded."""
    return option or os.environ.get("RAY_ADDRESS") or None


def beside() -> str | None:
    """The address of the cluster that `ray start` has made this machine a part of, where its head answers: for who
    embeds a Ray beside it, perhaps unawares."""
    from ray._private.utils import read_ray_address

    try:
        where = read_ray_address()
        return where if where and watching.why_not(where, seconds=1.0) is None else None
    except (OSError, ValueError):  # another user's, or damaged
        return None


@contextlib.contextmanager
def connect(
    where: str | None, *, console: Console, verbose: bool = False, how_to_go_on: Callable[[], str] = str,
    trials: bool = False,
) -> Iterator[list[Node]]:  # fmt: skip
    """Ray, attached (`where` is an address) or embedded (None), for the time of the block; its nodes.

    Unless `verbose`, what Ray writes to this process's output goes to a file, which stays where the block fails;
    `console` goes on writing where it did. An embedded Ray outlives a SIGTERM to all processes until the block has
    ended. Where Ray dies, or the head of a cluster, and does not let this process go, the process says `how_to_go_on`,
    asked then, and ends. `trials`: a study's are to run; each process imports what they need before it is given work.
    Raises UserError where the address does not answer or is of another Ray, RayDied where it dies within the block.
    """
    handed_on = FAST | QUIET | (WATCHED if where else UNWATCHED)
    for key, value in (handed_on if where else handed_on | EMBEDDED).items():
        os.environ.setdefault(key, value)
    if where:
        _check_answers(where)
    with contextlib.nullcontext("") if verbose else _chatter_to_file(console) as log:
        from oneshot.cluster.reclaim import reclaiming  # here, as all that imports Ray

        if where is None and (other := beside()):
            print_warning(
                console,
                f"a Ray cluster runs on this machine, and this run is not on it but beside it: --address {other} puts"
                " it there, as RAY_ADDRESS and `ray job submit` do",
            )

        def last_words() -> None:
            if how := how_to_go_on():
                print_line(heard(console), f"to go on: {how}")
            if log:
                print_line(heard(console), CHATTER.format(log))

        options = _options(where, handed_on, verbose=verbose, trials=trials)
        there = _attached(where, options, console, last_words) if where else _started(options, console, last_words)
        with there, reclaiming():
            yield nodes()


@contextlib.contextmanager
def _attached(
    where: str, options: dict[str, Any], console: Console, last_words: Callable[[], None]
) -> Iterator[None]:  # fmt: skip
    """A cluster that is there, for the time of the block."""
    on_term, dead = signal.getsignal(signal.SIGTERM), []
    _check_speaks(where)
    _init(where, options, on_term)
    try:
        places = watching.Places(_needed())
        try:
            with watching.watched(console, dead, places.gone, last_words=last_words, end=sys.stdout.flush):
                yield
        except (Exception, KeyboardInterrupt) as error:
            if not dead and isinstance(error, Exception):  # of a death, it comes before that is certain
                dead.extend(places.settled())
            if not dead:
                raise
            raise RayDied(dead[0]) from None
    finally:
        if not dead:  # else it would hang
            _shutdown(on_term)


def _needed() -> dict[str, str]:
    """Where that listens, as `host:port` by name, whose death ends this process or all trials."""
    import ray

    here = ray.get_runtime_context()
    found = {"head": here.gcs_address}
    for node in ray.nodes():
        head = HEAD in node["Resources"]
        if node["Alive"] and (head or node["NodeID"] == here.get_node_id()):
            name = f"raylet on {'the head' if head else 'this machine'}"
            found[name] = f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}"
    return found


@contextlib.contextmanager
def _started(options: dict[str, Any], console: Console, last_words: Callable[[], None]) -> Iterator[None]:
    """A Ray of this process's own, for the time of the block; none of its processes and files is left after it."""
    import ray

    on_term, dead = signal.getsignal(signal.SIGTERM), []
    with embedded.adopting() as spared, embedded.folder() as folder:
        options = options | {"_temp_dir": os.path.join(folder, "ray")}

        def leave() -> None:
            embedded.kill_all(spared)
            embedded.remove(folder)

        def watched(look: Callable[[], list[str]]) -> contextlib.AbstractContextManager[None]:
            return watching.watched(
                console, dead, lambda: [embedded.DIED.format(part) for part in look()], last_words=last_words,
                end=leave, pause=0.25,
            )  # fmt: skip

        def start(*, tries: int) -> None:
            try:
                lean = embedded.lean(ray._private.node.Node, logs=options["log_to_driver"])
                with watched(embedded.killed_at_start), embedded.deaf_children(), lean:
                    _init(None, options, on_term)
            except BaseException as error:
                embedded.kill_all(spared)
                if dead:
                    raise RayDied(dead[0]) from None
                if tries == 1 or TOO_SLOW not in str(error):
                    raise
                embedded.bury(spared)
                print_line(heard(console), "Ray did not start within the half minute it has; it is started once more")
                start(tries=tries - 1)

        start(tries=2)
        node = ray._private.worker._global_node
        try:
            with watched(lambda: embedded.died(node)):
                yield
        except KeyboardInterrupt:
            if not dead:
                raise
            embedded.kill_all(spared)
            raise RayDied(dead[0]) from None
        finally:
            if not dead:
                with embedded.ended(node):
                    _shutdown(on_term)


def _init(where: str | None, options: dict[str, Any], on_term: Any) -> None:
    """Raises UserError where there is no connection, DiskFull where that is why; an interrupt stays one."""
    import ray
    from ray._common.utils import get_default_ray_temp_dir

    try:
        ray.init(**options)
    except Exception as error:
        if where is None:
            _check_room(options.get("_temp_dir") or get_default_ray_temp_dir())
        raise UserError(_why_not(where, error)) from error
    except BaseException:
        raise KeyboardInterrupt from None  # Ray's own answer to a SIGTERM while it starts is a SystemExit
    finally:
        signal.signal(signal.SIGTERM, on_term)  # Ray's own would end the process without a word


def _check_room(folder: str) -> None:
    """Raises DiskFull where Ray, whose files lie there, had no room for one: it says that it waited for it in vain."""
    place = next(path for path in (folder, *map(str, Path(folder).parents)) if os.path.exists(path))
    with needing_room(folder):
        if shutil.disk_usage(place).free < LITTLE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _shutdown(on_term: Any) -> None:
    import ray

    try:
        ray.shutdown()
    finally:
        signal.signal(signal.SIGTERM, on_term)  # Ray's C++ part has put back what ends the process


def _options(where: str | None, handed_on: Iterable[str], *, verbose: bool, trials: bool) -> dict[str, Any]:
    """What `ray.init` is given, as `connect` is asked; `handed_on`: variables of the environment for all processes."""
    from ray._private.ray_constants import WORKER_PROCESS_SETUP_HOOK_ENV_VAR
    from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR

    from oneshot.cluster import ahead

    job = json.loads(os.environ.get(RAY_JOB_CONFIG_JSON_ENV_VAR, "{}"))  # of a submitted one; all processes have it
    given = (job.get("runtime_env") or {}).get("env_vars") or {}  # Ray refuses what is said twice, even if alike
    environment: dict[str, Any] = {"env_vars": {key: os.environ[key] for key in handed_on if key not in given}}
    if trials and WORKER_PROCESS_SETUP_HOOK_ENV_VAR not in os.environ:  # else the submitted job has one of its own
        environment["worker_process_setup_hook"] = ahead.preparing()
    options = {
        "runtime_env": environment, "log_to_driver": verbose, "logging_level": "INFO" if verbose else "ERROR",
        "address": where or "local",
    }  # fmt: skip
    if where is None:
        there = this_machine()  # what was packed for: Ray itself counts the GPUs that the driver has, and not torch's
        options |= {"num_cpus": there.cpus, "num_gpus": there.gpus}
        options |= {"object_store_memory": OBJECT_STORE, "include_dashboard": False}
    return options


def _check_answers(where: str) -> None:
    """Raises UserError where nothing listens at `host:port`: Ray itself would try for minutes."""
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
            return  # which Ray looks up
        name = host if colon else port
        raise UserError(f"'{where}' names no port; give the cluster's address as HOST:PORT, as {name}:6379")
    if error := watching.why_not(_place(where), seconds=PATIENCE):
        raise UserError(f"cannot reach the Ray cluster at '{where}': {error}; is it running?")


def _check_speaks(where: str) -> None:
    """Raises UserError where something else than Ray listens: Ray itself would try for minutes."""
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


def _place(where: str) -> str:
    return where.rpartition("://")[2]


def _why_not(where: str | None, error: Exception) -> str:
    """Why there is no connection, in a sentence."""
    reason = first_line(error)
    if where is None:
        return f"cannot start Ray on this machine: {reason}; --verbose shows its own messages"
    versions = re.findall(r"^ +(?:Ray|Python): (\S+)$", str(error), re.MULTILINE)
    if len(versions) == 4:
        theirs, ours = (f"Ray {ray} on Python {python}" for ray, python in (versions[:2], versions[2:]))
        return f"the cluster at '{where}' runs {theirs}, and this program {ours}: both need the same"
    token = os.environ.get("RAY_AUTH_MODE") == "token"
    key = "is the token its own" if token else "does it need RAY_AUTH_MODE=token"
    return f"cannot reach the Ray cluster at '{where}': {reason}; is it running, and {key}?"


def nodes() -> list[Node]:
    """Those of the connected cluster that are alive."""
    import ray

    return [_node(node["NodeManagerAddress"], node["Resources"]) for node in ray.nodes() if node["Alive"]]


def in_use(accelerator: str = "") -> Node:
    """What others use now of the connected cluster, by which nothing of this process's runs yet: of its nodes with this
    kind of GPU, or of all."""
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


@contextlib.contextmanager
def _chatter_to_file(console: Console) -> Iterator[str]:
    """Send this process's standard output and error to a file, below Python too: Ray's C++ parts write to the
    descriptors themselves. What is heard of `console` gets a copy of the output it had. Where the file lies."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    out = heard(console)
    stream = sys.stderr if out.stderr else sys.stdout
    out.file = os.fdopen(os.dup(2 if out.stderr else 1), "w", encoding=stream.encoding, errors=stream.errors)
    log, path = tempfile.mkstemp(prefix="oneshot-ray-", suffix=".log")
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    try:
        yield path
    except (UserError, KeyboardInterrupt):
        os.unlink(path)
        raise
    except Exception:
        print_line(out, CHATTER.format(path))
        raise
    else:
        os.unlink(path)
    finally:
        for stream, descriptor, saved in zip((sys.stdout, sys.stderr), (1, 2), kept, strict=True):
            with contextlib.suppress(OSError):  # the disk is full, and that is to be said where it is read
                stream.flush()
            os.dup2(saved, descriptor)
            os.close(saved)
