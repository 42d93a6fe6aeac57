"""What a request needs before its work begins: its run folder and the place of its data."""

import contextlib
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from command import refused, run, settings
from pictures import tree

from oneshot.base.errors import UserError
from oneshot.base.jobs import job_file, read
from oneshot.base.storage import Folder
from oneshot.cli import request
from oneshot.cluster.packing import Node
from oneshot.data.sets import Prepared, prepare
from oneshot.run import opened
from oneshot.screen.console import console


def run_folder(stack: contextlib.ExitStack, *, attached: bool = False, root: str = "data") -> Folder:
    return request.run_folder(None, "jobs/quick.toml", root, attached=attached, stack=stack)


@pytest.fixture
def same_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Stop the clock and work in a new folder; the name that a run gets at this time."""
    monkeypatch.setattr(request, "time", SimpleNamespace(strftime=lambda form: "20240506-070809"))
    monkeypatch.chdir(tmp_path)
    return "quick-20240506-070809"


@pytest.mark.parametrize(("attached", "where"), [(False, "runs"), (True, "data/runs")])
def test_commands_of_the_same_second_have_a_folder_each(
    tmp_path: Path, same_second: str, attached: bool, where: str
) -> None:
    with contextlib.ExitStack() as stack:
        found = [run_folder(stack, attached=attached) for _ in range(3)]
        assert [Path(folder.path) for folder in found] == [
            tmp_path / where / f"{same_second}{more}" for more in ("", "-2", "-3")
        ]
        found[1].write("experiment.toml", b"")
    assert [folder.has() for folder in found] == [False, True, False]


def test_where_nothing_came_of_it_nothing_is_left(tmp_path: Path, same_second: str) -> None:
    for _ in range(2):
        with contextlib.ExitStack() as stack:
            run_folder(stack)
        assert list(tmp_path.iterdir()) == []


def test_on_an_object_store_a_run_that_is_there_has_its_folder(bucket: str, same_second: str) -> None:
    with contextlib.ExitStack() as stack:
        for more in ("", "-2"):
            folder = run_folder(stack, attached=True, root=bucket)
            assert folder.uri == f"{bucket}/runs/{same_second}{more}"
            folder.write("experiment.toml", b"")


@pytest.mark.parametrize(
    ("gpus", "job", "why"),
    [(0, "quick", "no GPU"), (0.5, "quick", "no GPU"), (1, "koch", "1 GPU(s)"), (8, "koch", "8 GPU(s)")],
)
def test_where_no_job_is_named_it_is_said_which_it_is(
    gpus: float, job: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = [Node("one", 4, 0), Node("other", 4, gpus)]
    assert request.default_job(console(), nodes) == job
    said = " ".join(capsys.readouterr().out.split())
    assert said == f"no job was named and there is {why}: using {job} (tune_jobs/{job}.toml)"


def test_a_name_that_is_empty_is_no_default() -> None:
    with contextlib.ExitStack() as stack, pytest.raises(UserError, match="a folder's name is empty"):
        request.run_folder("", "quick", None, attached=False, stack=stack)


# Where the data are


def test_a_run_that_was_told_where_its_data_lie_is_judged_on_them(tmp_path: Path, data_root: Path) -> None:
    first, other, where = tmp_path / "first", tmp_path / "other", str(tmp_path / "run")
    shutil.copytree(data_root, first)
    elsewhere = {"ONESHOT_DATA": str(other)}
    once = settings(train__epochs="1")
    run("train", "quick", "--local", "--run", where, "--data", os.path.relpath(first), *once, **elsewhere)
    judge = ("evaluate", where, "--protocol", "within", "--trials", "50")
    run(*judge, **elsewhere)
    run("train", "quick", "--local", "--run", where, *once, **elsewhere)
    assert not other.exists()
    first.rename(other)  # the data were moved to where $ONESHOT_DATA says
    run(*judge, **elsewhere)
    assert not first.exists()
    other.rename(tmp_path / "third")
    run(*judge, "--data", str(tmp_path / "third"), **elsewhere)
    assert not first.exists() and not other.exists()


def test_a_study_that_goes_on_finds_its_data(tmp_path: Path, data_root: Path) -> None:
    where, other = Folder.of(tmp_path / "run"), tmp_path / "other"
    where.make()
    own = read(job_file("quick"), ["data.dataset=glyphs-10", "data.split=lake-all"])  # a split that no search may use
    where.write("experiment.toml", own.to_toml().encode())
    request.keep_data_root(where, str(data_root))
    assert "it also trains on the validation alphabets" in refused(
        "tune", "--resume", where.path, ONESHOT_DATA=str(other)
    )
    assert not other.exists()


def test_what_was_named_goes_before_what_the_run_was_told(tmp_path: Path) -> None:
    where, lies = Folder.of(tmp_path / "run"), tmp_path / "lies"
    where.make(), lies.mkdir()
    assert request.data_root(None, where) is None
    request.keep_data_root(where, None)
    assert where.names() == []
    request.keep_data_root(where, str(lies))
    assert request.data_root(None, where) == str(lies)
    assert request.data_root("named", where) == "named"
    where.write("data.json", b'{"root": ""}')
    with pytest.raises(UserError, match=r"data\.json is damaged"):
        request.data_root(None, where)


def test_where_others_may_write_nobody_is_led_to_their_data(tmp_path: Path) -> None:
    where = Folder.of(tmp_path / "run")
    where.make()
    request.keep_data_root(where, str(tmp_path))
    (tmp_path / "run/data.json").chmod(0o666)
    assert request.data_root(None, where) is None


# What is printed before a run begins


@pytest.fixture(scope="module")
def coins(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A data set of own images, stored at 105 pixels. Their folder has a space in its name."""
    place = tmp_path_factory.mktemp("own")
    return prepare("folder", data_root=place / "root", source=str(tree(place / "my coins", classes=6, images=2)))


