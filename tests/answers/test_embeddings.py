"""Classes are embedded once, kept in a file and asked many times: the answers are the same as from their folder."""

import json
import os
import re
import shutil
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
import torch
from pictures import figure, tree
from PIL import Image
from torch.overrides import TorchFunctionMode

import oneshot
from oneshot.answers import classify, embed, embeddings, queries, ranking
from oneshot.answers.classes import Classes
from oneshot.answers.recogniser import OneShot
from oneshot.base import locks
from oneshot.base.errors import RunFailed, UserError
from oneshot.base.storage import Folder
from oneshot.cli import main as cli
from oneshot.network import models
from oneshot.network.models import build, looking

pytestmark = pytest.mark.filterwarnings("ignore:classes have different numbers of images")
CLEANING = {"side": 40, "polarity": "photo"}


def network(where: Path, seed: int, *, cleaning: dict[str, Any] | None = None, **changes: Any) -> Path:
    """A run with an untrained network."""
    given = tiny.settings(**changes)
    torch.manual_seed(seed)
    return tiny.network(where, build(given.model, size=28), given, cleaning=cleaning)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return network(tmp_path_factory.mktemp("embeddings") / "run", 0)


@pytest.fixture(scope="module")
def net(trained: Path) -> OneShot:
    return oneshot.load(trained, device="cpu")


@pytest.fixture
def support(tmp_path: Path) -> Path:
    """Nine classes of one image each, except `class03`: it has three images and a copy of one of them."""
    folder = tmp_path / "support"
    folder.mkdir()
    for number in range(9):
        figure(number).save(folder / f"class{number:02}.png")
    (folder / "class03.png").unlink()
    tree(tmp_path / "more", classes=4, images=3)
    shutil.copytree(tmp_path / "more" / "class03", folder / "class03")
    shutil.copy(folder / "class03" / "image1.png", folder / "class03" / "image9.png")
    return folder


@pytest.fixture
def file(trained: Path, support: Path, tmp_path: Path) -> Path:
    """The file of the classes in `support`."""
    embedded(trained, tmp_path / "classes.parquet", support=support)
    return tmp_path / "classes.parquet"


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    folder = tmp_path / "asked"
    folder.mkdir()
    for number in range(7):
        figure(number, 1).save(folder / f"{number}.png")
    return folder


def embedded(where: Path, out: Path, *images: Path, support: Path | None = None, **options: Any) -> None:
    usual = {"add_to": None, "drop": [], "per_class": None, "as_json": True, "quiet": False, "device": "cpu"}
    given = usual | options
    place = Folder.of(where / "best" if (where / "best").exists() else where)
    names = [str(image) for image in images]
    embed.run(place, names, support=support and str(support), out=str(out), **given)


def ask(where: Path, support: Path, *images: Path, **options: Any) -> None:
    given = {"top": 5, "false_accept": None, "as_json": True, "device": "cpu"} | options
    classify.run(Folder.of(where), [str(image) for image in images], support=str(support), **given)


def footer(file: Path) -> dict[str, Any]:
    return json.loads(pq.read_metadata(file).metadata[b"oneshot"])


def same(one: Classes, other: Classes) -> bool:
    """Whether two sets of classes are bit-identical."""
    tensors = all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("z_CD", "pixels"))
    return tensors and replace(one, z_CD=None, pixels=None) == replace(other, z_CD=None, pixels=None)  # type: ignore[arg-type]


# A file gives the same answers as its folder


@pytest.mark.parametrize("batch", [256, 2, 5])
def test_a_file_answers_as_its_folder_does(
    batch: int, trained: Path, support: Path, asked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, plain_terminal: None,
) -> None:  # fmt: skip
    """The output is identical in JSON and on a terminal that draws pictures; so are the warnings."""
    monkeypatch.setattr(queries, "BATCH", batch)
    monkeypatch.setattr(embeddings, "ROWS", 4)
    monkeypatch.setattr(classify, "can_draw", lambda console: True)
    embedded(trained, tmp_path / "classes.parquet", support=support)
    capsys.readouterr()
    for as_json in (True, False):
        said = []
        for each in (support, tmp_path / "classes.parquet"):
            ask(trained, each, asked, as_json=as_json)
            out, err = capsys.readouterr()
            said.append((re.sub("; .* images/s", "", out), err))
        assert said[0] == said[1]
        assert "give each the same number (here 1 to 3)" in said[0][1]
    assert pq.ParquetFile(tmp_path / "classes.parquet").num_row_groups > 1


