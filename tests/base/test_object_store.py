"""Files on an object store: the same promises as on a disk, and clear sentences for the errors of a store."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest
from objects import ObjectStore

from oneshot.base import reach as reaching
from oneshot.base.errors import RunFailed, UserError
from oneshot.base.reach import reach
from oneshot.base.storage import Folder

PART = 10 * 2**20  # bytes; larger objects are uploaded in parts


@pytest.fixture
def folder(bucket: str, object_store: ObjectStore) -> Folder:
    object_store.asked.clear()
    return Folder.of(f"{bucket}/runs/one")


def test_what_is_written_is_read_listed_and_removed(folder: Folder) -> None:
    assert folder.names() == [] and not folder.has()
    folder.write("data", b"\0\xff")
    folder.write("empty", b"")
    (folder / "a" / "b").write_json("value.json", {"é": [1, None]})
    assert folder.names() == ["a", "data", "empty"]
    assert folder.has() and folder.has("data") and folder.has("a") and not folder.has("dat")
    assert (folder.read("data"), folder.read("empty")) == (b"\0\xff", b"")
    assert (folder / "a" / "b").read_json("value.json") == {"é": [1, None]}
    (folder / "a").remove()
    folder.remove("data")
    assert folder.names() == ["empty"]
    for _ in range(2):
        folder.remove()
        folder.remove("data")
    assert not folder.has() and folder.names() == []
    with pytest.raises(FileNotFoundError):
        folder.read("data")


def test_a_folder_does_not_see_its_neighbours_whose_names_begin_alike(bucket: str) -> None:
    one, other = Folder.of(f"{bucket}/run"), Folder.of(f"{bucket}/run-2")
    other.write("data", b"x")
    assert not one.has() and one.names() == []
    one.write("data", b"y")
    one.remove()
    assert other.read("data") == b"x"


@pytest.mark.parametrize("value", [{"n": 1}, {"n": 1, "more": "x" * 50}])
def test_an_object_that_is_replaced_while_it_is_read_is_read_whole(
    value: dict[str, object], folder: Folder, object_store: ObjectStore
) -> None:
    """A read asks for the length first and then for the content."""
    folder.write_json("value.json", {"n": 1, "some": "x" * 20})

    def replace(method: str, path: str, query: str) -> None:
        if method == "GET" and path.endswith("/value.json"):
            object_store.refuse = lambda *request: None
            folder.write_json("value.json", value)

    object_store.refuse = replace
    assert folder.read_json("value.json") == value
    assert object_store.gets("value.json") == 2


def test_lines_that_become_fewer_while_they_are_read_are_read_whole(folder: Folder, object_store: ObjectStore) -> None:
    folder.write("lines.jsonl", b"{}\n[1, 2, 3]\n")

    def replace(method: str, path: str, query: str) -> None:
        if method == "GET" and path.endswith("/lines.jsonl"):
            object_store.refuse = lambda *request: None
            folder.write("lines.jsonl", b"{}\n")

    object_store.refuse = replace
    assert folder.read_lines("lines.jsonl") == [{}]


def test_an_object_that_is_no_json_is_said_to_be_damaged(folder: Folder) -> None:
    folder.write("value.json", b"{")
    with pytest.raises(UserError, match=r"value\.json is not JSON .* restore it or remove it"):
        folder.read_json("value.json")


def test_lines_are_added_one_by_one(folder: Folder) -> None:
    for number in range(3):
        folder.append_json("lines.jsonl", {"n": number})
    assert [json.loads(line)["n"] for line in folder.read("lines.jsonl").splitlines()] == [0, 1, 2]


def test_a_line_is_added_to_a_file_that_is_replaced_while_it_is_read(folder: Folder, object_store: ObjectStore) -> None:
    folder.append_json("lines.jsonl", {"n": 0})

    def replace(method: str, path: str, query: str) -> None:
        if method == "GET" and path.endswith("/lines.jsonl"):
            object_store.refuse = lambda *request: None
            folder.write("lines.jsonl", b'{"n": 1000}\n')

    object_store.refuse = replace
    folder.append_json("lines.jsonl", {"n": 2})
    assert folder.read_lines("lines.jsonl") == [{"n": 1000}, {"n": 2}]


def test_a_small_file_is_one_request_and_no_folder_is_made_for_it(folder: Folder, object_store: ObjectStore) -> None:
    (folder / "a" / "b").write("data", b"x" * 10_000)
    assert [(method, path.partition("/runs")[2]) for method, path, _ in object_store.asked] == [
        ("PUT", "/one/a/b/data")
    ]


def test_a_large_file_is_whole(folder: Folder) -> None:
    data = os.urandom(PART) + b"end"
    folder.write("large", data)
    assert folder.read("large") == data
    with folder.writing("stream") as stream:
        stream.write(data)
        stream.write(data)
        assert not folder.has("stream")
    assert folder.read("stream") == 2 * data
    with pytest.raises(KeyboardInterrupt), folder.writing("stream") as stream:
        stream.write(b"half")
        raise KeyboardInterrupt
    assert folder.read("stream") == 2 * data


def test_a_write_that_fails_half_way_leaves_the_old_file(folder: Folder, object_store: ObjectStore) -> None:
    folder.write("large", b"the old content")
    object_store.refuse = lambda method, path, query: 400 if "partNumber=2" in query else None
    for name in ("large", "new"):
        with pytest.raises(RunFailed, match=rf"cannot write s3://.*/runs/one/{name}: AWS Error .*UploadPart"):
            folder.write(name, b"x" * (PART + 1))
    assert any("partNumber=1" in query for _, _, query in object_store.asked)
    assert folder.names() == ["large"] and folder.read("large") == b"the old content"


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C interrupts, even if the tests were started with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_write_is_finished_first(folder: Folder, object_store: ObjectStore) -> None:
    def interrupt(method: str, path: str, query: str) -> None:
        if method == "PUT":
            os.kill(os.getpid(), signal.SIGINT)

    folder.write("data", b"the old content")
    object_store.refuse = interrupt
    with pytest.raises(KeyboardInterrupt):
        folder.write("data", b"the new content")
    assert folder.read("data") == b"the new content"


def test_a_store_that_fails_is_no_missing_file(folder: Folder, object_store: ObjectStore) -> None:
    folder.write("data", b"x")
    object_store.refuse = lambda *request: 400
    for verb, ask in {
        "look at": lambda: folder.has("data"),
        "list": folder.names,
        "read": lambda: folder.read("data"),
        "write": lambda: folder.append_json("data", 1),
        "remove": folder.remove,
    }.items():
        verb = "read" if verb == "write" else verb  # adding a line reads the file first
        with pytest.raises(RunFailed, match=f"cannot {verb} {folder}.*HTTP status 400"):
            ask()


def test_a_store_that_may_be_read_but_not_written_is_a_wrong_request(folder: Folder, object_store: ObjectStore) -> None:
    object_store.refuse = lambda method, path, query: 403 if method in ("PUT", "POST") else None
    with pytest.raises(UserError, match=r"cannot write s3://.*/data: AWS Error ACCESS_DENIED"):
        folder.write("data", b"x")


# Where a store cannot be used


def test_a_bucket_that_is_there_is_reached(bucket: str, object_store: ObjectStore) -> None:
    object_store.asked.clear()
    assert reach(f"{bucket}/runs/one").uri == f"{bucket}/runs/one"
    assert reach("/data").path == "/data"
    assert len(object_store.asked) == 1


def test_rights_may_end_below_the_bucket(bucket: str, object_store: ObjectStore) -> None:
    """Who may use objects often may not query the bucket, as with Google's objectAdmin or a policy for prefixes."""
    name = bucket.removeprefix("s3:/")
    object_store.refuse = lambda method, path, query: 403 if path == name and method in ("HEAD", "PUT") else None
    folder = reach(f"{bucket}/runs/one")
    folder.make()
    folder.write("data", b"x")
    assert folder.names() == ["data"] and folder.read("data") == b"x"


