"""Where a record was made: versions, hardware, commit."""

import functools
import math
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

HARDWARE = "hardware.json"  # of a training: rank 0's machine, perhaps not the driver's, and all ranks' GPUs
PACKAGES = ("torch", "ray", "numpy", "pyarrow", "pillow", "optuna")
SOURCE = (":/", ":(top,exclude)tune_jobs/records", ":(top,exclude)*.md")  # for git: all but records and pages


def environment(device: str) -> dict[str, Any]:
    """Versions, the hardware of work on `device` (cpu, cuda, cuda:N) and the commit, as plain values. Imports torch."""
    return {
        "versions": {"oneshot": version("oneshot"), "python": platform.python_version()}
        | {name: version(name) for name in PACKAGES}
        | (_of_cuda() if device.startswith("cuda") else {}),
        "hardware": this_machine(device),
        "commit": commit(),
    }


def this_machine(device: str) -> dict[str, Any]:
    """The hardware part of `environment`. Of the GPUs it lists only the one that was used: asking for its name opens
    CUDA, which work on the CPU of such a machine does not need."""
    import torch

    return {
        "cpu": _cpu(),
        "cores": cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpus": [torch.cuda.get_device_name(torch.device(device))] if device.startswith("cuda") else [],
    }


def _of_cuda() -> dict[str, str | None]:
    """The versions of the libraries that torch computes with on a GPU."""
    import torch

    return {"cuda": torch.version.cuda, "cudnn": str(torch.backends.cudnn.version())}


def cores(system: Path = Path("/")) -> int:
    """The number of cores this process may use: those it may run on, or the CPU quota of its container, rounded up, if
    that is less. `system` is the folder that holds Linux's proc/ and sys/."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(math.ceil(min(there, _quota(system))), 1)


def _quota(system: Path) -> float:
    """How many cores' time this process's control group may take: the least limit of it and the groups around it; inf
    if there is none."""
    least = math.inf
    for line in _text(system / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = system / "sys/fs/cgroup" / controllers  # one tree in version 2; in version 1 one per set of controllers
        # Inside a container its own group may be the root of the visible tree, whatever the group is called outside.
        for place in (root / group.lstrip("/"), *(root / group.lstrip("/")).parents):
            least = min(least, _share(place))
            if place == root:
                break
    return least


def _share(group: Path) -> float:
    """How many cores' time a control group may take by its own limit; inf if it has none."""
    found = _text(group / "cpu.max") or f"{_text(group / 'cpu.cfs_quota_us')} {_text(group / 'cpu.cfs_period_us')}"
    match found.split():
        case [quota, period] if quota.isdigit() and period.isdigit() and int(period):
            return int(quota) / int(period)
    return math.inf  # `max`, -1, or a group that is not visible from here


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="surrogateescape")
    except OSError:  # not Linux, or the group is not visible from here
        return ""


@functools.cache
def commit() -> str | None:
    """The commit of the source that this runs from; None if it is not known.

    It is $ONESHOT_COMMIT if that is set, as in an image, which is not a checkout. Otherwise it is the commit of the
    checkout, with `+changes` if files differ from it, other than those that runs leave there: records, and the pages
    made from them. It is not known, for example, if this is installed in an environment inside another repository."""
    if told := os.environ.get("ONESHOT_COMMIT"):
        return told
    here = Path(__file__).resolve()
    git = functools.partial(subprocess.run, cwd=here.parent, capture_output=True, text=True, timeout=10, check=True)
    try:
        git(["git", "ls-files", "--error-unmatch", here.name])
        found = git(["git", "describe", "--always", "--abbrev=12", "--exclude=*"]).stdout.strip()
        changed = git(["git", "diff", "--name-only", "HEAD", "--", *SOURCE]).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{found}+changes" if changed else found


def version(package: str) -> str | None:
    """The version of an installed package; None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def hardware(found: dict[str, Any]) -> str:
    """The hardware of an environment in words: the GPUs, if any were used, and the cores."""
    count, cpu = found["hardware"]["cores"], found["hardware"]["cpu"]
    return ", ".join([*found["hardware"]["gpus"], f"{count} core{'s' * (count != 1)}", cpu])


def _cpu() -> str:
    """A processor's name and the widest instructions that torch finds in it: clouds give three generations the same
    name."""
    import torch

    return f"{_cpu_name()} ({bf16_instructions() or torch.backends.cpu.get_cpu_capability()})"


def bf16_instructions() -> str:
    """The instructions that this processor multiplies bf16 with: AMX or AVX512 BF16; empty if it has neither."""
    import torch

    if torch.cpu._is_amx_tile_supported():
        return "AMX"
    return "AVX512 BF16" if torch.cpu._is_avx512_bf16_supported() else ""


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
