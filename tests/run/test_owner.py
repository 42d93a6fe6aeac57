"""A run folder has one owner; without locks, as on an object store, for as long as the owner renews its note."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from objects import ObjectStore

from oneshot.base.errors import RunFailed, UserError
from oneshot.base.storage import Folder
from oneshot.run import owner
from oneshot.run.owner import NOTE, signed, sole

OTHER = {"host": "elsewhere", "pid": 7, "id": "another"}


class Clock:
    """A clock for whoever waits for an owner: time passes only in `sleep`, at once, and `meanwhile` is called then."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0
        self.meanwhile: Callable[[], None] = lambda: None

    def time(self) -> float:
        return self.now

    monotonic = time

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.meanwhile()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(owner, "time", made)
    return made


@pytest.fixture
def run(bucket: str) -> Folder:
    return Folder.of(f"{bucket}/run")


def test_a_second_owner_is_refused_until_the_first_is_gone(run: Folder) -> None:
    with signed(run, every=0.1):
        with pytest.raises(UserError) as caught, signed(run):
            pass
        assert f"{run} is in use by process {os.getpid()} on {socket.gethostname()}: wait for it" in str(caught.value)
        assert run.has(NOTE)  # whoever is refused leaves the note alone
    assert not run.has(NOTE)
    with signed(run):
        pass


# The owner's clock may be wrong: an hour behind, an hour ahead.
@pytest.mark.parametrize(("age", "fresh", "seconds"), [(5, 8.0, 3), (-3600, 2.0, 2), (3600, 8.0, 1)])
def test_an_owner_that_was_killed_is_waited_for(
    age: float, fresh: float, seconds: int, run: Folder, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    began = clock.now
    run.write_json(NOTE, OTHER | {"time": began - age})
    with signed(run, every=0.4, fresh=fresh):
        assert clock.now - began == seconds
        assert run.read_json(NOTE)["pid"] == os.getpid()
    said = " ".join(capsys.readouterr().err.split())
    assert f"by process 7 on elsewhere; if that process was killed, this one takes over the run in {seconds} s" in said


def test_an_owner_that_ends_is_not_waited_for_any_longer(run: Folder, clock: Clock) -> None:
    began = clock.now
    run.write_json(NOTE, OTHER | {"time": began})
    clock.meanwhile = lambda: run.remove(NOTE)
    with signed(run, fresh=600):
        assert clock.now - began < 2
        assert run.read_json(NOTE)["pid"] == os.getpid()


def test_who_holds_a_lock_is_named_with_its_host_as_others_may_see_the_folder(tmp_path: Path) -> None:
    run = Folder.of(tmp_path)
    with sole(run) as lost:
        with pytest.raises(UserError) as caught, sole(run):
            pass
        assert not lost.is_set()
    assert str(caught.value).startswith(f"{run} is in use by process {os.getpid()} on {socket.gethostname()}: wait")


@pytest.mark.usefixtures("no_locks")
def test_where_a_file_system_has_no_locks_a_note_holds_the_run(tmp_path: Path) -> None:
    run = Folder.of(tmp_path)
    with sole(run):
        assert run.read_json(NOTE)["pid"] == os.getpid()
    assert not run.has(NOTE)


@pytest.mark.parametrize("content", [{"time": 0.0, **OTHER}, {"host": "elsewhere"}, []])
def test_a_note_that_is_old_or_says_nothing_does_not_count(content: object, run: Folder) -> None:
    run.write_json(NOTE, content)
    with signed(run):
        assert run.read_json(NOTE)["pid"] == os.getpid()


def test_the_note_is_renewed_and_a_store_out_of_reach_is_borne(run: Folder, object_store: ObjectStore) -> None:
    renewed, refused, puts = threading.Event(), threading.Event(), []

    def watch(method: str, path: str, query: str) -> int | None:
        if refused.is_set() and method == "PUT":
            puts.append(path)
            if len(puts) == 2:  # the first one is done by now: a request is counted before it is done
                renewed.set()
        elif not refused.is_set():
            refused.set()
            return 400
        return None

    with signed(run, every=0.05):
        first = run.read_json(NOTE)
        object_store.refuse = watch
        assert refused.wait(30) and renewed.wait(30)
        object_store.refuse = lambda *request: None
        assert run.read_json(NOTE)["time"] > first["time"]


def test_an_owner_whose_clock_is_an_hour_behind_keeps_its_run(run: Folder, clock: Clock) -> None:
    def renew() -> None:
        run.write_json(NOTE, OTHER | {"time": clock.now - 3600})

    renew()
    clock.meanwhile = renew
    with pytest.raises(UserError, match="in use by process 7 on elsewhere: wait for it"), signed(run, every=10):
        pass


@pytest.mark.parametrize("over", [False, True])
def test_an_owner_that_was_silent_too_long_gives_way(run: Folder, over: bool) -> None:
    """Also if the other process took the run over and has already ended: its record is newer."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as the command line does
    try:
        who = "another process" if over else "process 7 on elsewhere"
        with pytest.raises(RunFailed, match=f"was taken over by {who}"):
            with signed(run, every=0.5) as lost:  # the first renewal comes after the next lines
                assert not lost.is_set()
                run.remove(NOTE) if over else run.write_json(NOTE, OTHER | {"time": time.time()})
                with pytest.raises(KeyboardInterrupt):
                    time.sleep(60)
                assert lost.is_set()  # the owner that is interrupted must not write any more
                raise KeyboardInterrupt
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not run.has(NOTE) if over else run.read_json(NOTE)["host"] == "elsewhere"
