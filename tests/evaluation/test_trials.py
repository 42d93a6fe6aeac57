"""One-shot trials are fair for any drawings; where that is impossible they are refused with the reason."""

from dataclasses import replace

import numpy as np
import pytest
from lineup import MADE, SIZES, chi_square, drawings_of, fixed_of

from oneshot.base.errors import UserError
from oneshot.data.drawings import Drawings, FixedTrials
from oneshot.evaluation.scoring import Trials
from oneshot.evaluation.trials import NAMES, between, lake400, protocols, seed352, suited, unfit, within

# What a trial is


def test_the_target_is_the_query_character_and_the_distractors_are_others(made: Trials, drawings: Drawings) -> None:
    character = drawings.character[made.support[..., 0]]
    assert (np.take_along_axis(character, made.target[:, None], 1)[:, 0] == drawings.character[made.query]).all()
    assert (np.diff(np.sort(character, axis=1), axis=1) > 0).all()


def test_the_support_never_holds_the_query(made: Trials) -> None:
    assert not (made.support == made.query[:, None, None]).any()


def test_the_target_stands_anywhere(made: Trials) -> None:
    assert chi_square(np.bincount(made.target, minlength=20)) < 60  # 19 degrees of freedom: exceeded once in 300,000


def test_every_character_is_asked_about_and_distracts_in_every_place(made: Trials, drawings: Drawings) -> None:
    count = len(drawings.characters)
    assert set(drawings.character[made.query]) == set(range(count))
    for place in (0, 19):
        assert set(drawings.character[made.support[:, place, 0]]) == set(range(count))


def test_within_stays_in_one_alphabet_and_between_does_not(drawings: Drawings) -> None:
    def alphabets(trials: Trials) -> np.ndarray:
        return np.array([len(set(each)) for each in drawings.alphabet_of[drawings.character[trials.support[..., 0]]]])

    assert (alphabets(within(drawings, trials=500)) == 1).all()
    assert (alphabets(between(drawings, trials=500)) > 1).all()
    assert (alphabets(seed352(drawings)) > 1).all()


def test_within_asks_about_small_and_large_alphabets_alike() -> None:
    drawings = drawings_of({"Small": 20, "Middling": 30, "Large": 55})
    trials = within(drawings, trials=3000)
    assert chi_square(np.bincount(drawings.alphabet_of[drawings.character[trials.query]])) < 28  # exceeded once in 10^6


@pytest.mark.parametrize("name", ["within", "between"])
@pytest.mark.parametrize("k_shot", [1, 3])
def test_one_drawer_asks_and_others_draw_the_whole_support(drawings: Drawings, name: str, k_shot: int) -> None:
    trials = MADE[name](drawings, trials=500, k_shot=k_shot)
    support = drawings.drawer[trials.support]
    assert (support == support[:, :1]).all()  # shot j of every character is by drawer Bj
    several = np.concatenate([drawings.drawer[trials.query][:, None], support[:, 0]], axis=1)
    assert (np.diff(np.sort(several, axis=1), axis=1) > 0).all()
    assert set(drawings.drawer[trials.query]) == set(range(1, 21))


def test_the_source_protocol_does_not_tie_the_drawers_together(drawings: Drawings) -> None:
    trials = seed352(drawings)
    assert (len(trials), trials.seed, trials.n_way, trials.k_shot) == (352, 352, 20, 1)
    drawers = drawings.drawer[trials.support[..., 0]]
    assert all(len(set(each)) > 5 for each in drawers)
    assert (drawers == drawings.drawer[trials.query][:, None]).any()


def test_shots_are_different_drawings_of_the_same_character(drawings: Drawings) -> None:
    for make in MADE.values():
        trials = make(drawings, trials=300, n_way=5, k_shot=4)
        assert trials.support.shape == (300, 5, 4)
        character = drawings.character[trials.support]
        assert (character == character[..., :1]).all()
        assert (np.diff(np.sort(trials.support, axis=-1), axis=-1) > 0).all()
        assert not (trials.support == trials.query[:, None, None]).any()


