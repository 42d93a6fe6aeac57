"""The report in a browser: on a desktop and on a phone, in the light and in the dark theme, and in print."""

import base64
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import runs
from browser import CHROMIUM, Page, browser
from PIL import Image

from oneshot.base.storage import Folder
from oneshot.evaluation import outcomes
from oneshot.report import making

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium, a Debian package, is not here")


@pytest.fixture(scope="module")
def tab() -> Iterator[Page]:
    with browser() as page:
        yield page


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    names = ("Greek", "Old_Church_Slavonic_(Cyrillic)", "<script>console.error('run')</script>", "A" * 60)
    making.make(runs.study(folder, names=names), Folder.of(folder))
    return folder / "report.html"


@pytest.fixture(scope="module")
def going(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("going")
    making.make(runs.study(folder, over=False))
    return folder / "report.html"


def brightness(tab: Page, selector: str) -> float:
    """The mean brightness, 0 to 255, of the first such element as it is shown."""
    box = tab.ask(
        f"(() => {{ const one = document.querySelector('{selector}').getBoundingClientRect();"
        " return [one.x + scrollX, one.y + scrollY, one.width, one.height]; })()"
    )
    clip = dict(zip(("x", "y", "width", "height"), box, strict=True), scale=1)
    shot = tab.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
    with Image.open(io.BytesIO(base64.b64decode(shot["data"]))) as image:
        return float(np.asarray(image.convert("L")).mean())


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("state", ["over", "going"])
def test_the_page_is_whole_at_every_width_and_in_both_themes(
    tab: Page, report: Path, going: Path, width: int, theme: str, state: str
) -> None:
    tab.complaints.clear()
    tab.open(report if state == "over" else going, width=width, theme=theme)
    assert tab.ask("document.querySelectorAll('h1').length") == 1
    assert tab.ask("document.documentElement.scrollWidth") <= width
    # The width must also fit with all details open.
    tab.ask("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert tab.ask("document.documentElement.scrollWidth") <= width
    assert tab.ask("[...document.images].every((one) => one.complete && one.naturalWidth > 0 && one.alt)")
    assert (tab.ask("document.images.length") > 200) == (state == "over")
    # Each figure shows its variant for this width, and none of its text is too small to read.
    shown = "[...document.querySelectorAll('figure svg')].filter((one) => one.getBoundingClientRect().width > 0)"
    side = "narrow" if width == 390 else "wide"
    assert tab.ask(f"{shown}.every((one) => !one.closest('.wide, .narrow') || one.closest('.{side}'))")
    sizes = f"{shown}.flatMap((one) => [...one.querySelectorAll('text')].map((t) => t.getBoundingClientRect().height))"
    assert tab.ask(f"Math.min(...{sizes})") > 9
    paper = tab.ask("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(255, 255, 255)" if theme == "light" else "rgb(20, 24, 29)")
    assert tab.complaints == []


def column(tab: Page, number: int) -> list[str]:
    cells = (
        f"[...document.querySelectorAll('#search ~ .scroll tbody tr')].map((row) => row.children[{number}].dataset.v)"
    )
    return tab.ask(cells)


def test_tables_sort_by_the_header_that_is_pressed_also_from_the_keyboard(tab: Page, report: Path) -> None:
    tab.open(report, width=1280)
    header = "[...document.querySelectorAll('#search ~ .scroll th button')].find((one) => one.textContent === 'lr')"
    number = tab.ask(f"[...{header}.closest('tr').children].indexOf({header}.closest('th'))")
    before = [float(value) for value in column(tab, number)]
    for press, sign in (("click()", 1), ("focus()", -1)):
        tab.ask(f"{header}.{press}")
        if press == "focus()":
            for kind in ("keyDown", "keyUp"):
                tab.call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", text="\r",
                         windowsVirtualKeyCode=13)  # fmt: skip
        assert [sign * float(value) for value in column(tab, number)] == sorted(sign * value for value in before)
        state = tab.ask(f"{header}.closest('th').getAttribute('aria-sort')")
        assert state == ("ascending" if sign == 1 else "descending")
    sorted_by = tab.ask(
        "[...document.querySelectorAll('#search ~ .scroll thead th')].filter((one) => one.ariaSort !== 'none').length"
    )
    assert sorted_by == 1


def test_rows_without_a_value_stay_at_the_end(tab: Page, report: Path) -> None:
    tab.open(report, width=1280)
    header = (
        "[...document.querySelectorAll('#search ~ .scroll th button')].find((one) => one.textContent === 'val loss')"
    )
    number = tab.ask(f"[...{header}.closest('tr').children].indexOf({header}.closest('th'))")
    for _ in "up", "down":
        tab.ask(f"{header}.click()")
        assert column(tab, number)[-1] == "" and "" not in column(tab, number)[:-1]


def test_a_trial_is_lit_up_wherever_it_is_drawn(tab: Page, report: Path) -> None:
    tab.open(report, width=1280)
    row = "document.querySelector('tr[data-of=\"001\"]')"
    tab.ask(f"{row}.dispatchEvent(new PointerEvent('pointerover', {{bubbles: true}}))")
    lit = tab.ask("[...document.querySelectorAll('.on')].map((one) => one.dataset.of)")
    assert set(lit) == {"001"} and len(lit) >= 6  # in the figures, each drawn twice, and in the table
    tab.ask("document.dispatchEvent(new KeyboardEvent('keydown', {key: 'Escape'}))")
    assert tab.ask("document.querySelectorAll('.on').length") == 0


def test_on_paper_the_colours_are_light_and_the_figures_wide(tab: Page, report: Path) -> None:
    tab.open(report, width=700, theme="dark", medium="print")
    assert tab.ask("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.ask("[...document.querySelectorAll('.narrow')].every((one) => one.offsetWidth === 0)")
    assert tab.ask("document.querySelector('nav').offsetHeight") == 0
    assert brightness(tab, ".d") > 128 and brightness(tab, ".maps svg image") > 128


def test_in_the_dark_the_paper_of_a_drawing_is_dark(tab: Page, report: Path) -> None:
    for theme, dark in (("light", False), ("dark", True)):
        tab.open(report, width=700, theme=theme)
        for drawing in (".d", ".maps svg image"):
            assert (brightness(tab, drawing) < 128) == dark


@pytest.mark.parametrize("polarity", ["photo", "light"])
def test_a_photo_is_no_negative_in_any_theme(tab: Page, tmp_path: Path, polarity: str) -> None:
    test = replace(runs.drawings(bits=8), own=True, polarity=polarity)
    run = runs.study(tmp_path, dataset="coins (own images)", split="own", outcome=False)
    kept = outcomes.outcomes(runs.seen(test, runs.judged(test)), sha256=runs.SHA)
    run.write_json(outcomes.OUTCOMES, kept)
    making.make(run)
    query = test.pixels(runs.judged(test)[0][0].query[:1])  # the first of the page
    for theme, medium in (("light", "screen"), ("dark", "screen"), ("dark", "print")):
        tab.open(tmp_path / "report.html", width=700, theme=theme, medium=medium)
        assert abs(brightness(tab, ".d") - query.mean()) < 12  # 16 greys, round corners
        assert brightness(tab, ".maps svg image") < 128
