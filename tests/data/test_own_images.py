"""A folder of images becomes a data set: its images, classes and split, and what is reported about the rest."""

import json
import os
import shutil
from io import StringIO
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pictures import figure, made, refusal, tree
from PIL import Image
from rich.console import Console

from oneshot.base.storage import Folder
from oneshot.data import clean, store
from oneshot.data.png import encode
from oneshot.data.view import show


@pytest.fixture(autouse=True)
def omniglots_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONESHOT_SOURCE", "/nowhere")  # Omniglot's source must not matter here


# --- what the data set holds


def test_classes_are_characters_and_groups_are_alphabets(root: Path, tmp_path: Path) -> None:
    prepared, _ = made(root, tree(tmp_path / "coins", classes=12, images=3, groups=6))
    about, drawings = store.describe(prepared.folder), store.load(prepared.folder)
    assert (prepared.folder, prepared.name) == (Folder.of(root / "own" / "coins"), "coins (own images)")
    assert about.alphabets == tuple(f"group{number}" for number in range(6))
    assert about.characters["group1"] == ("class01", "class07")
    assert (about.height, about.width, about.bits, len(drawings)) == (105, 105, 8, 36)
    assert drawings.own and sorted(drawings.drawer[drawings.character == 0]) == [1, 2, 3]
    assert len(np.unique(drawings.pixels())) > 50, "greys stay greys"


def test_without_groups_all_classes_are_one_alphabet(root: Path, tmp_path: Path) -> None:
    prepared, said = made(root, tree(tmp_path / "coins", classes=10, images=2))
    about = store.describe(prepared.folder)
    assert about.alphabets == ("coins",) and about.own.flat and about.own.by == "class"
    assert "split by class: classes for train 6, validation 2, test 2; one-shot trials" in said


@pytest.mark.parametrize("kind", clean.POLARITIES)
def test_a_drawing_is_what_prepare_makes_of_its_image(kind: str, root: Path, tmp_path: Path) -> None:
    source = tree(tmp_path / "coins", classes=6, images=2, kind=kind, ending="JPG")
    prepared, said = made(root, source, side=48)
    assert f"polarity {kind} (" in said
    drawings = store.load(prepared.folder)
    for row in range(len(drawings)):
        path = source / drawings.characters[drawings.character[row]].removeprefix("coins/")
        with Image.open(path / f"image{drawings.drawer[row] - 1}.JPG") as image:
            assert np.array_equal(drawings.pixels([row])[0], clean.prepare(image, side=48, polarity=kind))


@pytest.mark.parametrize("kind", clean.POLARITIES)
def test_viewers_see_the_images_as_they_were(kind: str, root: Path, tmp_path: Path) -> None:
    prepared, _ = made(root, tree(tmp_path / "coins", classes=6, images=2, kind=kind))
    first = pq.read_table(prepared.folder.file(store.DRAWINGS), columns=["image"])["image"][0].as_py()
    ink = store.load(prepared.folder).pixels([0])[0]
    assert first["bytes"] == encode(ink if kind == "dark" else 255 - ink)
    assert first["path"] == "coins/class00/01.png"


def test_a_class_may_have_hundreds_of_images(root: Path, tmp_path: Path) -> None:
    source = tree(tmp_path / "coins", classes=6, images=2)
    for take in range(2, 300):
        figure(0, take, size=(90, 64)).save(source / "class00" / f"more{take:03d}.png")
    drawings = store.load(made(root, source)[0].folder)
    assert sorted(drawings.drawer[drawings.character == 0]) == list(range(1, 301))


def test_omniglots_own_files_stay_as_they_were(small_glyphs: Folder, root: Path, tmp_path: Path) -> None:
    with pq.ParquetFile(small_glyphs.file(store.DRAWINGS)) as file:
        facts = json.loads(file.metadata.metadata[b"oneshot"])
    assert facts["format"] == 1 and "own" not in facts
    prepared, _ = made(root, tree(tmp_path / "coins", classes=6, images=2))
    with pq.ParquetFile(prepared.folder.file(store.DRAWINGS)) as file:
        assert json.loads(file.metadata.metadata[b"oneshot"])["format"] == 2


# --- what is left out and reported