def test_the_seed_alone_decides(drawings: Drawings) -> None:
    for make in MADE.values():
        one, same, other = (make(drawings, trials=200, seed=seed) for seed in (3, 3, 4))
        for field in ("query", "support", "target"):
            assert (getattr(one, field) == getattr(same, field)).all()
            assert (getattr(one, field) != getattr(other, field)).any()


def test_two_protocols_of_one_seed_are_not_alike(drawings: Drawings) -> None:
    assert (within(drawings, trials=200).target != between(drawings, trials=200).target).any()


def test_missing_drawings_break_no_rule() -> None:
    drawings = drawings_of({"Greek": 30, "Latin": 40}, keep=0.8)
    for name, make in MADE.items():
        trials = make(drawings, trials=500, n_way=10)
        character = drawings.character[trials.support[..., 0]]
        assert (
            np.take_along_axis(character, trials.target[:, None], 1)[:, 0] == drawings.character[trials.query]
        ).all()
        assert (np.diff(np.sort(character, axis=1), axis=1) > 0).all()
        assert not (trials.support == trials.query[:, None, None]).any()
        if name != "seed352":
            drawer = drawings.drawer[trials.support[..., 0]]
            assert (drawer == drawer[:, :1]).all() and (drawer[:, 0] != drawings.drawer[trials.query]).all()


