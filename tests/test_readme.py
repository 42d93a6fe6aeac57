"""README.md and oneshot/README.md are correct: the commands that they tell users to type run here, at a tiny size, in a
prepared folder."""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from command import ROOT, environment, settings
from objects import KEY, ObjectStore
from pictures import figure, tree
from pyarrow import fs

import oneshot

PAGES = [(ROOT / name).read_text() for name in ("README.md", "oneshot/README.md")]
PACKAGES = [path.parent for path in (ROOT / "oneshot").glob("*/__init__.py")]

# Lines that are not run: how each begins, and why.
NOT_RUN = {
    "ray job submit": "needs a cluster: test_cluster_demo.py submits to one, test_manifests.py holds the options",
    "python -m oneshot.train koch --workers 4 --gpu": "needs four GPUs: test_distributed.py holds four ranks to one",
}
MARKS = {
    "Two commands": [pytest.mark.ray, pytest.mark.long],
    "Your own images": [pytest.mark.ray],
    "On an object store": [pytest.mark.ray, pytest.mark.long],
    "One training at a time": [pytest.mark.long],
}


class Block(NamedTuple):
    section: str
    kind: str  # the word after the three backticks
    text: str


def blocks() -> list[Block]:
    found = []
    for page in PAGES:
        sections = re.split(r"^##+ (.+)\n", page, flags=re.MULTILINE)
        for name, text in zip(["", *sections[1::2]], sections[0::2], strict=True):
            found += [Block(name, *each) for each in re.findall(r"^```(\w*)\n(.*?)^```", text, re.M | re.S)]
    return found


def of_kind(kind: str) -> list:
    """The blocks of a kind as cases of a test."""
    chosen = [block for block in blocks() if block.kind == kind]
    return [pytest.param(block, id=block.section, marks=MARKS.get(block.section, [])) for block in chosen]


def tiny(line: str, *, endpoint: str = "") -> str:
    """A line of a shell block, changed so that it runs here within seconds, on what the sandbox holds."""
    line = re.split(r"\s+# ", line)[0].strip()
    line = (
        line.replace("https://minio.example:9000", endpoint)
        .replace("KEY_ID=...", f"KEY_ID={KEY}")
        .replace("...", "secret")
    )
    line = line.replace("data show --alphabet Korean", "data --dataset glyphs-10 show --alphabet Glyphs_01")
    example = "python -m oneshot.data --dataset glyphs-10 show --images example"
    # Both pages have this line, and a folder that is there already is refused.
    line = line.replace("python -m oneshot.data show --images example", f"rm -rf example && {example}")
    search = settings(search__trials="1", search__first="[]", search__grace="0")
    own = settings(
        train__examples="128", train__batch="32", search__trials="1", search__first="[]", search__batch="[32]"
    )
    if line == "make test":
        return "make test ARGS=tests/base/test_counter.py"
    if line == "make tune":
        return f"make tune ARGS={shlex.quote(shlex.join(search))}"
    if "--resume" in line:
        return line
    if re.search(r"oneshot\.(tune|train) (own|last)", line):  # it names a data set itself, the options above another
        return f"{line} {shlex.join(own).replace('--set data.dataset=glyphs-10', '')}"
    if "oneshot.tune" in line or "oneshot.train" in line:
        return f"{line} {shlex.join(search)}"
    return line


def commands(block: Block, **given: str) -> list[str]:
    lines = [line for line in block.text.replace("\\\n", "").splitlines() if line.strip() and not line.startswith("#")]
    return [tiny(line, **given) for line in lines if not line.startswith(tuple(NOT_RUN))]