def test_what_cannot_be_used_is_named_and_left_out(root: Path, tmp_path: Path) -> None:
    source = tree(tmp_path / "coins", classes=7, images=4)
    (source / "class00" / "empty.png").write_bytes(b"")
    (source / "class01" / "web.jpg").write_bytes(b"<html>")
    Image.new("L", (30, 30), 255).save(source / "class02" / "blank.png")
    (source / "class03" / "notes.txt").write_text("worn")
    (source / "class03" / "Thumbs.db").write_bytes(b"x")
    figure(9).save(source / "stray.png")
    (source / ".hidden").mkdir()
    figure(9).save(source / ".hidden" / "x.png")
    prepared, said = made(root, source)
    assert "warning: class00/empty.png is empty: left out" in said
    assert "warning: class01/web.jpg is not a PNG, JPEG, WEBP, BMP or TIFF image: left out" in said
    assert "warning: class02/blank.png is blank, all of one brightness: left out" in said
    assert "2 other file(s) are ignored (.txt 1, .db 1)" in said or "(.db 1, .txt 1)" in said
    assert "1 image(s) are in no class's folder" in said
    assert store.describe(prepared.folder).rows == 28


def test_of_an_image_whose_second_page_is_damaged_the_first_is_taken(root: Path, tmp_path: Path) -> None:
    source = tree(tmp_path / "coins", classes=6, images=2)
    page = figure(0, 9).convert("L")
    page.save(source / "class00" / "pages.tif", save_all=True, append_images=[page])
    data = bytearray((source / "class00" / "pages.tif").read_bytes())
    place = int.from_bytes(data[4:8], "little")
    link = place + 2 + 12 * int.from_bytes(data[place : place + 2], "little")
    data[link : link + 4] = (len(data) + 50).to_bytes(4, "little")
    (source / "class00" / "pages.tif").write_bytes(data)
    prepared, said = made(root, source)
    assert "left out" not in said and store.describe(prepared.folder).rows == 13


def test_colours_that_are_lost_are_told(root: Path, tmp_path: Path) -> None:
    source = tree(tmp_path / "coins", classes=6, images=2)
    said = "image(s) are in colour and are made grey: what differs only in colour is lost"
    assert f"12 {said}" in made(root, source)[1]
    for path in sorted(source.glob("*/image0.png")):
        Image.open(path).convert("L").convert("RGB").save(path)
    assert f"6 {said}" in made(root, source)[1]
    for path in source.glob("*/image1.png"):
        Image.open(path).convert("L").save(path)
    assert said not in made(root, source)[1]


def test_only_the_first_few_are_named(root: Path, tmp_path: Path) -> None:
    source = tree(tmp_path / "coins", classes=7, images=4)
    for number in range(9):
        (source / "class00" / f"empty{number}.png").write_bytes(b"")
    said = made(root, source)[1]
    assert said.count("is empty: left out") == 5 and "4 more image(s) cannot be used and are left out" in said


def test_a_folder_of_broken_images_is_refused(root: Path, tmp_path: Path) -> None:
    source = tree(tmp_path / "coins", classes=6, images=2)
    for path in sorted(source.glob("*/image*.png"))[:7]:
        path.write_bytes(b"gone")
    assert "7 of 12 images cannot be used: class00/image0.png is not a PNG" in refusal(root, source)
    assert not (root / "own").exists()


def test_classes_with_too_few_images_are_named_and_left_out(root: Path, tmp_path: Path) -> None:
    source = tree(tmp_path / "coins", classes=12, images=3)
    for take in (1, 2):
        (source / "class04" / f"image{take}.png").unlink()
    prepared, said = made(root, source)
    assert "1 class(es) have fewer than 2 images and are left out: class04" in said
    assert "class04" not in store.describe(prepared.folder).characters["coins"]
    (source / "class05" / "image0.png").unlink()
    _, said = made(root, source, least=3, seed=0)
    assert "2 class(es) have fewer than 3 images and are left out: class04, class05" in said


def test_images_that_are_there_twice_are_said(root: Path, tmp_path: Path) -> None:
    source = tree(tmp_path / "coins", classes=6, images=3)
    shutil.copy(source / "class00" / "image0.png", source / "class00" / "image9.png")
    shutil.copy(source / "class00" / "image1.png", source / "class01" / "image9.png")
    prepared, said = made(root, source)
    assert "1 image(s) occur twice in one class and count once: class00/image9.png (as class00/image0.png)" in said
    assert "1 image(s) are the same in two classes" in said and "class00/image1.png and class01/image9.png" in said
    assert store.describe(prepared.folder).rows == 19