def test_many_trials_are_made_in_blocks_that_do_not_repeat(drawings: Drawings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oneshot.evaluation.lots._BLOCK", 10_000)
    for make in MADE.values():
        trials = make(drawings, trials=1001)
        assert len(trials) == 1001 and trials.support.shape == (1001, 20, 1)
        assert len(np.unique(trials.support[..., 0], axis=0)) > 990


# Which trials there are


def test_within_can_be_held_to_some_alphabets(drawings: Drawings) -> None:
    trials = within(drawings, trials=200, alphabets=["Greek", "Runes"])
    assert set(drawings.alphabet_of[drawings.character[trials.query]]) == {0, 2}


def test_within_leaves_out_alphabets_that_are_too_small_and_says_which() -> None:
    drawings = drawings_of({"Tagalog": 17, "Greek": 24})
    trials = within(drawings, trials=200)
    assert set(drawings.alphabet_of[drawings.character[trials.query]]) == {1}
    assert unfit(drawings, n_way=20, k_shot=1) == {"Tagalog": "17 characters, and 20-way needs 20"}
    made, skipped = protocols(drawings, None, names=["within", "between"], trials=100)
    assert [each.name for each in made] == ["within", "between"]
    assert skipped == {"within Tagalog": "it has 17 characters, and 20-way needs 20"}
    with pytest.raises(UserError, match="alphabet 'Tagalog' has 17 characters, and 20-way needs 20"):
        within(drawings, alphabets=["Tagalog"])


def test_the_fixed_trials_find_their_drawings_in_whatever_order_they_lie(drawings: Drawings) -> None:
    fixed = fixed_of(drawings)
    trials = lake400(fixed, drawings)
    assert (trials.name, len(trials), trials.n_way, trials.k_shot, trials.seed) == ("lake400", 400, 20, 1, None)
    assert (drawings.row[trials.query] == fixed.query).all()
    assert (drawings.row[trials.support[..., 0]] == fixed.support).all()
    assert (trials.target == fixed.target).all()


def test_fixed_trials_of_other_drawings_are_refused(drawings: Drawings) -> None:
    fixed = fixed_of(drawings)
    with pytest.raises(UserError, match=r"lake400: \d+ of its \d+ drawings are missing here"):
        lake400(fixed, drawings_of(SIZES, keep=0.5))
    wrong = FixedTrials(fixed.run, fixed.query, fixed.support, (fixed.target + 1) % 20)
    with pytest.raises(UserError, match=r"trials\.parquet does not belong to drawings\.parquet"):
        lake400(wrong, drawings)
    with pytest.raises(UserError, match=r"trials\.parquet does not belong"):
        protocols(drawings, wrong)


def test_all_four_protocols_stand_side_by_side(drawings: Drawings) -> None:
    made, skipped = protocols(drawings, fixed_of(drawings), trials=120, seed=9)
    assert tuple(each.name for each in made) == NAMES
    assert [len(each) for each in made] == [400, 120, 120, 352]
    assert [each.seed for each in made] == [None, 9, 9, 352]
    assert skipped == {}


def test_what_is_fixed_at_20_way_one_shot_is_left_out_of_other_requests_with_the_reason(drawings: Drawings) -> None:
    made, skipped = protocols(drawings, fixed_of(drawings), n_way=5, k_shot=2, trials=50)
    assert [(each.name, each.n_way, each.k_shot) for each in made] == [("within", 5, 2), ("between", 5, 2)]
    assert set(skipped) == {"lake400", "seed352"}
    assert skipped["lake400"] == "it is 20-way 1-shot by definition, and 5-way 2-shot was asked for"
    assert protocols(drawings, None, trials=50)[1] == {"lake400": "this dataset has no fixed trials"}


def test_a_request_that_cannot_be_met_is_refused_in_a_sentence(drawings: Drawings) -> None:
    refused = {
        "n_way is 1: it must be 2 or more": {"n_way": 1},
        "k_shot is 0: it must be 1 or more": {"k_shot": 0},
        "trials is 0: it must be 1 or more": {"trials": 0},
        "seed is -1: it must be 0 or more": {"seed": -1},
        "99": {"n_way": 99},
        "21": {"k_shot": 20},
    }
    for sentence, request in refused.items():
        for make in MADE.values():
            with pytest.raises(UserError, match=sentence):
                make(drawings, **request)
        with pytest.raises(UserError, match=sentence):
            protocols(drawings, None, names=["within", "between"], **request)
    with pytest.raises(UserError, match="between: the drawings have 83 characters, and 99-way needs 99; ask for less"):
        between(drawings, n_way=99)
    with pytest.raises(UserError, match=r"no alphabet allows 99-way .*: 'Runes', the largest, has 33 characters, and"):
        within(drawings, n_way=99)
    with pytest.raises(UserError, match=r"20 drawers, and 20-shot needs 21 \(one for the query\)"):
        within(drawings, k_shot=20)
    with pytest.raises(UserError, match=r"no protocol 'wihin'; did you mean 'within'\?"):
        protocols(drawings, None, names=["wihin"])
    with pytest.raises(UserError, match=r"no alphabet 'Greec' here; did you mean 'Greek'\?"):
        within(drawings, alphabets=["Greec"])
    with pytest.raises(UserError, match="no one-shot trial can be made"):
        protocols(drawings, None, names=["lake400"])
    with pytest.raises(UserError, match=r"no group allows 99-way .*: 'Runes', the largest, has 33 classes of 2"):
        within(replace(drawings, own=True), n_way=99)


def test_drawers_with_too_little_in_common_are_refused() -> None:
    with pytest.raises(UserError, match="2 drawers who all drew the same 20 characters are too rare"):
        within(drawings_of({"Greek": 24}, keep=0.3), trials=50)


def test_the_ways_of_people_s_alphabets_are_those_of_the_largest(drawings: Drawings) -> None:
    """Only with a user's own images do half of the groups limit n_way; figures on Omniglot are not changed by that."""
    most = int(np.bincount(drawings.alphabet_of).max())
    assert np.median(np.bincount(drawings.alphabet_of)) < most
    assert suited(drawings, 1_000) == ("within", most)
    trials, _ = protocols(drawings, None, names=["within"], trials=10, n_way=20)
    assert trials[0].n_way == 20
