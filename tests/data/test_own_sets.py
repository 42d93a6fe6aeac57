"""Data sets of a user's own images: the split is made once and kept, names find sets, changed images are noticed."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from command import ROOT
from pictures import figure, made, refusal, tree
from PIL import Image
from rich.console import Console
from tables import rewritten

from oneshot.base.errors import UserError
from oneshot.base.jobs import override
from oneshot.base.settings import Settings
from oneshot.base.storage import Folder
from oneshot.data import example, splits, store, view
from oneshot.data.allot import PARTS
from oneshot.data.cache import near
from oneshot.data.drawings import Drawings
from oneshot.data.parquet import DIGESTS
from oneshot.data.sets import Prepared
from oneshot.data.view import show
from oneshot.evaluation import calibrate
from oneshot.evaluation.evaluate import evaluate
from oneshot.evaluation.trials import between, most_ways, protocols, suited, unfit, within
from oneshot.evaluation.validation import Validation
from oneshot.network.models import build
from oneshot.training.parts import load_parts


def parts(prepared: Prepared) -> dict[str, set[str]]:
    return {part: set(names) for part, names in store.describe(prepared.folder).own.split.items()}


# --- the split


def test_enough_groups_are_split_by_group_and_few_by_class(root: Path, tmp_path: Path) -> None:
    for groups, by in ((5, "group"), (4, "class")):
        name = f"coins{groups}"
        prepared, _ = made(root, tree(tmp_path / name, classes=15, images=2, groups=groups))
        about = store.describe(prepared.folder)
        assert about.own.by == by
        found = splits.split("own", about)
        in_part = [set(part.alphabets) for part in (found.train, found.validation, found.test)]
        assert sum(map(len, in_part)) == 5 if by == "group" else sum(map(len, in_part)) > 4
        assert sum(len(names) for names in about.own.split.values()) == 15


@pytest.mark.parametrize("groups", [0, 3, 6])
def test_no_two_parts_share_a_drawing(groups: int, root: Path, tmp_path: Path) -> None:
    prepared, _ = made(root, tree(tmp_path / "coins", classes=12, images=3, groups=groups))
    found = splits.split("own", store.describe(prepared.folder))
    rows = [splits.load_part(prepared.folder, part).row for part in (found.train, found.validation, found.test)]
    assert sorted(np.concatenate(rows)) == list(range(36)) and all(map(len, rows))


@pytest.mark.parametrize("groups", [0, 3, 6])
def test_own_all_teaches_what_validates_too_and_nothing_that_judges(groups: int, root: Path, tmp_path: Path) -> None:
    prepared, _ = made(root, tree(tmp_path / "coins", classes=12, images=3, groups=groups))
    some, all_ = (splits.split(name, store.describe(prepared.folder)) for name in ("own", "own-all"))
    assert (all_.name, all_.validation_seen, some.validation_seen) == ("own-all", True, False)
    assert (all_.validation, all_.test) == (some.validation, some.test)
    taught, was, held, judge = (
        set(splits.load_part(prepared.folder, part).row)
        for part in (all_.train, some.train, some.validation, some.test)
    )
    assert taught == was | held and not taught & judge and len(taught | judge) == 36


def test_the_split_is_a_function_of_names_and_seed(root: Path, tmp_path: Path) -> None:
    one, two = (tree(tmp_path / where / "coins", classes=12, images=2) for where in ("a", "b"))
    first, _ = made(root / "1", one)
    again, _ = made(root / "2", two)
    other, _ = made(root / "3", one, seed=1)
    assert parts(first) == parts(again) != parts(other)
    assert first.dataset == again.dataset != other.dataset, "what was made is the same, wherever it was made"


def test_a_made_split_stays_though_classes_come_and_go(root: Path, tmp_path: Path) -> None:
    source = tree(tmp_path / "coins", classes=20, images=2)
    before = parts(made(root, source)[0])
    for number in range(5):
        (source / f"aaa{number}").mkdir()
        for take in range(2):
            figure(100 + number, take).save(source / f"aaa{number}" / f"{take}.png")
    gone = sorted(before["train"])[0].removeprefix("coins/")
    for path in (source / gone).iterdir():
        path.unlink()
    prepared, said = made(root, source)
    assert "'coins' was remade: its images changed (10 new, 2 gone)" in said and "split by class, as before" in said
    now = parts(prepared)
    assert now["test"] == before["test"] and now["validation"] == before["validation"]
    assert now["train"] == before["train"] - {f"coins/{gone}"} | {f"coins/aaa{number}" for number in range(5)}


@pytest.mark.parametrize(("groups", "classes"), [(2, 6), (3, 12), (12, 12)])
def test_few_classes_a_group_can_be_validated_and_calibrated(
    groups: int, classes: int, root: Path, tmp_path: Path
) -> None:  # fmt: skip
    mixed = 0
    for seed in range(4):
        prepared, said = made(
            root / str(seed), tree(tmp_path / str(seed), classes=classes, images=3, groups=groups), seed=seed
        )
        held = splits.load_part(prepared.folder, splits.split("own", store.describe(prepared.folder)).validation)
        kind, n_way = suited(held, 20)
        mixed += kind == "between"
        assert n_way >= 2 and ("in validation" in said or "validation and test no group" in said)
        train = Settings().train.model_copy(update={"val_pairs": 40, "val_trials": 40})
        assert Validation(held, train, size=28, device=torch.device("cpu")).n_way == n_way
        torch.manual_seed(seed)
        net = build(Settings().model.model_copy(update={"name": "conv4"}), size=28)
        with torch.no_grad():
            net.head.weight.fill_(-1.0)  # scores fall with distance; otherwise `measure` may return None
        measured = calibrate.measure(net, held)
        assert measured is not None
        assert measured["measured_on"]["protocol"] == kind and measured["measured_on"]["n_way"] >= 2
    assert mixed, "or nothing was tried"


@pytest.mark.parametrize("ending", ["json", "toml"])
def test_a_split_file_is_honoured(ending: str, root: Path, tmp_path: Path) -> None:
    source = tree(tmp_path / "coins", classes=12, images=2, groups=4)
    named = {"train": ["group0", "group1"], "validation": ["group2"], "test": ["group3/class03", "group3/class07"]}
    path = tmp_path / f"mine.{ending}"
    path.write_text(json.dumps(named) if ending == "json" else "\n".join(f"{k} = {v}" for k, v in named.items()))
    prepared, said = made(root, source, split_file=str(path))
    assert "split by file: classes for train 6, validation 3, test 2" in said
    assert "1 class(es) are in no part of the split and are not used" in said
    assert parts(prepared)["test"] == {"group3/class03", "group3/class07"}
    assert parts(made(root, source)[0])["test"] == {"group3/class03", "group3/class07"}, "and is kept"


def test_what_lies_beside_the_data_is_a_split_file(root: Path, tmp_path: Path) -> None:
    source = tree(tmp_path / "coins", classes=12, images=2)
    prepared, _ = made(root, source, seed=5)
    copy, _ = made(root, source, name="copy", split_file=prepared.folder.file("splits.json"))
    assert {part: {name.partition("/")[2] for name in names} for part, names in parts(copy).items()} == {
        part: {name.partition("/")[2] for name in names} for part, names in parts(prepared).items()
    }


@pytest.mark.parametrize("groups", [0, 5])
def test_the_sets_own_split_handed_back_makes_the_same_set(groups: int, root: Path, tmp_path: Path) -> None:
    source = tree(tmp_path / "coins", classes=12, images=2, groups=groups)
    first, _ = made(root, source, seed=5)
    copy = tmp_path / "copy.json"
    copy.write_bytes(Path(first.folder.file("splits.json")).read_bytes())
    again, said = made(root, source, split_file=str(copy))
    assert again == first and "it is the same to the bit" in said
    assert f"split by {'group' if groups else 'class'}, as before: classes for" in said
    assert made(root / "elsewhere", source, seed=5, split_file=str(copy))[0].dataset == first.dataset
    told = json.loads(copy.read_text())
    copy.write_text(json.dumps(told | {"test": told["validation"], "validation": told["test"]}))
    assert made(root, source, split_file=str(copy))[0].dataset != first.dataset


def test_a_new_class_goes_with_its_group_where_groups_are_split(root: Path, tmp_path: Path) -> None:
    source = tree(tmp_path / "coins", classes=15, images=2, groups=5)
    before = parts(made(root, source)[0])
    for group in range(6):
        for take in range(2):
            path = source / f"group{group}" / "new"
            path.mkdir(parents=True, exist_ok=True)
            figure(200 + group, take).save(path / f"{take}.png")
    now = parts(made(root, source)[0])
    for part in PARTS:
        groups = {name.partition("/")[0] for name in before[part]} | ({"group5"} if part == "train" else set())
        assert now[part] == before[part] | {f"{group}/new" for group in groups}


def test_a_class_that_a_split_file_left_out_stays_out(root: Path, tmp_path: Path) -> None:
    source = tree(tmp_path / "coins", classes=8, images=2)
    path = tmp_path / "mine.json"
    path.write_text(
        json.dumps({part: [f"class{2 * at:02d}", f"class{2 * at + 1:02d}"] for at, part in enumerate(PARTS)})
    )
    before = parts(made(root, source, split_file=str(path))[0])
    figure(0, 9).save(source / "class00" / "another.png")
    prepared, said = made(root, source)
    assert parts(prepared) == before and "2 class(es) are in no part of the split" in said


def test_a_seed_splits_anew_also_after_a_split_file(root: Path, tmp_path: Path) -> None:
    source = tree(tmp_path / "coins", classes=8, images=2)
    by_lot = made(root, source)[0]
    path = tmp_path / "mine.json"
    names = {"train": ["class00", "class01"], "validation": ["class02", "class03"], "test": ["class04", "class05"]}
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(names).encode())  # with a byte order mark, as some editors write it
    assert made(root, source, split_file=str(path))[0].dataset != by_lot.dataset
    assert made(root, source, seed=0)[0].dataset == by_lot.dataset
    assert made(root, source, seed=0)[1] == "", "as it is already"


WRONG = {
    "shares a class": (
        {"train": ["class00", "class01"], "validation": ["class02", "class03"], "test": ["class04", "class00"]},
        "the split 'own' is not valid: train and test share coins/class00",
    ),
    "an unknown class": (
        {"train": ["class00", "klass01"], "validation": ["class02", "class03"], "test": ["class04", "class05"]},
        "train names 'klass01', and there is no such class; did you mean 'class01'?",
    ),
    "one class in a part": (
        {"train": ["class00", "class01"], "validation": ["class02"], "test": ["class04", "class05"]},
        "validation has 1 class(es) that can be used, and it needs 2",
    ),
    "no test": (
        {"train": ["class00", "class01"], "validation": ["class02", "class03"]},
        "has no list of names at 'test'",
    ),
    "another key": ({"train": [], "valid": [], "test": []}, "has a key 'valid'; did you mean 'validation'?"),
    "no lists": ({"train": "class00", "validation": [], "test": []}, "has no list of names at 'train'"),
    "a list": (["class00"], "has no keys"),
    "no json": ("{", "is not JSON"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_split_file_that_is_wrong_is_refused(name: str, root: Path, tmp_path: Path) -> None:
    content, why = WRONG[name]
    path = tmp_path / "mine.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    source = tree(tmp_path / "coins", classes=6, images=2)
    assert why in refusal(root, source, split_file=str(path))
    assert not (root / "own").exists()
    assert "no-such.json cannot be read" in refusal(root, source, split_file="no-such.json")


def test_a_class_with_too_few_images_may_stand_in_a_split_file(root: Path, tmp_path: Path) -> None:
    source = tree(tmp_path / "coins", classes=7, images=2)
    (source / "class06" / "image0.png").unlink()
    path = tmp_path / "mine.json"
    names = [f"class{number:02d}" for number in range(7)]
    path.write_text(json.dumps({"train": names[:2], "validation": names[2:4], "test": names[4:]}))
    assert parts(made(root, source, split_file=str(path))[0])["test"] == {"coins/class04", "coins/class05"}


def test_only_their_own_split_fits_own_images_and_only_them(root: Path, tmp_path: Path, small_glyphs: Folder) -> None:
    about = store.describe(made(root, tree(tmp_path / "coins", classes=6, images=2))[0].folder)
    assert splits.fitting("lake", about) == splits.fitting("own", about) == "own"
    assert splits.split("lake", about) == splits.split("own", about)
    with pytest.raises(UserError, match=r"have a split of their own: write data\.split = 'own', not 'koch'"):
        splits.split("koch", about)
    assert splits.fitting("own-all", about) == "own-all"
    with pytest.raises(UserError, match=r"write data\.split = 'own-all', not 'lake-all'"):
        splits.split("lake-all", about)
    for name in ("own", "own-all"):
        with pytest.raises(UserError, match=f"the split '{name}' is for your own images, which glyphs"):
            splits.split(name, store.describe(small_glyphs))


# --- names


def test_several_sets_live_side_by_side_and_are_found_by_name(root: Path, tmp_path: Path) -> None:
    coins, _ = made(root, tree(tmp_path / "My coins!", classes=6, images=2))
    assert coins.folder.name == "My-coins"
    assert made(root, None)[0] == coins, "the only one needs no name"
    logos, _ = made(root, tree(tmp_path / "x", classes=8, images=2), name="logos")
    assert made(root, None, "My-coins")[0] == coins and made(root, None, "logos")[0] == logos
    assert made(root, None, logos.dataset)[0] == logos, "also by the name that a run records"
    assert "there are My-coins, logos: name one" in refusal(root, None)
    assert "there are none yet: --source DIR makes one" in refusal(tmp_path / "other", None)
    assert "there is no data set 'logo': did you mean 'logos'?" in refusal(root, None, "logo")
    assert "need --source (the folder of its images)" in refusal(root, None, "logos", side=64)
    assert "the set is called 'logos' and not 'coins'" in refusal(root, None, "logos", name="coins")
    assert "go with --dataset folder, not with 'glyphs-4'" in refusal(root, None, "glyphs-4", name="x")


def test_a_set_of_which_the_disk_took_a_part_is_not_listed_and_can_be_made(root: Path, tmp_path: Path) -> None:
    source = tree(tmp_path / "coins", classes=6, images=2)
    whole, _ = made(root, source)
    Path(made(root, source, name="half")[0].folder.file("drawings.parquet")).unlink()
    assert made(root, None)[0] == whole, "the only one needs no name"
    assert "'halve': known: auto, coins, folder, glyphs, omniglot" in refusal(root, None, "halve")
    assert "there is no data set 'half'; --dataset folder --source DIR --name half makes it" in refusal(
        root, None, "half"
    )
    assert made(root, source, "half")[0].folder.name == "half"


def test_a_making_that_is_asked_for_is_not_made_anew(root: Path, tmp_path: Path) -> None:
    source = tree(tmp_path / "coins", classes=6, images=2)
    first, _ = made(root, source)
    figure(0, 9).save(source / "class00" / "another.png")
    again, said = made(root, source, first.dataset)
    assert again == first and "it is used as it was made" in said
    other, said = made(root, source)
    assert other.dataset != first.dataset and "runs that used its earlier version cannot go on" in said
    assert f"it is {other.dataset} now, and not the {first.dataset}" in refusal(root, source, first.dataset)
    assert made(root, None)[0] == other
    (source / "class00" / "another.png").touch()
    assert "it is the same to the bit" in made(root, source)[1]


def test_a_making_is_known_by_a_few_of_its_digits(root: Path, tmp_path: Path) -> None:
    whole, _ = made(root, tree(tmp_path / "coins", classes=6, images=2))
    digest = store.describe(whole.folder).digests["images"]
    for digits in (4, 6, 8, 20):
        assert made(root, None, f"coins@{digest[:digits]}")[0] == whole, "and a record names it in full"
    assert f"name coins for the current one, or {whole.dataset}" in refusal(root, None, f"coins@{digest[:3]}")
    assert "was remade" in refusal(root, None, "coins@" + ("0000" if digest[0] != "0" else "1111"))


def test_neither_a_training_nor_a_judgement_takes_another_making(root: Path, tmp_path: Path) -> None:
    source = tree(tmp_path / "coins", classes=6, images=2)
    first, _ = made(root, source)
    other, _ = made(root, source, seed=1)
    settings = override(Settings(), {"data.dataset": first.dataset, "data.split": "own"}, source="the test")
    sentence = f"it is {other.dataset} now, and not the {first.dataset} that was asked for"
    with pytest.raises(UserError, match=sentence):
        load_parts(other.folder, settings.data)
    with pytest.raises(UserError, match=sentence):
        evaluate(Folder.of(root), other.folder, dataset=first.dataset, split="own", how=settings.evaluate)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_set_is_usable_by_who_may_not_look_at_its_source() -> None:
    with TemporaryDirectory() as place:
        folder, closed = Path(place), Path(place, "alice")
        folder.chmod(0o755)
        first, _ = made(folder / "root", tree(closed / "coins", classes=6, images=2))
        closed.chmod(0o700)
        os.seteuid(65534)
        try:
            assert made(folder / "root", None)[0] == first
        finally:
            os.seteuid(0)


def test_a_name_means_one_folder(root: Path, tmp_path: Path) -> None:
    made(root, tree(tmp_path / "coins", classes=6, images=2))
    other = tree(tmp_path / "b" / "coins", classes=6, images=2)
    assert f"'coins' is made from {tmp_path}/coins, not from {other}; give another --name" in refusal(root, other)


def test_a_folder_is_the_same_however_it_is_spelt(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tree(tmp_path / "coins", classes=6, images=2)
    first, _ = made(root, source)
    (tmp_path / "alias").symlink_to(source)
    (tmp_path / "out").symlink_to(tree(tmp_path / "b" / "coins", classes=6, images=2))
    monkeypatch.chdir(source / "class00")
    for spelt in ("..", "../../b/../coins", f"{source}/class00/..", f"{tmp_path}/out/../../coins", tmp_path / "alias"):
        assert made(root, spelt, name="coins") == (first, ""), spelt
    assert made(root, Path("..")) == (first, ""), "and it is called alike"


# --- changes


def test_what_is_ready_is_not_made_again(root: Path, tmp_path: Path) -> None:
    source = tree(tmp_path / "coins", classes=6, images=2)
    first, said = made(root, source, polarity="dark")
    written = Path(first.folder.file(store.DRAWINGS)).stat().st_mtime_ns
    again, said = made(root, source)
    assert again == first and said == "", "what is not said anew is as it was"
    assert Path(first.folder.file(store.DRAWINGS)).stat().st_mtime_ns == written


def test_a_changed_source_is_noticed_and_used_when_asked(root: Path, tmp_path: Path) -> None:
    source = tree(tmp_path / "coins", classes=6, images=3)
    first, _ = made(root, source)
    figure(50).save(source / "class00" / "new.png")
    (source / "class01" / "image0.png").unlink()
    figure(51, size=(99, 99)).save(source / "class02" / "image0.png")
    still, said = made(root, None, "coins")
    assert still == first
    assert "are not those that 'coins' was made from (1 new, 1 gone, 1 changed): it is used as it was made" in said
    now, said = made(root, source, "coins")
    assert "'coins' was remade: its images changed (1 new, 1 gone, 1 changed); runs that used its earlier" in said
    assert now.dataset != first.dataset
    assert "the data set 'coins' was remade" in refusal(root, None, first.dataset)
    assert made(root, None, "coins") == (now, "")


def test_where_the_source_is_gone_the_set_is_used_as_it_is(root: Path, tmp_path: Path) -> None:
    source = tree(tmp_path / "coins", classes=6, images=2)
    first, _ = made(root, source)
    source.rename(tmp_path / "away")
    assert made(root, None, "coins") == (first, "")


def test_another_making_is_another_set_to_a_run(root: Path, tmp_path: Path) -> None:
    source = tree(tmp_path / "coins", classes=6, images=2)
    first, _ = made(root, source)
    other, said = made(root, source, side=64)
    assert "remade: its options changed" in said and other.dataset != first.dataset
    assert store.describe(other.folder).height == 64


def test_a_set_whose_making_is_forgotten_is_made_again(root: Path, tmp_path: Path, small_glyphs: Folder) -> None:
    source = tree(tmp_path / "coins", classes=6, images=2)
    first, _ = made(root, source)
    for content in (None, {}, [1], {"source": str(source), "how": {"side": "big"}, "files": {}}):
        first.folder.remove("source.json")
        if content is not None:
            first.folder.write_json("source.json", content)
        assert made(root, None, "coins")[0] == first
        assert made(root, source)[0] == first
    whole = first.folder.read(store.DRAWINGS)
    first.folder.write(store.DRAWINGS, small_glyphs.read(store.DRAWINGS))
    assert "drawings.parquet does not hold a user's own images" in refusal(root, None, "coins")
    first.folder.write(store.DRAWINGS, whole[:-9])
    assert "drawings.parquet is damaged" in refusal(root, None, "coins")


def test_processes_that_make_one_set_at_once_do_not_harm_it(root: Path, tmp_path: Path) -> None:
    source = tree(tmp_path / "coins", classes=6, images=2)
    command = [
        sys.executable,
        "-m",
        "oneshot.data",
        "--dataset",
        "folder",
        "--source",
        str(source),
        "--data",
        str(root),
    ]
    running = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) for _ in range(3)]
    assert [one.wait(timeout=300) for one in running] == [0, 0, 0]
    assert len(store.load(made(root, None, "coins")[0].folder)) == 12


def test_own_images_on_an_object_store_are_copied_here_without_trials(bucket: str, tmp_path: Path) -> None:
    source = tree(tmp_path / "coins", classes=6, images=2)
    prepared, _ = made(f"{bucket}/data", source)
    assert not prepared.folder.is_local and prepared.folder.has(DIGESTS)
    copy = near(prepared.folder)
    assert copy.is_local and store.describe(copy) == store.describe(near(prepared.folder))
    assert made(f"{bucket}/data", None, "coins")[0] == prepared


# --- trials


def some(sizes: dict[str, dict[str, int]]) -> Drawings:
    """A user's own drawings without pixels, from {group: {class: number of images}}."""
    names = [f"{group}/{name}" for group, classes in sizes.items() for name in classes]
    counts = [count for classes in sizes.values() for count in classes.values()]
    total = sum(counts)
    return Drawings(
        packed=np.zeros((total, 0), np.uint8), height=8, width=8, bits=8, row=np.arange(total),
        character=np.repeat(np.arange(len(names)), counts), drawer=np.concatenate([np.arange(c) + 1 for c in counts]),
        characters=tuple(names), alphabet_of=np.repeat(np.arange(len(sizes)), [len(c) for c in sizes.values()]),
        alphabets=tuple(sizes), own=True,
    )  # fmt: skip


