"""What a record says of where it was made: versions, hardware, commit."""

import functools
import math
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

HARDWARE = "hardware.json"  # of a training: rank 0's machine, which may be no driver's, and all ranks' GPUs
PACKAGES = ("torch", "ray", "numpy", "pyarrow", "pillow", "optuna")
SOURCE = (":/", ":(top,exclude)tune_jobs/records", ":(top,exclude)*.md")  # as git names them: no records, no pages


def environment(device: str) -> dict[str, Any]:
    """Versions, the hardware of what ran on `device` (cpu, cuda, cuda:N) and commit as plain values. Imports torch."""
    return {
        "versions": {"oneshot": version("oneshot"), "python": platform.python_version()}
        | {name: version(name) for name in PACKAGES}
        | (_of_cuda() if device.startswith("cuda") else {}),
        "hardware": this_machine(device),
        "commit": commit(),
    }


def this_machine(device: str) -> dict[str, Any]:
    """The hardware part of `environment`; of GPUs the one that was used. To ask for its name opens CUDA, which what
    runs on the CPU of such a machine need not."""
    import torch

    return {
        "cpu": _cpu(),
        "cores": cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpus": [torch.cuda.get_device_name(torch.device(device))] if device.startswith("cuda") else [],
    }


def _of_cuda() -> dict[str, str | None]:
    """The versions of what torch computes with on a GPU."""
    import torch

    return {"cuda": torch.version.cuda, "cudnn": str(torch.backends.cudnn.version())}


def cores(system: Path = Path("/")) -> int:
    """The cores this process may use: those it may run on, and of a container that has less time than these the least
    number that can take its time. `system`: below which Linux tells of itself, in proc/ and sys/."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(math.ceil(min(there, _quota(system))), 1)


def _quota(system: Path) -> float:
    """How many cores' time this process's control group may take, and each one around it: the least; inf: all."""
    least = math.inf
    for line in _text(system / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = system / "sys/fs/cgroup" / controllers  # version 2 has one tree, version 1 one for some controllers each
        # From within a container its own group may be the root of what is there, whatever the group is called outside.
        for place in (root / group.lstrip("/"), *(root / group.lstrip("/")).parents):
            least = min(least, _share(place))
            if place == root:
                break
    return least


def _share(group: Path) -> float:
    """How many cores' time a control group may take by its own limit; inf: it has none."""
    found = _text(group / "cpu.max") or f"{_text(group / 'cpu.cfs_quota_us')} {_text(group / 'cpu.cfs_period_us')}"
    match found.split():
        case [quota, period] if quota.isdigit() and period.isdigit() and int(period):
            return int(quota) / int(period)
    return math.inf  # `max`, -1, or a group that is not seen from here


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="surrogateescape")
    except OSError:  # no Linux, or no such group from here
        return ""


@functools.cache
def commit() -> str | None:
    """The commit of the source this runs from: what $ONESHOT_COMMIT says, as in an image, which is no checkout; else
    that of the checkout, with `+changes` where files differ from it, other than what runs leave there: records, and the
    pages made from them. None where neither is known, as where another repository's folder holds the environment that
    this is installed in."""
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
    """Of an installed package; None where it is not."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def hardware(found: dict[str, Any]) -> str:
    """The hardware of an environment in words: the GPUs, if any were used, and the cores."""
    count, cpu = found["hardware"]["cores"], found["hardware"]["cpu"]
    return ", ".join([*found["hardware"]["gpus"], f"{count} core{'s' * (count != 1)}", cpu])


def _cpu() -> str:
    """A processor's name, and the widest instructions that torch finds in it: clouds name three generations alike."""
    import torch

    return f"{_cpu_name()} ({bf16_instructions() or torch.backends.cpu.get_cpu_capability()})"


def bf16_instructions() -> str:
    """With what this processor multiplies bf16: AMX or AVX512 BF16; empty where it does not."""
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
