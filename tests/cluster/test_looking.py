"""What a node is asked of a run folder and of data, and what is said of one that does not see them, without Ray."""

import os
from pathlib import Path

import pytest
import ray
from objects import ObjectStore

from oneshot.base.storage import Folder
from oneshot.cluster import sharing
from oneshot.data import cache, store

MARK = ".partial-mark"


@pytest.fixture
def run(tmp_path: Path) -> Folder:
    """A run folder with the mark that is looked for."""
    made = Folder.of(tmp_path / "run")
    made.write(MARK, b"")
    return made


def test_a_node_that_sees_what_the_driver_does_has_nothing_to_say(run: Folder, small_glyphs: Folder) -> None:
    assert sharing._look(run.uri, small_glyphs.uri, MARK, sharing._digest(small_glyphs)) == ""
    assert os.listdir(run.path) == [MARK]  # what it wrote there is gone


def test_a_node_that_sees_other_data_says_so(run: Folder, small_glyphs: Folder) -> None:
    said = sharing._look(run.uri, small_glyphs.uri, MARK, "another digest")
    assert said == f"sees other data in {small_glyphs.uri}"


def test_a_node_that_sees_another_run_folder_says_so(tmp_path: Path, small_glyphs: Folder) -> None:
    said = sharing._look(str(tmp_path), small_glyphs.uri, MARK, sharing._digest(small_glyphs))
    assert said == f"does not see the run folder {tmp_path}"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ray.exceptions.GetTimeoutError("late"), f"does not answer within {sharing.SECONDS} s"),
        (ray.exceptions.RayError("The task failed:\nits node died\n"), "cannot be asked (its node died)"),
    ],
)
def test_a_node_without_an_answer_is_named_with_the_reason(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def get(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(ray, "get", get)
    assert sharing._answer("the task") == said


def test_whether_far_data_are_the_same_is_asked_before_they_are_fetched(
    bucket: str, object_store: ObjectStore, small_glyphs: Folder, tmp_path: Path
) -> None:
    run, data = Folder.of(tmp_path), Folder.of(f"{bucket}/data/glyphs")
    for name in small_glyphs.names():
        data.write(name, small_glyphs.read(name))
    run.write("mark", b"")
    object_store.asked.clear()
    digest = sharing._digest(data)
    assert sharing._look(run.uri, data.uri, "mark", digest) == ""
    assert sharing._look(run.uri, data.uri, "mark", "another") == f"sees other data in {data}"
    assert object_store.gets(store.DRAWINGS) == 0

    assert sharing._fetch(data.uri) == "" and object_store.gets(store.DRAWINGS) == 1
    assert cache.near(data).has(store.DRAWINGS)
    cache.near(data).remove()
    object_store.refuse = lambda method, path, query: 403 if path.endswith(store.DRAWINGS) else None
    assert sharing._fetch(data.uri).startswith(f"cannot fetch the data in {data}: cannot read {data}/{store.DRAWINGS}")
