"""When the head of the cluster that a study uses dies, the study reports it, says how to go on, and ends."""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from command import ROOT, environment, settings
from driver import PARTS, Driver, title, wait

pytestmark = [pytest.mark.ray, pytest.mark.long]
RAY = str(Path(sys.executable).with_name("ray"))
CHANGES = settings(search__trials="2", search__grace="0", train__epochs="500", train__examples="2048")


class Head:
    """A one-node Ray whose parts stay alive when one of them dies, as after `ray start` without --block."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        self.variables = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
        self.node = subprocess.Popen(
            [RAY, "start", "--head", f"--port={port}", "--include-dashboard=false", "--num-cpus=2", "--block",
             "--disable-usage-stats", "--object-store-memory=100000000", f"--temp-dir={folder}"],
            cwd=ROOT, env=environment(**self.variables), stdout=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        self.parts: dict[str, psutil.Process] = {}

        def there() -> bool:
            found = psutil.Process(self.node.pid).children(recursive=True)
            self.parts = {name: each for name in ("gcs", "raylet") for each in found if PARTS[name] in title(each)}
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return len(self.parts) == 2
            return False

        assert wait(there, seconds=300), "the head does not answer"

    def end(self) -> None:
        for each in self._all():
            with contextlib.suppress(psutil.Error):
                each.kill()
        self.node.wait()

    def _all(self) -> list[psutil.Process]:
        found = list(self.parts.values())
        for each in psutil.process_iter():
            with contextlib.suppress(ProcessLookupError, psutil.Error):
                if os.getsid(each.pid) == self.node.pid:
                    found.append(each)
        return found


@pytest.fixture
def head() -> Iterator[Head]:
    with tempfile.TemporaryDirectory(prefix="os-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        made = Head(Path(folder))
        try:
            yield made
        finally:
            made.end()


@pytest.mark.parametrize(("part", "name"), [("gcs", "head"), ("raylet", "raylet on the head")])
def test_a_study_whose_head_dies_says_so_and_how_to_go_on(
    head: Head, data_root: Path, tmp_path: Path, part: str, name: str
) -> None:
    """Ray alone would end the process without a message; after the death of the GCS, only a minute later."""
    folder = tmp_path / "run"
    driver = Driver(
        "tune", "quick", "--run", str(folder), *CHANGES, ONESHOT_DATA=str(data_root), RAY_ADDRESS=head.address,
        **head.variables,
    )  # fmt: skip
    try:
        driver.until_true((folder / "trials" / "000" / "history.jsonl").exists, "the first epoch's end", seconds=300)
        head.node.send_signal(signal.SIGSTOP)  # otherwise it would end the other parts
        head.parts[part].kill()
        assert driver.end(seconds=120) == 1, driver.text
    finally:
        if driver.process.poll() is None:
            driver.kill()
    assert f"error: Ray's {name} at " in driver.text and " is gone: " in driver.text, driver.text
    assert f"to go on: python -m oneshot.tune --resume {folder}" in driver.text
    assert "Ray's own messages are in " in driver.text
