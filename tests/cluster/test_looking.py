"""What a node is asked about a run folder and data, and how one that does not see them is reported. Without Ray."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from objects import ObjectStore

from oneshot.base.errors import UserError
from oneshot.base.storage import Folder
from oneshot.cluster import sharing
from oneshot.data import cache, store

MARK = ".partial-mark"


@pytest.fixture
def run(tmp_path: Path) -> Folder:
    """A run folder with the mark that nodes look for."""
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
        (
            ray.exceptions.TaskUnschedulableError("its node died. lease_id=0f00, task_name=_look"),
            "cannot be asked (The task is not schedulable: its node died., task_name=_look)",
        ),
    ],
)
def test_a_node_without_an_answer_is_named_with_the_reason(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def get(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(ray, "get", get)
    assert sharing._answer("the task")[0] == said


NAMES = {"11" * 28: "one", "22" * 28: "two"}  # of the nodes, by id


class Nodes:
    """A cluster of two nodes. The first `failing` questions to the second fail; `alive` says, look by look, whether
    it is alive."""

    def __init__(self, patch: pytest.MonkeyPatch, *, failing: int, alive: Iterable[bool]) -> None:
        self.asked: list[str] = []
        self.failing, self.alive = failing, iter(alive)
        for name, value in (("nodes", self.nodes), ("remote", self.remote), ("get", self.get)):
            patch.setattr(ray, name, value)
        patch.setattr(ray, "wait", lambda *_, **__: None)
        patch.setattr(sharing, "HEALTH", 0.0)

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {"NodeID": node, "NodeManagerAddress": name, "Alive": name == "one" or next(self.alive)}
            for node, name in NAMES.items()
        ]

    def remote(self, **_: object) -> Callable[..., Any]:
        def put(*, scheduling_strategy: Any) -> Any:
            return SimpleNamespace(remote=lambda *_: scheduling_strategy.node_id)

        return lambda question: SimpleNamespace(options=put)

    def get(self, node: str, **_: object) -> str:
        self.asked.append(NAMES[node])
        if NAMES[node] == "two" and self.asked.count("two") <= self.failing:
            raise ray.exceptions.TaskUnschedulableError("lease_id=0f00")
        return ""


@pytest.mark.parametrize(
    ("failing", "alive", "asked"),
    [
        (1, [True, False], ["one", "two"]),  # it died before it was asked
        (1, [True] * 3, ["one", "two", "two"]),  # the failure had another cause and passed
        (2, [True, True, False], ["one", "two", "two"]),
    ],
)
def test_a_node_that_has_just_died_is_passed_over(
    failing: int, alive: list[bool], asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = Nodes(monkeypatch, failing=failing, alive=alive)
    sharing._ask_all(sharing._look, seconds=1)
    assert nodes.asked == asked


def test_a_node_that_is_alive_and_cannot_be_asked_twice_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    Nodes(monkeypatch, failing=2, alive=[True] * 9)
    with pytest.raises(UserError, match=r"^node two cannot be asked \(") as raised:
        sharing._ask_all(sharing._look, seconds=1)
    assert "lease_id" not in str(raised.value)


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
