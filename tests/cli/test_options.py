"""Each option of the command line reaches the function it is meant for."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pictures import tree

from oneshot.answers import classify, embed
from oneshot.base.storage import Folder
from oneshot.bench import run as bench
from oneshot.cli import main as cli
from oneshot.cli import repeat, train, tune
from oneshot.data import sets, store
from oneshot.evaluation import labelled
from oneshot.run import cards

Given = Callable[[Any, str], dict[str, Any]]


class Enough(Exception):
    """The call was recorded; the command need not go on."""


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Given:
    """A function that replaces another and returns a dict, which the next call of the other fills with keywords."""

    def replace(module: Any, name: str) -> dict[str, Any]:
        found: dict[str, Any] = {}

        def called(*arguments: Any, **keywords: Any) -> None:
            found.update(keywords, arguments=arguments)
            raise Enough

        monkeypatch.setattr(module, name, called)
        return found

    return replace


def ask(*arguments: str) -> None:
    with pytest.raises(Enough):
        cli._answer([*arguments, "--debug"])  # so that errors are raised


OWN = {"polarity": "photo", "side": 64, "least": 3, "seed": 7, "split_file": "parts.toml"}
OWN_OPTIONS = [
    "--polarity", "photo", "--side", "64", "--min-images", "3", "--seed", "7", "--split-file", "parts.toml",
]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "name", "how"),
    [([], None, {}), (["--name", "coins", *OWN_OPTIONS], "coins", OWN), (["--seed", "0"], None, {"seed": 0})],
)
def test_how_own_images_are_taken(options: list[str], name: str | None, how: dict[str, Any], given: Given) -> None:
    found = given(sets, "prepare")
    ask("data", "--dataset", "folder", "--source", "here", *options)
    assert found["arguments"] == ("folder",) and found["source"] == "here"
    assert (found["name"], found["how"]) == (name, how)


def test_how_many_classes_are_shown_and_how_many_strangers_may_be_taken_for_one(
    given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cards, "find", lambda where: Folder.of("network"))
    found = given(classify, "run")
    ask("classify", "run", "--support", "classes", "one.png", "two.png")
    assert (found["top"], found["false_accept"], found["as_json"]) == (5, None, False)
    ask("classify", "run", "--support", "classes", "--top", "3", "--false-accept", "0.01", "--json", "one.png")
    assert (found["top"], found["false_accept"], found["as_json"]) == (3, 0.01, True)
    assert found["support"] == "classes" and found["arguments"][1] == ["one.png"] and found["per_class"] is None
    ask("classify", "run", "--support", "classes", "--per-class", "3", "one.png")
    assert found["per_class"] == 3


def test_labelled_images_are_asked_about_with_the_same_options(given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards, "find", lambda where: Folder.of("network"))
    found = given(labelled, "run")
    ask("classify", "run", "--support", "classes", "--labelled", "known")
    assert found["arguments"][1] == "known" and found["support"] == "classes"
    assert (found["top"], found["false_accept"], found["as_json"], found["device"]) == (5, None, False, "auto")
    options = ["--top", "3", "--false-accept", "0.2", "--json", "--device", "cpu"]
    ask("classify", "run", "--support", "classes", "--labelled", "known", *options)
    assert (found["top"], found["false_accept"], found["as_json"], found["device"]) == (3, 0.2, True, "cpu")


def test_what_is_embedded_and_what_is_printed_of_it(given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards, "find", lambda where: Folder.of("network"))
    found = given(embed, "run")
    ask("embed", "run", "one.png", "scans", "--out", "x.parquet")
    assert found["arguments"][1] == ["one.png", "scans"] and found["support"] is None
    assert (found["out"], found["quiet"], found["as_json"]) == ("x.parquet", False, False)
    ask("embed", "run", "--support", "classes", "--out", "x.parquet", "--quiet", "--json")
    assert found["arguments"][1] == [] and found["support"] == "classes"
    assert (found["quiet"], found["as_json"]) == (True, True)
    assert (found["add_to"], found["drop"], found["per_class"]) == (None, [], None)
    ask(
        "embed",
        "run",
        "--support",
        "classes",
        "--add-to",
        "x.parquet",
        "--drop",
        "a",
        "--drop",
        "b",
        "--per-class",
        "3",
    )
    assert (found["out"], found["add_to"], found["drop"]) == ("x.parquet", "x.parquet", ["a", "b"])
    ask("embed", "run", "--add-to", "x.parquet", "--drop", "a", "--out", "y.parquet")
    assert (found["out"], found["add_to"], found["support"]) == ("y.parquet", "x.parquet", None)
    assert found["per_class"] is None


def test_how_long_seeds_are_trained(given: Given) -> None:
    found = given(repeat, "run")
    ask("repeat", "cpu5", "koch", "--seeds", "2,3")
    assert (found["jobs"], found["seeds"], found["minutes"]) == (["cpu5", "koch"], "2,3", None)
    ask("repeat", "cpu5", "--minutes", "2.5")
    assert (found["seeds"], found["minutes"]) == ("1..5", 2.5)


@pytest.mark.parametrize(("verb", "where"), [("train", train), ("tune", tune)])
def test_whether_ray_is_heard(verb: str, where: Any, given: Given) -> None:
    found = given(where, verb)
    for options, verbose in (([], False), (["--verbose"], True)):
        ask(verb, "quick", *options)
        assert found["verbose"] is verbose


def test_how_long_the_bench_waits_and_what_it_keeps(
    given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = given(bench, "bench")
    here = bench.here()
    monkeypatch.setattr(bench, "here", lambda: here | {"commit": "0123456789ab"})
    monkeypatch.setenv("ONESHOT_DATA", str(tmp_path))
    ask("bench", "--rows", "early_stopping", "--dataset", "glyphs-4", "--cap", "90", "--keep", str(tmp_path / "kept"))
    request = found["arguments"][1]
    assert (request.cap, request.keep) == (90.0, str(tmp_path / "kept/0123456789ab"))
    ask("bench", "--rows", "pairs", "--dataset", "glyphs-4")
    request = found["arguments"][1]
    assert (request.cap, request.keep) == (1800.0, "")


def test_own_images_are_taken_as_all_options_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tree(tmp_path / "shots", classes=7, images=3, kind="photo")
    (source / "class06/image2.png").unlink()
    names = {"train": ["class00", "class01"], "validation": ["class02", "class03"], "test": ["class04", "class05"]}
    (tmp_path / "parts.json").write_text(json.dumps(names))
    options = ["--name", "coins", "--polarity", "light", "--side", "40", "--min-images", "3", "--seed", "7"]
    monkeypatch.setenv("ONESHOT_DATA", str(tmp_path / "root"))
    where = ["--dataset", "folder", "--source", str(source), "--split-file", str(tmp_path / "parts.json")]
    assert cli._answer(["data", *where, *options, "--json"]) == 0
    told, said = capsys.readouterr()
    assert "1 class(es) have fewer than 3 images and are left out: class06" in " ".join(said.split())
    about = store.describe(Folder.of(json.loads(told)["folder"]))
    assert (about.own.polarity, about.own.by, about.height, about.width) == ("light", "file", 40, 40)
    assert {part: sorted(each) for part, each in about.own.split.items()} == {
        part: [f"coins/{name}" for name in each] for part, each in names.items()
    }
