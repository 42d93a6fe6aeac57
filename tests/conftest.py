"""Shared by the tests: a small set of generated glyphs, an object store, and Omniglot if ONESHOT_SOURCE points to its
archives."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import objects
import pytest
import tiny
import torch

from oneshot.base.storage import Folder
from oneshot.data import glyphs, sets
from oneshot.training import train
from oneshot.training.parts import load_parts

ROOT = Path(__file__).resolve().parent.parent

# Test files run in parallel, where two threads each would only wait for a core; a file run alone computes the same.
torch.set_num_threads(1)

# The tests' own servers are on this machine and must not be reached through a proxy.
for name in ("no_proxy", "NO_PROXY"):
    os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1", "localhost"]))


@contextmanager
def shared(factory: pytest.TempPathFactory, name: str) -> Iterator[Path]:
    """A folder shared by test files that run in parallel: one of them fills it while the others wait."""
    own = factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / name
    folder.mkdir(exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


@pytest.fixture
def plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that sets no colours and no sizes."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


@pytest.fixture(params=["ENOSYS", "ENOLCK", "EOPNOTSUPP"])
def no_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """File systems without locks, one for each error code that they may return."""
    code = getattr(errno, request.param)

    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.fixture(scope="session")
def small_glyphs(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """8 generated alphabets (5 background, 3 evaluation) of 20 to 24 characters by 8 people. Do not write in it."""
    folder = Folder.of(tmp_path_factory.mktemp("data") / "glyphs")
    glyphs.build(folder, alphabets=8, drawers=8, characters=(20, 24))
    return folder


@pytest.fixture(scope="session")
def trained_run(small_glyphs: Folder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose network was trained on the small glyphs for a few seconds and calibrated. Do not write in it."""
    settings = tiny.settings(
        sampling="episodes", objective="both", optimizer="adam", lr=3e-3, batch=64, examples=2_560, epochs=1,
        drawers=4, alphabets=4, head_lr=10.0, val_pairs=400, val_trials=100,
    )  # fmt: skip
    run = Folder.of(tmp_path_factory.mktemp("trained") / "run")
    tiny.train(run, settings, data=load_parts(small_glyphs, settings.data))
    train.finish(settings, run, data=small_glyphs)
    return Path(run.path)


@pytest.fixture(scope="session")
def source() -> str:
    """Where Omniglot's archives are: ONESHOT_SOURCE; a relative path is relative to the repository."""
    given = os.environ.get("ONESHOT_SOURCE")
    if not given:
        pytest.skip("ONESHOT_SOURCE is not set")
    return given if "://" in given else str(ROOT / given)


@pytest.fixture(scope="session")
def archives(source: str) -> Path:
    """The folder of Omniglot's archives, for tests that look into them."""
    if not Path(source).is_dir():
        pytest.skip("ONESHOT_SOURCE is not a folder")
    return Path(source)


@pytest.fixture(scope="session")
def omniglot(source: str, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """The real Omniglot as Parquet, made once for all tests. Do not write in it."""
    with shared(tmp_path_factory, "omniglot") as root:
        return sets.prepare("omniglot", data_root=root, source=source).folder


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A separate data root with ten alphabets of glyphs, for commands run as a user runs them. Do not write in it."""
    with shared(tmp_path_factory, "root") as root:
        sets.prepare("glyphs-10", data_root=root)
        return root


@pytest.fixture(scope="session")
def server() -> Iterator[objects.ObjectStore]:
    """An object store with an S3 API, for `object_store`."""
    with objects.serve() as store:
        yield store


@pytest.fixture
def object_store(
    server: objects.ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[objects.ObjectStore]:
    """The object store; this process's environment points to it, with a separate cache."""
    for key in [key for key in os.environ if key.startswith("AWS_")]:
        monkeypatch.delenv(key)
    for key, value in (server.variables() | {"ONESHOT_CACHE": str(tmp_path / "cache")}).items():
        monkeypatch.setenv(key, value)
    server.asked.clear()
    yield server
    server.refuse = lambda *request: None


@pytest.fixture
def bucket(object_store: objects.ObjectStore) -> str:
    """The URI of an empty bucket of the object store."""
    return object_store.new_bucket()
