"""Where Ray runs: on an existing cluster, or embedded in this process."""

import contextlib
import errno
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from oneshot.base.errors import RayDied, UserError, first_line
from oneshot.base.storage import needing_room
from oneshot.cluster import addresses, chatter, embedded, folders, watching
from oneshot.cluster.capacity import HEAD, nodes
from oneshot.cluster.packing import Node, this_machine
from oneshot.screen.console import heard, print_line, print_warning

# Read by Ray when it is imported, here and in its actors. The health check's interval bounds how long a report may
# block (2 s at Ray's default). The others switch off work whose results this program does not use.
FAST = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",  # Tune's own state, which nobody reads, is written again and again and grows
}
# For an embedded Ray. The processes it would keep ready lack this program's environment, so none would ever be used.
EMBEDDED = {"RAY_prestart_worker_first_driver": "0"}
QUIET = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's coming default; set so that Ray does not announce it
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # an interrupt is handled by this program, see interrupts.py
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",  # the new output, even if silenced, formats all resources at every step
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # nothing is served here, so a SIGTERM need not wait
}
# A cluster has a dashboard, which shows trainings and their workers, and something may collect its metrics. Nobody
# looks at an embedded Ray.
WATCHED = {"RAY_TRAIN_ENABLE_STATE_TRACKING": "1"}
UNWATCHED = {"RAY_TRAIN_METRICS_ENABLED": "0"}
TOO_SLOW = "timed out during startup"  # in Ray's error if its own raylet did not come up within 30 s
LITTLE = 2**20  # bytes; with less free on the disk, Ray does not start
OBJECT_STORE = 256 * 2**20  # bytes, embedded; each worker reads drawings from Parquet, so little passes through Ray


@contextlib.contextmanager
def connect(
    where: str | None, *, console: Console, verbose: bool = False, how_to_go_on: Callable[[], str] = str,
    trials: bool = False,
) -> Iterator[list[Node]]:  # fmt: skip
    """Connect to Ray for the time of the block, and yield its nodes.

    `where` is the address of a cluster to attach to, or None to embed a Ray. Unless `verbose`, what Ray writes to this
    process's output goes to a file, which is kept if the block fails (but not after a UserError or an interrupt);
    `console` goes on writing where it did. An embedded Ray survives a SIGTERM to all processes until the block has
    ended. If Ray, or the head of a cluster, dies and the block hangs, the process prints what `how_to_go_on()` then
    returns, and exits. `trials`: a study's trials are to run, so each process imports what they need before it is given
    work. Raises UserError if no Ray like this one answers at the address, RayDied if Ray dies within the block.
    """
    handed_on = FAST | QUIET | (WATCHED if where else UNWATCHED)
    for key, value in (handed_on if where else handed_on | EMBEDDED).items():
        os.environ.setdefault(key, value)
    if where:
        addresses.check_answers(where)
    with contextlib.nullcontext("") if verbose else chatter.to_file(console) as log:
        from oneshot.cluster.reclaim import reclaiming  # imported late: it imports Ray, which reads the environment

        if where is None and (other := addresses.beside()):
            print_warning(
                console,
                f"a Ray cluster runs on this machine, and this run is not on it but beside it: --address {other} puts"
                " it there, as RAY_ADDRESS and `ray job submit` do",
            )

        def last_words() -> None:
            if how := how_to_go_on():
                print_line(heard(console), f"to go on: {how}")
            if log:
                print_line(heard(console), chatter.KEPT.format(log))

        options = _options(where, handed_on, verbose=verbose, trials=trials)
        there = _attached(where, options, console, last_words) if where else _started(options, console, last_words)
        with there, reclaiming():
            yield nodes()


