"""What the tests of clusters share."""

import os
from collections.abc import Iterator
from unittest import mock

import pytest


@pytest.fixture(autouse=True)
def environment_as_it_was() -> Iterator[None]:
    """`connect` sets variables that Ray reads for the whole process; the next test shall not have them."""
    with mock.patch.dict(os.environ):
        yield