UNEVEN = some({"a": {"1": 2, "2": 300, "3": 9, "4": 4}, "b": {"5": 2, "6": 2}})


def test_any_two_images_of_a_class_meet_however_many_each_class_has() -> None:
    for make in (within, between):
        trials = make(UNEVEN, trials=3000, n_way=4 if make is within else 6)
        character = UNEVEN.character[trials.support[..., 0]]
        assert (np.take_along_axis(character, trials.target[:, None], 1)[:, 0] == UNEVEN.character[trials.query]).all()
        assert not (trials.support == trials.query[:, None, None]).any()
        asked = np.bincount(UNEVEN.character[trials.query], minlength=6)
        assert (asked[asked > 0] > 400).all(), "each class is asked about alike"
        big = trials.query[UNEVEN.character[trials.query] == 1]
        assert len(np.unique(big)) > 200, "and by all of its images"


def test_within_stays_in_a_group() -> None:
    trials = within(UNEVEN, trials=500, n_way=2)
    groups = UNEVEN.alphabet_of[UNEVEN.character[trials.support[..., 0]]]
    assert (groups[:, 0] == groups[:, 1]).all() and set(groups[:, 0]) == {0, 1}


def test_n_way_falls_to_what_the_classes_allow_and_shots_need_images() -> None:
    assert [most_ways(UNEVEN, name, k_shot=1) for name in ("within", "between")] == [4, 6]
    assert [most_ways(UNEVEN, name, k_shot=3) for name in ("within", "between")] == [3, 3]
    trials, skipped = protocols(UNEVEN, None, trials=10)
    assert {each.name: each.n_way for each in trials} == {"within": 4, "between": 6}
    assert skipped["lake400"] == "this dataset has no fixed trials"
    assert "6 characters have" in skipped["seed352"]
    assert skipped["within b"] == "it has 2 classes of 2 images, and 4-way needs 4"
    assert unfit(UNEVEN, n_way=2, k_shot=2) == {"b": "0 classes of 3 images, and 2-way needs 2"}
    with pytest.raises(UserError, match="1 classes of 10 images, and 20-way needs 20"):
        protocols(UNEVEN, None, names=["within"], k_shot=9, trials=10)


