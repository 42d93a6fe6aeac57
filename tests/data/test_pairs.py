"""Pairs and episodes: what they hold. They depend only on seed, epoch and position, not on who asks for them."""

import itertools

import numpy as np
import pytest
import tiny
from lineup import chi_square

from oneshot.base.errors import UserError
from oneshot.data.drawings import Drawings
from oneshot.data.pairs import EpisodeDataset, PairDataset, Pairs

SIZES = {"Ogham": 3, "Greek": 12, "Runes": 30}  # numbers of characters, as unequal as in real alphabets


def equal(one: Pairs, other: Pairs) -> bool:
    return all(np.array_equal(getattr(one, key), getattr(other, key)) for key in ("left", "right", "same", "turn"))


@pytest.fixture(scope="module")
def drawings() -> Drawings:
    return tiny.drawings(SIZES, drawers=5)


@pytest.fixture(scope="module")
def pairs(drawings: Drawings) -> Pairs:
    return PairDataset(drawings, seed=1).pairs(epoch=1, start=0, count=20_000)


# Pairs


@pytest.mark.parametrize("batch", [2, 6, 64, 128])
def test_exactly_half_of_every_even_batch_is_of_one_character(drawings: Drawings, batch: int) -> None:
    data = PairDataset(drawings, seed=0)
    for step in range(20):
        assert data.pairs(epoch=2, start=step * batch, count=batch).same.sum() == batch // 2


def test_same_and_different_come_in_random_order(pairs: Pairs) -> None:
    assert 4_600 < pairs.same[0::2].sum() < 5_400


def test_a_same_pair_is_two_drawings_of_one_character(drawings: Drawings, pairs: Pairs) -> None:
    left, right = pairs.left[pairs.same], pairs.right[pairs.same]
    assert (drawings.character[left] == drawings.character[right]).all()
    assert (left != right).all()


def test_a_different_pair_is_of_two_characters(drawings: Drawings, pairs: Pairs) -> None:
    left, right = pairs.left[~pairs.same], pairs.right[~pairs.same]
    assert (drawings.character[left] != drawings.character[right]).all()


def test_every_drawing_and_every_two_drawings_of_a_character_meet(drawings: Drawings) -> None:
    many = PairDataset(drawings, seed=1, balance=False).pairs(epoch=1, start=0, count=40_000)
    assert len(np.unique(many.left)) == len(np.unique(many.right)) == len(drawings)
    met = set(zip(many.left[many.same].tolist(), many.right[many.same].tolist(), strict=True))
    assert len(met) == 45 * 5 * 4  # ordered pairs of the 5 drawings of each of 45 characters


def test_a_pair_depends_on_seed_epoch_and_index_alone(drawings: Drawings) -> None:
    data = PairDataset(drawings, seed=5, rotations=True)
    whole = data.pairs(epoch=3, start=0, count=100)
    for start, count in [(0, 2), (40, 20), (98, 2)]:
        part = slice(start, start + count)
        expected = Pairs(whole.left[part], whole.right[part], whole.same[part], whole.turn[part])
        assert equal(PairDataset(drawings, seed=5, rotations=True).pairs(epoch=3, start=start, count=count), expected)
    assert not np.array_equal(whole.left, data.pairs(epoch=4, start=0, count=100).left)
    assert not np.array_equal(whole.left, PairDataset(drawings, seed=6).pairs(epoch=3, start=0, count=100).left)


@pytest.mark.parametrize(("start", "count"), [(1, 2), (0, 3)])
def test_pairs_come_in_twos(drawings: Drawings, start: int, count: int) -> None:
    with pytest.raises(ValueError, match="must be even"):
        PairDataset(drawings, seed=0).pairs(epoch=0, start=start, count=count)


def test_balanced_alphabets_weigh_alike_however_many_characters_they_have(drawings: Drawings, pairs: Pairs) -> None:
    for chosen in (pairs.left, pairs.left[pairs.same]):
        assert chi_square(np.bincount(drawings.alphabet[chosen], minlength=3)) < 25  # 2 degrees of freedom
    inside = drawings.alphabet_of == 2
    assert chi_square(np.bincount(drawings.character[pairs.left], minlength=45)[inside]) < 80  # 29 degrees


def test_without_balance_characters_weigh_alike(drawings: Drawings) -> None:
    many = PairDataset(drawings, seed=1, balance=False).pairs(epoch=1, start=0, count=20_000)
    for chosen in (many.left, many.right, many.left[many.same]):
        assert chi_square(np.bincount(drawings.character[chosen], minlength=45)) < 100  # 44 degrees of freedom


