"""A file exists completely or not at all, wherever it is stored."""

import errno
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from users import plain_user

from oneshot.base.errors import DiskFull, UserError
from oneshot.base.storage import Folder


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder.of(tmp_path / "run")


def test_what_is_written_is_read(folder: Folder) -> None:
    folder.write("data", b"\0\xff")
    folder.write_json("value.json", {"é": [1, None]})
    assert folder.read("data") == b"\0\xff"
    assert folder.read_json("value.json") == {"é": [1, None]}
    assert folder.names() == ["data", "value.json"]
    assert folder.has() and folder.has("data") and not folder.has("other")


def test_a_folder_that_is_not_there_is_empty_and_writing_makes_it(folder: Folder) -> None:
    assert folder.names() == [] and not folder.has()
    with pytest.raises(FileNotFoundError):
        folder.read("data")
    (folder / "a" / "b").write("data", b"x")
    assert (folder / "a").names() == ["b"]
    assert (folder / "a" / "b").name == "b"


def test_a_folder_is_as_large_as_all_files_in_it(folder: Folder) -> None:
    assert folder.size() == 0
    folder.write("data", b"xyz")
    (folder / "a" / "b").write("data", b"x" * 1000)
    assert (folder.size(), (folder / "a").size(), (folder / "none").size()) == (1003, 1000, 0)


def test_lines_are_added_one_by_one(folder: Folder) -> None:
    for number in range(3):
        folder.append_json("lines.jsonl", {"n": number})
    assert [json.loads(line)["n"] for line in folder.read("lines.jsonl").splitlines()] == [0, 1, 2]


def test_a_line_is_not_added_to_one_that_is_cut_off(folder: Folder) -> None:
    folder.write("lines.jsonl", b'{"n": 0}\n{"n"')
    with pytest.raises(UserError, match=r"lines\.jsonl is not JSON"):
        folder.append_json("lines.jsonl", {"n": 1})
    folder.write("lines.jsonl", b'{"n": 0}')  # as an editor may leave it
    folder.append_json("lines.jsonl", {"n": 1})
    assert folder.read_lines("lines.jsonl") == [{"n": 0}, {"n": 1}]


def test_of_a_folder_that_nobody_may_write_to_the_file_is_named_that_was_asked_for(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Any, *_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    folder.make()
    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(OSError, match="Read-only file system") as refused:
        folder.write("data", b"x")
    assert refused.value.filename == folder.file("data")


def test_of_all_who_make_a_new_folder_one_does(folder: Folder) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda _: folder.make_new(), range(8))) == 1
    folder.write("file", b"")
    with pytest.raises(UserError, match=r"cannot make the folder .*file: "):
        (folder / "file" / "run").make_new()


def test_lines_added_at_the_same_moment_all_stay(folder: Folder) -> None:
    numbers = range(40)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: folder.append_json("lines.jsonl", {"n": number}), numbers))

    assert sorted(line["n"] for line in folder.read_lines("lines.jsonl")) == list(numbers)
    assert folder.names() == ["lines.jsonl"]


class Failing:
    """A file on a disk that is full after `room` bytes."""

    def __init__(self, stream: Any, room: int) -> None:
        self.stream, self.room = stream, room

    def __enter__(self) -> "Failing":
        return self

    def __exit__(self, *exception: object) -> None:
        self.stream.close()

    def write(self, data: bytes) -> None:
        self.stream.write(data[: self.room])
        raise OSError(28, "No space left on device")


