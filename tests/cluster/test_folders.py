"""The folder of an embedded Ray: closed to other users, and removed in the end, even if its process was killed."""

import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oneshot.cluster import folders

HOLDER = """
import sys, tempfile
from oneshot.cluster import folders
tempfile.tempdir = sys.argv[1]
with folders.temporary() as folder:
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The system's temporary folder, with a path that is short enough for sockets."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="os-") as place:
        monkeypatch.setattr(tempfile, "tempdir", place)
        yield Path(place)


@pytest.fixture
def holder(short: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process that holds a folder for its Ray, and that folder, which is not empty."""
    command = [sys.executable, "-c", HOLDER, str(short)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().rstrip())
        (folder / "ray/session/logs").mkdir(parents=True)
        (folder / "ray/session/logs/raylet.out").write_text("what Ray writes")
        yield process, folder
        process.kill()


@pytest.mark.parametrize("name", ["t", "a-folder-with-a-name-as-long-as-that-of-a-batch-system"])
def test_rays_folder_is_closed_short_enough_for_sockets_and_goes(
    name: str, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = short / name
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    with folders.temporary() as folder:
        made = Path(folder)
        assert stat.S_IMODE(made.stat().st_mode) == 0o700
        assert made.parent == (place if name == "t" else Path("/tmp"))
        session = made / "ray/session_2026-11-30_10-49-44_690294_4194304/sockets"
        session.mkdir(parents=True)
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(session / "plasma_store"))
    assert not made.exists()


@pytest.mark.skipif(not folders.BOOT.exists(), reason="this system does not say since when it runs")
def test_what_a_killed_process_left_goes_when_the_next_ray_starts(
    holder: tuple[subprocess.Popen[str], Path], short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, left = holder
    outside = short / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    (left / "ray/link").symlink_to(outside)
    folders.remove_left(str(short))
    assert left.exists(), "its process lives"
    process.kill()
    process.wait()
    with monkeypatch.context() as another:
        another.setattr(os, "geteuid", lambda: os.getuid() + 1)
        folders.remove_left(str(short))
        assert left.exists(), "it is another user's"
    (stranger := short / "oneshot-stranger").mkdir(0o700)  # a matching name, but no mark
    (stranger / "ray").mkdir()
    moved = shutil.copytree(left, short / "elsewhere", symlinks=True)
    (link := short / "oneshot-linklink").symlink_to(moved)
    shutil.copytree(left, other := short / "oneshot-otherone", symlinks=True)
    other.chmod(0o755)
    shutil.copytree(left, earlier := short / "oneshot-earlier_", symlinks=True)
    (earlier / folders.MARK).write_text("of an earlier start of the machine")
    with folders.temporary() as folder:
        for thread in threading.enumerate():
            if thread.name == "removing what was left":
                thread.join()
        kept = {Path(folder), stranger, moved, link, other, earlier, outside}
        assert {*short.iterdir()} == kept
        assert all((each / "ray/session/logs/raylet.out").exists() for each in (moved, link, other, earlier))
        assert (stranger / "ray").exists() and (outside / "kept").exists()
    assert {*short.iterdir()} == kept - {Path(folder)}


def test_a_folder_that_is_just_being_made_stays(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process looks at it before the mark is locked, and again before the mark gets its name."""
    hold = folders.hold

    def looked_at(file: Any, *, wait: bool) -> bool:
        if isinstance(file, int):  # the process that looks
            return hold(file, wait=wait)
        folders.remove_left(str(short))
        held = hold(file, wait=wait)
        folders.remove_left(str(short))
        return held

    monkeypatch.setattr(folders, "hold", looked_at)
    with folders.temporary() as folder:
        assert Path(folder).exists()


@pytest.mark.usefixtures("no_locks")
def test_where_there_are_no_locks_all_stays_but_the_own(
    holder: tuple[subprocess.Popen[str], Path], short: Path
) -> None:
    process, left = holder
    process.kill()
    process.wait()
    folders.remove_left(str(short))
    with folders.temporary() as folder:
        assert not (Path(folder) / folders.MARK).exists()
    assert [*short.iterdir()] == [left]


def test_what_cannot_be_emptied_keeps_its_mark_for_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ray").mkdir()
    (tmp_path / "owner").touch()
    whole = folders.shutil.rmtree
    monkeypatch.setattr(
        folders.shutil, "rmtree", lambda path, **how: None if str(path).endswith("ray") else whole(path, **how)
    )
    monkeypatch.setattr(folders.time, "sleep", lambda _: None)
    folders.remove(str(tmp_path))
    assert (tmp_path / "owner").exists()
    monkeypatch.undo()
    folders.remove(str(tmp_path))
    assert not tmp_path.exists()