@pytest.mark.parametrize(
    ("code", "said", "sentence"),
    [
        (-9, "", r"the process that queried its store ended by signal 9 \(Killed\) without a message"),
        (1, " \n", "the process that queried its store ended with exit code 1 without a message"),
        (134, "Fatal\n", "Fatal"),
    ],
)
def test_a_process_that_asks_and_dies_is_named_with_its_end(
    code: int, said: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    died = subprocess.CompletedProcess([], code, stdout="", stderr=said)
    monkeypatch.setattr(reaching.subprocess, "run", lambda *_, **__: died)
    with pytest.raises(UserError, match=f"cannot use 's3://b/p' as a folder: {sentence}$"):
        reach("s3://b/p")


@pytest.mark.parametrize(
    ("uri", "said", "sentence"),
    [
        ("gs://b/p", "google::cloud::Status(PERMISSION_DENIED: no)", "GOOGLE_APPLICATION_CREDENTIALS"),
        ("gs://b/p", "google::cloud::Status(UNAVAILABLE: resolve host)", "check the network$"),
        ("abfss://c@a.dfs.core.windows.net/p", "DefaultAzureCredential: no credential", "AZURE_CLIENT_ID"),
    ],
)
def test_advice_is_that_of_the_store(uri: str, said: str, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done = subprocess.CompletedProcess([], 1, stdout="", stderr=f"OSError: {said}")
    monkeypatch.setattr(reaching.subprocess, "run", lambda *_, **__: done)
    reaching._ask.cache_clear()
    with pytest.raises(UserError, match=sentence) as caught:
        reach(uri)
    assert "AWS" not in str(caught.value)


def test_a_wrong_bucket_is_named(object_store: ObjectStore) -> None:
    with pytest.raises(UserError, match="cannot use 's3://nowhere/run' as a folder: there is no bucket 'nowhere'"):
        reach("s3://nowhere/run")


def test_wrong_credentials_are_named(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "another")
    with pytest.raises(UserError, match=rf"'{bucket}' .*ACCESS_DENIED .*; check AWS_ACCESS_KEY_ID") as caught:
        reach(bucket)
    assert "secret" not in str(caught.value)


@pytest.fixture
def silent() -> Iterator[str]:
    """An endpoint that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_an_endpoint_that_does_not_answer_is_given_up(
    silent: str, object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reaching, "SECONDS", 2)
    monkeypatch.setenv("AWS_ENDPOINT_URL", silent)
    with pytest.raises(UserError, match=r"'s3://silent/run' .* no answer within 2 s; check .*AWS_ENDPOINT_URL"):
        reach("s3://silent/run")


def test_an_endpoint_where_nothing_listens_is_named(
    silent: str, object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(UserError, match=r"'s3://closed/run' .*AWS Error NETWORK_CONNECTION.*; check the network"):
        reach("s3://closed/run")


@pytest.mark.parametrize("uri", ["nowhere://bucket/a", "s3://bucket/a?bad=1", "s3://a b/c"])
def test_a_bad_uri_is_a_sentence(uri: str, object_store: ObjectStore) -> None:
    with pytest.raises(UserError, match=r"cannot use '.*' as a folder: ") as caught:
        reach(uri)
    assert uri in str(caught.value) and "Traceback" not in str(caught.value)


def test_keys_in_a_uri_are_refused_and_not_repeated() -> None:
    with pytest.raises(UserError, match="use the environment") as caught:
        reach("s3://key:hidden@bucket/run")
    assert "hidden" not in str(caught.value)
