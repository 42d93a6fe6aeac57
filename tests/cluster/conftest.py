"""What the tests of clusters share."""

import os
from collections.abc import Iterator
from unittest import mock

import pytest


@pytest.fixture(autouse=True)
def environment_as_it_was() -> Iterator[None]:
    """Undo the variables that `connect` sets for Ray in the whole process, so no later test has them."""
    with mock.patch.dict(os.environ):
        yield
