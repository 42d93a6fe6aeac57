"""What the tests of data sets share."""

from pathlib import Path

import pytest


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root, which is not there yet."""
    return tmp_path / "root"
