"""A training of one to two workers on real hosts: fewer when a host is lost, more when one joins."""

import signal
from pathlib import Path

import pytest
from command import run, settings
from nodes import cluster
from outcome import history

pytestmark = [pytest.mark.ray, pytest.mark.long]


def arguments(folder: Path, epochs: int, *more: str) -> list[str]:
    changes = settings(
        train__epochs=str(epochs), train__examples="512", train__schedule="none", train__precision="fp32",
        train__lr="1e-4", scale__checkpoint_steps="2", scale__timeout="15",
    )  # fmt: skip
    return ["train", "quick", "--run", str(folder), *changes, *more]


def test_a_training_shrinks_with_its_cluster_and_grows_with_it(data_root: Path, tmp_path: Path) -> None:
    """It is stopped once it has done both; one process that trains as many epochs has the same losses within 0.2 %."""
    text = ""
    with cluster([1, 1]) as hosts:
        process = hosts.start(*arguments(tmp_path / "run", 400, "--workers", "1..2"), ONESHOT_DATA=str(data_root))

        def trains_on(*places: int) -> None:
            """Read on until an epoch is reported while exactly these hosts have one worker each. While one group of
            workers replaces another, there may be none, or others, for a moment."""
            nonlocal text
            seen: list[list[str]] = []
            for line in process.stdout or []:
                text += line
                if "epoch " in line:
                    seen.append(sorted(hosts.workers()))
                    if seen[-1] == sorted(hosts.hosts[place].name for place in places):
                        return
            raise AssertionError(f"never trained on hosts {places}, but on {seen}:\n{text}")

        trains_on(0, 1)
        hosts.hosts[1].lose()
        trains_on(0)
        hosts.add(1)
        trains_on(0, 2)
        trains_on(0, 2)  # the line before may report an epoch that one worker had trained
        process.send_signal(signal.SIGTERM)
        text += process.communicate(timeout=300)[0]
        assert process.returncode == 130, text
    assert "room for 2 workers of 1 core; 1 training at once, with 1..2 workers" in text

    rows = history(tmp_path / "run")
    run(*arguments(tmp_path / "whole", len(rows), "--local"), ONESHOT_DATA=str(data_root))
    for alone, shared in zip(history(tmp_path / "whole"), rows, strict=True):
        assert shared["epoch"] == alone["epoch"]
        for key in ("train_loss", "val_loss"):  # sums in another order drift apart, more so at a higher rate
            assert shared[key] == pytest.approx(alone[key], rel=2e-3), (shared["epoch"], key)
