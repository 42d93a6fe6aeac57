"""How often a network is right on labelled images: the counts equal those of single answers, at every rate."""

import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import oneshot
from oneshot.answers import embed, queries
from oneshot.answers.recogniser import OneShot
from oneshot.base.errors import RunFailed, UserError
from oneshot.base.storage import Folder
from oneshot.data import splits, store
from oneshot.evaluation import labelled
from oneshot.evaluation.scoring import wilson

CLASSES, STRANGERS, DRAWERS = 8, 4, 3


@pytest.fixture(scope="module")
def net(trained_run: Path) -> OneShot:
    return oneshot.load(trained_run, device="cpu")


@pytest.fixture(scope="module")
def drawn(small_glyphs: Folder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`classes`: one image of each of 8 test characters that the network has not seen. `known`: 3 other images of each
    of them, and 3 of each of 4 strangers."""
    place = tmp_path_factory.mktemp("labelled")
    held = splits.load_part(small_glyphs, splits.split("lake", store.describe(small_glyphs)).test)
    (place / "classes").mkdir()
    for character in range(CLASSES + STRANGERS):
        first, *others = held.pixels(np.flatnonzero(held.character == character)[: 1 + DRAWERS])
        if character < CLASSES:
            Image.fromarray(255 - first).save(place / "classes" / f"c{character}.png")
        (place / "known" / f"c{character}").mkdir(parents=True)
        for drawer, ink in enumerate(others):
            Image.fromarray(255 - ink).save(place / "known" / f"c{character}" / f"{drawer}.png")
    return place


@pytest.fixture
def place(drawn: Path, tmp_path: Path) -> Path:
    """A copy of `drawn`, which a test may change."""
    return Path(shutil.copytree(drawn, tmp_path / "place"))


def measure(where: Path, place: Path, *, support: str = "classes", known: str = "known", **options: Any) -> None:
    given = {"top": 3, "false_accept": None, "as_json": True, "device": "cpu"} | options
    labelled.run(Folder.of(where), str(place / known), support=str(place / support), **given)


def told(capsys: pytest.CaptureFixture[str]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The lines for the images, and the summary."""
    *lines, last = map(json.loads, capsys.readouterr().out.splitlines())
    return lines, last["summary"]


KINDS = ("right", "wrong", "refused", "strangers_named", "strangers_refused")


def test_the_figures_are_a_count_of_single_answers_at_each_rate(
    trained_run: Path, net: OneShot, drawn: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measure(trained_run, drawn)
    _, record = told(capsys)
    assert [each["false_accept"] for each in record["rates"]] == [0.01, 0.05, 0.1, 0.2, 0.5, 1]
    images = sorted((drawn / "known").glob("*/*.png"))
    truths = [int(path.parent.name[1:]) for path in images]
    met = Counter[str]()
    for found in record["rates"]:
        counted = Counter[str]()
        for path, truth in zip(images, truths, strict=True):
            (answer,) = net.classify(path, drawn / "classes", false_accept=found["false_accept"])
            if truth < CLASSES:
                counted["refused" if answer.best is None else "right" if answer.best == f"c{truth}" else "wrong"] += 1
            else:
                counted["strangers_refused" if answer.best is None else "strangers_named"] += 1
        assert {kind: found[kind]["images"] for kind in KINDS} == {kind: counted[kind] for kind in KINDS}
        assert sum(found[kind]["images"] for kind in KINDS) == record["images"] == len(images)
        assert sum(found[kind]["share"] for kind in KINDS[:3]) == pytest.approx(1)
        assert sum(found[kind]["share"] for kind in KINDS[3:]) == pytest.approx(1)
        assert found["right"]["interval"] == list(wilson(counted["right"], CLASSES * DRAWERS))
        assert found["strangers_named"]["interval"] == list(wilson(counted["strangers_named"], STRANGERS * DRAWERS))
        met += counted
    assert set(met) == set(KINDS), "each of them is met"
    assert record["rates"][-1]["refused"]["images"] == record["rates"][-1]["strangers_refused"]["images"] == 0
    assert (record["of_classes"], record["strangers"]) == (CLASSES * DRAWERS, STRANGERS * DRAWERS)
    assert record["strangers_in"] == ["c10", "c11", "c8", "c9"] and record["classes_without_images"] == []


def test_the_best_classes_and_what_was_confused_are_counted_whatever_the_rate(
    trained_run: Path, net: OneShot, drawn: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measure(trained_run, drawn, false_accept=0.01)
    _, record = told(capsys)
    images = [path for path in sorted((drawn / "known").glob("*/*.png")) if int(path.parent.name[1:]) < CLASSES]
    answers = net.classify([str(path) for path in images], drawn / "classes", false_accept=1)
    ranked = [(path.parent.name, answer.classes) for path, answer in zip(images, answers, strict=True)]
    for place, found in zip((1, 3), record["within"], strict=True):
        assert found["places"] == place
        assert found["images"] == sum(truth in classes[:place] for truth, classes in ranked)
    assert record["within"][0]["images"] == record["rates"][-1]["right"]["images"]
    confused = Counter((truth, classes[0]) for truth, classes in ranked if truth != classes[0])
    assert len(confused) > 1
    assert [each["images"] for each in record["confused"]] == sorted(confused.values(), reverse=True)[:10]
    for each in record["confused"]:
        assert each["images"] == confused[each["truth"], each["class"]]
        (answer,) = net.classify(each["example"], drawn / "classes", false_accept=1)
        assert (Path(each["example"]).parent.name, answer.best) == (each["truth"], each["class"])


def test_each_line_has_the_answer_of_classify_and_the_truth(
    trained_run: Path, net: OneShot, drawn: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measure(trained_run, drawn, top=2, false_accept=0.5)
    lines, record = told(capsys)
    assert len(lines) == record["images"] and record["false_accept"] == 0.5
    for line in lines:
        folder = Path(line["image"]).parent.name
        assert line.pop("truth") == (folder if int(folder[1:]) < CLASSES else None)
        (answer,) = net.classify(line.pop("image"), drawn / "classes", false_accept=0.5)
        known = answer.to_dict(2)
        for shown, expected in zip(line.pop("ranked"), known.pop("ranked"), strict=True):
            assert shown["class"] == expected["class"]
            for key in ("probability", "score"):
                assert shown[key] == pytest.approx(expected[key], abs=1e-4)  # computed in another batch
        assert line == known


def test_one_scoring_serves_all_rates(
    trained_run: Path, net: OneShot, drawn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored, score = [], type(net.net).score_between
    monkeypatch.setattr(
        type(net.net), "score_between", lambda self, *given: scored.append(len(given[0])) or score(self, *given)
    )
    monkeypatch.setattr(queries, "BATCH", 10)
    measure(trained_run, drawn)
    assert scored == [10, 10, 10, 6]


def test_an_image_of_the_support_is_left_out_and_counted(
    trained_run: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measure(trained_run, place)
    lines, before = told(capsys)
    assert before["left_out"] == 0
    for name in ("c0", "c1", "c9"):  # in its own folder, in another class's, in a stranger's
        Image.open(place / "classes" / "c0.png").save(place / "known" / name / "again.bmp")
    measure(trained_run, place)
    more, after = told(capsys)
    assert after["left_out"] == 3
    assert after | {"left_out": 0} == before
    left = [line for line in more if "left_out" in line]
    assert [Path(line["image"]).parent.name for line in left] == ["c0", "c1", "c9"]
    assert [line["truth"] for line in left] == ["c0", "c1", None] and not any("class" in line for line in left)
    assert [line for line in more if "left_out" not in line] == lines


def test_so_is_one_that_is_not_the_first_of_its_class_where_the_support_is_a_folder(
    trained_run: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(place / "known", place / "many", ignore=lambda where, names: {"2.png"} & {*names})
    for stranger in ("c8", "c9", "c10", "c11"):
        shutil.rmtree(place / "many" / stranger)
    measure(trained_run, place, support="many")
    _, record = told(capsys)
    assert record["left_out"] == 2 * CLASSES and record["of_classes"] == CLASSES
    embed.run(
        Folder.of(trained_run), [], support=str(place / "many"), out=str(place / "many.parquet"), as_json=True,
        quiet=False, device="cpu", add_to=None, drop=[], per_class=None,
    )  # fmt: skip
    capsys.readouterr()
    measure(trained_run, place, support="many.parquet")
    out, err = capsys.readouterr()
    assert json.loads(out.splitlines()[-1])["summary"]["left_out"] == CLASSES, "a file knows the first of each"
    assert "a file of classes records only the first image of each: other support images" in err


def test_a_file_of_one_image_a_class_knows_them_all(
    trained_run: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(place / "classes" / "c0.png", place / "known" / "c0" / "again.png")
    embed.run(
        Folder.of(trained_run), [], support=str(place / "classes"), out=str(place / "one.parquet"), as_json=True,
        quiet=False, device="cpu", add_to=None, drop=[], per_class=None,
    )  # fmt: skip
    capsys.readouterr()
    measure(trained_run, place)
    found = told(capsys)
    measure(trained_run, place, support="one.parquet")
    out, err = capsys.readouterr()
    assert [json.loads(line) for line in out.splitlines()] == [*found[0], {"summary": found[1]}]
    assert found[1]["left_out"] == 1 and "first image" not in err


@pytest.mark.parametrize("support", ["classes", "one.parquet"])
def test_a_folder_whose_name_is_not_utf8_is_that_of_its_class(
    support: str, trained_run: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = os.fsdecode(b"caf\xe9")
    os.rename(place / "classes" / "c0.png", place / "classes" / f"{raw}.png")
    os.rename(place / "known" / "c0", place / "known" / raw)
    embed.run(
        Folder.of(trained_run), [], support=str(place / "classes"), out=str(place / "one.parquet"), as_json=True,
        quiet=False, device="cpu", add_to=None, drop=[], per_class=None,
    )  # fmt: skip
    capsys.readouterr()
    measure(trained_run, place, support=support)
    lines, _ = told(capsys)
    truths = [line["truth"] for line in lines if raw in line["image"]]
    assert truths and {*truths} == {raw if support == "classes" else r"caf\xe9"}


def test_a_class_without_images_is_named(trained_run: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("c3", "c9"):
        shutil.rmtree(place / "known" / name)
    measure(trained_run, place)
    _, record = told(capsys)
    assert record["classes_without_images"] == ["c3"] and record["strangers_in"] == ["c10", "c11", "c8"]
    assert (record["of_classes"], record["strangers"]) == ((CLASSES - 1) * DRAWERS, (STRANGERS - 1) * DRAWERS)


def test_without_strangers_nothing_is_said_of_their_share(
    trained_run: Path, place: Path, capsys: pytest.CaptureFixture[str], plain_terminal: None
) -> None:
    for name in ("c8", "c9", "c10", "c11"):
        shutil.rmtree(place / "known" / name)
    measure(trained_run, place)
    _, record = told(capsys)
    none = {"images": 0, "share": None, "interval": None}
    assert all(found["strangers_named"] == found["strangers_refused"] == none for found in record["rates"])
    measure(trained_run, place, as_json=False)
    assert "24 images: 24 of 8 classes, 0 strangers" in capsys.readouterr().out


def test_an_image_that_cannot_be_read_stops_no_other(
    trained_run: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "known" / "c0" / "0.png").write_bytes(b"no image")
    with pytest.raises(RunFailed, match=r"^1 of 36 images could not be read$"):
        measure(trained_run, place)
    out, err = capsys.readouterr()
    *lines, last = map(json.loads, out.splitlines())
    assert len(lines) == 36 and "is not a readable image" in lines[0]["error"] and lines[0]["truth"] == "c0"
    assert (last["summary"]["unreadable"], last["summary"]["images"]) == (1, 35)
    assert "0.png is not a readable image" in err


def test_a_network_without_calibration_always_answers(
    trained_run: Path, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], plain_terminal: None
) -> None:
    best = Path(shutil.copytree(trained_run / "best", tmp_path / "older"))
    card = json.loads((best / "model.json").read_text())
    del card["calibration"]
    (best / "model.json").write_text(json.dumps(card))
    measure(trained_run, drawn, false_accept=1)
    _, calibrated = told(capsys)
    measure(best, drawn)
    _, record = told(capsys)
    assert not record["calibrated"] and record["rates"] == calibrated["rates"][-1:]
    measure(best, drawn, as_json=False)
    out, err = capsys.readouterr()
    assert "are not calibrated" in err and "at --false-accept 1" in out and "strangers\nnamed" not in out
    with pytest.raises(UserError, match="leave out --false-accept"):
        measure(best, drawn, false_accept=0.1)


def test_people_are_told_the_same(
    trained_run: Path, drawn: Path, capsys: pytest.CaptureFixture[str], plain_terminal: None
) -> None:
    measure(trained_run, drawn)
    _, record = told(capsys)
    measure(trained_run, drawn, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "36 images: 24 of 8 classes, 12 strangers, of none of them"
    (found,) = (each for each in record["rates"] if each["false_accept"] == 0.1)
    (right,) = (line.split() for line in lines if line.startswith("right  "))
    assert right[:3] == ["right", str(found["right"]["images"]), "24"]
    for each in record["rates"]:
        (row,) = (line.split() for line in lines if line.split()[:1] == [f"{each['false_accept']:g}"] and "(" in line)
        assert row[1::2] == [f"{100 * each[kind]['share']:.1f}" for kind in KINDS[:4]]
    assert not any(".png  " in line for line in lines), "no line an image"


# What is refused


def test_a_request_that_measures_nothing_is_a_sentence(trained_run: Path, place: Path) -> None:
    for name in ("empty", "hollow/c0", "deep/c0/day1", "loose", "others/c99"):
        (place / name).mkdir(parents=True)
    image = place / "known" / "c0" / "0.png"
    for name in ("deep/c0/day1/0.png", "loose/0.png", "others/c99/0.png", "file.png"):
        shutil.copy(image, place / name)
    for name, sentence in {
        "none": r"--labelled .*/none: no such folder; name one that holds a folder of images for each class$",
        "file.png": r"--labelled .*/file\.png: no such folder",
        "empty": r"empty holds no folder of images; put those of each class into a folder named after it$",
        "hollow": r"hollow/c0 holds no image \(",
        "deep": r"deep/c0/day1/0\.png is too deep: put it into .*/deep/CLASS, a folder named after its class$",
        "loose": r"loose/0\.png is not in the folder of a class; put it into a folder named after its class$",
        "others": r"no folder in .*/others is named after a class.*: 'c99' is no class; known: c0, c1, c2, c3",
    }.items():
        with pytest.raises(UserError, match=sentence):
            measure(trained_run, place, known=name)
    with pytest.raises(UserError, match=r"a false-accept rate of 0\.3 was not measured"):
        measure(trained_run, place, false_accept=0.3)
    with pytest.raises(UserError, match="name a folder of classes"):
        measure(trained_run, place, support="none")


def test_where_only_images_of_the_support_are_there_nothing_is_measured(
    trained_run: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "same" / "c0").mkdir(parents=True)
    shutil.copy(place / "classes" / "c0.png", place / "same" / "c0")
    with pytest.raises(
        RunFailed, match="nothing was measured: 0 of 1 images could not be read, and 1 are support images"
    ):
        measure(trained_run, place, known="same")
    assert "summary" not in capsys.readouterr().out