def test_images_that_look_the_other_way_round_are_named(root: Path, tmp_path: Path) -> None:
    source = tree(tmp_path / "coins", classes=6, images=4)
    figure(0, 8, kind="light").save(source / "class00" / "scan.png")
    said = made(root, source)[1]
    assert "polarity dark (dark ink on light paper): 24 of 25 images look like this" in said
    assert "1 image(s) look inverted (ink and paper swapped): class00/scan.png" in said


def test_polarity_can_be_forced_and_is_nobodys_where_the_images_disagree(root: Path, tmp_path: Path) -> None:
    source = tree(tmp_path / "coins", classes=8, images=2)
    assert "polarity light (light ink on dark paper): as asked for" in made(root, source, polarity="light")[1]
    for path in sorted(source.glob("*/image0.png")):
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    said = made(root, source, name="mixed")[1]
    assert "warning: polarity photo (" in said
    assert "disagree on which shade is ink; judged by their looks: 8 dark, 8 light, 0 photo" in said


def test_where_images_disagree_ink_on_nothing_is_as_ink_on_white(root: Path, tmp_path: Path) -> None:
    source = tree(tmp_path / "coins", classes=8, images=3)
    for path in source.glob("*/image[12].png"):
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    for number, path in enumerate(sorted(source.glob("*/image0.png"))):
        clear = np.zeros((80, 80, 4), np.uint8)
        clear[20:60, 30 + number : 50, 3] = 255
        Image.fromarray(clear).save(path.with_name("clear.png"))
        Image.fromarray(255 - clear[..., 3]).save(path.with_name("white.png"))
    prepared, said = made(root, source, side=80)
    assert "on which shade is ink, and transparent ones are laid on white where all they show is dark, else on" in said
    assert "8 image(s) occur twice in one class and count once: class00/white.png (as class00/clear.png)" in said
    assert store.describe(prepared.folder).rows == 32


def test_links_and_other_special_files_are_not_followed(root: Path, tmp_path: Path) -> None:
    source = tree(tmp_path / "coins", classes=6, images=2)
    secret = tree(tmp_path / "secret", classes=1, images=2)
    (source / "out").symlink_to(secret / "class00")
    (source / "class00" / "out.png").symlink_to(secret / "class00" / "image0.png")
    (source / "class00" / "loop").symlink_to(source)
    os.mkfifo(source / "class00" / "pipe.png")
    prepared, said = made(root, source)
    assert "3 link(s) are not followed" in said and "1 other file(s)" in said
    assert store.describe(prepared.folder).rows == 12


def test_odd_names_are_kept_as_far_as_they_can_be_shown(root: Path, tmp_path: Path) -> None:
    source = tree(tmp_path / "coins", classes=6, images=2)
    names = ["Ⅴ €uro ñ 日本", "two\nlines", "[red]x", "cafe\N{COMBINING ACUTE ACCENT}", "a,b"]
    for number, name in enumerate(names):
        (source / f"class{number:02d}").rename(source / name)
    os.rename(os.fsencode(source / "class05"), os.fsencode(source) + b"/no\xffutf")
    prepared, _ = made(root, source)
    known = store.describe(prepared.folder).characters["coins"]
    assert set(known) == {"Ⅴ €uro ñ 日本", "two_lines", "[red]x", "café", "a,b", "no_utf"}
    stream = StringIO()
    show(Console(file=stream, width=100), prepared)
    assert "[red]x" in stream.getvalue() and "two_lines" in stream.getvalue()
    (source / "two_lines").mkdir()
    figure(1).save(source / "two_lines" / "x.png")
    assert "'two\\nlines' and 'two_lines' have the same name" in refusal(root, source)


# --- folders that give no data set


