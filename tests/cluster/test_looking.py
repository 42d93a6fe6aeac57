"""What a node is asked of a run folder and of data that lie far away, with one process in the node's place."""

from pathlib import Path

from objects import ObjectStore

from oneshot.base.storage import Folder
from oneshot.cluster import sharing
from oneshot.data import cache, store


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
