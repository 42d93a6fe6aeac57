"""Data sets are prepared once and completely, by any number of processes, and can be shown."""

import errno
import os
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from web import Site, serve

from oneshot.base.errors import UserError
from oneshot.base.storage import Folder
from oneshot.data import example, glyphs, omniglot, sets, store
from oneshot.data.parquet import DIGESTS
from oneshot.data.sets import Prepared, prepare
from oneshot.data.view import show

NOWHERE = "http://127.0.0.1:9/omniglot"


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ONESHOT_SOURCE", "ONESHOT_DATA"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the default glyphs few and simple, so that generating them takes no time."""
    monkeypatch.setattr(glyphs, "ALPHABETS", 4)
    monkeypatch.setattr(glyphs, "draw_alphabet", lambda seed, number, **_: np.full((20, 2, 105, 105), number % 2 == 0))
    monkeypatch.setattr(glyphs, "_size", lambda *_: 20)
    monkeypatch.setattr(glyphs.build, "__kwdefaults__", {**glyphs.build.__kwdefaults__, "drawers": 2})


def printed(width: int = 120, **how: object) -> tuple[Console, StringIO]:
    stream = StringIO()
    return Console(file=stream, width=width, **how), stream


# --- where data lies


def test_the_data_root_is_the_option_then_the_variable_then_the_users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert sets.data_root().path == "/cache/oneshot"
    monkeypatch.setenv("ONESHOT_DATA", "/variable")
    assert sets.data_root().path == "/variable"
    assert sets.data_root("/option").path == "/option"


# --- which data set is chosen


@pytest.mark.usefixtures("small")
def test_auto_takes_glyphs_where_omniglot_cannot_be_had_and_says_why(tmp_path: Path) -> None:
    console, text = printed()
    made = prepare("auto", data_root=tmp_path, source=NOWHERE, console=console)
    assert (made.dataset, made.name, made.folder.name) == ("glyphs", "glyphs (generated)", "glyphs")
    assert made.why.startswith(
        "Omniglot is not available: cannot reach http://127.0.0.1:9/omniglot/images_background.zip"
    )
    assert made.why in " ".join(text.getvalue().split())
    assert store.describe(made.folder).name == "glyphs (generated)"


@pytest.mark.usefixtures("small")
def test_auto_takes_the_omniglot_that_is_there(tmp_path: Path, small_glyphs: Folder) -> None:
    place = Folder.of(tmp_path) / "omniglot"
    for name in (store.DRAWINGS, store.TRIALS):
        place.write(name, small_glyphs.read(name))
    console, text = printed()
    made = prepare("auto", data_root=tmp_path, source=NOWHERE, console=console)
    assert (made.dataset, made.why, made.folder) == ("omniglot", None, place)
    assert f"--source {NOWHERE} is ignored; a folder of your own images" in " ".join(text.getvalue().split())
    assert prepare("auto", data_root=tmp_path, console=console) == made
    assert text.getvalue().count("ignored") == 1


def test_auto_does_not_pass_over_a_damaged_omniglot(tmp_path: Path, small_glyphs: Folder) -> None:
    place = Folder.of(tmp_path) / "omniglot"
    place.write(store.DRAWINGS, small_glyphs.read(store.DRAWINGS)[:-9])
    place.write(store.TRIALS, small_glyphs.read(store.TRIALS))
    with pytest.raises(UserError, match=r"omniglot/drawings\.parquet is damaged"):
        prepare("auto", data_root=tmp_path, source=NOWHERE)


@pytest.mark.usefixtures("small")
def test_damaged_trials_are_told_before_anything_is_done_with_the_drawings(tmp_path: Path) -> None:
    made = prepare("glyphs", data_root=tmp_path)
    made.folder.write(store.TRIALS, made.folder.read(store.TRIALS)[:-9])
    with pytest.raises(UserError, match=r"glyphs/trials\.parquet is damaged"):
        prepare("glyphs", data_root=tmp_path)


