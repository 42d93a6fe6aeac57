"""Whether there are enough drawings for the batches of a search is known before it begins."""

from typing import Any

import numpy as np
import pytest

from oneshot.base.errors import UserError
from oneshot.base.jobs import job_file, jobs_folder, override, parse, read
from oneshot.base.settings import Settings
from oneshot.base.storage import Folder
from oneshot.data.pairs import dataset
from oneshot.search.points import variants
from oneshot.training.parts import check, check_each, load_parts

JOBS = sorted(path for path in jobs_folder().glob("*.toml") if path.stem != "own")


def episodes(batch: list[int], *, alphabets: int = 2, **search: Any) -> Settings:
    """A search with batches of these numbers of drawings, four of each character."""
    data = {"sampling": "episodes", "drawers": 4, "alphabets": alphabets}
    tree = {"data": data, "search": {"batch": batch, "first": []} | search, "train": {"batch": 16 * alphabets}}
    return parse(tree, "the test")


def check_search(settings: Settings, data: Folder) -> None:
    check_each(settings, data, variants(settings.search))


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_every_job_that_comes_with_the_program_can_be_fed_by_omniglot(path: Any, omniglot: Folder) -> None:
    job = read(path)
    split = job.data.split.removesuffix("-all")  # the split that `tune` accepts
    for each in {job.data.split, split}:
        check_search(override(job, {"data.dataset": "omniglot", "data.split": each}, source="the test"), omniglot)


def test_a_search_asks_no_more_than_the_largest_batch_that_the_alphabets_carry(small_glyphs: Folder) -> None:
    """The training set has four alphabets of 20 to 24 characters."""
    check_search(episodes([64, 160]), small_glyphs)
    with pytest.raises(
        UserError, match=r"^search\.batch = 256: train\.batch = 256: an episode needs 2 alphabets of 32"
    ):
        check_search(episodes([64, 256]), small_glyphs)


def test_alphabets_that_a_trial_adds_count_for_that_trial(small_glyphs: Folder) -> None:
    check_search(episodes([96], alphabets=6, choices={"data.composed_alphabets": [2, 4]}), small_glyphs)
    check_search(episodes([96], alphabets=6, choices={"data.extra_alphabets": [2]}), small_glyphs)
    sentence = r"^search\.batch = 96, data\.composed_alphabets = 1: .* needs 6 alphabets .* the training set has 5;"
    with pytest.raises(UserError, match=sentence):
        check_search(episodes([96], alphabets=6, choices={"data.composed_alphabets": [2, 1]}), small_glyphs)


def test_a_combination_that_no_trial_will_have_is_not_asked_of_the_drawings(small_glyphs: Folder) -> None:
    named = [{"batch": 64}, {"batch": 32, "train.clip": 1.0}]
    check_search(episodes([256], first=named, trials=2), small_glyphs)
    with pytest.raises(UserError, match=r"^search\.batch = 256"):
        check_search(episodes([256], first=named, trials=3), small_glyphs)


def test_what_is_checked_without_pixels_are_the_drawings_that_are_taught(small_glyphs: Folder) -> None:
    """It counts the same drawings as the training: one character more is refused."""
    chosen = episodes([64], alphabets=1)
    taught = load_parts(small_glyphs, chosen.data).train
    most = max(int((taught.alphabet_of == alphabet).sum()) for alphabet in range(len(taught.alphabets)))
    check_search(episodes([4 * most], alphabets=1), small_glyphs)
    with pytest.raises(UserError, match=r"needs 1 alphabets of"):
        check_search(episodes([4 * most + 4], alphabets=1), small_glyphs)


def test_alphabets_too_small_for_an_episode_are_named_and_never_come(small_glyphs: Folder) -> None:
    chosen = episodes([64], alphabets=1)
    taught = load_parts(small_glyphs, chosen.data).train
    sizes = np.bincount(taught.alphabet_of)
    asked = override(chosen, {"train.batch": 4 * int(sizes.max())}, source="the test")
    small = {taught.alphabets[each] for each in np.flatnonzero(sizes < sizes.max())}
    assert small
    sentence = check(asked, small_glyphs)
    assert sentence.startswith(f"episodes of {sizes.max()} characters an alphabet: {len(small)} of {len(sizes)} ")
    assert set(sentence.rpartition(": ")[2].split(", ")) == small
    made = dataset(taught, data=asked.data, train=asked.train)
    came = {
        taught.alphabets[each]
        for step in range(50)
        for each in taught.alphabet[made.episode(epoch=1, step=step).drawing]
    }
    assert came == set(taught.alphabets) - small
    assert check(chosen, small_glyphs) == check(parse({}, "the test"), small_glyphs) == ""


def test_a_search_names_the_alphabets_that_each_of_its_episodes_leaves_out(small_glyphs: Folder) -> None:
    taught = load_parts(small_glyphs, episodes([64]).data).train
    most = int(np.bincount(taught.alphabet_of).max())
    settings = episodes([64, 80, 4 * most], alphabets=1)
    said = check_each(settings, small_glyphs, variants(settings.search))
    assert [sentence.split()[2] for sentence in said] == [str(most)]


def test_of_omniglots_thirty_alphabets_two_have_too_few_characters_for_the_jobs(omniglot: Folder) -> None:
    job = override(read(job_file("cpu5")), {"data.dataset": "omniglot"}, source="the test")
    assert check(job, omniglot).startswith(
        "episodes of 16 characters an alphabet: 2 of 30 alphabets have fewer and are not"
    )
