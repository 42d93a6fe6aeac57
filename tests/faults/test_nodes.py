"""A host of a cluster is lost, or its link is cut: recovery where there is room, a clear end where there is none."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import run, settings
from nodes import Cluster, cluster
from outcome import history, weights

pytestmark = [pytest.mark.ray, pytest.mark.long]

CHANGES = settings(
    train__epochs="12", train__examples="1024", scale__checkpoint_steps="2", scale__timeout="10",
    scale__max_failures="1", train__precision="fp32",
)  # fmt: skip


def arguments(folder: Path) -> list[str]:
    return ["train", "quick", "--workers", "2", "--run", str(folder), *CHANGES]


def strike(hosts: Cluster, how: str, folder: Path, data_root: Path) -> tuple[int, str, float]:
    """Run a training; in its third epoch, lose a host with a worker that is not the head. Returns the exit code, the
    log, and the seconds from then to the next epoch or the end."""
    process = hosts.start(*arguments(folder), ONESHOT_DATA=str(data_root))
    text, struck, recovered = "", 0.0, 0.0
    for line in process.stdout or []:
        text += line
        if "epoch  2/12" in line:
            at_work = hosts.workers()
            assert len(at_work) == 2, f"both workers on one host: {at_work}"
            victim = next(host for host in hosts.hosts[1:] if host.name in at_work)
            getattr(victim, how)()
            struck = time.monotonic()
        elif struck and not recovered and ("epoch" in line or "error" in line):
            recovered = time.monotonic() - struck
    return process.wait(timeout=300), text, recovered


@pytest.fixture(scope="module")
def whole(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The undisturbed training, on one host."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(*arguments(folder), ONESHOT_DATA=str(data_root))
    yield folder


@pytest.mark.parametrize("how", ["lose", "cut"])
def test_a_training_goes_on_where_another_host_has_room(
    how: str, whole: Path, data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with cluster([1, 1, 1]) as hosts:
        code, text, seconds = strike(hosts, how, tmp_path / "run", data_root)
    assert code == 0, text
    assert history(tmp_path / "run") == history(whole)
    assert weights(tmp_path / "run") == weights(whole)
    with capsys.disabled():
        print(f"\na host {how}: the next epoch was done after {seconds:.1f} s")


def test_without_room_it_ends_with_a_sentence_and_goes_on_later(
    whole: Path, data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with cluster([1, 1]) as hosts:
        code, text, seconds = strike(hosts, "lose", tmp_path / "run", data_root)
    assert code == 1 and "Traceback" not in text
    assert "error: the training in" in text and "no room" in text
    run(*arguments(tmp_path / "run"), ONESHOT_DATA=str(data_root))
    assert history(tmp_path / "run") == history(whole)
    with capsys.disabled():
        print(f"\na host lost and no other: given up after {seconds:.1f} s")


SEARCH = {"search.trials": "2", "search.grace": "0", "search.batch": "[64]"}
STUDY = ["tune", "quick", *CHANGES, *(part for key in SEARCH for part in ("--set", f"{key}={SEARCH[key]}"))]
SHORT = ["--set", "scale.timeout=5"]


def lose_a_worker(hosts: Cluster, folder: Path, data_root: Path, *, at_work: int) -> tuple[int, str]:
    """Run a study of two trials; when one is past its first epoch and `at_work` workers run, lose a host with a worker
    that is not the head. Returns the exit code and the log."""
    process = hosts.start(*STUDY, *SHORT, "--run", str(folder), ONESHOT_DATA=str(data_root))
    text, lost = "", False
    for line in process.stdout or []:
        text += line
        if not lost and re.search(r"epoch +[2-5]/12", line) and len(hosts.workers()) == at_work:
            next(host for host in hosts.hosts[1:] if host.name in hosts.workers()).lose()
            lost = True
    assert lost, text
    return process.wait(timeout=300), text


def statuses(folder: Path) -> list[str]:
    return [trial["status"] for trial in json.loads((folder / "study.json").read_text())["trials"]]


def test_a_study_that_loses_a_host_for_good_goes_on_with_fewer_trials_at_once(data_root: Path, tmp_path: Path) -> None:
    with cluster([1, 1]) as hosts:
        code, text = lose_a_worker(hosts, tmp_path / "run", data_root, at_work=2)
    assert code == 0 and "2 trials at once" in text, text
    assert statuses(tmp_path / "run") == ["finished"] * 2  # even if one found no room while the other trained


def test_a_study_that_loses_its_last_host_ends_with_a_sentence_and_goes_on_later(
    data_root: Path, tmp_path: Path
) -> None:
    with cluster([0, 1]) as hosts:
        code, text = lose_a_worker(hosts, tmp_path / "run", data_root, at_work=1)
    assert code == 1 and "Traceback" not in text, text
    assert "no room for its 1 worker(s)" in text and f"to go on: python -m oneshot.tune --resume {tmp_path}" in text
    assert statuses(tmp_path / "run") == ["pending"] * 2
    run("tune", "--resume", str(tmp_path / "run"), ONESHOT_DATA=str(data_root))
    assert statuses(tmp_path / "run") == ["finished"] * 2


def test_the_trials_of_a_study_lie_on_several_hosts_and_outlive_one(data_root: Path, tmp_path: Path) -> None:
    """Two trials on three hosts of one core each; the trial that loses its host continues on the third."""
    text, lost = "", ""
    with cluster([1, 1, 1]) as hosts:
        process = hosts.start(
            *STUDY, "--run", str(tmp_path / "run"), "--max-concurrent", "2", ONESHOT_DATA=str(data_root)
        )
        for line in process.stdout or []:
            text += line
            both = len(list(tmp_path.glob("run/trials/*/history.jsonl"))) == 2  # each has an epoch to resume from
            if not lost and both and re.search(r"epoch +[3-9]/12", line) and len(hosts.workers()) == 2:
                victim = next(host for host in hosts.hosts[1:] if host.name in hosts.workers())
                lost = victim.name
                victim.lose()
        assert process.wait(timeout=300) == 0, text
    assert lost and "2 trials at once, with 1 worker each" in text, text
    run(*STUDY, "--run", str(tmp_path / "whole"), ONESHOT_DATA=str(data_root))
    resumed = 0
    for trial in ("trials/000", "trials/001"):
        assert history(tmp_path / "run" / trial) == history(tmp_path / "whole" / trial)
        assert weights(tmp_path / "run" / trial) == weights(tmp_path / "whole" / trial)
        resumed += "resumed_at" in (tmp_path / "run" / trial / "history.jsonl").read_text()
    assert resumed == 1


def test_a_study_that_begins_as_a_host_dies_is_made_for_those_that_are_there(data_root: Path, tmp_path: Path) -> None:
    with cluster([1, 1]) as hosts:
        hosts.hosts[1].lose()
        process = hosts.start(*STUDY, "--run", str(tmp_path / "run"), ONESHOT_DATA=str(data_root))
        text, _ = process.communicate(timeout=600)
    assert process.returncode == 0, text
    assert f"warning: the node {hosts.hosts[1].address} has died; nothing is planned for it" in text
    assert "1 node of 1 core: room for 1 worker of 1 core; 1 trial at once" in text
