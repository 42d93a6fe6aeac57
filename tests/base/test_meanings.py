"""Every setting is described, and the description agrees with what the setting accepts."""

import re
import tomllib
from typing import get_args

import pytest

from oneshot.base import settings
from oneshot.base.errors import UserError
from oneshot.base.jobs import changed, override
from oneshot.base.meanings import Setting, explained, inline, sections
from oneshot.base.settings import Settings

TOLD = explained(Settings())


def of(said: str) -> list:
    """The settings whose accepted values are described by this pattern, as test cases: the setting and the match."""
    found = [(each, re.fullmatch(said, each.takes)) for each in TOLD]
    return [pytest.param(each, match, id=each.key) for each, match in found if match]


def refusal(setting: Setting, value: object) -> str:
    with pytest.raises(UserError) as caught:
        override(Settings(), {setting.key: value}, source="the test")
    return str(caught.value)


def test_every_setting_is_told_of_with_a_sentence() -> None:
    keys = [f"{name}.{key}" for name, section in Settings() for key in type(section).model_fields]
    assert [each.key for each in TOLD] == keys
    for each in TOLD:
        assert re.fullmatch(r"[A-Z0-9].+\.", each.meaning), each.key
    assert list(sections()) == [name for name, _ in Settings()] and all(sections().values())


def test_a_meaning_is_the_text_under_its_field(monkeypatch: pytest.MonkeyPatch) -> None:
    source = '''
class Model:
    """The network."""
    name: str = "koch"
    """Which
    one."""
    width: int = 3
    depth: int = 1  # no text
    """Last."""
'''
    from oneshot.base import meanings

    monkeypatch.setattr(meanings.inspect, "getsource", lambda _: source)
    said = meanings._said()
    assert said["Model", ""] == "The network."
    assert [said["Model", name] for name in ("name", "width", "depth")] == ["Which one.", "", "Last."]


@pytest.mark.parametrize(("setting", "found"), of(r"a (?:whole )?number(?: from|,) ([\d.]+)(?: or more| to .*)"))
def test_what_is_below_the_least_that_is_said_is_refused(setting: Setting, found: re.Match[str]) -> None:
    assert "must be greater than or equal to " + found[1] in refusal(setting, int(found[1]) - 1)


@pytest.mark.parametrize(("setting", "found"), of(r"a (?:whole )?number from [\d.]+ to (below )?([\d.,]+)"))
def test_what_is_above_the_most_that_is_said_is_refused(setting: Setting, found: re.Match[str]) -> None:
    most = int(found[2].replace(",", ""))
    assert "must be less than" in refusal(setting, most if found[1] else most + 1)


@pytest.mark.parametrize(("setting", "found"), of(r"(\w[\w-]*(?:, [\w-]+)* or [\w-]+)"))
def test_of_choices_each_is_named(setting: Setting, found: re.Match[str]) -> None:
    section, key = setting.key.split(".")
    kind = type(getattr(Settings(), section)).model_fields[key].annotation
    named = re.split(", | or ", found[1])
    if kind is bool:
        assert named == ["true", "false"]
    else:
        assert named == [str(each) for each in get_args(kind)] or setting.key == "model.views"


def test_the_settings_of_one_group_of_nodes_are_named() -> None:
    (takes,) = (each.takes for each in TOLD if each.key == "scale.autoscaler")
    assert takes == "a list, each a table of " + ", ".join(settings.Group.model_fields)


def test_a_changed_setting_knows_both_values() -> None:
    told = explained(changed(Settings(), ["train.lr=0.5", "train.clip=0"]))
    assert [(each.key, each.value, each.default) for each in told if each.changed] == [("train.lr", 0.5, 0.01)]


@pytest.mark.parametrize(
    "value",
    [*(each.default for each in TOLD), {"model.width": [16, True], "a": 'b "c"\\ \n é'}, 1e-7, [], -3],
    ids=repr,
)
def test_a_value_in_one_line_is_toml(value: object) -> None:
    text = inline(value)
    assert "\n" not in text and tomllib.loads(f"x = {text}") == {"x": value}