def fill_disk(monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    if when == "write":
        monkeypatch.setattr("builtins.open", lambda path, mode: Failing(Path(path).open(mode), room=3))
    else:
        monkeypatch.setattr(os, when, fail)


@pytest.mark.parametrize("when", ["write", "fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_half_written(
    folder: Folder, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write("data", b"the old content")
    fill_disk(monkeypatch, when)
    with pytest.raises(DiskFull, match=r"no space left on the disk for .*/data: free some and go on"):
        folder.write("data", b"the new content")
    with pytest.raises(DiskFull, match=r"/other: free some"):
        folder.write("other", b"the new content")
    assert os.listdir(folder.path) == ["data"]
    assert folder.read("data") == b"the old content"


def test_a_stream_is_a_file_when_it_is_over_and_not_where_it_breaks_off(folder: Folder) -> None:
    for content in (b"the old", b"the new"):
        with folder.writing("data") as stream:
            stream.write(content[:3])
            stream.write(content[3:])
            assert folder.names() == ([] if content == b"the old" else ["data"])
        assert folder.read("data") == content
    with pytest.raises(KeyboardInterrupt), folder.writing("data") as stream:
        stream.write(b"half")
        raise KeyboardInterrupt
    assert os.listdir(folder.path) == ["data"] and folder.read("data") == b"the new"


def test_a_folder_has_one_around_it() -> None:
    assert Folder.of("/a/b").parent == Folder.of("/a")
    assert str(Folder.of("/a").parent) == "/"


def test_unfinished_writes_of_a_killed_process_are_not_shown(folder: Folder) -> None:
    folder.write("data", b"x")
    Path(folder.path, ".partial-0123abcd-data").write_bytes(b"half")
    assert folder.names() == ["data"]


def test_json_that_is_damaged_is_a_sentence(folder: Folder) -> None:
    for content in (b"{", b"", b"\xff\xfe", b"[" * 100_000, b"9" * 5_000):
        folder.write("value.json", content)
        with pytest.raises(UserError, match=r"value\.json is not JSON .* restore it or remove it"):
            folder.read_json("value.json")


def test_removing_takes_all_that_is_inside_and_nothing_is_no_error(folder: Folder) -> None:
    (folder / "a").write("data", b"x")
    folder.remove()
    assert not folder.has()
    folder.remove()


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match=r"cannot make the folder .*file/run"):
        Folder.of(tmp_path / "file" / "run").write("data", b"x")


def test_a_file_in_a_folders_place_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="file is a file, and a folder is needed"):
        Folder.of(tmp_path / "file").names()


def test_a_folder_without_permission_is_a_sentence() -> None:
    with TemporaryDirectory() as place:  # other users may not enter pytest's own folders
        os.chmod(place, 0o555)
        with plain_user(), pytest.raises(PermissionError, match=f"Permission denied: '{place}/data'"):
            Folder.of(place).write("data", b"x")
        with plain_user(), pytest.raises(UserError, match=r"cannot make the folder .*run: Permission denied; name"):
            (Folder.of(place) / "run").make()
        assert os.listdir(place) == []
        os.chmod(place, 0o000)
        with plain_user(), pytest.raises(UserError, match="data: permission denied; name a folder that can be read"):
            Folder.of(place).has("data")
        os.chmod(place, 0o700)


# Where a folder is


def test_a_relative_path_is_made_absolute_because_workers_run_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Folder.of("runs/one").path == str(tmp_path / "runs" / "one")
    assert Folder.of(Path("runs")).uri == str(tmp_path / "runs")


def test_a_home_folder_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    assert Folder.of("~/data").path == "/somewhere/data"


@pytest.mark.parametrize("path", ["~nobody-of-this-name/x", "~"])
def test_a_home_that_nobody_knows_is_a_sentence(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(self: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    if path == "~":  # a container whose user has neither a HOME nor an entry
        monkeypatch.setattr(Path, "expanduser", unknown)
    with pytest.raises(UserError, match=f"'{path}': that home directory is not known; write the path in full, or"):
        Folder.of(path)


@pytest.mark.parametrize(
    "uri",
    [
        "s3://key:secret@bucket/a",
        "s3://key:a/b+secret@bucket/a",
        "abfs://box/a?sv=1&sig=secret",
        "abfs://box/a?client_secret=secret",
    ],
)
def test_a_secret_in_a_uri_is_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(UserError, match="no keys or passwords in a URI") as caught:
        Folder.of(uri)
    assert "secret" not in str(caught.value)


def test_a_folder_goes_only_if_it_is_empty(folder: Folder) -> None:
    (folder / "a").write("x", b"")
    (folder / "a").remove_if_empty()
    assert (folder / "a").has("x")
    (folder / "a").remove("x")
    (folder / "a").remove_if_empty()
    (folder / "a").remove_if_empty()
    assert not (folder / "a").has()


def test_a_folder_stays_itself() -> None:
    folder = Folder.of("/data")
    assert Folder.of(folder) is folder


def test_a_file_uri_is_a_local_folder(tmp_path: Path) -> None:
    folder = Folder.of(f"file://{tmp_path}/run/")
    assert folder.is_local and folder.path == f"{tmp_path}/run"
    folder.write("data", b"x")
    assert (tmp_path / "run" / "data").read_bytes() == b"x"


@pytest.mark.parametrize("name", ["runs/\udcff", "runs/\0"])
def test_a_name_that_no_folder_has_is_a_sentence(name: str) -> None:
    with pytest.raises(UserError, match=r"the folder 'runs/.*' has a name .*: name another"):
        Folder.of(name)


@pytest.mark.parametrize("uri", ["nowhere://bucket/a", "s3://bucket/a?bad=1", "://"])
def test_a_uri_that_cannot_be_used_is_a_sentence(uri: str) -> None:
    with pytest.raises(UserError, match=r"cannot use '.*' as a folder: ") as caught:
        Folder.of(uri)
    assert uri in str(caught.value)


@pytest.mark.parametrize(
    "uri",
    [
        "/data/run",
        "gs://bucket/run?endpoint_override=127.0.0.1:9000&scheme=http",
        "s3://bucket/run?region=eu-west-1&endpoint_override=127.0.0.1:9000&scheme=http",
    ],
)
def test_a_folders_uri_is_that_folder_in_any_process(uri: str) -> None:
    inside = Folder.of(uri) / "trials" / "my münzen #1" / "000"
    again = Folder.of(inside.uri)
    assert again.path == inside.path
    assert again.filesystem.type_name == inside.filesystem.type_name
    assert again.filesystem == inside.filesystem  # the same region and endpoint too


@pytest.mark.parametrize(
    "uri", ["abfss://account@container/run", "gs://anonymous@bucket/run", "abfs://c@a.dfs.core.windows.net/run"]
)
def test_a_uri_keeps_what_is_no_path(uri: str) -> None:
    assert (Folder.of(uri) / "best").uri == f"{uri}/best"
    assert (Folder.of(uri) / "best").name == "best"