def test_omniglot_that_cannot_be_had_is_an_error_where_it_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot reach"):
        prepare("omniglot", data_root=tmp_path, source=NOWHERE)
    with pytest.raises(UserError, match="is not a folder"):
        prepare("omniglot", data_root=tmp_path, source=str(tmp_path / "missing"))


def test_one_character_is_shown_by_its_alphabet_and_name(small_glyphs: Folder, tmp_path: Path) -> None:
    about = store.describe(small_glyphs)
    alphabet = about.alphabets[1]
    name = f"{alphabet}/{about.characters[alphabet][2]}"
    console, text = printed()
    show(console, Prepared(small_glyphs, "glyphs", "x"), alphabet=name)
    assert name in text.getvalue() and f"{alphabet}/{about.characters[alphabet][0]}" not in text.getvalue()
    show(console, Prepared(small_glyphs, "glyphs", "x"), alphabet=name, png=tmp_path / "one.png")
    assert np.asarray(Image.open(tmp_path / "one.png")).min() < 128
    with pytest.raises(UserError, match=f"has no character '{alphabet}/x'"):
        show(console, Prepared(small_glyphs, "glyphs", "x"), alphabet=f"{alphabet}/x")
    with pytest.raises(UserError, match=rf"has no alphabet '{alphabet}/': did you mean '{alphabet}'\?"):
        show(console, Prepared(small_glyphs, "glyphs", "x"), alphabet=f"{alphabet}/")


def test_a_folder_that_was_named_and_holds_no_omniglot_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"does not hold .*; a folder of your own images goes with --dataset folder"):
        prepare("auto", data_root=tmp_path / "root", source=str(tmp_path))
    assert not (tmp_path / "root").exists()


def test_glyphs_have_no_source(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="goes with Omniglot or images of your own; 'glyphs-4' is generated"):
        prepare("glyphs-4", data_root=tmp_path, source="here")


def test_the_source_is_the_option_then_the_variable_then_the_official_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(omniglot, "build", lambda folder, *, source, **_: asked.append(source))
    for option, variable in ((None, None), (None, "variable"), ("option", "variable")):
        monkeypatch.setenv("ONESHOT_SOURCE", variable or "")
        with pytest.raises(UserError, match="does not exist"):
            prepare("omniglot", data_root=tmp_path, source=option)
    assert asked == [omniglot.HOME, "variable", "option"]


@pytest.mark.usefixtures("small")
def test_a_number_and_a_seed_make_other_glyphs_in_their_own_place(tmp_path: Path) -> None:
    made = prepare("glyphs-6-seed3", data_root=tmp_path)
    assert (made.dataset, made.folder.name, made.why) == ("glyphs-6-seed3", "glyphs-6-seed3", None)
    about = store.describe(made.folder)
    assert len(about.alphabets) == 6 and "seed 3" in about.source


def test_an_unknown_data_set_is_named_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no data set 'omniglott': did you mean 'omniglot'\?"):
        prepare("omniglott", data_root=tmp_path)


def test_a_data_root_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match=r"cannot make the folder .*/file/glyphs-4: Not a directory; name one that can"):
        prepare("glyphs-4", data_root=tmp_path / "file")


# --- made once, and completely


@pytest.mark.usefixtures("small")
def test_what_is_ready_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare("glyphs", data_root=tmp_path)
    monkeypatch.setattr(glyphs, "build", lambda *_, **__: pytest.fail("made again"))
    assert prepare("glyphs", data_root=tmp_path) == first


@pytest.mark.usefixtures("small")
def test_a_data_set_without_its_trials_is_not_ready(tmp_path: Path) -> None:
    made = prepare("glyphs", data_root=tmp_path)
    (tmp_path / "glyphs" / store.TRIALS).unlink()
    assert store.load_trials(prepare("glyphs", data_root=tmp_path).folder).support.shape[1] == 20
    assert made.folder.has(store.TRIALS)


