"""Splits: what is for training, validation and test. The parts share nothing, except in the `-all` splits."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from oneshot.base.errors import UserError
from oneshot.base.storage import Folder
from oneshot.data import splits, store
from oneshot.data.archives import read_zip
from oneshot.data.drawings import Description
from oneshot.data.splits import Part, load_part, split


def described(background: int, evaluation: int, *, drawers: int = 20, characters: int = 30) -> Description:
    """The description of a data set with so many alphabets, as `store.describe` would return it."""
    origin = {f"B{n:02d}": "background" for n in range(background)}
    origin |= {f"E{n:02d}": "evaluation" for n in range(evaluation)}
    return Description(
        name="made up",
        source="here",
        digests={},
        height=8,
        width=8,
        bits=1,
        trial_alphabets=tuple(f"E{n:02d}" for n in range((evaluation + 1) // 2)),
        characters={name: tuple(f"character{n:02d}" for n in range(characters)) for name in origin},
        drawings={name: characters * drawers for name in origin},
        drawers={name: tuple(range(1, drawers + 1)) for name in origin},
        origin=origin,
    )


def keys(folder: Folder, part: Part) -> set[tuple[str, int]]:
    """Every (character, drawer) in a part."""
    drawings = load_part(folder, part)
    return {
        (drawings.characters[character], int(drawer))
        for character, drawer in zip(drawings.character, drawings.drawer, strict=True)
    }


@pytest.mark.parametrize(
    ("background", "evaluation", "sizes"),
    [(30, 20, (22, 8, 20)), (5, 3, (4, 1, 3)), (2, 2, (1, 1, 2)), (60, 9, (44, 16, 9))],
)
def test_lake_keeps_its_proportions_on_any_data_set(
    background: int, evaluation: int, sizes: tuple[int, int, int]
) -> None:
    made = split("lake", described(background, evaluation))
    assert tuple(len(part.alphabets) for part in (made.train, made.validation, made.test)) == sizes
    assert all(name.startswith("E") for name in made.test.alphabets)
    assert all(name.startswith("B") for name in made.train.alphabets + made.validation.alphabets)


@pytest.mark.parametrize(("name", "taught"), [("lake", 30), ("minimal1", 5), ("minimal2", 5)])
def test_all_teaches_what_validates_too_and_says_so(name: str, taught: int) -> None:
    some, all_ = (split(each, described(30, 20)) for each in (name, name + splits.ALL))
    assert not some.validation_seen and all_.validation_seen and all_.name == name + splits.ALL
    assert (all_.validation, all_.test) == (some.validation, some.test)
    assert len(all_.train.alphabets) == taught and all_.train.characters is None


def test_koch_has_40_alphabets_and_12_and_4_drawers() -> None:
    made = split("koch", described(30, 20))
    assert tuple(len(part.alphabets) for part in (made.train, made.validation, made.test)) == (30, 10, 10)
    assert len(made.train.drawers) == 12 and len(made.validation.drawers) == 4
    assert not made.train.drawers & made.validation.drawers
    assert made.test == Part(described(30, 20).trial_alphabets), "the fixed trials are by any drawer"


def test_koch_needs_enough_drawers() -> None:
    assert len(split("koch", described(30, 20, drawers=4)).validation.drawers) == 2
    with pytest.raises(UserError, match="at least 4 drawers, and made up has 3"):
        split("koch", described(30, 20, drawers=3))


@pytest.mark.parametrize("name", ["minimal1", "minimal2"])
def test_minimal_holds_out_characters_of_five_alphabets(name: str) -> None:
    about = described(30, 20, characters=40)
    made = split(name, about)
    assert made.train.alphabets == made.validation.alphabets and len(made.train.alphabets) == 5
    assert not made.train.characters & made.validation.characters
    assert len(made.train.characters | made.validation.characters) == 200
    held = [sum(one.startswith(name) for one in made.validation.characters) for name in made.train.alphabets]
    assert sorted(held) == [8, 8, 8, 8, 20], "a 20-way trial within one alphabet is possible"


def test_the_two_minimal_splits_differ_where_there_are_alphabets_enough() -> None:
    one, two = (split(name, described(30, 20)).train.alphabets for name in ("minimal1", "minimal2"))
    assert not set(one) & set(two)


@pytest.mark.parametrize("name", ["minimal1", "minimal2", "minimal2-all"])
def test_the_minimal_splits_have_five_alphabets_or_are_refused(name: str) -> None:
    for background in range(5, 11):
        assert len(split(name, described(background, 3)).train.alphabets) == 5
    with pytest.raises(UserError, match=r"needs 5 background alphabets, and made up has 4; take a data set with more"):
        split(name, described(4, 3))


@pytest.mark.parametrize("name", splits.SPLITS)
def test_no_split_shares_a_drawing_or_a_character_between_its_parts(small_glyphs: Folder, name: str) -> None:
    made = split(name, store.describe(small_glyphs))
    train, validation, test = (keys(small_glyphs, part) for part in (made.train, made.validation, made.test))
    assert train and validation and test
    for left, right in ((train, test), (validation, test), (train, validation)):
        if not (made.validation_seen and (left, right) == (train, validation)):
            assert not {character for character, _ in left} & {character for character, _ in right}
    assert not {character.split("/")[0] for character, _ in train | validation} & set(made.test.alphabets)


def test_a_split_that_shares_an_alphabet_cannot_be_made() -> None:
    made = split("lake", described(30, 20))
    for change in ({"train": made.test}, {"validation": made.test}, {"validation": Part(made.train.alphabets[:1])}):
        with pytest.raises(UserError, match=r"the split 'lake' is not valid: .* share"):
            replace(made, **change)


def test_a_split_that_shares_a_character_cannot_be_made() -> None:
    made = split("minimal1", described(30, 20))
    with pytest.raises(UserError, match="train and validation share B00"):
        replace(
            made,
            validation=Part(
                made.validation.alphabets, characters=frozenset({next(iter(sorted(made.train.characters)))})
            ),
        )
    with pytest.raises(UserError, match="train and validation share"):
        replace(made, validation=Part(made.validation.alphabets))


def test_a_part_has_only_its_drawers_and_characters(small_glyphs: Folder) -> None:
    about = store.describe(small_glyphs)
    name = about.alphabets[2]
    chosen = f"{name}/{about.characters[name][3]}"
    part = Part((name,), drawers=frozenset({2, 5}), characters=frozenset({chosen}))
    drawings, every = load_part(small_glyphs, part), store.load(small_glyphs)
    assert drawings.characters == (chosen,) and drawings.alphabets == (name,)
    assert drawings.drawer.tolist() == [2, 5] and drawings.character.tolist() == [0, 0]
    assert np.array_equal(drawings.pixels(), every.pixels(drawings.row)), "rows are those of the whole file"


def test_requests_that_cannot_be_met_are_refused() -> None:
    with pytest.raises(UserError, match=r"no split 'lakes': did you mean 'lake'\?"):
        split("lakes", described(30, 20))
    with pytest.raises(UserError, match="made up has 1 and 20"):
        split("lake", described(1, 20))
    with pytest.raises(UserError, match="'koch' has no validation alphabets"):
        everything_judges = replace(described(30, 2), trial_alphabets=("E00", "E01"))
        split("koch", everything_judges)
    with pytest.raises(UserError, match="lacks the alphabet 'Balinese'"):
        split("lake", replace(described(30, 20), name="omniglot"))


# --- the real Omniglot


def test_omniglots_lake_split_is_the_published_one(omniglot: Folder) -> None:
    about = store.describe(omniglot)
    made = split("lake", about)
    sizes = [len(load_part(omniglot, part)) for part in (made.train, made.validation, made.test)]
    assert sizes == [13_980, 5_300, 13_180]
    assert made.validation.alphabets[0] == "Balinese" and len(made.train.alphabets) == 22
    assert min(len(about.characters[name]) for name in made.validation.alphabets) >= 20


def test_omniglots_koch_split_is_judged_on_lakes_alphabets(omniglot: Folder) -> None:
    made = split("koch", store.describe(omniglot))
    assert len(load_part(omniglot, made.train)) == 964 * 12
    assert set(made.test.alphabets) == set(store.describe(omniglot).trial_alphabets)
    trials, test = store.load_trials(omniglot), load_part(omniglot, made.test)
    assert set(trials.query) | set(trials.support.ravel()) <= set(test.row)


@pytest.mark.parametrize(
    ("name", "archive"), [("minimal1", "images_background_small1"), ("minimal2", "images_background_small2")]
)
def test_the_minimal_alphabets_are_those_of_the_small_archives(
    omniglot: Folder, archives: Path, name: str, archive: str
) -> None:
    small, whole = (
        {
            path.split("/", 1)[1]: hashlib.sha256(data).digest()
            for path, data in read_zip(file).items()
            if path.endswith(".png")
        }
        for file in (archives / f"{archive}.zip", archives / "images_background.zip")
    )
    assert small.items() <= whole.items()
    made = split(name, store.describe(omniglot))
    assert set(made.train.alphabets) == {path.split("/")[0] for path in small}
    assert len(load_part(omniglot, made.train)) + len(load_part(omniglot, made.validation)) == len(small)