def test_light_ink_in_the_support_is_warned_of_each_time(
    trained: Path, support: Path, asked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in support.glob("*.png"):
        Image.fromarray(255 - np.asarray(figure(1).convert("L"))).save(path)
    embedded(trained, tmp_path / "classes.parquet", support=support)
    assert "8 of 12 images look like light ink" in capsys.readouterr().err
    ask(trained, tmp_path / "classes.parquet", asked)
    assert "--support: 8 of 12 images look like light ink" in capsys.readouterr().err
    with pytest.warns(UserWarning, match="8 of 12 images look like light ink"):
        oneshot.load(trained, device="cpu").classes(tmp_path / "classes.parquet")


@pytest.mark.parametrize(
    "kind", [{"views": 8, "rotations": True, "flips": True}, {"cleaning": CLEANING}, {"name": "resnet", "width": 8}]
)
def test_networks_of_several_views_and_of_own_images_keep_classes_too(
    kind: dict[str, Any], support: Path, asked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = network(tmp_path / "run", 1, **kind)
    embedded(where, tmp_path / "classes.parquet", support=support)
    net = oneshot.load(where, device="cpu")
    told = json.loads(capsys.readouterr().out)
    assert told["dimension"] == net.net.dimension == net.identity["dimension"]
    assert (net.identity["views"], net.identity["cleaning"]) == (kind.get("views", 1), kind.get("cleaning"))
    assert same(net.classes(tmp_path / "classes.parquet"), net.classes(str(support)))
    query = [Image.open(path) for path in sorted(asked.iterdir())]
    assert net.classify(query, net.classes(support)) == net.classify(query, str(tmp_path / "classes.parquet"))


def test_a_checkpoint_and_the_best_network_that_was_made_of_it_are_one_network(
    trained: Path, net: OneShot, file: Path
) -> None:
    other = oneshot.load(trained / "checkpoints" / "epoch-0001", device="cpu")
    assert other.identity == net.identity
    assert same(other.classes(file), net.classes(file))


def test_classes_from_python_are_saved_and_asked_again(net: OneShot, tmp_path: Path) -> None:
    """They have no paths, a copy of an image counts once, and saving again replaces the file."""
    images = {"alpha": figure(0), "beta": [figure(1), figure(1, 1), figure(1)]}
    classes = net.classes(images)
    assert classes.counts == (1, 2) and classes.paths == (None, None)
    path = tmp_path / "new" / "classes.parquet"
    for _ in range(2):
        classes.save(path)
    assert same(net.classes(path), classes)
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    query = [figure(0, 3), figure(1, 3)]
    assert net.classify(query, classes) == net.classify(query, images) == net.classify(query, path)
    (first, _) = net.classify(query, classes, top=1)
    assert first.classes == net.classify(query, classes)[0].classes[:1]
    with pytest.raises(UserError, match="top = 0: it must be a whole number"):
        net.classify(query, classes, top=0)


def test_classes_lie_on_an_object_store_too(net: OneShot, bucket: str) -> None:
    classes, where = net.classes({"alpha": figure(0), "beta": figure(1)}), f"{bucket}/some/classes.parquet"
    with pytest.raises(UserError, match=rf"classes\.parquet does not exist{MAKES_ONE}"):
        net.classes(where)
    classes.save(where)
    assert same(net.classes(where), classes)


# What other programs read


def test_any_program_reads_embeddings_by_name(
    trained: Path, net: OneShot, support: Path, file: Path, tmp_path: Path
) -> None:
    embedded(trained, tmp_path / "images.parquet", support, support / "class00.png")
    table = pd.read_parquet(tmp_path / "images.parquet")
    paths = sorted(support.rglob("*.png"))
    assert [*table.columns] == ["path", "embedding"] and [*table["path"]] == [*map(str, paths)]
    expected = net.embed([Image.open(path) for path in paths])
    assert np.array_equal(np.stack(table["embedding"]), expected.numpy())
    found = pq.read_schema(tmp_path / "images.parquet").field("embedding").type
    assert found == pa.list_(pa.field("element", pa.float32(), nullable=False), net.net.dimension)
    table = pd.read_parquet(file).set_index("class")
    assert [*table.index] == [f"class{number:02}" for number in range(9)]
    assert table.loc["class03", "images"] == 3 and table.loc["class04", "images"] == 1
    assert table.loc["class03", "path"] == str(support / "class03" / "image0.png")
    first = np.frombuffer(table.loc["class03", "pixels"], np.uint8).reshape(28, 28)
    assert np.array_equal(first, net.read(support / "class03" / "image0.png")[0].numpy())
    mean = net.embed([Image.open(support / "class03" / f"image{take}.png") for take in range(3)]).mean(dim=0)
    assert table.loc["class03", "embedding"] == pytest.approx(mean.numpy(), abs=1e-6)


def test_a_file_says_which_network_made_it(net: OneShot, file: Path) -> None:
    facts = footer(file)
    made = {"network": net.identity, "head": net.head}
    assert facts == {"kind": "embeddings of classes", "format": 1, **made, "warnings": []}
    assert net.identity["sha256"] == net.card["sha256"]


@pytest.mark.parametrize("kind", [{}, {"views": 8, "rotations": True, "flips": True}, {"cleaning": CLEANING}])
def test_whoever_has_the_files_scores_as_classify_does(
    kind: dict[str, Any], support: Path, asked: Path, tmp_path: Path
) -> None:
    """The footer of either file is enough, without the network. Cosine or Euclidean distance gives another order."""
    where, files = network(tmp_path / "run", 1, **kind), [tmp_path / "images.parquet", tmp_path / "classes.parquet"]
    net = oneshot.load(where, device="cpu")
    embedded(where, files[0], asked)
    embedded(where, files[1], support=support)
    a, b = (np.stack(pd.read_parquet(file)["embedding"]) for file in files)
    head = footer(files[0])["head"]
    scores = np.abs(a[:, None] - b) @ head["weight"] + head["bias"]
    found, names = net.classify(sorted(asked.iterdir()), files[1]), [*pd.read_parquet(files[1])["class"]]
    orders = [[names.index(each) for each in one.classes] for one in found]
    assert head == footer(files[1])["head"] == net.head and min(head["weight"]) < 0 < max(head["weight"])
    assert np.array_equal(np.argsort(-scores, axis=1), orders)
    assert np.take_along_axis(scores, np.array(orders), 1) == pytest.approx(
        np.array([one.scores for one in found]), abs=1e-5
    )
    cosine = (a @ b.T) / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1)
    for other in (cosine, -np.linalg.norm(a[:, None] - b, axis=2)):
        assert not np.array_equal(np.argsort(-other, axis=1), orders)


def test_a_file_of_before_it_said_how_it_is_scored_is_read_and_added_to(
    trained: Path, net: OneShot, file: Path, tmp_path: Path
) -> None:
    known, known_classes = footer(file), net.classes(file)
    del known["head"]
    pq.write_table(pq.read_table(file).replace_schema_metadata({"oneshot": json.dumps(known)}), file)
    assert "head" not in footer(file) and same(net.classes(file), known_classes)
    embedded(trained, file, add_to=str(file), drop=["class00"])
    assert footer(file)["head"] == net.head and same(net.classes(file), known_classes.without("class00"))


# What is printed


def test_people_are_told_what_was_embedded_and_how_to_ask_it(
    trained: Path, support: Path, asked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "one.parquet"
    embedded(trained, out, support=support, as_json=False)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{out}: 9 classes of 12 images, 64 numbers each; ") and first.endswith(" images/s")
    assert second == f"to use it: python -m oneshot.classify {trained / 'best'} --support {out} IMAGE..."
    embedded(trained, out, asked, as_json=False)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{out}: 7 images, 64 numbers each; ")
    embedded(trained, out, asked, as_json=False, quiet=True)
    assert capsys.readouterr().out == f"{out}\n"
    embedded(trained, out, support=support)
    said = capsys.readouterr()
    assert said.err == ""
    assert json.loads(said.out) == {
        "file": str(out), "images": 12, "unreadable": 0, "dimension": 64, "classes": 9, "left_out": [],
    }  # fmt: skip


def test_the_command_embeds_and_the_file_is_asked(
    trained: Path, support: Path, asked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "classes.parquet")
    assert cli._answer(["embed", str(trained), "--support", str(support), "--out", out, "--quiet"]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert cli._answer(["classify", str(trained), "--support", out, str(asked), "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 7


# Adding and removing classes


def of_some(net: OneShot, support: Path, *names: str) -> Classes:
    """The classes of the folder if it held only those named."""
    aside = support.with_name("aside")
    aside.mkdir()
    for path in [path for path in support.iterdir() if path.stem not in names]:
        path.rename(aside / path.name)
    found = net.classes(support)
    for path in [*aside.iterdir()]:
        path.rename(support / path.name)
    aside.rmdir()
    return found


FIRST, LAST = [f"class{number:02}" for number in range(6)], [f"class{number:02}" for number in range(6, 9)]


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each class is embedded alone: the last bits of a number may depend on the rest of its batch."""
    monkeypatch.setattr(queries, "BATCH", 1)


@pytest.mark.usefixtures("alone")
def test_classes_that_are_merged_are_those_of_one_folder_and_without_one_part_the_other(
    net: OneShot, support: Path
) -> None:
    one, other = of_some(net, support, *FIRST), of_some(net, support, *LAST)
    both = one.merged(other)
    assert same(both, net.classes(support)) and len(one) == 6 and len(other) == 3, "neither is changed"
    assert same(both.without(LAST), one) and same(both.without(iter(FIRST)), other)
    assert both.without("class08").names == (*FIRST, *LAST[:2])
    assert net.classify(figure(7, 1), both) == net.classify(figure(7, 1), support)


@pytest.mark.usefixtures("alone")
def test_a_class_that_both_have_is_refused_or_replaced_where_it_stands(net: OneShot, support: Path) -> None:
    one, other = of_some(net, support, *FIRST), of_some(net, support, "class03", "class08")
    figure(20).save(support / "class08.png")
    anew = of_some(net, support, "class08")
    with pytest.raises(UserError, match="both have a class 'class03': leave one out with `without`, or pass repl"):
        one.merged(other)
    found = one.merged(other, replace=True)
    assert found.names == (*FIRST, "class08") and same(found, one.merged(other.without(["class03"])))
    found = found.merged(anew, replace=True)
    assert found.names == (*FIRST, "class08") and same(found, one.merged(anew))
    assert not torch.equal(anew.z_CD[0], other.z_CD[1])


def test_what_is_said_of_classes_stays_with_them(net: OneShot) -> None:
    one, other = (replace(net.classes({name: figure(0)}), warnings=("of all", f"of {name}")) for name in "ab")
    assert one.merged(other).warnings == ("of all", "of a", "of b") == one.merged(other).without("b").warnings


def test_classes_that_do_not_go_together_are_not_merged(net: OneShot, tmp_path: Path) -> None:
    classes = net.classes({"alpha": figure(0), "beta": figure(1)})
    stranger = oneshot.load(network(tmp_path / "other", 1), device="cpu").classes({"gamma": figure(2)})
    nobody = Classes(("gamma",), torch.zeros(1, 64), (1,))
    for one, other in ((classes, stranger), (stranger, classes), (classes, nobody), (nobody, nobody)):
        with pytest.raises(UserError, match="these classes were not embedded by the same network; make both"):
            one.merged(other)
    with pytest.raises(UserError, match=r"an object of type dict is not a Classes; `OneShot\.classes` makes one"):
        classes.merged({"gamma": figure(2)})  # type: ignore[arg-type]
    for names, sentence in {
        ("alpa",): r"there is no class 'alpa' to leave out; did you mean 'alpha'\?",
        ("beta", "x"): r"there is no class 'x' to leave out; known: alpha, beta$",
        ("beta", "alpha"): "no class would be left; keep at least one",
    }.items():
        with pytest.raises(UserError, match=sentence):
            classes.without(names)


@pytest.mark.usefixtures("alone")
def test_a_file_is_added_to_and_taken_from(
    trained: Path, net: OneShot, support: Path, asked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is bit-identical to the file of a folder with all classes. The old classes' images are not needed."""
    file, new = tmp_path / "classes.parquet", tmp_path / "new"
    whole = net.classes(support)
    of_some(net, support, *FIRST).save(file)
    before = net.classes(file)
    new.mkdir()
    for name in LAST:
        (support / f"{name}.png").rename(new / f"{name}.png")
    capsys.readouterr()
    embedded(trained, file, support=new, add_to=str(file), as_json=False)
    told, _ = capsys.readouterr().out.splitlines()
    assert told.startswith(f"{file}: 9 classes (3 added), 64 numbers each; ") and told.endswith(" images/s")
    paths = tuple(str(new / f"{name}.png") for name in LAST)
    assert same(net.classes(file), replace(whole, paths=whole.paths[:-3] + paths))
    elsewhere = tmp_path / "elsewhere.parquet"
    embedded(trained, elsewhere, support=new, add_to=str(file), drop=LAST)
    assert json.loads(capsys.readouterr().out) == {
        "file": str(elsewhere), "images": 3, "unreadable": 0, "dimension": 64, "classes": 9, "left_out": [], "added": 3,
        "dropped": 3,
    }  # fmt: skip
    assert same(net.classes(elsewhere), net.classes(file))
    assert cli._answer(["embed", str(trained), "--add-to", str(file), *(f"--drop={name}" for name in LAST)]) == 0
    assert capsys.readouterr().out.startswith(f"{file}: 6 classes (3 dropped), 64 numbers each\nto use it: ")
    assert same(net.classes(file), before)
    embedded(trained, file, add_to=str(file), drop=["class05", "class05"])
    assert json.loads(capsys.readouterr().out) == {
        "file": str(file), "images": 0, "unreadable": 0, "dimension": 64, "classes": 5, "left_out": [], "added": 0,
        "dropped": 1,
    }  # fmt: skip


def test_a_file_that_cannot_be_added_to_is_left_as_it_was(
    trained: Path, support: Path, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    before, new, other = file.read_bytes(), tmp_path / "new", network(tmp_path / "other", 1)
    new.mkdir()
    figure(30).save(new / "new.png")
    for where, options, sentence in (
        (
            trained,
            ["--support", str(support)],
            "--add-to: the file already has a class 'class00'; --drop class00 removes",
        ),
        (
            trained,
            ["--support", str(new), "--drop", "class1"],
            f"--drop: {file}: there is no class 'class1' to leave",
        ),
        (trained, ["--support", str(tmp_path / "none")], "no such file or directory; name a folder of classes"),
        (other, ["--support", str(new)], "classes.parquet was made by another network, its sha256 is"),
        (other, ["--drop", "class00"], "classes.parquet was made by another network, its sha256 is"),
    ):
        assert cli._answer(["embed", str(where), "--add-to", str(file), *options]) == 2
        assert sentence.lower() in capsys.readouterr().err.lower()
        assert file.read_bytes() == before
    (new / "new.png").write_bytes(b"")
    with pytest.raises(RunFailed, match=r"none of 1 images could be read: .*classes\.parquet was not written"):
        embedded(trained, file, support=new, add_to=str(file), drop=["class00"])
    figure(30).save(new / "more.png")
    with pytest.raises(
        RunFailed, match=r"1 of 2 images could not be read: .*classes\.parquet was not written; repair or"
    ):
        embedded(trained, file, support=new, add_to=str(file), drop=["class00"])
    assert file.read_bytes() == before
    figure(30).save(new / "new.png")

    def interrupted(*_: Any) -> Classes:
        raise KeyboardInterrupt

    monkeypatch.setattr(OneShot, "averaged", interrupted)
    with pytest.raises(KeyboardInterrupt):
        embedded(trained, file, support=new, add_to=str(file))
    assert file.read_bytes() == before and not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("where", ["on disk", "by another path", "on a store"])
def test_of_two_that_add_to_a_file_at_once_the_later_is_told_to_add_again(
    where: str, trained: Path, net: OneShot, file: Path, tmp_path: Path, request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    place = f"{request.getfixturevalue('bucket')}/classes.parquet" if where == "on a store" else str(file)
    source = f"{file.parent}/x/../{file.name}" if where == "by another path" else place
    net.classes(file).save(place)
    for number, name in ((30, "one"), (31, "two")):
        (tmp_path / name).mkdir()
        figure(number).save(tmp_path / name / f"{name}.png")
    averaged = OneShot.averaged

    def meanwhile(*given: Any, **how: Any) -> Any:
        monkeypatch.setattr(OneShot, "averaged", averaged)
        embed_to(tmp_path / "two")
        return averaged(*given, **how)

    def embed_to(support: Path) -> None:
        embedded(trained, place, support=support, add_to=source)  # type: ignore[arg-type]

    (file.parent / "x").mkdir()
    monkeypatch.setattr(OneShot, "averaged", meanwhile)
    with pytest.raises(RunFailed, match=r"parquet was changed meanwhile, and stays .*; give the command again"):
        embed_to(tmp_path / "one")
    assert net.classes(place).names[-2:] == ("class08", "two")
    embed_to(tmp_path / "one")
    assert net.classes(place).names[-2:] == ("two", "one")


def test_nobody_adds_to_a_file_between_the_last_look_at_it_and_its_replacement(
    trained: Path, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_, held = os.replace, []

    def replacing(*given: Any) -> None:
        folder = os.open(tmp_path, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            locks.hold(folder, wait=False)
        os.close(folder)
        held.append(given)
        replace_(*given)

    monkeypatch.setattr(os, "replace", replacing)
    embedded(trained, file, add_to=str(file), drop=["class00"])
    assert held


def test_all_classes_of_a_file_may_be_embedded_anew(
    trained: Path, net: OneShot, support: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = net.classes(file)
    with pytest.raises(UserError, match="no class would be left; keep at least one"):
        embedded(trained, file, add_to=str(file), drop=before.names)
    with pytest.raises(UserError, match="there is no class 'class99' to leave out"):
        embedded(trained, file, support=support, add_to=str(file), drop=[*before.names, "class99"])
    capsys.readouterr()
    embedded(trained, file, support=support, add_to=str(file), drop=before.names)
    told = json.loads(capsys.readouterr().out)
    assert (told["classes"], told["added"], told["dropped"]) == (9, 9, 9)
    assert same(net.classes(file), before)


def test_a_class_whose_name_is_not_utf8_is_found_again_in_its_file(
    trained: Path, net: OneShot, file: Path, tmp_path: Path
) -> None:
    raw = os.fsdecode(b"caf\xe9")
    (tmp_path / "new").mkdir()
    figure(30).save(tmp_path / "new" / "x.png")
    os.rename(tmp_path / "new" / "x.png", tmp_path / "new" / f"{raw}.png")
    embedded(trained, file, support=tmp_path / "new", add_to=str(file))
    assert net.classes(file).names[-1] == r"caf\xe9"
    before = file.read_bytes()
    with pytest.raises(UserError, match=r"already has a class 'caf\\xe9'; --drop 'caf\\xe9' removes it first"):
        embedded(trained, file, support=tmp_path / "new", add_to=str(file))
    assert file.read_bytes() == before
    for name in (r"caf\xe9", raw):
        embedded(trained, file, support=tmp_path / "new", add_to=str(file), drop=[name])
        assert len(net.classes(file)) == 10


def test_a_file_with_a_class_twice_which_nobody_could_read_is_not_written(net: OneShot, tmp_path: Path) -> None:
    twice = net.classes({os.fsdecode(b"caf\xe9"): figure(0), r"caf\xe9": figure(1)})
    with pytest.raises(UserError, match=r"two classes are named 'caf\\xe9', once names are plain text: rename one"):
        twice.save(tmp_path / "classes.parquet")
    assert not list(tmp_path.iterdir())


def test_classes_without_none_of_them_are_no_copy(net: OneShot) -> None:
    classes = net.classes({"alpha": figure(0), "beta": figure(1)})
    assert classes.without([]) is classes


def test_what_could_not_be_read_is_still_true_when_it_was_added(
    trained: Path, net: OneShot, support: Path, tmp_path: Path
) -> None:
    (support / "class01.png").write_bytes(b"")
    file = tmp_path / "classes.parquet"
    with pytest.raises(RunFailed, match="1 of 12 images could not be read"):
        embedded(trained, file, support=support)
    (tmp_path / "new").mkdir()
    figure(1).save(tmp_path / "new" / "class01.png")
    embedded(trained, file, support=tmp_path / "new", add_to=str(file))
    found = net.classes(file)
    assert len(found) == 9 and found.names[-1] == "class01"
    assert found.warnings == (
        "1 of 12 images could not be read when classes.parquet was made",
        "no image of these classes could be read, so they were left out: class01",
    )


# The same number of images of each class


@pytest.fixture
def many_images(tmp_path: Path) -> Path:
    """Four classes of five images each, except that `class02` has two and two images of `class01` are the same."""
    folder = tree(tmp_path / "many", classes=4, images=5)
    for take in (2, 3, 4):
        (folder / "class02" / f"image{take}.png").unlink()
    shutil.copy(folder / "class01" / "image0.png", folder / "class01" / "image1.png")
    return folder


FEWER = "classes with more images are named too often; these have fewer than 3 different images: class02"


def test_so_many_different_images_of_each_are_those_of_a_folder_thinned_by_hand(
    trained: Path, net: OneShot, many_images: Path, asked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From Python, on the command line and through a file. A single warning names the classes with fewer images."""
    with pytest.warns(UserWarning) as said:
        found = net.classes(many_images, per_class=3)
    assert [str(each.message) for each in said] == [FEWER] and found.counts == (3, 3, 2, 3)
    embedded(trained, tmp_path / "classes.parquet", support=many_images, per_class=3, as_json=False)
    told = capsys.readouterr()
    assert f"warning: {FEWER}\n" == told.err and "4 classes of 12 images" in told.out
    assert same(net.classes(tmp_path / "classes.parquet"), found)
    ask(trained, many_images, asked, per_class=3)
    told = capsys.readouterr()
    assert told.err.count("too often") == 1 and FEWER in told.err
    for name in (
        "class00/image3",
        "class00/image4",
        "class01/image1",
        "class01/image4",
        "class03/image3",
        "class03/image4",
    ):
        (many_images / f"{name}.png").unlink()
    assert same(net.classes(many_images), found)
    ask(trained, many_images, asked)
    assert capsys.readouterr().out == told.out
    embedded(trained, tmp_path / "classes.parquet", support=many_images, per_class=2)
    assert capsys.readouterr().err == "", "all have two"


def test_only_as_many_images_are_read_as_it_takes(
    net: OneShot, many_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unreadable image or a copy is replaced by the next image."""
    read, opened = queries._read, list[str]()
    monkeypatch.setattr(queries, "_read", lambda net, path, votes: opened.append(path.stem) or read(net, path, votes))
    (many_images / "class00" / "image0.png").write_bytes(b"")
    paths = queries.classes_in(many_images)
    ((classes, looked, errors, _),) = queries.classes_of(net, paths, votes=Counter(), per_class=2)
    assert classes is not None and classes.counts == (2, 2, 2, 2)
    assert (looked, len(opened), len(errors)) == (10, 10, 1) and opened.count("image2") == 2
    assert classes.paths[0] == str(many_images / "class00" / "image1.png")


def test_of_images_by_name_the_first_that_differ_are_taken(net: OneShot) -> None:
    images = [figure(1), figure(1), figure(1, 1), figure(1, 2)]
    found = net.classes({"alpha": images, "beta": images[2:]}, per_class=2)
    assert same(found, net.classes({"alpha": images[1:3], "beta": images[2:]}))


def test_unlike_numbers_of_images_are_warned_of_in_python_too(net: OneShot, file: Path, support: Path) -> None:
    for given in (file, support, {"alpha": figure(0), "beta": [figure(1), figure(1, 1), figure(1, 2)]}):
        with pytest.warns(UserWarning, match=r"named too often: give each the same number \(here 1 to 3\)$"):
            classes = net.classes(given)
    with warnings.catch_warnings(action="error"):
        net.classes({"alpha": figure(0), "beta": [figure(1), figure(1)]})
        net.classify(figure(0), classes)


def test_a_number_of_images_that_cannot_be_taken_is_refused(
    trained: Path, net: OneShot, support: Path, file: Path, asked: Path
) -> None:
    for wrong in (0, -1, 1.5, "3"):
        with pytest.raises(UserError, match=f"per_class = {wrong!r}: it must be a whole number"):
            net.classes(support, per_class=wrong)  # type: ignore[arg-type]
    with pytest.raises(
        UserError, match="per_class = 3: these classes are already embedded; pass it where they are made"
    ):
        net.classes(net.classes({"alpha": figure(0)}), per_class=3)
    for refused in (lambda: net.classes(file, per_class=3), lambda: ask(trained, file, asked, per_class=3)):
        with pytest.raises(
            UserError, match=r"classes\.parquet: the classes of a file are already embedded, so none of"
        ):
            refused()


# Images that cannot be read


def test_images_that_cannot_be_read_are_named_counted_and_left_out(
    trained: Path, net: OneShot, support: Path, asked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others are embedded, since many classes take long; whoever uses the file is told what is missing."""
    (support / "class01.png").write_bytes(b"")
    (support / "class03" / "image0.png").write_bytes(b"no image")
    out = tmp_path / "classes.parquet"
    with pytest.raises(RunFailed, match=r"^2 of 12 images could not be read; .*classes\.parquet holds the others$"):
        embedded(trained, out, support=support)
    said = capsys.readouterr()
    assert "class01.png is not a readable image" in said.err and "image0.png is not a readable image" in said.err
    told = json.loads(said.out)
    assert (told["classes"], told["images"], told["unreadable"], told["left_out"]) == (8, 10, 2, ["class01"])
    missing = "no image of these classes could be read, so they were left out: class01"
    assert missing in said.err
    ask(trained, out, asked)
    told = capsys.readouterr().err
    assert "--support: 2 of 12 images could not be read when classes.parquet was made" in told and missing in told
    with pytest.warns(UserWarning, match="2 of 12 images could not be read"):
        classes = net.classes(out)
    assert "class01" not in classes.names and classes.counts[classes.names.index("class03")] == 2
    assert classes.paths[classes.names.index("class03")] == str(support / "class03" / "image1.png")
    (asked / "3.png").write_bytes(b"")
    with pytest.raises(RunFailed, match="1 of 7 images could not be read"):
        embedded(trained, tmp_path / "images.parquet", asked)
    assert len(pq.read_table(tmp_path / "images.parquet")) == 6


def test_a_file_appears_whole_or_not_at_all(
    trained: Path, support: Path, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = file.read_bytes()
    (tmp_path / "none.png").write_bytes(b"")
    with pytest.raises(RunFailed, match=r"none of 1 images could be read: .*classes\.parquet was not written"):
        embedded(trained, file, tmp_path / "none.png")
    monkeypatch.setattr(queries, "BATCH", 2)
    monkeypatch.setattr(embeddings, "ROWS", 2)
    averaged, calls = OneShot.averaged, []

    def interrupted(*arguments: Any) -> Classes:
        calls.append(0)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return averaged(*arguments)

    monkeypatch.setattr(OneShot, "averaged", interrupted)
    with pytest.raises(KeyboardInterrupt):
        embedded(trained, file, support=support)
    assert len(calls) == 3 and file.read_bytes() == before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


# What is refused


def rewritten(
    file: Path, *, facts: dict[str, Any] | None = None, change: Callable[[pa.Table], pa.Table] = lambda table: table
) -> None:
    """Write a file again with changed facts in its footer or changed rows."""
    known = footer(file) | (facts or {})
    pq.write_table(change(pq.read_table(file)).replace_schema_metadata({"oneshot": json.dumps(known)}), file)


def number(table: pa.Table, value: float) -> pa.Table:
    """The table with its first embedding number changed."""
    kind = table.schema.field("embedding")
    numbers = table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False).copy()
    numbers[0] = value
    return table.set_column(4, kind, pa.FixedSizeListArray.from_arrays(pa.array(numbers), type=kind.type))


MAKES_ONE = r"; `python -m oneshot\.embed RUN --support FOLDER --out FILE` makes one$"


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda file: file.write_bytes(b"no table"), "is damaged or not a Parquet file"),
        (lambda file: file.write_bytes(file.read_bytes()[:-9]), "is damaged or not a Parquet file"),
        (
            lambda file: rewritten(file, facts={"format": 3}),
            "has format version 3, and this program reads versions 1 and 2",
        ),
        (
            lambda file: rewritten(file, facts={"kind": "drawings"}),
            "is a Parquet file of something else, not of embeddings of classes",
        ),
        (lambda file: rewritten(file, facts={"warnings": 3}), "has an invalid description of its content .*warnings"),
        (lambda file: rewritten(file, facts={"network": {}}), "has an invalid description of its content .*network"),
        (
            lambda file: rewritten(file, facts={"head": {"weight": [0.5], "bias": 1.0}}),
            r"has an invalid description of its content \(head\.weight: 1 numbers for embeddings of 64",
        ),
        (lambda file: rewritten(file, change=lambda table: table.slice(0, 0)), "holds no classes"),
        (lambda file: rewritten(file, change=lambda table: pa.concat_tables([table] * 2)), "holds a class twice"),
        (lambda file: rewritten(file, change=lambda table: table.drop_columns("images")), "has no column 'images'"),
        (lambda file: rewritten(file, change=lambda table: number(table, np.nan)), "holds values that are not finite"),
    ],
)
def test_a_file_that_is_none_is_refused_with_the_command_that_makes_one(
    damage: Callable[[Path], Any], sentence: str, net: OneShot, file: Path
) -> None:
    damage(file)
    with pytest.raises(UserError, match=rf"classes\.parquet {sentence}.*{MAKES_ONE}"):
        net.classes(file)


def test_a_bit_that_is_another_is_noticed(net: OneShot, file: Path) -> None:
    content, group = file.read_bytes(), pq.ParquetFile(file).metadata.row_group(0)
    for index in range(group.num_columns):
        column = group.column(index)
        changed = bytearray(content)
        changed[column.data_page_offset + column.total_compressed_size - 3] ^= 1
        file.write_bytes(changed)
        with pytest.raises(UserError, match=r"classes\.parquet is damaged"):
            net.classes(file)


def test_a_file_of_another_network_is_refused(net: OneShot, support: Path, file: Path, tmp_path: Path) -> None:
    """This includes a network with the same weights but another number of views."""
    other = oneshot.load(network(tmp_path / "other", 1), device="cpu")
    with pytest.raises(UserError, match=rf"classes\.parquet was made by another network, its sha256 is .*{MAKES_ONE}"):
        other.classes(file)
    turned = OneShot(looking(net.net, 4), net.card | {"views": 4}, net.device)
    with pytest.raises(UserError, match="another network, its views is 1 and not 4; "):
        turned.classes(file)
    for stranger in (other, turned):
        with pytest.raises(UserError, match="these classes were embedded by another network"):
            stranger.classify(figure(0), net.classes(support))


def test_a_file_of_photos_from_before_they_were_laid_on_white_is_refused(support: Path, tmp_path: Path) -> None:
    net = oneshot.load(network(tmp_path / "photos", 0, cleaning=CLEANING), device="cpu")
    file = tmp_path / "classes.parquet"
    net.classes(support).save(file)
    assert footer(file)["format"] == 2 and net.classes(file).names
    rewritten(file, facts={"format": 1})
    with pytest.raises(UserError, match=rf"classes\.parquet was made by an older version, .*{MAKES_ONE}"):
        net.classes(file)


def test_what_is_no_file_of_classes_is_refused(
    trained: Path, net: OneShot, support: Path, asked: Path, tmp_path: Path
) -> None:
    embedded(trained, tmp_path / "images.parquet", asked)
    with pytest.raises(UserError, match="of something else, not of embeddings of classes"):
        net.classes(tmp_path / "images.parquet")
    with pytest.raises(UserError, match=r"0\.png is neither a folder of classes nor a file of them \(\.parquet\)"):
        net.classes(asked / "0.png")
    with pytest.raises(UserError, match=r"(?i)none: no such file or directory; name a folder of classes"):
        net.classes(tmp_path / "none")


def test_what_cannot_be_written_is_refused_before_anything_is_read(
    trained: Path, support: Path, asked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder.parquet").mkdir()
    for options, sentence in {
        (str(asked), "--out", str(tmp_path / "x.npz")): r"x.npz: name a file that ends in .parquet",
        (str(asked), "--out", str(tmp_path / "folder.parquet")): "is a folder; name a file in it",
        (
            str(asked),
            "--support",
            str(support),
            "--out",
            "x.parquet",
        ): "name what to embed: images, or folders of images",
        ("--out", "x.parquet"): "name what to embed: images, or folders of images, or else --support",
        (str(asked), "--add-to", "x.parquet"): "name what to embed: images, or folders of images, or else --support",
        (str(asked),): "name where to write to: --out, a file that ends in .parquet",
        ("--support", str(support)): "name where to write to: --out, a file that ends in .parquet",
        ("--support", str(support), "--out", "x.parquet", "--drop", "a"): "--drop takes classes out of a file: name it",
        (
            "--add-to",
            "x.parquet",
        ): "--add-to changes a file: name classes to add with --support, or to take out with --drop",
        (str(asked), "--out", "x.parquet", "--per-class", "3"): "--per-class takes some images of each class: name a",
        ("--add-to", "x.parquet", "--drop", "a", "--per-class", "3"): "--per-class takes some images of each class",
        ("--support", str(support), "--add-to", str(tmp_path / "x.parquet")): "x.parquet does not exist; `python -m",
        ("--support", str(support), "--add-to", str(asked / "0.png")): "0.png: name a file that ends in .parquet",
        (str(tmp_path / "none"), "--out", str(tmp_path / "x.parquet")): "none: no such file",
    }.items():
        assert cli._answer(["embed", str(trained), *options]) == 2
        assert sentence in capsys.readouterr().err
    assert not (tmp_path / "x.parquet").exists()


# Many classes


def rankings(net: OneShot, classes: Classes, z_QD: torch.Tensor, top: int | None = None) -> list[ranking.Ranking]:
    return ranking.rank(net.net, None, classes, z_QD, top=top)


@pytest.fixture(scope="module")
def many() -> tuple[Classes, torch.Tensor]:
    """3,000 classes, 1,000 different embeddings three times each, and 20 queries."""
    z_CD = torch.rand(1_000, 64, generator=torch.Generator().manual_seed(0)).repeat(3, 1)
    return Classes(tuple(map(str, range(3_000))), z_CD, (1,) * 3_000), z_CD[:20] + 0.01


class Held(TorchFunctionMode):
    """Records the size of the largest tensor made meanwhile, not counting the known ones and views of them."""

    def __init__(self, *known: torch.Tensor) -> None:
        super().__init__()
        self.known, self.most = {each.untyped_storage().data_ptr() for each in known}, 0

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        made = function(*arguments, **(options or {}))
        if isinstance(made, torch.Tensor) and made.untyped_storage().data_ptr() not in self.known:
            self.most = max(self.most, made.numel())
        return made


@pytest.mark.parametrize("numbers", [1_000, 20_000])
def test_many_classes_are_ranked_in_blocks_and_as_one_by_one(
    net: OneShot, many: tuple[Classes, torch.Tensor], monkeypatch: pytest.MonkeyPatch, numbers: int
) -> None:
    """Neither queries x classes x dimension nor queries x classes numbers are held; the answers stay the same."""
    classes, z_QD = many
    with torch.no_grad():
        scores = net.net.score(z_QD[:, None], classes.z_CD).double().numpy()
    monkeypatch.setattr(models, "at_once", lambda device, each: max(1, numbers // each))
    monkeypatch.setattr(ranking, "TABLE", 10_000)
    with Held(classes.z_CD, z_QD) as held:
        found = rankings(net, classes, z_QD)
    assert 1_000 < held.most <= max(numbers, 10_000) < len(z_QD) * len(classes.names)
    for each, expected in zip(found, scores, strict=True):
        order = np.argsort(-expected, kind="stable")
        assert each.classes == tuple(map(str, order)) and each.scores == tuple(expected[order])


@pytest.mark.parametrize("top", [1, 2, 5, 2_999, 3_000, 9_999])
def test_the_best_of_many_are_the_first_of_all(net: OneShot, many: tuple[Classes, torch.Tensor], top: int) -> None:
    """Among equal scores the first classes are taken, even if the cut falls between equal scores."""
    for whole, best in zip(rankings(net, *many), rankings(net, *many, top=top), strict=True):
        assert best == replace(
            whole, classes=whole.classes[:top], scores=whole.scores[:top], probabilities=whole.probabilities[:top]
        )


def test_of_a_network_that_tells_nothing_apart_the_first_classes_are_named(net: OneShot) -> None:
    classes = Classes(tuple("abcdef"), torch.ones(6, 64), (1,) * 6)
    assert [each.classes for each in rankings(net, classes, torch.zeros(2, 64), top=2)] == [("a", "b")] * 2