def test_the_drawings_appear_last_so_that_who_sees_them_sees_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: None
) -> None:
    written, write = [], Folder.write

    def noted(self: Folder, name: str, content: bytes) -> None:
        written.append(name)
        write(self, name, content)

    monkeypatch.setattr(Folder, "write", noted)
    prepare("glyphs", data_root=tmp_path)
    last = {name: place for place, name in enumerate(written)}
    assert last[store.TRIALS] < written.index(store.DRAWINGS) <= last[store.DRAWINGS] < last[DIGESTS]


def test_processes_that_prepare_one_data_set_at_once_do_not_harm_it(tmp_path: Path) -> None:
    code = "import sys; from oneshot.data.sets import prepare; prepare('glyphs-4-seed9', data_root=sys.argv[1])"
    running = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(3)]
    folder = Folder.of(tmp_path / "glyphs-4-seed9")
    while any(one.poll() is None for one in running):  # a reader meanwhile sees all of it or nothing
        if folder.has(store.DRAWINGS):
            assert len(store.load(folder)) == store.describe(folder).rows
            assert len(store.load_trials(folder).query) == 40
        time.sleep(0.01)
    assert [one.returncode for one in running] == [0, 0, 0]
    assert folder.names() == [DIGESTS, store.DRAWINGS, store.TRIALS]
    assert not [name for name in os.listdir(folder.path) if name.startswith(".partial")]


# --- shown


def test_the_table_tells_what_each_alphabet_is_for(small_glyphs: Folder) -> None:
    console, text = printed()
    show(console, Prepared(small_glyphs, "glyphs", "glyphs (generated)"), split="lake")
    lines = text.getvalue().splitlines()
    about = store.describe(small_glyphs)
    assert lines[0].startswith(f"glyphs (generated): {about.rows:,} drawings of ")
    for name, role in zip(about.alphabets, ["train"] * 4 + ["validation"] + ["test"] * 3, strict=True):
        (line,) = (one for one in lines if one.startswith(name) and len(one.split()) > 1)
        count = len(about.characters[name])
        assert line.split() == [name, str(count), str(8 * count), "8", about.origin[name], role]
    assert lines[1].startswith("source: generated, version 1, seed 0; in /")
    assert "█" in text.getvalue() and max(map(len, lines[2:])) <= 120


def test_an_alphabet_of_two_parts_has_two_roles(small_glyphs: Folder) -> None:
    console, text = printed()
    show(console, Prepared(small_glyphs, "glyphs", "x"), split="minimal1")
    assert "train + validation" in text.getvalue()


@pytest.mark.parametrize("width", [30, 80])
def test_a_narrow_terminal_gets_what_fits(small_glyphs: Folder, width: int) -> None:
    console, text = printed(width)
    show(console, Prepared(small_glyphs, "glyphs", "x"), alphabet="Glyphs_02")
    pictures = [line for line in text.getvalue().splitlines() if set(line) <= set(" ▀▄█") and line.strip()]
    assert pictures and max(map(len, pictures)) <= width
    assert "Glyphs_02/character01" in text.getvalue() and "Glyphs_03" not in text.getvalue()


def test_the_picture_in_the_terminal_is_the_drawing(small_glyphs: Folder) -> None:
    from oneshot.data import sheet

    drawings = store.load(small_glyphs)
    lines = sheet.in_terminal(drawings, [0]).plain.split("\n")
    assert len(lines) == 10
    upper = np.array([[c in "▀█" for c in line.ljust(20)] for line in lines])
    lower = np.array([[c in "▄█" for c in line.ljust(20)] for line in lines])
    seen = np.stack([upper, lower], axis=1).reshape(20, 20).repeat(21, 0).repeat(21, 1)
    drawn = drawings.pixels([0])[0].repeat(4, 0).repeat(4, 1) > 0
    assert (drawn & seen).sum() > 0.8 * drawn.sum(), "the ink is where the drawing has it"
    assert set(sheet.in_terminal(drawings, [0], ascii_only=True).plain) <= set(" '.:\n")