@contextlib.contextmanager
def _attached(
    where: str, options: dict[str, Any], console: Console, last_words: Callable[[], None]
) -> Iterator[None]:  # fmt: skip
    """Attach to an existing cluster for the time of the block."""
    on_term, dead = signal.getsignal(signal.SIGTERM), []
    addresses.check_speaks(where)
    _init(where, options, on_term)
    try:
        places = watching.Places(_needed())
        try:
            with watching.watched(console, dead, places.gone, last_words=last_words, end=sys.stdout.flush):
                yield
        except (Exception, KeyboardInterrupt) as error:
            if not dead and isinstance(error, Exception):  # a death that is not certain yet may be its cause
                dead.extend(places.settled())
            if not dead:
                raise
            raise RayDied(dead[0]) from None
    finally:
        if not dead:  # else shutdown would hang
            _shutdown(on_term)


def _needed() -> dict[str, str]:
    """The addresses (`host:port`, by name) of the parts of a cluster whose death ends this process or all trials."""
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
    """Run a Ray of this process's own for the time of the block. None of its processes and files is left after it."""
    import ray

    on_term, dead = signal.getsignal(signal.SIGTERM), []
    with embedded.adopting() as spared, folders.temporary() as folder:
        options = options | {"_temp_dir": os.path.join(folder, "ray")}

        def leave() -> None:
            embedded.kill_all(spared)
            folders.remove(folder)

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
    """Call `ray.init`. Raises UserError if that fails, DiskFull if the disk is full, KeyboardInterrupt if
    interrupted."""
    import ray
    from ray._common.utils import get_default_ray_temp_dir

    try:
        ray.init(**options)
    except Exception as error:
        if where is None:
            _check_room(options.get("_temp_dir") or get_default_ray_temp_dir())
            why = f"cannot start Ray on this machine: {first_line(error)}; --verbose shows its own messages"
            raise UserError(why) from error
        raise UserError(addresses.why_refused(where, error)) from error
    except BaseException:
        raise KeyboardInterrupt from None  # while it starts, Ray answers a SIGTERM with a SystemExit
    finally:
        signal.signal(signal.SIGTERM, on_term)  # Ray's own handler would end the process without a word


def _check_room(folder: str) -> None:
    """Raises DiskFull if there is no room for Ray's files in `folder`. Ray itself only says that it waited in vain."""
    place = next(path for path in (folder, *map(str, Path(folder).parents)) if os.path.exists(path))
    with needing_room(folder):
        if shutil.disk_usage(place).free < LITTLE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _shutdown(on_term: Any) -> None:
    import ray

    try:
        ray.shutdown()
    finally:
        signal.signal(signal.SIGTERM, on_term)  # Ray's C++ part has restored a handler that ends the process


def _options(where: str | None, handed_on: Iterable[str], *, verbose: bool, trials: bool) -> dict[str, Any]:
    """The options of `ray.init`, from those of `connect`. `handed_on`: environment variables for all processes."""
    from ray._private.ray_constants import WORKER_PROCESS_SETUP_HOOK_ENV_VAR
    from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR

    from oneshot.cluster import ahead

    job = json.loads(os.environ.get(RAY_JOB_CONFIG_JSON_ENV_VAR, "{}"))  # a submitted job's; all processes have it
    given = (job.get("runtime_env") or {}).get("env_vars") or {}  # Ray refuses a variable set twice, even if alike
    environment: dict[str, Any] = {"env_vars": {key: os.environ[key] for key in handed_on if key not in given}}
    if trials and WORKER_PROCESS_SETUP_HOOK_ENV_VAR not in os.environ:  # else the submitted job has one of its own
        environment["worker_process_setup_hook"] = ahead.preparing()
    options = {
        "runtime_env": environment, "log_to_driver": verbose, "logging_level": "INFO" if verbose else "ERROR",
        "address": where or "local",
    }  # fmt: skip
    if where is None:
        there = this_machine()  # as packed for: Ray itself counts the driver's GPUs, not those that torch can use
        options |= {"num_cpus": there.cpus, "num_gpus": there.gpus}
        options |= {"object_store_memory": OBJECT_STORE, "include_dashboard": False}
    return options
