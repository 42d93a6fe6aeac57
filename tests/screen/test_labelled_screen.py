"""The screen that says how often a recogniser is right, on 80 columns."""

import io
from typing import Any

import pytest
from rich.console import Console

from oneshot.evaluation.labelled import share
from oneshot.screen.labelled import labelled_view

RATES = (0.01, 0.05, 0.1, 0.2, 0.5, 1)


def record(*, strangers: int = 100, name: str = "alpha", **changes: Any) -> dict[str, Any]:
    rates = [
        {
            "false_accept": rate, "right": share(900 if rate == 1 else 9 * at, 900), "wrong": share(0, 900),
            "refused": share(0 if rate == 1 else 900 - 9 * at, 900), "strangers_named": share(strangers, strangers),
            "strangers_refused": share(0, strangers),
        }
        for at, rate in enumerate(RATES)
    ]  # fmt: skip
    pair = {"truth": name, "class": "beta", "images": 12, "example": f"/home/somebody/scans/{name}/0001.png"}
    return {
        "calibrated": True, "false_accept": 0.1, "images": 900 + strangers, "of_classes": 900, "strangers": strangers,
        "left_out": 3, "unreadable": 1, "classes": 200, "classes_without_images": ["gamma"],
        "strangers_in": [f"other{number}" for number in range(7)], "rates": rates,
        "within": [{"places": 1, **share(900, 900)}, {"places": 5, **share(900, 900)}], "confused": [pair],
    } | changes  # fmt: skip


def drawn(found: dict[str, Any], width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(labelled_view(found))
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["alpha", "Old_Church_Slavonic_(Cyrillic)/character_with_a_long_name"])
def test_all_of_it_stands_on_80_columns(name: str) -> None:
    text = drawn(record(name=name))
    assert max(map(len, text.splitlines())) <= 80
    for figure in ("2.0 (1.3–3.1)", "98.0 (96.9–98.7)", "100.0 (99.6–100.0)", "100.0 (96.3–100.0)", "0.0 (0.0–0.4)"):
        assert figure in text, figure
    for line in text.splitlines():
        if line.split()[:1] == ["0.01"]:
            assert line.count("(") == 4


def test_the_rate_that_was_asked_for_is_told_in_numbers_of_images() -> None:
    lines = [" ".join(line.split()) for line in drawn(record()).splitlines()]
    assert lines[0] == "1,000 images: 900 of 200 classes, 100 strangers, of none of them"
    assert "at --false-accept 0.1 images of share 95 % interval" in lines
    assert "right 18 900 2.0 % 1.3–3.1 %" in lines
    assert "refused, though of a class 882 900 98.0 % 96.9–98.7 %" in lines
    assert "named, though a stranger 100 100 100.0 % 96.3–100.0 %" in lines
    assert "right class among the best 5 900 900 100.0 % 99.6–100.0 %" in lines
    assert "12 alpha beta /home/somebody/scans/alpha/0001.png" in lines


def test_what_is_left_out_and_what_may_be_a_slip_is_said() -> None:
    text = drawn(record())
    assert "left out: 3 that look to the network the same as support images" in text
    assert "left out: 1 that could not be read" in text
    assert "classes without an image: gamma\n" in text
    assert "strangers are in: other0, other1, other2, other3, other4 and 2 more\n" in text
    clean = drawn(record(left_out=0, unreadable=0, classes_without_images=[], strangers_in=[], confused=[]))
    assert "left out" not in clean and " in: " not in clean and "confused" not in clean


def test_what_nobody_asked_about_has_a_dash() -> None:
    lines = [" ".join(line.split()) for line in drawn(record(strangers=0)).splitlines()]
    assert "named, though a stranger 0 0 – –" in lines


def test_a_name_cannot_steer_the_terminal() -> None:
    assert "\x1b" not in drawn(record(name="\x1b[2Jevil", strangers_in=["\x1b[2Jworse"]))
