"""A training of one to two workers on real hosts: it goes on with fewer when one is lost, with more when one comes."""

import signal
from pathlib import Path

import pytest
from command import run, settings
from nodes import cluster
from test_local import history

pytestmark = [pytest.mark.ray, pytest.mark.long]


def arguments(folder: Path, epochs: int, *more: str) -> list[str]:
    changes = settings(
        train__epochs=str(epochs), train__examples="512", train__schedule="none", train__precision="fp32",
        train__lr="1e-4", scale__checkpoint_steps="2", scale__timeout="15",
    )  # fmt: skip
    return ["train", "quick", "--run", str(folder), *changes, *more]


def test_a_training_shrinks_with_its_cluster_and_grows_with_it(data_root: Path, tmp_path: Path) -> None:
    """It is stopped when it has done both; one process that trains as many epochs measures the same."""
    at_work: list[tuple[str, ...]] = []  # the hosts with a worker, whenever they change
    text = ""
    with cluster([1, 1]) as hosts:
        process = hosts.start(*arguments(tmp_path / "run", 400, "--workers", "1..2"), ONESHOT_DATA=str(data_root))
        for line in process.stdout or []:
            text += line
            if "epoch " not in line:
                continue
            now = tuple(sorted(hosts.workers()))
            if at_work and now == at_work[-1]:
                if len(at_work) == 3:
                    break
                continue
            at_work.append(now)
            if len(at_work) == 1:
                hosts.hosts[1].lose()
            elif len(at_work) == 2:
                hosts.add(1)
        process.send_signal(signal.SIGTERM)
        text += process.communicate(timeout=300)[0]
        assert process.returncode == 130, text
    first, second, third = (host.name for host in hosts.hosts)
    assert at_work == [(first, second), (first,), (first, third)], text
    assert "room for 2 workers of 1 core; 1 training at once, with 1..2 workers" in text

    rows = history(tmp_path / "run")
    run(*arguments(tmp_path / "whole", len(rows), "--local"), ONESHOT_DATA=str(data_root))
    for alone, shared in zip(history(tmp_path / "whole"), rows, strict=True):
        assert shared["epoch"] == alone["epoch"]
        for key in ("train_loss", "val_loss"):  # sums in another order drift apart, the more the higher the rate
            assert shared[key] == pytest.approx(alone[key], rel=2e-3), (shared["epoch"], key)