def test_a_tree_of_no_or_few_classes_is_refused(root: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds no image; put the images of each class into a folder" in refusal(root, empty)
    (empty / "class00").mkdir()
    (empty / "class00" / "link.png").symlink_to("/nowhere.png")
    (empty / "class00" / "photo.heic").write_bytes(b"x")
    assert (
        "holds no image; 1 link(s) are not followed: put the images themselves there; 1 other file(s) are ignored"
        " (.heic 1); put the images of each class" in refusal(root, empty)
    )
    figure(1).save(empty / "x.png")
    assert "holds 1 image(s) but no folders of images" in refusal(root, empty)
    assert "1 class(es) have enough images" in refusal(root, tree(tmp_path / "one", classes=1, images=5))
    assert "5 class(es) have enough images, and training, validation and test need 2 each" in refusal(
        root, tree(tmp_path / "five", classes=5, images=2)
    )
    assert "/no/such is not a folder" in refusal(root, Path("/no/such"))
    assert not (root / "own").exists()


def test_images_at_two_depths_or_too_deep_are_refused(root: Path, tmp_path: Path) -> None:
    source = tree(tmp_path / "coins", classes=6, images=2, groups=2)
    figure(1).save(source / "group0" / "cover.png")
    assert "two depths: group0/cover.png (class/image) and group0/class00/image0.png (group/" in refusal(root, source)
    deep = source / "group0" / "class00" / "old" / "x"
    deep.mkdir(parents=True)
    figure(1).save(deep / "y.png")
    assert "group0/class00/old/x/y.png is too deep" in refusal(root, source)


@pytest.mark.parametrize("names", [("test", "train", "val"), ("Training", "VALIDATION"), ("dev", "evaluation")])
def test_folders_of_parts_around_the_classes_are_no_groups(names: tuple[str, ...], root: Path, tmp_path: Path) -> None:
    shared, apart = tmp_path / "shared", tree(tmp_path / "apart", classes=12, images=2, groups=len(names))
    for number, name in enumerate(names):
        tree(shared / name, classes=6, images=2)
        (apart / f"group{number}").rename(apart / name)
    said = f"the folders {', '.join(names)} in {{}} hold parts of the images, not groups of classes"
    told = refusal(root, shared)
    assert f"{said.format(shared)}: 6 class(es) are in several of them" in told
    assert "(class00, class01, class02, class03, class04 and 1 more); put all images of a class into one fo" in told
    told = refusal(root, apart)
    assert f"{said.format(apart)}; take the classes out of them, so that images are class/image" in told
    assert "--split-file" in told and "several" not in told
    assert not (root / "own").exists()


def test_parts_that_share_classes_are_no_groups_whatever_lies_beside_them(root: Path, tmp_path: Path) -> None:
    for name in ("train", "test", "holdout"):
        tree(tmp_path / "coins" / name, classes=6, images=2)
    told = refusal(root, tmp_path / "coins")
    assert f"the folders test, train in {tmp_path / 'coins'} hold parts of the images, not groups" in told
    assert "6 class(es) are in several of them" in told and "holdout" not in told
    for number in range(6):
        place = tmp_path / "coins" / "test" / f"class{number:02}"
        place.rename(place.with_name(f"other{number:02}"))
    about = store.describe(made(root, tmp_path / "coins")[0].folder)
    assert about.alphabets == ("holdout", "test", "train")


def test_one_folder_around_all_classes_that_is_called_as_a_part_is_no_group(root: Path, tmp_path: Path) -> None:
    tree(tmp_path / "coins" / "train", classes=6, images=2)
    assert "the folder train in" in refusal(root, tmp_path / "coins")
    assert made(root, tmp_path / "coins" / "train")[0].folder.name == "train", "the classes' own folder may be"


def test_groups_may_share_names_of_classes_and_one_may_be_called_test(root: Path, tmp_path: Path) -> None:
    source = tmp_path / "scripts"
    for name in ("Greek", "Latin"):
        tree(source / name, classes=6, images=2)
    for groups in (("Greek", "Latin"), ("Greek", "test")):
        prepared, _ = made(root / groups[1], source)
        about = store.describe(prepared.folder)
        assert (about.alphabets, len(about.classes)) == (groups, 12)
        (source / groups[1]).rename(source / "test")


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"side": 8}, "--side 8: images are kept at 16 to 512"),
        ({"polarity": "black"}, "--polarity black: take auto, dark, light, photo"),
        ({"least": 1}, "--min-images 1: a class needs 2"),
        ({"name": "omniglot"}, "cannot be called 'omniglot'"),
        ({"name": "Omniglot"}, "cannot be called 'Omniglot'"),
        ({"name": "glyphs-5"}, "cannot be called"),
        ({"name": "../up"}, "cannot be called '../up'"),
        ({"name": "a@b"}, "cannot be called"),
    ],
)
def test_what_makes_no_set_is_refused(how: dict[str, object], why: str, root: Path, tmp_path: Path) -> None:
    assert why in refusal(root, tree(tmp_path / "coins", classes=6, images=2), **how)
