"""A run folder on an object store has one owner, as long as its owner says so."""

import os
import signal
import socket
import threading
import time

import pytest
from objects import ObjectStore

from oneshot.base.errors import RunFailed, UserError
from oneshot.base.storage import Folder
from oneshot.run.owner import NOTE, signed

OTHER = {"host": "elsewhere", "pid": 7, "id": "another"}


@pytest.fixture
def run(bucket: str) -> Folder:
    return Folder.of(f"{bucket}/run")


def test_a_second_owner_is_refused_until_the_first_is_gone(run: Folder) -> None:
    with signed(run):
        with pytest.raises(UserError) as caught, signed(run):
            pass
        assert f"{run} is in use by process {os.getpid()} on {socket.gethostname()}:" in str(caught.value)
        assert run.has(NOTE)  # whoever is refused leaves the note alone
    assert not run.has(NOTE)
    with signed(run):
        pass


@pytest.mark.parametrize(("age", "seconds"), [(5, "40"), (-3600, "45")])  # an hour ahead: a clock that is wrong
def test_an_owner_that_was_killed_is_waited_for(age: float, seconds: str, run: Folder) -> None:
    run.write_json(NOTE, OTHER | {"time": time.time() - age})
    with pytest.raises(UserError, match=rf"process 7 on elsewhere: .* try again in {seconds} s"), signed(run):
        pass


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
            if len(puts) == 2:  # the first is over: what is asked for is not done yet
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


def test_an_owner_that_was_silent_too_long_gives_way(run: Folder) -> None:
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as the command line does
    try:
        with pytest.raises(RunFailed, match="was taken over by process 7 on elsewhere"), signed(run, every=0.05):
            run.write_json(NOTE, OTHER | {"time": time.time()})
            time.sleep(60)
            pytest.fail("it went on")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert run.read_json(NOTE)["host"] == "elsewhere"