def test_a_file_gets_all_alphabets(small_glyphs: Folder, tmp_path: Path) -> None:
    console, text = printed()
    path = tmp_path / "new" / "sheet.png"
    show(console, Prepared(small_glyphs, "glyphs", "x"), png=path)
    with Image.open(path) as picture:
        ink = 255 - np.asarray(picture)
    assert ink.shape == (8 * 109 + 4, 20 * 109 + 4)
    drawings = store.load(small_glyphs)
    assert np.array_equal(ink[4:109, 4:109], drawings.pixels([0])[0])
    assert np.array_equal(ink[4:109, 113:218], drawings.pixels([1])[0]), "beside it, the same character by another"
    assert str(path) in text.getvalue().replace("\n", "")


def test_requests_that_cannot_be_met_are_refused(small_glyphs: Folder, tmp_path: Path) -> None:
    console, _ = printed()
    made = Prepared(small_glyphs, "glyphs", "x")
    with pytest.raises(UserError, match=r"no alphabet 'Glyphs_2': did you mean"):
        show(console, made, alphabet="Glyphs_2")
    with pytest.raises(UserError, match="no split 'lakes'"):
        show(console, made, split="lakes")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match=r"cannot write .* another path"):
        show(console, made, png=tmp_path / "file" / "sheet.png")


# --- as image files


def files_in(folder: Path) -> dict[str, np.ndarray]:
    """The pictures below a folder, by relative path."""
    return {str(path.relative_to(folder)): np.asarray(Image.open(path)) for path in folder.rglob("*.png")}


def test_an_alphabet_becomes_image_files_to_ask_a_network_about(small_glyphs: Folder, tmp_path: Path) -> None:
    console, text = printed()
    target = tmp_path / "new" / "my example"
    example.write(console, Prepared(small_glyphs, "glyphs", "x"), str(target))
    drawings = store.load(small_glyphs, alphabets=["Glyphs_06"])  # the first of three for the test
    expected = {}
    for character, name in enumerate(name.partition("/")[2] for name in drawings.characters):
        ink = {drawings.drawer[at]: drawings.pixels([at])[0] for at in np.flatnonzero(drawings.character == character)}
        expected[f"classes/{name}.png"] = ink[1]
        expected |= {f"known/{name}/{drawer}.png": ink[drawer] for drawer in range(2, 7)}
        if f"scan.png shows {name}." in text.getvalue():
            expected["scan.png"] = ink[8]
    found = files_in(target)
    assert found.keys() == expected.keys()
    for name, ink in expected.items():
        assert found[name].dtype == bool and np.array_equal(found[name], ink == 0), f"{name}: dark ink on white paper"
    count = len(drawings.characters)
    assert text.getvalue() == (
        f"{target} holds {count} characters of Glyphs_06: an image of each in classes, {5 * count} others in known;"
        f" scan.png shows character{count // 2 + 1:02d}."
        f" Try: python -m oneshot.classify RUN --support '{target}/classes' '{target}/scan.png';"
        f" and: python -m oneshot.classify RUN --support '{target}/classes' --labelled '{target}/known'\n"
    )
    assert [path.name for path in target.parent.iterdir()] == ["my example"] and target.stat().st_mode & 0o444 == 0o444


def test_another_alphabet_is_written_if_it_is_named(small_glyphs: Folder, tmp_path: Path) -> None:
    made, (console, text) = Prepared(small_glyphs, "glyphs", "x"), printed()
    example.write(console, made, str(tmp_path / "example"), alphabet="Glyphs_02")
    assert "characters of Glyphs_02: an image" in text.getvalue()
    first = store.load(small_glyphs, alphabets=["Glyphs_02"]).pixels([0])[0]
    assert np.array_equal(files_in(tmp_path / "example")["classes/character01.png"], first == 0)