def inside_share(drawings: Drawings, **options: float) -> float:
    """The share of the different pairs whose two characters are in one alphabet."""
    made = PairDataset(drawings, seed=4, **options).pairs(epoch=1, start=0, count=20_000)
    left, right = made.left[~made.same], made.right[~made.same]
    return float((drawings.alphabet[left] == drawings.alphabet[right]).mean())


def test_hard_negatives_put_their_share_of_the_different_pairs_inside_one_alphabet(drawings: Drawings) -> None:
    by_chance = inside_share(drawings, hard_negatives=0.0)
    assert 0.2 < by_chance < 0.4  # by chance, with three alphabets
    assert abs(inside_share(drawings, hard_negatives=0.5) - (0.5 + 0.5 * by_chance)) < 0.03
    assert inside_share(drawings, hard_negatives=1.0) == 1.0


def test_a_hard_negative_is_any_other_character_of_the_alphabet(drawings: Drawings) -> None:
    many = PairDataset(drawings, seed=1, balance=False, hard_negatives=1.0).pairs(epoch=1, start=0, count=40_000)
    left, right = (drawings.character[each[~many.same]] for each in (many.left, many.right))
    runes = np.flatnonzero(drawings.alphabet_of == 2)
    of_one = right[left == runes[7]]
    assert chi_square(np.bincount(of_one, minlength=45)[np.delete(runes, 7)]) < 80  # 28 degrees of freedom


def test_without_rotations_nothing_is_turned(pairs: Pairs) -> None:
    assert not pairs.turn.any()


