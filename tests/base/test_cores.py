"""How many cores a process may use, read from Linux's files, here from copies with made-up content."""

import os
from pathlib import Path

import pytest

from oneshot.base.environment import cores


def linux(root: Path, groups: str, limits: dict[str, str]) -> Path:
    """The root of a system in which a process has these control groups and the groups have these files."""
    files = {f"sys/fs/cgroup/{name}": text for name, text in limits.items()} | {"proc/self/cgroup": groups}
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture(autouse=True)
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)


V1 = "5:memory:/a/b\n4:cpu,cpuacct:/a/b\n1:cpuset:/\n"


@pytest.mark.parametrize(
    ("groups", "limits", "expected"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),  # a container's own group, as it sees it
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "10000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "1600000 100000\n"}, 8),  # more time than cores
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "300000 100000\n"}, 3),  # the parent group's
        ("0::/a/b\n", {"a/b/cpu.max": "200000 100000\n", "a/cpu.max": "300000 100000\n"}, 2),
        ("0::/docker/f00\n", {"cpu.max": "400000 100000\n"}, 4),  # the path is the host's and does not exist here
        (V1, {"cpu,cpuacct/a/b/cpu.cfs_quota_us": "250000\n", "cpu,cpuacct/a/b/cpu.cfs_period_us": "100000\n"}, 3),
        (V1, {"cpu,cpuacct/cpu.cfs_quota_us": "250000\n", "cpu,cpuacct/cpu.cfs_period_us": "50000\n"}, 5),
        (V1, {"cpu,cpuacct/a/b/cpu.cfs_quota_us": "-1\n", "cpu,cpuacct/a/b/cpu.cfs_period_us": "100000\n"}, 8),
        (V1, {"memory/a/b/cpu.max": "100000 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "odd\n"}, 8),
        ("0::/\n", {"cpu.max": "100000 0\n"}, 8),
    ],
)
def test_a_container_has_no_more_cores_than_its_quota_of_time(
    tmp_path: Path, groups: str, limits: dict[str, str], expected: int
) -> None:
    assert cores(linux(tmp_path, groups, limits)) == expected


def test_a_system_that_says_nothing_has_all(tmp_path: Path) -> None:
    assert cores(tmp_path) == 8
    assert 1 <= cores() <= 8
