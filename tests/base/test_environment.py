"""What a record says about the hardware and the commit it was made with."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from oneshot.base import environment


@pytest.fixture
def unasked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is cached, and no environment variable names the commit."""
    monkeypatch.delenv("ONESHOT_COMMIT", raising=False)
    environment.commit.cache_clear()
    yield
    environment.commit.cache_clear()


def test_the_gpu_of_a_record_is_the_one_that_was_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine with two. A run on the CPU records none and does not initialise CUDA."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
    found = environment.environment("cuda:1")
    assert found["hardware"]["gpus"] == ["GPU 1"] and {"cuda", "cudnn"} < set(found["versions"])
    cores = f"{found['hardware']['cores']} core"
    assert environment.hardware(found).startswith(f"GPU 1, {cores}")

    def opened(device: torch.device) -> str:
        raise AssertionError("CUDA was opened by what runs on the CPU")

    monkeypatch.setattr(torch.cuda, "get_device_name", opened)
    found = environment.environment("cpu")
    assert found["hardware"]["gpus"] == [] and environment.hardware(found).startswith(cores)


@pytest.mark.usefixtures("unasked")
def test_a_commit_that_is_told_goes_before_that_of_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONESHOT_COMMIT", "0123456789ab+changes")
    assert environment.commit() == "0123456789ab+changes"


@pytest.mark.usefixtures("unasked")
def test_where_nothing_is_told_and_there_is_no_git_the_commit_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONESHOT_COMMIT", "")  # an image that was built without it
    monkeypatch.setenv("PATH", "")
    assert environment.commit() is None


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The program's source in a repository to which it has not been added yet."""
    source = tmp_path / "oneshot/base/environment.py"
    source.parent.mkdir(parents=True)
    source.write_text("first")
    git(source, "init")
    monkeypatch.setattr(environment, "__file__", str(source))
    return source


def git(source: Path, *arguments: str) -> str:
    """The output of a git command in the source's repository."""
    who = ["-c", "user.name=nobody", "-c", "user.email=nobody@nowhere", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", *who, *arguments], cwd=source.parents[2], check=True, capture_output=True, text=True
    )  # fmt: skip
    return done.stdout.strip()


@pytest.mark.usefixtures("unasked")
def test_the_commit_is_that_of_the_checkout_and_says_where_files_differ(source: Path) -> None:
    git(source, "add", ".")
    git(source, "commit", "--message", "the first")
    git(source, "tag", "v1")  # a tag's name does not replace it
    assert environment.commit() == git(source, "rev-parse", "HEAD")[:12]
    environment.commit.cache_clear()
    source.write_text("second")
    assert environment.commit() == git(source, "rev-parse", "HEAD")[:12] + "+changes"


@pytest.mark.usefixtures("unasked")
def test_records_and_the_pages_made_from_them_do_not_make_another_source(source: Path) -> None:
    """Otherwise the second row of a bench, or the second seed of a job, would seem to be of changed files."""
    record, page = source.parents[2] / "tune_jobs/records/cpu5.json", source.parents[2] / "README.md"
    record.parent.mkdir(parents=True)
    for path in (record, page):
        path.write_text("of one seed")
    git(source, "add", ".")
    git(source, "commit", "--message", "the first")
    for path in (record, page):
        path.write_text("of two seeds")
    assert environment.commit() == git(source, "rev-parse", "HEAD")[:12]
    environment.commit.cache_clear()
    git(source, "add", ".")
    (record.parents[1] / "cpu5.toml").write_text("")
    assert environment.commit() == git(source, "rev-parse", "HEAD")[:12]  # an untracked file does not count
    environment.commit.cache_clear()
    git(source, "add", "tune_jobs/cpu5.toml")
    assert environment.commit() == git(source, "rev-parse", "HEAD")[:12] + "+changes"


@pytest.mark.usefixtures("unasked")
def test_the_commit_is_not_that_of_a_repository_around_the_environment_that_it_is_installed_in(source: Path) -> None:
    (source.parents[2] / "other.py").write_text("")
    git(source, "add", "other.py")
    git(source, "commit", "--message", "of another program")
    assert environment.commit() is None
