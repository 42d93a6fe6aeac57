"""Generated alphabets depend only on the seed, have Omniglot's form, and make a one-shot task worth learning."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from oneshot.base.errors import UserError
from oneshot.base.storage import Folder
from oneshot.data import glyphs, store
from oneshot.data.drawings import Drawings, joined
from oneshot.data.splits import split


@pytest.fixture(scope="module")
def drawings(small_glyphs: Folder) -> Drawings:
    return store.load(small_glyphs)


def test_an_alphabet_is_a_function_of_the_seed_and_its_number_alone(drawings: Drawings) -> None:
    fifth = drawings.pixels(np.flatnonzero(drawings.alphabet == 4)) > 0
    again = glyphs.draw_alphabet(0, 4, drawers=8, characters=(20, 24))
    assert np.array_equal(fifth, again.reshape(-1, 105, 105))
    other = glyphs.draw_alphabet(1, 4, drawers=8, characters=(20, 24))
    assert other.shape != again.shape or (other != again).mean() > 0.01


def test_the_files_are_the_same_bytes_again(small_glyphs: Folder, tmp_path: Path) -> None:
    for seed, same in ((0, True), (3, False)):
        folder = Folder.of(tmp_path / str(seed))
        glyphs.build(folder, alphabets=8, drawers=8, characters=(20, 24), seed=seed)
        for name in (store.DRAWINGS, store.TRIALS):
            assert (folder.read(name) == small_glyphs.read(name)) == same


def test_what_will_be_drawn_is_known_before(data_root: Path) -> None:
    assert glyphs.described(10, 0) == store.describe(Folder.of(data_root / "glyphs-10"))


def test_drawings_have_omniglots_form(drawings: Drawings, small_glyphs: Folder) -> None:
    about = store.describe(small_glyphs)
    assert (about.height, about.width, about.bits, about.name) == (105, 105, 1, "glyphs (generated)")
    assert "seed 0" in about.source
    assert all(20 <= len(names) <= 24 for names in about.characters.values())
    assert all(drawers == tuple(range(1, 9)) for drawers in about.drawers.values())
    ink = drawings.pixels() > 0
    assert not ink[:, [0, -1]].any() and not ink[:, :, [0, -1]].any(), "nothing is cut off at the edge"
    share = ink.mean(axis=(1, 2))
    assert 0.005 < share.min() and share.max() < 0.25


def test_no_two_people_draw_alike(drawings: Drawings) -> None:
    assert len(set(map(bytes, drawings.packed))) == len(drawings)
    ink = drawings.pixels().reshape(len(drawings), -1) > 0
    by_drawer = [ink[drawings.drawer == drawer].mean() for drawer in range(1, 9)]
    assert max(by_drawer) > 1.15 * min(by_drawer), "pens and sizes differ"


def looks(drawings: Drawings) -> np.ndarray:
    """Each drawing, centred and blurred to 21 x 21, as a vector of mean 0 and norm 1."""
    pictures = []
    for ink in drawings.pixels():
        y, x = np.nonzero(ink)
        ink = np.roll(ink, (52 - int(y.mean()), 52 - int(x.mean())), axis=(0, 1))
        cells = np.pad(ink.reshape(21, 5, 21, 5).mean(axis=(1, 3)), 1)
        cells = cells[:-2] + 2 * cells[1:-1] + cells[2:]
        cells = cells[:, :-2] + 2 * cells[:, 1:-1] + cells[:, 2:]
        cells -= cells.mean()
        pictures.append((cells / np.linalg.norm(cells)).ravel())
    return np.stack(pictures)


def accuracy(drawings: Drawings, seen: np.ndarray, *, within: bool, trials: int = 300) -> float:
    """The accuracy in 20-way one-shot trials of comparing blurred pictures."""
    rng, right = np.random.default_rng(0), 0
    position = {
        (int(character), int(drawer)): at
        for at, (character, drawer) in enumerate(zip(drawings.character, drawings.drawer, strict=True))
    }
    for _ in range(trials):
        if within:
            pool = np.flatnonzero(drawings.alphabet_of == rng.integers(len(drawings.alphabets)))
        else:
            pool = np.arange(len(drawings.characters))
        chosen = rng.choice(pool, 20, replace=False)
        asked, shown = rng.permutation(8)[:2] + 1
        scores = seen[[position[int(one), shown] for one in chosen]] @ seen[position[int(chosen[0]), asked]]
        right += int(scores.argmax() == 0)
    return right / trials


def test_drawings_of_a_character_resemble_each_other_and_characters_of_an_alphabet_do_too(drawings: Drawings) -> None:
    seen = looks(drawings)
    within, between = (accuracy(drawings, seen, within=where) for where in (True, False))
    assert 0.35 < within < 0.85, "far from chance (0.05), and far from solved by comparing pictures"
    assert between > within + 0.02, "other characters of one alphabet are the harder ones"


def test_the_default_is_split_as_omniglot_is(tmp_path: Path) -> None:
    folder = Folder.of(tmp_path)
    glyphs.build(folder, drawers=4, characters=(20, 20))
    about = store.describe(folder)
    made = split("lake", about)
    assert [len(part.alphabets) for part in (made.train, made.validation, made.test)] == [22, 8, 20]
    assert len(split("koch", about).test.alphabets) == 10
    trials = store.load_trials(folder)
    assert trials.support.shape == (400, 20) and set(trials.run) == set(range(1, 21))


def test_fixed_trials_are_lakes_kind(drawings: Drawings, small_glyphs: Folder) -> None:
    trials, about = store.load_trials(small_glyphs), store.describe(small_glyphs)
    assert trials.support.shape == (80, 20), "two runs for each of two alphabets, 20 queries a run"
    assert trials.run.tolist() == np.repeat([1, 2, 3, 4], 20).tolist()
    hit = trials.support[np.arange(80), trials.target]
    assert np.array_equal(drawings.character[trials.query], drawings.character[hit])
    for run in range(1, 5):
        query, support = trials.query[trials.run == run], trials.support[trials.run == run]
        assert len(set(drawings.alphabet[support].ravel())) == 1 and (support == support[0]).all()
        assert drawings.alphabets[drawings.alphabet[query[0]]] in about.trial_alphabets
        (asked,), (shown,) = set(drawings.drawer[query]), set(drawings.drawer[support].ravel())
        assert asked != shown
        assert len(set(drawings.character[support[0]])) == len(set(drawings.character[query])) == 20
        assert sorted(trials.target[trials.run == run]) == list(range(20))
    assert all(about.origin[name] == "evaluation" for name in about.trial_alphabets)


def test_few_characters_make_fewer_way_trials(tmp_path: Path) -> None:
    folder = Folder.of(tmp_path)
    glyphs.build(folder, alphabets=4, drawers=2, characters=(6, 6))
    assert store.load_trials(folder).support.shape == (12, 6)


@pytest.mark.parametrize(
    ("numbers", "flaw"),
    [
        ({"alphabets": 3}, "3 alphabets are too few for a split"),
        ({"drawers": 1}, "1 drawers cannot be simulated"),
        ({"characters": (1, 5)}, "1 to 5 characters"),
        ({"characters": (9, 5)}, "9 to 5 characters"),
        ({"seed": -1}, "seed -1 is negative"),
    ],
)
def test_numbers_that_make_no_data_set_are_refused(tmp_path: Path, numbers: dict, flaw: str) -> None:
    with pytest.raises(UserError, match=flaw):
        glyphs.build(Folder.of(tmp_path), **numbers)
    assert list(tmp_path.iterdir()) == []


def test_extra_alphabets_are_taught_beside_a_data_sets_own(drawings: Drawings) -> None:
    more = glyphs.extra(2)
    assert np.array_equal(glyphs.extra(1).packed, more.packed[: len(glyphs.extra(1))])
    bare = glyphs.extra(2, pixels=False)
    assert bare.characters == more.characters and len(bare) == len(more) and bare.packed.size == 0
    both = joined(drawings, more)
    assert both.alphabets == (*drawings.alphabets, "Extra_01", "Extra_02")
    assert len(np.unique(both.row)) == len(both) == len(drawings) + len(more)
    assert np.array_equal(both.pixels([len(drawings) + 5]), more.pixels([5]))
    assert np.array_equal(both.where(both.alphabet >= len(drawings.alphabets)).packed, more.packed)
    with pytest.raises(UserError, match="there are two alphabets 'Extra_01'"):
        joined(both, more)
    with pytest.raises(UserError, match="105 x 105 pixels of 1 bit and of 28 x 28"):
        joined(drawings, replace(more, height=28, width=28))
