"""Data on an object store is copied to each machine once, and verified."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from command import ROOT
from objects import ObjectStore

from oneshot.base.errors import RunFailed, UserError
from oneshot.base.storage import Folder
from oneshot.data import cache, glyphs, sets, store
from oneshot.data.cache import near
from oneshot.data.parquet import DIGESTS


@pytest.fixture
def far(bucket: str, small_glyphs: Folder, object_store: ObjectStore) -> Folder:
    """The small glyphs, copied to the object store."""
    folder = Folder.of(f"{bucket}/data/glyphs")
    for name in small_glyphs.names():
        folder.write(name, small_glyphs.read(name))
    object_store.asked.clear()
    return folder


def test_local_data_are_read_in_place(small_glyphs: Folder) -> None:
    assert near(small_glyphs) is small_glyphs


def test_the_copy_is_the_data_and_is_fetched_once(far: Folder, small_glyphs: Folder, object_store: ObjectStore) -> None:
    for _ in range(2):
        copy = near(far)
        assert copy.is_local and copy.path.startswith(f"{cache.root().path}/copies/glyphs-")
        assert store.describe(copy) == store.describe(small_glyphs)
        assert (store.load(copy).packed == store.load(small_glyphs).packed).all()
        assert (store.load_trials(copy).query == store.load_trials(small_glyphs).query).all()
    assert [object_store.gets(name) for name in (store.DRAWINGS, store.TRIALS)] == [1, 1]


def test_eight_processes_of_a_machine_fetch_once(far: Folder, object_store: ObjectStore, tmp_path: Path) -> None:
    """The first download is held back until all eight processes have read the digests, so that they run at once. They
    wait for each other before that, since an S3 client gives up if nothing arrives for three seconds."""
    running = []

    def hold(method: str, path: str, query: str) -> None:
        while method == "GET" and path.endswith(store.DRAWINGS) and object_store.gets(DIGESTS) < 8:
            if any(one.poll() for one in running):
                break
            time.sleep(0.01)

    object_store.refuse = hold
    (tmp_path / "met").mkdir()
    code = (
        "import os, pathlib, sys, time; from oneshot.data.cache import near, Folder\n"
        "far, met = Folder.of(sys.argv[1]), pathlib.Path(sys.argv[2]); far.has('x'); (met / str(os.getpid())).touch()\n"
        "while len(list(met.iterdir())) < 8: time.sleep(0.01)\n"
        "print(near(far))"
    )
    command = [sys.executable, "-c", code, far.uri, str(tmp_path / "met")]
    running += [subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE) for _ in range(8)]
    said = {one.communicate(timeout=300)[0].strip() for one in running}
    assert [one.returncode for one in running] == [0] * 8
    assert said == {near(far).path}
    assert [object_store.gets(name) for name in (store.DRAWINGS, store.TRIALS)] == [1, 1]


@pytest.mark.usefixtures("no_locks")
def test_a_cache_without_locks_is_used_all_the_same(far: Folder, small_glyphs: Folder) -> None:
    assert (store.load(near(far)).packed == store.load(small_glyphs).packed).all()


def test_data_made_anew_are_another_copy(far: Folder) -> None:
    first = near(far)
    glyphs.build(far, alphabets=4, drawers=4, characters=(20, 20), seed=1)
    second = near(far)
    assert second.path != first.path
    assert len(store.describe(second).alphabets) == 4 and len(store.describe(first).alphabets) == 8


def test_a_damaged_copy_is_fetched_again(far: Folder) -> None:
    whole = near(far).read(store.DRAWINGS)
    near(far).write(store.DRAWINGS, whole[:-100])
    assert near(far).read(store.DRAWINGS) == whole


def test_a_fetch_that_breaks_off_leaves_nothing_that_counts(far: Folder, object_store: ObjectStore) -> None:
    object_store.refuse = lambda method, path, query: 400 if path.endswith(store.TRIALS) else None
    with pytest.raises(RunFailed, match=rf"cannot read {far}/{store.TRIALS}: AWS Error"):
        near(far)
    object_store.refuse = lambda *request: None
    assert store.load_trials(near(far)).support.shape[1] == 20
    assert object_store.gets(store.DRAWINGS) == 1


def test_damaged_data_are_refused(far: Folder) -> None:
    far.write(store.DRAWINGS, far.read(store.DRAWINGS)[:-100])
    with pytest.raises(UserError, match=rf"{far}/{store.DRAWINGS} does not match its digest .* run `python -m oneshot"):
        near(far)
    far.remove(store.DRAWINGS)
    with pytest.raises(UserError, match=rf"{far}/{store.DRAWINGS} is missing"):
        near(far)


@pytest.mark.parametrize("content", [None, {}, {store.TRIALS: "0"}, []])
def test_data_without_their_digests_are_refused(content: object, far: Folder) -> None:
    far.remove(DIGESTS)
    if content is not None:
        far.write_json(DIGESTS, content)
    with pytest.raises(UserError, match=rf"{far}/{DIGESTS} is missing or incomplete"):
        near(far)


def test_data_whose_maker_was_killed_before_their_digests_are_not_ready(far: Folder) -> None:
    assert sets._ready(far)
    far.write_json(DIGESTS, {store.TRIALS: far.read_json(DIGESTS)[store.TRIALS]})
    assert not sets._ready(far), "else nothing could make them whole again"


def test_a_cache_that_cannot_be_written_is_a_sentence(far: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONESHOT_CACHE", "/proc/nowhere")
    with pytest.raises(UserError, match="/proc/nowhere"):
        near(far)


def test_a_whole_copy_is_for_all_who_may_read_it_and_a_lock_that_is_not_theirs_is_a_sentence(far: Folder) -> None:
    copy = near(far)
    lock = Path(copy.parent.file(f"{copy.name}.lock"))
    lock.unlink()
    lock.mkdir()  # nobody can open a folder as a lock; root could open other users' files
    assert near(far) == copy
    copy.remove(store.DRAWINGS)
    with pytest.raises(UserError, match=rf"cannot keep a copy of {far} in .*{lock.name}.*writable for all who use it"):
        near(far)
