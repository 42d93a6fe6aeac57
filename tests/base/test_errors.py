"""Errors cross from one process to another as they are: Ray pickles what a worker raises."""

import pickle

import pytest

from oneshot.base.errors import DiskFull, RayDied, RunFailed, Unusable, UserError


@pytest.mark.parametrize("kind", [UserError, Unusable, RunFailed, RayDied, DiskFull])
def test_an_error_says_the_same_in_another_process(kind: type[Exception]) -> None:
    error = kind("epoch-0007 is damaged")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind and str(again) == str(error) and vars(again) == vars(error)
