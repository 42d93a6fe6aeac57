"""Figures on alphabets that a network was trained or validated on are marked; figures on new ones are not."""

from dataclasses import replace
from typing import Any

import pytest

from oneshot.data import glyphs, splits
from oneshot.data.drawings import Description, Own
from oneshot.evaluation.overlap import overlap, taught

TEN = glyphs.described(10, 0)


def told(dataset: str, split: str, *, by: str = "glyphs-10", judged: str = "lake", about: Description = TEN) -> str:
    return overlap({"dataset": dataset, "split": split}, about, dataset=by, split=judged) or ""


@pytest.mark.parametrize("split", splits.SPLITS)
def test_the_test_part_of_its_own_split_is_new_to_a_network(split: str) -> None:
    assert told("glyphs-10", split, judged=split) == ""
    assert told("glyphs-10", f"{split.removesuffix(splits.ALL)}", judged=split) == ""


@pytest.mark.parametrize("split", ["lake", "lake-all", "minimal1", "minimal2-all"])
def test_what_koch_validates_by_judges_in_the_other_splits(split: str) -> None:
    said = "2 of the 4 test alphabets are not new to this network, which was trained or validated on them"
    assert told("glyphs-10", "koch", judged=split) == f"{said} (glyphs-10, split koch)"
    assert told("glyphs-10", split, judged="koch") == "", "Koch's test is a part of theirs"


def test_generated_alphabets_of_one_seed_are_the_same_however_many_there_are() -> None:
    four = glyphs.described(4, 0)
    assert told("glyphs-10", "lake", by="glyphs-4", about=four).startswith("2 of the 2 test alphabets are not new")
    assert told("glyphs", "lake", by="glyphs-10").startswith("4 of the 4 test alphabets")
    assert told("glyphs-50-seed0", "lake", by="glyphs-10").startswith("4 of the 4 test alphabets")
    assert told("glyphs-4", "lake") == "", "its four are taught in ten"
    assert told("glyphs-10", "minimal1", by="glyphs-4", about=four).startswith("2 of the 2"), "of five alphabets"
    assert told("glyphs-10-seed1", "lake", by="glyphs-4", about=four) == ""


def test_another_data_set_is_new() -> None:
    assert told("omniglot", "koch") == told("coins@01234567", "own") == ""
    assert told("glyphs", "lake", by="omniglot") == ""


def test_of_own_images_another_making_may_be_split_in_another_way() -> None:
    classes = TEN.classes[:6]
    own = Own("dark", False, "class", {"train": classes[:2], "validation": classes[2:4], "test": classes[4:]})
    made = replace(TEN, own=own, digests={"images": "0123456789"})
    for name in ("coins@01234567", "money@01234567"):
        assert told(name, "own", by="coins@01234567", judged="own", about=made) == ""
    said = (
        "nobody can tell which test classes are new to this network: it was trained on coins@89abcdef, another version"
    )
    assert told("coins@89abcdef", "own", by="coins@01234567", judged="own", about=made).startswith(said)
    assert told("logos@89abcdef", "own", by="coins@01234567", judged="own", about=made) == ""


def after(*before: tuple[str, str], dataset: str = "glyphs-10", split: str = "lake", judged: str = "lake") -> str:
    """What is said of a network that started from these others, the latest first."""
    start = [origin(*each) for each in before]
    own = {"dataset": dataset, "split": split}
    return overlap(own, TEN, dataset="glyphs-10", split=judged, start=start) or ""


def origin(dataset: str, split: str) -> dict[str, Any]:
    return {"sha256": "0" * 64, "settings": {"data": {"dataset": dataset, "split": split}}}


def test_what_was_taught_to_a_network_is_not_new_to_one_that_started_from_it() -> None:
    assert after(("glyphs-10", "lake"), ("omniglot", "lake")) == ""
    said = "2 of the 4 test alphabets are not new to this network, which "
    before = "started from one that was trained or validated on them (glyphs-10, split koch)"
    assert after(("glyphs-10", "koch")) == after(("omniglot", "lake"), ("glyphs-10", "koch")) == said + before
    own = "was trained or validated on them (glyphs-10, split koch)"
    assert after(("glyphs-10", "koch"), split="koch") == said + own, "it brings nothing more"
    more = "started from one that was trained or validated on them (glyphs-20, split lake-all)"
    assert after(("glyphs-20", "lake-all"), split="koch") == f"4{said[1:]}{own} and {more}"


def test_where_nobody_can_tell_of_a_start_it_is_said() -> None:
    nobody = "nobody can tell which test alphabets are new to this network: it started from another, and its card"
    unsaid = f"{nobody} does not say what it was trained on"
    assert after(("auto", "lake")) == after(("auto", "lake"), ("auto", "lake")) == unsaid
    assert after(("glyphs-10", "koch"), ("auto", "lake")).endswith(f"(glyphs-10, split koch); {unsaid}")
    assert after(("glyphs-2", "lake")).startswith(f"{nobody} says glyphs-2, split lake (")


@pytest.mark.parametrize(
    ("before", "known"),
    [
        ([], False),
        ([("glyphs-10", "lake")], False),
        ([("glyphs-10", "koch")], True),  # koch trains on what lake validates on
        ([("omniglot", "lake"), ("glyphs-10", "lake-all")], True),
        ([("auto", "lake")], "perhaps"),
        ([("auto", "lake"), ("glyphs-10", "koch")], True),
    ],
)
def test_what_validates_may_have_been_taught_before(before: list[tuple[str, str]], known: bool | str) -> None:
    start = [origin(*each) for each in before]
    assert taught(start, TEN, dataset="glyphs-10", split="lake") == known


def test_own_images_that_were_made_anew_may_have_been_taught_before() -> None:
    classes = TEN.classes[:6]
    own = Own("dark", False, "class", {"train": classes[:2], "validation": classes[2:4], "test": classes[4:]})
    made, coins = replace(TEN, own=own, digests={"images": "0123456789"}), "coins@01234567"
    for name, known in ((coins, False), ("coins@89abcdef", "perhaps"), ("logos@89abcdef", False), ("omniglot", False)):
        assert taught([origin(name, "own")], made, dataset=coins, split="own") == known
    said = "it started from another, and that was trained on coins@89abcdef, another version of these images"
    found = overlap({"dataset": coins}, made, dataset=coins, split="own", start=[origin("coins@89abcdef", "own")])
    assert found == f"nobody can tell which test classes are new to this network: {said}"


def test_where_the_card_does_not_say_nobody_can_tell() -> None:
    assert overlap({}, TEN, dataset="glyphs-10", split="lake") == (
        "nobody can tell which test alphabets are new to this network: its card does not say what it was trained on"
    )
    for dataset, split in (("glyphs-2", "lake"), ("glyphs-10", "no such"), ("glyphs-10", "own")):
        assert f"its card says {dataset}, split {split} (" in told(dataset, split)