def shell(text: str, place: Path, **variables: str) -> str:
    """Run a bash script in the sandbox and return its output; the first line that fails ends it."""
    inherited = {key: value for key, value in environment().items() if not key.startswith(("MAKE", "AWS_", "PYTEST_"))}
    variables = {
        "HOME": str(place), "PATH": f"{place / '.venv/bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT),
        "ONESHOT_DATA": str(place / "root"),
    } | variables  # fmt: skip
    done = subprocess.run(
        ["bash", "-ec", text], cwd=place, env=inherited | variables, text=True, timeout=1200,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, f"{text}\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Path:
    """A folder that is home and checkout: the program, data, images of several kinds, and a network as `runs/quick`."""
    place = tmp_path_factory.mktemp("readme")
    for name in ("oneshot", "tests", "tune_jobs", "cluster", "Makefile", "pyproject.toml", "constraints.txt"):
        (place / name).symlink_to(ROOT / name)
    (place / ".venv/bin").mkdir(parents=True)
    (place / ".venv/bin/python").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    (place / ".venv/bin/python").chmod(0o755)
    (place / ".venv/.ready").touch()
    shutil.copytree(data_root, place / "root")
    tree(place / "coins", classes=12, images=4, kind="photo")
    tree(place / "signatures", classes=12, images=4)
    tree(place / "scans", classes=2, images=2)
    (place / "classes").mkdir()
    for number, name in enumerate(("alpha", "beta", "gamma")):
        figure(number).save(place / "classes" / f"{name}.png")
    tree(place / "new", classes=1, images=3)
    for name, take in (("scan", 1), ("one", 2), ("other", 3)):
        figure(0, take).save(place / f"{name}.png")
    shell(tiny("python -m oneshot.tune quick --run runs/quick"), place)  # as README.md does; the guide builds on it
    shutil.copytree(place / "runs/quick", place / "runs/NAME")
    return place


def test_every_block_is_of_a_kind_that_is_run_or_the_file_tree() -> None:
    assert {block.kind for block in blocks()} == {"sh", "python", ""}
    assert [block.section for block in blocks() if not block.kind] == ["How it is built"]


def test_what_is_not_run_is_on_a_page_and_has_a_reason() -> None:
    lines = [line for block in blocks() if block.kind == "sh" for line in block.text.splitlines()]
    for start, reason in NOT_RUN.items():
        assert reason and any(line.startswith(start) for line in lines), start


@pytest.mark.parametrize("block", of_kind("sh"))
def test_what_the_pages_say_to_type_runs(block: Block, place: Path, request: pytest.FixtureRequest) -> None:
    if "--onnx" in block.text:
        pytest.importorskip("onnx")
    if "s3://" not in block.text:
        shell("\n".join(commands(block)), place)
        return
    store: ObjectStore = request.getfixturevalue("object_store")
    fs.FileSystem.from_uri("s3://bucket?allow_bucket_creation=true")[0].create_dir("bucket")
    shell("\n".join(commands(block, endpoint=store.url)), place, AWS_EC2_METADATA_DISABLED="true")


@pytest.mark.parametrize("block", of_kind("python"))
def test_what_the_pages_say_of_python_runs(block: Block, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    first, second = figure(0), np.asarray(figure(1).convert("L"))
    names = {"query": figure(0, 1), "image": second, "image_a": first, "image_b": second}
    if "scans.parquet" in block.text:
        files = "--support classes --out classes.parquet", "scans --out scans.parquet"
        shell("\n".join(f"python -m oneshot.embed runs/quick {each}" for each in files), place)
    exec(compile(block.text, "README.md", "exec"), names)
    net = names.get("net") or oneshot.load("runs/quick")
    if "scores" in names:
        best = [each.best for each in net.classify(sorted(Path("scans").rglob("*.png")), "classes", false_accept=1)]
        assert [("alpha", "beta", "gamma")[place] for place in names["scores"].argmax(axis=1)] == best
    assert len(net.verify([first], [second])) == 1
    assert net.classify(first, {"alpha": first, "beta": [second, second]})[0].best in ("alpha", "beta")


def test_the_guide_names_all_that_a_single_training_leaves_behind(trained_run: Path) -> None:
    table = PAGES[1].partition("## A run's folder")[2].partition("\n## ")[0]
    named = re.findall(r"`([^`]+)`", " ".join(row.split("|")[1] for row in table.splitlines() if row.startswith("|")))
    left = {f"{path.name}/" if path.is_dir() else path.name for path in trained_run.iterdir()}
    assert {"best/", "history.jsonl", "events/", "checkpoints/"} <= left <= {*named}


def test_the_file_tree_names_every_package_and_every_module_says_what_it_is_for() -> None:
    (text,) = (block.text for block in blocks() if not block.kind)
    assert sorted(re.findall(r"(?m)^  (\w+)/", text)) == sorted(package.name for package in PACKAGES)
    for module in (ROOT / "oneshot").rglob("*.py"):
        assert ast.get_docstring(ast.parse(module.read_text())), f"{module} has no docstring"
