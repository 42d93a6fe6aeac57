"""Fixtures that the tests of data sets share."""

from pathlib import Path

import pytest


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The path of a data root that does not exist yet."""
    return tmp_path / "root"