@pytest.mark.parametrize(
    ("sizes", "ways"),
    [((21, 5, 4), 5), ((21, 4), 20), ((21, 2, 1, 1), 2), ((21, 1, 1), 2), ((30, 25, 3), 20), ((1, 1), 2)],
)
def test_within_has_as_many_ways_as_half_of_the_groups_carry_and_two_at_least(
    sizes: tuple[int, ...], ways: int
) -> None:
    """One large group among many must not set n_way so high that the others are excluded."""
    held = some({f"g{at}": {str(number): 3 for number in range(size)} for at, size in enumerate(sizes)})
    if max(sizes) < 2:
        assert most_ways(held, "within", k_shot=1) == 1 and suited(held, 20) == ("between", 2)
        return
    assert suited(held, 20) == ("within", ways)
    trials, skipped = protocols(held, None, names=["within"], trials=200)
    assert trials[0].n_way == ways
    carried = {f"g{at}" for at, size in enumerate(sizes) if size >= ways}
    assert {key for key in skipped if key.startswith("within ")} == {f"within g{at}" for at in range(len(sizes))} - {
        f"within {name}" for name in carried
    }
    assert {held.alphabets[held.alphabet_of[each]] for each in held.character[trials[0].query]} == carried


def test_between_the_classes_of_one_group_is_within_once_more() -> None:
    trials, skipped = protocols(some({"a": dict.fromkeys("12345", 3)}), None, names=["within", "between"], trials=10)
    assert [each.name for each in trials] == ["within"] and "the same as within" in skipped["between"]


