"""A trained network used from Python: its warnings name the line of the caller."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tiny

import oneshot
from oneshot.network.models import build

Ask = Callable[[oneshot.OneShot, np.ndarray], Any]


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> oneshot.OneShot:
    given = tiny.settings()
    run = tiny.network(tmp_path_factory.mktemp("run"), build(given.model, size=28), given)
    return oneshot.load(run, device="cpu")


@pytest.mark.parametrize(
    "ask",
    [
        lambda net, light: net.embed(light),
        lambda net, light: net.similarity(light, light),
        lambda net, light: net.verify(light, light),
        lambda net, light: net.classes({"a": light}),
        lambda net, light: net.classes({"a": 255 - light, "b": [255 - light, 255 - light.T]}),  # unequal numbers
        lambda net, light: net.classify(light, {"a": 255 - light}),
        lambda net, light: net.classify(255 - light, {"a": light}),
    ],
)
def test_a_warning_names_the_line_that_asked(net: oneshot.OneShot, ask: Ask) -> None:
    light = np.zeros((28, 28), np.uint8)
    light[4:12, 9:12] = 255
    with pytest.warns(UserWarning) as said:
        ask(net, light)
    assert {(each.filename, each.lineno) for each in said} == {(__file__, ask.__code__.co_firstlineno)}