def test_neighbours_turn_together_and_strangers_on_their_own(drawings: Drawings) -> None:
    many = PairDataset(drawings, seed=1, rotations=True).pairs(epoch=1, start=0, count=20_000)
    inside = drawings.alphabet[many.left] == drawings.alphabet[many.right]
    together = many.turn[:, 0] == many.turn[:, 1]
    assert together[many.same].all()
    assert together[inside].all()
    assert 0.2 < together[~inside].mean() < 0.3  # one in four agrees by chance
    for side in (0, 1):
        assert chi_square(np.bincount(many.turn[:, side], minlength=4)) < 30  # 3 degrees of freedom


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (tiny.drawings({"A": 3}, drawers=1), "character 'A/character01' has 1 drawing.*a pair needs two"),
        (tiny.drawings({"A": 1}, drawers=4), "1 character.*different pairs need two"),
    ],
)
def test_drawings_that_make_no_pair_are_refused(given: Drawings, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        PairDataset(given, seed=0)


def test_an_alphabet_of_one_character_has_no_hard_negative() -> None:
    lonely = tiny.drawings({"Greek": 4, "Ogham": 1})
    with pytest.raises(UserError, match=r"data\.hard_negatives: alphabet 'Ogham' has one character"):
        PairDataset(lonely, seed=0, hard_negatives=0.1)
    assert len(PairDataset(lonely, seed=0).pairs(epoch=0, start=0, count=4)) == 4


# Episodes


def episodes(drawings: Drawings, **options: int | bool) -> EpisodeDataset:
    return EpisodeDataset(drawings, **{"seed": 3, "batch": 24, "drawers": 3, "alphabets": 2} | options)


@pytest.mark.parametrize("alphabets", [0, 1, 2])
def test_an_episode_is_p_characters_by_k_drawings_all_distinct(drawings: Drawings, alphabets: int) -> None:
    data = episodes(drawings, alphabets=alphabets)
    for step in range(50):
        episode = data.episode(epoch=1, step=step)
        assert len(episode) == len(np.unique(episode.drawing)) == 24
        assert episode.label.tolist() == [label for label in range(8) for _ in range(3)]
        character = drawings.character[episode.drawing].reshape(8, 3)
        assert (character == character[:, :1]).all()
        assert len(np.unique(character[:, 0])) == 8


@pytest.mark.parametrize(("alphabets", "batch"), [(1, 24), (2, 24), (3, 27)])
def test_an_episode_holds_as_many_characters_of_each_of_its_alphabets(
    drawings: Drawings, alphabets: int, batch: int
) -> None:
    data = episodes(drawings, alphabets=alphabets, batch=batch)
    for step in range(50):
        found = drawings.alphabet[data.episode(epoch=1, step=step).drawing]
        assert (np.unique(found, return_counts=True)[1] == batch // alphabets).all()
        assert len(np.unique(found)) == alphabets


def test_an_episode_depends_on_seed_epoch_and_step_alone(drawings: Drawings) -> None:
    def drawn(seed: int, epoch: int, step: int) -> list[int]:
        return episodes(drawings, seed=seed, rotations=True).episode(epoch=epoch, step=step).drawing.tolist()

    assert drawn(3, 1, 7) == drawn(3, 1, 7)
    made = [drawn(*place) for place in itertools.product((3, 4), (1, 2), (0, 1, 7))]
    assert len({tuple(each) for each in made}) == len(made)


def test_characters_with_fewer_drawings_are_never_filled_up_from_elsewhere() -> None:
    full = tiny.drawings({"Greek": 4, "Latin": 4}, drawers=8)
    ragged = full.where((full.drawer <= 2) | (full.character % 2 == 0))  # odd characters have 2 drawings
    data = episodes(ragged, batch=8, drawers=2, alphabets=2)
    for step in range(100):
        drawing = data.episode(epoch=1, step=step).drawing
        assert len(np.unique(drawing)) == 8
        assert (np.bincount(ragged.character[drawing], minlength=8) % 2 == 0).all()


def share_of_alphabets(drawings: Drawings, **options: int | bool) -> np.ndarray:
    data = episodes(drawings, batch=6, **options)
    found = [drawings.alphabet[data.episode(epoch=1, step=step).drawing] for step in range(3000)]
    return np.bincount(np.concatenate(found), minlength=3) / (3000 * 6)


@pytest.mark.parametrize("alphabets", [0, 1])
def test_balance_decides_whether_alphabets_or_characters_weigh_alike(drawings: Drawings, alphabets: int) -> None:
    by_alphabet = share_of_alphabets(drawings, alphabets=alphabets, balance=True)
    by_character = share_of_alphabets(drawings, alphabets=alphabets, balance=False)
    assert np.abs(by_alphabet - 1 / 3).max() < (0.04 if alphabets else 0.08)  # drawn without replacement: less even
    assert np.abs(by_character - np.array([3, 12, 30]) / 45).max() < 0.04


def test_the_characters_of_an_alphabet_turn_together(drawings: Drawings) -> None:
    data = episodes(drawings, rotations=True)
    turns = []
    for step in range(400):
        episode = data.episode(epoch=1, step=step)
        for alphabet in np.unique(drawings.alphabet[episode.drawing]):
            (turn,) = np.unique(episode.turn[drawings.alphabet[episode.drawing] == alphabet])
            turns.append(turn)
    assert chi_square(np.bincount(turns, minlength=4)) < 30  # 3 degrees of freedom
    assert not episodes(drawings).episode(epoch=1, step=0).turn.any()


@pytest.mark.parametrize(
    ("rotations", "flips", "positions"),
    [(False, True, [0, 4]), (True, True, list(range(8))), (True, False, [0, 1, 2, 3]), (False, False, [0])],
)
def test_mirrored_alphabets_are_further_positions(
    drawings: Drawings, rotations: bool, flips: bool, positions: list[int]
) -> None:
    data = episodes(drawings, rotations=rotations, flips=flips)
    turns = np.concatenate([np.unique(data.episode(epoch=1, step=step).turn) for step in range(200)])
    assert sorted(set(turns)) == positions
    pairs = PairDataset(drawings, seed=1, rotations=rotations, flips=flips).pairs(epoch=1, start=0, count=8_000)
    counts = np.bincount(pairs.turn[:, 0], minlength=8)
    assert np.flatnonzero(counts).tolist() == positions and chi_square(counts[positions]) < 40
    assert (pairs.turn[pairs.same, 0] == pairs.turn[pairs.same, 1]).all()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"drawers": 6, "batch": 24}, "data.drawers = 6: a character of the training set has only 5 drawings"),
        (
            {"alphabets": 3, "batch": 36},
            "train.batch = 36: an episode needs 3 alphabets of 4 characters; the training set has 2",
        ),
        ({"alphabets": 0, "batch": 138}, "train.batch = 138: needs 46 characters; there are 45"),
    ],
)
def test_an_episode_larger_than_the_drawings_is_refused_with_the_numbers(
    drawings: Drawings, options: dict[str, int], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        episodes(drawings, **options)