# --- shown


def test_a_set_without_groups_is_shown_by_class(root: Path, tmp_path: Path) -> None:
    prepared, _ = made(root, tree(tmp_path / "coins", classes=8, images=3))
    stream = StringIO()
    show(Console(file=stream, width=80), prepared)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "coins (own images): 24 images of 8 classes, 105 x 105 pixels of 8 bit"
    assert lines[2] == "polarity dark (dark ink on light paper)"
    assert lines[3] == "split by class: classes for train 4, validation 2, test 2"
    role = {line.split()[0]: line.split()[1:] for line in lines if line.startswith("class0") and len(line.split()) > 1}
    for part, names in parts(prepared).items():
        assert all(role[name.partition("/")[2]] == ["3", part] for name in names)
    assert "█" in stream.getvalue()
    with pytest.raises(UserError, match=r"has no class 'class9': did you mean 'class0\d'\?"):
        show(Console(file=stream), prepared, alphabet="class9")


@pytest.mark.parametrize(("groups", "row"), [(0, "class"), (6, "group")])
def test_what_validates_and_is_taught_too_is_shown_as_both(groups: int, row: str, root: Path, tmp_path: Path) -> None:
    prepared, _ = made(root, tree(tmp_path / "coins", classes=12, images=2, groups=groups))
    stream = StringIO()
    show(Console(file=stream, width=80), prepared, split="own-all")
    assert "in the split own-all" in stream.getvalue()
    roles = re.findall(rf"(?m)^{row}\d+ .*\d  +([a-z+ ]+?) *$", stream.getvalue())
    shares = (8, 2, 2) if not groups else (4, 1, 1)
    assert tuple(roles.count(role) for role in ("train", "train + validation", "test")) == shares