def test_an_empty_folder_is_filled_and_stays_the_same_folder(
    small_glyphs: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = tmp_path.stat().st_ino
    console, text = printed()
    example.write(console, Prepared(small_glyphs, "glyphs", "x"), ".")
    assert tmp_path.stat().st_ino == before and sorted(os.listdir()) == ["classes", "known", "scan.png"]
    assert "--support ./classes ./scan.png;" in text.getvalue()


def test_a_folder_that_holds_something_is_refused_and_left_alone(small_glyphs: Folder, tmp_path: Path) -> None:
    made, (console, text) = Prepared(small_glyphs, "glyphs", "x"), printed()
    full, file, lost = tmp_path / "full", tmp_path / "file", tmp_path / "lost"
    full.mkdir()
    (full / ".hidden").touch()
    file.write_text("mine")
    lost.symlink_to(tmp_path / "nowhere")
    for target, why in ((full, "is not empty"), (file, "is not a folder"), (lost, "is not a folder")):
        with pytest.raises(UserError, match=f"--images {target} {why}: name one that is empty or does not exist yet"):
            example.write(console, made, str(target))
    with pytest.raises(UserError, match="s3://bucket/x: the images are files on this machine"):
        example.write(console, made, "s3://bucket/x")
    with pytest.raises(UserError, match=f"cannot write {file}/example .*; give --images another folder"):
        example.write(console, made, str(file / "example"))
    assert os.listdir(full) == [".hidden"] and file.read_text() == "mine" and not text.getvalue()


@pytest.mark.parametrize("there", [False, True])
def test_a_disk_that_fills_leaves_nothing_behind(
    there: bool, small_glyphs: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "example"
    if there:
        target.mkdir()
    written, write = [], Path.write_bytes

    def fill(path: Path, data: bytes) -> int:
        written.append(path)
        if len(written) == 30:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", fill)
    with pytest.raises(UserError, match=r"cannot write .*example \(No space left on device\)"):
        example.write(printed()[0], Prepared(small_glyphs, "glyphs", "x"), str(target))
    assert len(written) == 30 and list(tmp_path.rglob("*")) == [target] * there


def test_no_example_of_what_is_not_an_alphabet(small_glyphs: Folder, tmp_path: Path) -> None:
    made, target = Prepared(small_glyphs, "glyphs", "x"), tmp_path / "example"
    for name, why in (
        ("Glyphs_2", "has no alphabet 'Glyphs_2': did you mean"),
        ("Glyphs_02/character01", "is a single character, and --images takes several: write --alphabet 'Glyphs_02'"),
    ):
        with pytest.raises(UserError, match=why):
            example.write(printed()[0], made, str(target), alphabet=name)
    with pytest.raises(UserError, match="no split 'lakes'"):
        example.write(printed()[0], made, str(target), split="lakes")
    assert not target.exists()


# --- the real Omniglot, over HTTP


def test_omniglot_comes_over_http_with_progress_and_is_there_the_second_time(
    archives: Path, tmp_path: Path, omniglot: Folder
) -> None:
    names = ("images_background.zip", "images_evaluation.zip", "all_runs.zip")
    files = {f"/{name}": (archives / name).read_bytes() for name in names}
    console, text = printed()
    with serve(Site(files, cuts=[1 << 20])) as site:
        made = prepare("auto", data_root=tmp_path, source=site.url, console=console)
        assert (made.name, made.why) == ("omniglot", None)
        assert site.ranges_asked()[:2] == [None, f"bytes={1 << 20}-"], "a cut connection goes on"
        asked = len(site.asked)
        assert prepare("auto", data_root=tmp_path, source=site.url) == made
        assert len(site.asked) == asked
    said = [line.partition(": ")[0] for line in text.getvalue().splitlines()]  # slow steps also report how far they are
    assert list(dict.fromkeys(said)) == [
        "fetching images_background",
        "fetching images_evaluation",
        "fetching all_runs",
        "writing drawings",
    ]
    assert np.array_equal(store.load(made.folder).packed, store.load(omniglot).packed)
    assert np.array_equal(store.load_trials(made.folder).support, store.load_trials(omniglot).support)
