"""What a record says of where it was made: versions, hardware, commit."""

import functools
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

HARDWARE = "hardware.json"  # of a training under Ray: what rank 0 ran on, which may be no machine of the driver's
PACKAGES = ("torch", "ray", "numpy", "pyarrow", "pillow", "optuna")


def environment() -> dict[str, Any]:
    """Versions, hardware and commit as plain values. Imports torch; starts nothing."""
    return {
        "versions": {"oneshot": version("oneshot"), "python": platform.python_version()}
        | {name: version(name) for name in PACKAGES},
        "hardware": this_machine(),
        "commit": commit(),
    }


def this_machine() -> dict[str, Any]:
    """The hardware part of `environment`. Imports torch."""
    import torch

    return {
        "cpu": _cpu(),
        "cores": cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
    }


def cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def commit() -> str | None:
    """The commit of the source this runs from, with `+changes` where files differ from it; None outside a checkout."""
    folder = Path(__file__).resolve().parent
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+changes"],
            cwd=folder, capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None


def version(package: str) -> str | None:
    """Of an installed package; None where it is not."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def hardware(found: dict[str, Any]) -> str:
    """The hardware of an environment in words: its GPUs, else its cores."""
    count, cpu = found["hardware"]["cores"], found["hardware"]["cpu"]
    return ", ".join(found["hardware"]["gpus"]) or f"{count} core{'s' * (count != 1)}, {cpu}"


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
