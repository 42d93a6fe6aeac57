"""The drawings and trials that the tests of one-shot trials share."""

import pytest
from lineup import MADE, SIZES, drawings_of

from oneshot.data.drawings import Drawings
from oneshot.evaluation.scoring import Trials


@pytest.fixture(scope="module")
def drawings() -> Drawings:
    return drawings_of(SIZES)


@pytest.fixture(scope="module", params=MADE)
def made(request: pytest.FixtureRequest, drawings: Drawings) -> Trials:
    return MADE[request.param](drawings, trials=4000)
