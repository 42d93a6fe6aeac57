"""Imports go one way, from the command line down to the numbers; only certain modules import Ray."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from importlib.metadata import version
from pathlib import Path

import pytest
from command import VERBS

import oneshot

PACKAGE = Path(oneshot.__file__).parent

# A package may import only from itself and from the packages before it, in the order of README's file tree.
PACKAGES = re.findall(r"(?m)^  (\w+)/", (PACKAGE.parent / "README.md").read_text())
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    for path in PACKAGE.glob("*/**/*.py")
    if not path.stem.startswith("__")
)

# Where Ray may be imported: in modules built on Ray's classes, and inside functions that run only with a cluster.
RAY_MODULES = {
    "cluster.ahead", "cluster.reclaim", "cluster.elastic", "cluster.trainer", "cluster.worker", "search.tuning",
    "search.trial", "bench.synthetic",
}  # fmt: skip
RAY_FUNCTIONS = {
    "cluster.addresses", "cluster.capacity", "cluster.connection", "cluster.sharing", "search.tune", "search.final",
    "cli.train", "bench.launch", "bench.studies",
}  # fmt: skip


@cache
def imports(module: str) -> tuple[tuple[str, bool], ...]:
    """What a module imports: (name, whether inside a function). Imports under TYPE_CHECKING do not count."""
    tree = ast.parse((PACKAGE / f"{module.replace('.', '/')}.py").read_text())

    def found(node: ast.AST, inside: bool) -> Iterator[tuple[str, bool]]:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Import):
            yield from ((alias.name, inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute here"
            if node.module in {"oneshot", *(f"oneshot.{package}" for package in PACKAGES)}:
                yield from ((f"{node.module}.{alias.name}", inside) for alias in node.names)
            else:
                yield str(node.module), inside
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.iter_child_nodes(node):
            yield from found(child, inside)

    return tuple(found(tree, False))


def of_package(module: str, *, late: bool = True) -> set[str]:
    """The modules of this package that a module imports; `late`: also inside functions."""
    names = (name for name, inside in imports(module) if late or not inside)
    return {name.removeprefix("oneshot.") for name in names if name.startswith("oneshot.")}


def roots(module: str, *, late: bool = True) -> set[str]:
    return {name.split(".")[0] for name, inside in imports(module) if late or not inside}


def closure(module: str, *, late: bool) -> set[str]:
    """A module and all that it imports, directly or not."""
    seen: set[str] = set()
    open_ = {module}
    while open_:
        one = open_.pop()
        seen.add(one)
        open_ |= of_package(one, late=late) - seen
    return seen


def test_every_package_has_one_place() -> None:
    assert sorted(PACKAGES) == sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))


def test_beside_the_packages_lie_the_verbs_alone_and_do_nothing_themselves() -> None:
    """`python -m oneshot.VERB` needs a file of that name that calls the command line, or a package with `__main__`."""
    for verb in VERBS:
        door = PACKAGE / f"{verb}.py" if verb not in PACKAGES else PACKAGE / verb / "__main__.py"
        assert "from oneshot.cli.main import main" in door.read_text() and f'main(["{verb}"])' in door.read_text()
    names = {path.stem for path in PACKAGE.glob("*.py")}
    assert names == {*VERBS, "__init__", "__main__"} - {*PACKAGES}


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way(module: str) -> None:
    package = module.split(".")[0]
    allowed = {*PACKAGES[: PACKAGES.index(package) + 1]}
    assert {name.split(".")[0] for name in of_package(module)} <= allowed


def test_no_module_imports_what_imports_it() -> None:
    order = TopologicalSorter({module: of_package(module) for module in MODULES}).static_order()  # raises CycleError
    assert {*order} == {*MODULES}


@pytest.mark.parametrize("module", MODULES)
def test_ray_stays_out_of_all_but_the_modules_that_are_about_it(module: str) -> None:
    if module in RAY_MODULES:
        assert "ray" in roots(module), "it needs no exception"
    elif module in RAY_FUNCTIONS:
        assert "ray" in roots(module) or of_package(module) & RAY_MODULES, "it needs no exception"
        assert "ray" not in roots(module, late=False)
        assert not of_package(module, late=False) & RAY_MODULES
    else:
        assert "ray" not in roots(module)
        assert not of_package(module) & RAY_MODULES


def test_the_exceptions_are_modules() -> None:
    assert RAY_MODULES | RAY_FUNCTIONS <= {*MODULES}


@pytest.mark.parametrize("module", ["training.loop", "answers.recogniser", "evaluation.evaluate"])
def test_what_trains_and_judges_knows_no_launcher_and_no_screen(module: str) -> None:
    assert "ray" not in {root for each in closure(module, late=True) for root in roots(each)}
    assert not {each.split(".")[0] for each in closure(module, late=True)} & {"screen", "cluster", "search"}


@pytest.mark.parametrize(
    "module", ["training.train", "search.tune", "search.final", "cli.train", "cli.tune", "cli.main"]
)
def test_importing_a_launcher_does_not_import_ray(module: str) -> None:
    assert "ray" not in {root for each in closure(module, late=False) for root in roots(each, late=False)}


@pytest.mark.parametrize(
    "module",
    [
        "data.store",
        "data.drawings",
        "data.splits",
        "data.pairs",
        "data.glyphs",
        "data.omniglot",
        "data.sets",
        "base.jobs",
        "base.settings",
        "screen.live",
        "evaluation.trials",
        "evaluation.scoring",
        "evaluation.outcomes",
        "evaluation.paired",
        "report.pictures",
    ],
)
def test_drawings_trials_settings_and_screens_know_no_torch(module: str) -> None:
    assert "torch" not in {root for each in closure(module, late=True) for root in roots(each)}


@pytest.mark.parametrize(
    "module",
    [
        "cli.evaluate",
        "cli.train",
        "cli.tune",
        "cli.report",
        "search.tune",
        "search.final",
        "search.tuning",
        "search.trial",
        "search.study",
        "run.cards",
        "run.history",
        "run.opened",
        "run.watch",
        "evaluation.judgement",
        "evaluation.modelcard",
    ],
)
def test_what_only_drives_imports_no_torch(module: str) -> None:
    """The drivers of a study and of a trial compute nothing; without torch they start sooner and refuse at once."""
    assert "torch" not in {root for each in closure(module, late=False) for root in roots(each, late=False)}


@pytest.mark.parametrize("module", ["evaluation.trials", "evaluation.scoring"])
def test_trials_know_no_network(module: str) -> None:
    assert not closure(module, late=True) & {"network.models", "network.images", "answers.artifact"}


def test_importing_the_package_imports_neither_torch_nor_ray() -> None:
    code = "import oneshot, sys; print(sorted({'torch', 'ray', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert done.stdout.strip() == "[]"


def test_what_the_package_offers_is_there_and_light_where_it_can_be() -> None:
    assert {name: getattr(oneshot, name).__name__ for name in oneshot.__all__} == {
        name: name for name in oneshot.__all__
    }
    assert {*oneshot.__all__, "__version__"} <= {*dir(oneshot)}
    assert oneshot.__version__ == version("oneshot")
    assert "torch" not in modules_of("-c", "import oneshot; oneshot.__version__")
    with pytest.raises(AttributeError, match="no attribute 'Oneshot'"):
        oneshot.Oneshot  # noqa: B018
    assert "torch" not in modules_of("-c", "from oneshot import UserError")


def modules_of(*arguments: str, code: int = 0) -> set[str]:
    """The modules that Python imports when run with these arguments; it must end with this exit code."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True, cwd=PACKAGE.parent
    )
    assert done.returncode == code, done.stderr
    lines = (line.split("|") for line in done.stderr.splitlines() if line.startswith("import time:"))
    return {parts[2].strip() for parts in lines}


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_waits_for_neither_torch_nor_ray(verb: str) -> None:
    assert not modules_of("-m", f"oneshot.{verb}", "--help") & {"torch", "ray", "pandas"}


@pytest.mark.parametrize(
    "request_",
    [
        "evaluate {}",
        "classify {} --support . x.png",
        "classify {} --support . --labelled .",
        "verify {} a.png b.png",
        "embed {} a.png --out x.parquet",
        "export {} --onnx",
    ],
)
def test_where_there_is_no_network_nobody_waits_for_torch(request_: str, tmp_path: Path) -> None:
    verb, *arguments = request_.format(tmp_path).split()
    assert "torch" not in modules_of("-m", f"oneshot.{verb}", *arguments, code=2)


def test_a_network_is_loaded_without_torchs_compiler(trained_run: Path) -> None:
    """Computing with a tensor that has no storage would import the compiler, which takes a second."""
    seen = modules_of("-c", f"import oneshot; oneshot.load({str(trained_run)!r}, device='cpu')")
    assert "torch" in seen and "torch._dynamo" not in seen
