"""Errors survive pickling unchanged, as Ray pickles what a worker raises. Hints name what is probably meant."""

import pickle

import pytest

from oneshot.base.errors import Damaged, DiskFull, RayDied, RunFailed, UserError, nearest


@pytest.mark.parametrize("kind", [UserError, Damaged, RunFailed, RayDied, DiskFull])
def test_an_error_says_the_same_in_another_process(kind: type[Exception]) -> None:
    error = kind("epoch-0007 is damaged")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind and str(again) == str(error) and vars(again) == vars(error)


def test_a_hint_names_what_is_near_or_the_first_of_many() -> None:
    known = [f"n{number:02}" for number in range(23)]
    assert nearest("n1", known[:3]) == "did you mean 'n01'?"
    assert nearest("xyz", known[:3]) == "known: n00, n01, n02"
    assert nearest("xyz", known[:20]).endswith(", n18, n19")
    assert nearest("xyz", known).endswith(", n18, n19 and 3 more")
