"""How answers about an image are shown: as pictures if the terminal can draw them, otherwise as names."""

import io
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from oneshot.answers.screen import SIDE, answer_view, can_draw, picture
from oneshot.screen.progress import Counting, Stages

INK = np.kron(np.eye(7, dtype=np.uint8) * 255, np.ones((4, 4), np.uint8))  # a diagonal


def ranking(known: bool | None = True, **probabilities: float) -> dict[str, Any]:
    given = probabilities or {"alpha": 0.913, "beta": 0.05, "gamma": 0.02, "delta": 0.01, "epsilon": 0.007}
    ranked = [{"class": name, "probability": value, "score": 0.0} for name, value in given.items()]
    return {"class": ranked[0]["class"] if known is not False else None, "known": known, "ranked": ranked}


def drawn(width: int, view: Any, *, colour: str | None = "truecolor") -> str:
    console = Console(
        file=io.StringIO(), width=width, force_terminal=True, color_system=colour, no_color=colour is None
    )
    console.print(view)
    return console.file.getvalue()


def view(found: dict[str, Any], *, colour: bool = True, name: str = "scan.png") -> Any:
    shown = {each["class"]: INK for each in found["ranked"]}
    return answer_view(name, found, query=INK, shown=shown, colour=colour)


def test_a_picture_is_half_as_many_lines_as_columns() -> None:
    for colour in (True, False):
        lines = picture(INK, colour=colour).plain.split("\n")
        assert len(lines) == SIDE // 2 and max(map(len, lines)) == SIDE


def test_without_colour_ink_is_where_it_is() -> None:
    assert picture(INK, colour=False).plain.split("\n")[0].rstrip() == "██"
    assert picture(np.zeros((28, 28), np.uint8), colour=False).plain.strip() == ""


@pytest.mark.parametrize("polarity", ["light", "photo"])
def test_a_photo_and_light_ink_are_as_bright_as_they_were(polarity: str) -> None:
    bright = np.full((28, 28), 40, np.uint8)
    assert {str(span.style) for span in picture(bright, colour=True, polarity=polarity).spans} == {
        "rgb(40,40,40) on rgb(40,40,40)"
    }
    found = answer_view("scan.png", ranking(alpha=1.0), query=bright, shown={"alpha": bright}, polarity=polarity)
    assert "\x1b[38;2;40;40;40;48;2;40;40;40m" in drawn(120, found)


@pytest.mark.parametrize(("bright", "share"), [(0, 1.0), (128, 0.5), (255, 0.0)])
def test_without_colour_a_photo_is_dithered(bright: int, share: float) -> None:
    text = picture(np.full((28, 28), bright, np.uint8), colour=False, polarity="photo").plain
    halves = sum({"█": 2, "▀": 1, "▄": 1}.get(character, 0) for character in text)
    assert halves / SIDE**2 == pytest.approx(share, abs=0.05)


def test_without_colour_light_ink_is_where_it_is() -> None:
    assert picture(INK, colour=False, polarity="light") == picture(INK, colour=False)


@pytest.mark.parametrize("width", [60, 80, 140])
@pytest.mark.parametrize("name", ["alpha", "Old_Church_Slavonic_(Cyrillic)/character_with_a_long_name"])
def test_it_fits_the_width(width: int, name: str) -> None:
    for found in (ranking(**{name: 0.9, "beta": 0.1}), ranking(False)):
        for colour in (True, False):
            text = drawn(width, view(found, colour=colour), colour=None)
            assert max(map(len, text.splitlines()[1:])) <= width


def test_a_wide_terminal_shows_more_of_the_classes() -> None:
    captions = [f"{rank} {name}" for rank, name in enumerate(("alpha", "beta", "gamma", "delta", "epsilon"), 1)]
    screens = {width: drawn(width, view(ranking()), colour=None) for width in (80, 140)}
    shown = {width: sum(caption in screen for caption in captions) for width, screen in screens.items()}
    assert shown[80] < shown[140] == 5


def test_none_of_these_is_said_with_the_nearest() -> None:
    text = drawn(120, answer_view("scan.png", ranking(False)), colour=None)
    assert text.splitlines()[0].split() == ["scan.png", "none", "of", "these", "nearest:", "alpha"]
    assert "if it is one" in text and "91.3 %" in text
    assert "alpha  91.3 %" in drawn(120, answer_view("scan.png", ranking()), colour=None).splitlines()[0]


def test_without_pictures_there_are_names_only() -> None:
    text = drawn(80, answer_view("scan.png", ranking()), colour=None)
    assert "█" not in text and "▀" not in text and text.count("\n") == 9


def test_a_name_cannot_steer_the_terminal() -> None:
    text = drawn(80, view(ranking(**{"\x1b[2Jevil": 1.0}), name="a\x1b[31m.png"), colour=None)
    assert "\x1b" not in text.replace("\x1b[1m", "").replace("\x1b[0m", "").replace("\x1b[2m", "")


@pytest.mark.parametrize(("encoding", "able"), [("utf-8", True), ("latin-1", False)])
def test_pictures_need_a_terminal_with_half_blocks(encoding: str, able: bool) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    assert can_draw(Console(file=stream, force_terminal=True)) == able
    assert not can_draw(Console(file=stream, force_terminal=False))


def test_long_work_says_how_fast_and_how_long_still() -> None:
    times = [0.0]
    console = Console(file=io.StringIO(), width=80, force_terminal=False)
    with Counting(console, 1_000, clock=lambda: times[-1]) as counting:
        for seconds in (4.0, 8.0, 12.0, 20.0, 24.0):
            times.append(seconds)
            counting.advance(100)
    assert console.file.getvalue().splitlines() == [
        "300/1,000  25 images/s  0:28 left",
        "500/1,000  21 images/s  0:24 left",
    ]
    console = Console(file=io.StringIO(), width=80, force_terminal=True, force_interactive=True)
    with Counting(console, 10, clock=lambda: times[-1]) as counting:
        counting.advance(5)
    assert "images/s" in console.file.getvalue()


def test_each_stage_of_making_data_says_how_fast_and_how_long_still() -> None:
    times = [0.0]
    console = Console(file=io.StringIO(), width=80, force_terminal=False)
    with Stages(console, clock=lambda: times[-1]) as stages:
        stages("fetching", 4_000_000, 9_000_000)  # it continues an earlier download
        for seconds, done in ((5.0, 5_000_000), (10.0, 6_000_000), (12.0, 9_000_000)):
            times.append(seconds)
            stages("fetching", done, 9_000_000)
        stages("writing", 0, None)
        times.append(30.0)
        stages("writing", 900, None)
    assert console.file.getvalue().splitlines() == [
        "fetching",
        "fetching: 6.0 M/9.0 M  200,000/s  0:15 left",
        "writing",
        "writing: 900/–  50/s  – left",
    ]
    console = Console(file=io.StringIO(), width=80, force_terminal=True, force_interactive=True)
    with Stages(console) as stages:
        stages("writing", 5, 10)
    assert "writing" in console.file.getvalue() and "left" in console.file.getvalue()