def said_of(prepared: Prepared, kind: str, where: Path, changes: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a run of the job `own` on this data set prints when it is opened."""
    asked = read(job_file("own"), [f"data.dataset={prepared.dataset}", *changes])
    capsys.readouterr()
    fixed = (*opened.IDENTITY, "search")
    with request.held_run(console(), asked, Folder.of(where), prepared, None, None, kind=kind, fixed=fixed):
        return capsys.readouterr().out


SIZES = ('search.choices={"data.size"=[28, 224]}', "search.trials=4")


@pytest.mark.parametrize(
    ("kind", "changes", "seen"),
    [
        ("training", ("data.size=224",), 224),
        ("training", ("data.size=106",), 106),
        ("training", ("data.size=105",), None),
        ("training", ("data.size=56",), None),
        ("training", SIZES, None),  # a training takes no choices
        ("study", ("data.size=224",), 224),
        ("study", SIZES, 224),
        ("study", (*SIZES, "search.trials=1"), None),  # only the point in search.first
        ("study", ('search.first=[{"data.size"=128}]',), 128),
        ("study", ("data.size=224", 'search.choices={"data.size"=[28, 56]}', "search.first=[]"), None),
    ],
)
def test_own_images_that_are_seen_larger_than_they_are_kept_are_told(
    kind: str, changes: tuple[str, ...], seen: int | None, coins: Prepared, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    said = said_of(coins, kind, tmp_path / "run", list(changes), capsys)
    assert "my-coins (own images), split own" in said
    if seen is None:
        assert "warning" not in said
        return
    (line,) = (line for line in said.splitlines() if line.startswith("warning: "))
    assert line.startswith(
        f"warning: my-coins (own images) are kept at 105 px and seen at {seen}: that takes more time"
    )
    source = Path(coins.folder.path).parents[2] / "my coins"
    assert f"`python -m oneshot.data --dataset my-coins --source '{source}' --side {seen}` keeps them at" in line


def test_of_other_drawings_there_are_none_with_more_detail(
    small_glyphs: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared = Prepared(small_glyphs, "glyphs-8", "glyphs (generated)")
    assert "warning" not in said_of(
        prepared, "training", tmp_path / "run", ["data.size=224", "data.split=lake"], capsys
    )