@pytest.mark.parametrize("groups", [0, 6])
def test_a_long_name_costs_no_heading(groups: int, root: Path, tmp_path: Path) -> None:
    source = tree(tmp_path / "coins", classes=12, images=2, groups=groups)
    (source / ("group0" if groups else "class00")).rename(source / ("long" * 15))
    prepared, _ = made(root, source, side=32)
    stream = StringIO()
    show(Console(file=stream, width=80), prepared)
    head, _, *rows = stream.getvalue().splitlines()[4:]
    assert head.split() == [*(("group", "classes") if groups else ("class",)), "images", *"in the split own".split()]
    row = next(row for row in rows if row.startswith("longlong"))
    assert "…" in row and len(row) <= 80


def test_of_many_classes_some_are_shown_from_all_over_the_set(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared, _ = made(root, tree(tmp_path / "coins", classes=31, images=2), side=32)
    monkeypatch.setattr(view, "_MOST", 4)
    for png in (None, tmp_path / "sheet.png"):
        stream = StringIO()
        show(Console(file=stream, width=80), prepared, png=png)
        lines = stream.getvalue().splitlines()
        assert [line[:7] for line in lines if line.startswith("class") and " 2 " in line] == [
            "class00", "class10", "class20", "class30",
        ]  # fmt: skip
        assert lines[-1] == "4 of 31 classes; --alphabet CLASS shows others"
    drawings, sheet = store.load(prepared.folder), np.asarray(Image.open(tmp_path / "sheet.png"))
    last = drawings.pixels(np.flatnonzero(drawings.character == 30)[:1])[0]
    assert sheet.shape[0] == 4 * 36 + 4 and np.array_equal(sheet[112:144, 4:36], 255 - last)


@pytest.mark.parametrize("kind", ["dark", "light", "photo"])
def test_pictures_show_the_images_as_they_were(kind: str, root: Path, tmp_path: Path) -> None:
    prepared, _ = made(root, tree(tmp_path / "coins", classes=6, images=2, kind=kind))
    show(Console(file=StringIO()), prepared, png=tmp_path / "sheet.png")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    ink = store.load(prepared.folder).pixels([0])[0]
    assert np.array_equal(sheet[4:109, 4:109], 255 - ink if kind == "dark" else ink)
    assert sheet[0, 0] == (255 if kind == "dark" else 0), "between them is paper"


def test_a_terminal_with_colours_has_greys(root: Path, tmp_path: Path) -> None:
    prepared, _ = made(root, tree(tmp_path / "coins", classes=6, images=2, kind="photo", groups=2))
    for colours in ("truecolor", None):
        stream = StringIO()
        show(Console(file=stream, width=80, force_terminal=bool(colours), color_system=colours), prepared)
        assert ("38;2;" in stream.getvalue()) == bool(colours)
        assert max(len(line) for line in stream.getvalue().splitlines()[4:] if "\x1b" not in line) <= 80


# --- as image files


@pytest.mark.parametrize("kind", ["dark", "light", "photo"])
def test_an_example_of_own_images_is_of_test_classes_and_as_the_images_were(
    kind: str, root: Path, tmp_path: Path
) -> None:
    prepared, _ = made(root, tree(tmp_path / "coins", classes=12, images=3, kind=kind), side=40)
    stream = StringIO()
    example.write(Console(file=stream), prepared, str(tmp_path / "example"))
    tested = {name.partition("/")[2] for name in parts(prepared)["test"]}
    assert 1 < len(tested) < 12 and {path.stem for path in (tmp_path / "example/classes").iterdir()} == tested
    assert sorted(path.name for path in (tmp_path / "example/known").rglob("*.png")) == sorted(
        ["2.png", "3.png"] * len(tested)
    )
    assert f"holds {len(tested)} classes of coins: an image of each in classes, {2 * len(tested)} others" in (
        stream.getvalue()
    )
    drawings = store.load(prepared.folder)
    for name in tested:
        first = drawings.pixels(np.flatnonzero(drawings.character == drawings.characters.index(f"coins/{name}"))[:1])[0]
        written = Image.open(tmp_path / f"example/classes/{name}.png")
        assert np.array_equal(np.asarray(written), 255 - first if kind == "dark" else first)


def test_an_example_of_grouped_images_takes_one_group(root: Path, tmp_path: Path) -> None:
    prepared, _ = made(root, tree(tmp_path / "coins", classes=12, images=2, groups=6))
    example.write(Console(file=StringIO()), prepared, str(tmp_path / "example"))
    about = store.describe(prepared.folder)
    group = splits.split("own", about).test.alphabets[0]
    assert {path.stem for path in (tmp_path / "example/classes").iterdir()} == {*about.characters[group]}


def test_where_no_group_has_two_test_classes_an_example_names_a_group_that_has_two(root: Path, tmp_path: Path) -> None:
    source = tree(tmp_path / "coins", classes=9, images=2, groups=2)
    (source / "group0").rename(source / "group 0")
    split = {"train": ["group 0/class00", "group1/class01"], "validation": ["group 0/class02", "group1/class03"]}
    (tmp_path / "split.json").write_text(json.dumps(split | {"test": ["group 0/class04", "group1/class05"]}))
    prepared, _ = made(root, source, split_file=str(tmp_path / "split.json"))
    console, target = Console(file=StringIO()), tmp_path / "example"
    with pytest.raises(UserError, match=r"no group of .* has two for the test: --alphabet 'group 0' takes classes of"):
        example.write(console, prepared, str(target))
    example.write(console, prepared, str(target), alphabet="group 0")
    assert sorted(path.stem for path in (target / "classes").iterdir()) == [f"class{n:02d}" for n in (0, 2, 4, 6, 8)]


def test_an_example_of_images_without_groups_has_no_alphabet_to_name(root: Path, tmp_path: Path) -> None:
    prepared, _ = made(root, tree(tmp_path / "coins", classes=12, images=2))
    with pytest.raises(UserError, match="has no groups: with --images leave --alphabet out"):
        example.write(Console(file=StringIO()), prepared, str(tmp_path / "example"), alphabet="class01")


def test_an_example_of_many_classes_takes_some_from_all_over_the_set(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared, _ = made(root, tree(tmp_path / "coins", classes=31, images=2), side=32)
    monkeypatch.setattr(example, "_MOST", 4)
    stream = StringIO()
    example.write(Console(file=stream), prepared, str(tmp_path / "example"), alphabet="coins")
    chosen = sorted(path.name for path in (tmp_path / "example/classes").iterdir())
    assert chosen == [f"class{number}0.png" for number in range(4)]
    assert "holds 4 of 31 classes of coins" in stream.getvalue()


def test_no_example_of_groups_of_one_class(root: Path, tmp_path: Path) -> None:
    prepared, _ = made(root, tree(tmp_path / "coins", classes=6, images=2, groups=6))
    for alphabet, why in (
        ("group1", "group1 is too small for an example, which takes two characters, one of them drawn twice"),
        (None, "no group of .* has two for the test: put more classes into a group"),
    ):
        with pytest.raises(UserError, match=why):
            example.write(Console(file=StringIO()), prepared, str(tmp_path / "example"), alphabet=alphabet)
    assert not (tmp_path / "example").exists()


def test_a_class_whose_name_leads_out_of_the_folder_is_not_written(root: Path, tmp_path: Path) -> None:
    prepared, _ = made(root, tree(tmp_path / "coins", classes=12, images=2))
    drawings = store.load(prepared.folder)
    bad = replace(drawings, characters=("coins/../../x", *drawings.characters[1:]))
    with pytest.raises(UserError, match=r"the character '\.\./\.\./x' has a name that no file can have"):
        example._files(bad, [np.array([0, 1])])


# --- a footer that must not be trusted


@pytest.mark.parametrize(
    ("change", "flaw"),
    [
        ({"polarity": "grey"}, r"own\.polarity = 'grey': must be 'dark', 'light' or 'photo'"),
        ({"split": {"train": [], "test": []}}, "lacks a part"),
        ({"split": {"train": ["x/y"], "validation": [], "test": []}}, "names a class that it does not hold"),
        ({"flat": 1}, r"own\.flat = 1: must be a valid boolean"),
        (None, "has a column 'drawer' of type int32, not int8"),
    ],
)
def test_what_a_footer_says_of_own_images_is_checked(
    change: dict[str, object] | None, flaw: str, root: Path, tmp_path: Path
) -> None:
    prepared, _ = made(root, tree(tmp_path / "coins", classes=12, images=2, groups=6))
    own = {"polarity": "dark", "flat": False, "by": "group", "split": {part: [] for part in PARTS}}
    rewritten(prepared.folder, own=change and {**own, **change})
    with pytest.raises(UserError, match=flaw):
        store.describe(prepared.folder)


def test_a_footer_whose_parts_share_a_class_gives_no_split(root: Path, tmp_path: Path) -> None:
    prepared, _ = made(root, tree(tmp_path / "coins", classes=12, images=2, groups=6))
    same = {part: ["group0/class00", "group1/class01"] for part in PARTS}
    rewritten(prepared.folder, own={"polarity": "dark", "flat": False, "by": "group", "split": same})
    with pytest.raises(UserError, match="not valid: train and test share group0/class00, group1/class01"):
        splits.split("own", store.describe(prepared.folder))
