"""Imports run one way, from the command line down to the numbers; Ray stays where it belongs."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import oneshot

PACKAGE = Path(oneshot.__file__).parent

# A module imports from the rows above its own and from no other. A new module takes its place here, as high as it can.
LAYERS = (
    ("errors", "beside", "interrupts", "garbage"),
    (
        "counter",
        "average",
        "pairwise",
        "kinds",
        "environment",
        "distributed",
        "data.drawings",
        "reclaim",
        "ahead",
        "data.pen",
        "data.strokes",
        "screen.published",
        "screen.console",
        "report.canvas",
        "report.words",
        "options",
        "bench.timing",
        "bench.flops",
        "bench.scaling",
        "calibration",
        "spread",
    ),
    (
        "settings",
        "bench.rows",
        "screen.bench",
        "storage",
        "data.png",
        "data.clean",
        "data.footer",
        "data.archives",
        "data.download",
        "scoring",
        "worker",
        "norm",
        "restore",
        "tensors",
        "screen.progress",
        "screen.tables",
        "report.axes",
        "report.html",
    ),
    (
        "formats",
        "outcomes",
        "packing",
        "embedded",
        "data.tree",
        "data.sheet",
        "lots",
        "report.search",
        "bench.run",
        "bench.one",
        "bench.synthetic",
    ),
    (
        "cards",
        "data.parquet",
        "data.allot",
        "checkpoint",
        "events",
        "owner",
        "trust",
        "reach",
        "trials",
        "models",
        "search",
        "halving",
        "cluster",
        "elastic",
        "screen.live",
        "screen.ranking",
        "screen.results",
        "report.parallel",
    ),
    ("data.store", "losses", "optimizers", "ranking", "report.accuracy", "history", "runs"),
    (
        "data.cache",
        "data.omniglot",
        "data.composed",
        "data.glyphs",
        "data.splits",
        "pairs",
        "images",
        "report.pictures",
        "report.ladder",
        "study",
    ),
    ("judgement", "data.own", "batches", "embedding", "preprocess", "sharing", "verification"),
    ("data.keep", "validation"),
    ("data.sets", "calibrate"),
    ("artifact",),
    ("data.view", "evaluate", "queries", "export", "request"),
    ("loop", "modelcard", "classify"),
    ("parts",),
    ("train", "trainer", "debug", "verify", "screenshots"),
    ("trial", "datacli"),
    ("tuning", "report.reading"),
    ("tune", "repeat", "record", "report.answers", "report.studies", "report.seen"),
    ("report.page",),
    ("report.making",),
    ("pages",),
    ("reporting",),
    ("commands", "bench.source"),
    ("seeds", "bench.data"),
    ("verbs", "bench.steps"),
    ("bench.gpu", "bench.learning", "bench.launch"),
    ("bench.studies", "bench.command"),
    ("cli",),
)
MODULES = [name for row in LAYERS for name in row]

# Who may import Ray: whole modules of Ray's own classes, and functions that run only where there is a cluster.
RAY_MODULES = {"tuning", "ahead", "reclaim", "elastic", "trainer", "trial", "bench.synthetic"}
RAY_FUNCTIONS = {"commands", "tune", "cluster", "sharing", "bench.launch", "bench.studies"}


@cache
def imports(module: str) -> tuple[tuple[str, bool], ...]:
    """What a module imports: (name, whether inside a function). What a file does when it is run, or
    for its types alone, is not counted."""
    tree = ast.parse((PACKAGE / f"{module.replace('.', '/')}.py").read_text())

    def found(node: ast.AST, inside: bool) -> Iterator[tuple[str, bool]]:
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("__name__ == '__main__'", "TYPE_CHECKING"):
            return
        if isinstance(node, ast.Import):
            yield from ((alias.name, inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute here"
            if node.module in ("oneshot", "oneshot.bench", "oneshot.data", "oneshot.screen", "oneshot.report"):
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


def test_every_module_has_one_place() -> None:
    assert len(MODULES) == len(set(MODULES))
    files = (path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if not path.stem.startswith("__"))
    assert sorted(MODULES) == sorted(".".join(file.with_suffix("").parts) for file in files)


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way(module: str) -> None:
    row = next(number for number, names in enumerate(LAYERS) if module in names)
    allowed = {name for names in LAYERS[:row] for name in names}
    assert of_package(module) <= allowed


@pytest.mark.parametrize("module", MODULES)
def test_ray_stays_out_of_all_but_the_modules_that_are_about_it(module: str) -> None:
    if module in RAY_MODULES:
        return
    if module in RAY_FUNCTIONS:
        assert "ray" not in roots(module, late=False)
        assert not of_package(module, late=False) & RAY_MODULES
    else:
        assert "ray" not in roots(module)
        assert not of_package(module) & RAY_MODULES


@pytest.mark.parametrize("module", ["loop", "models", "losses", "validation", "artifact", "evaluate", "checkpoint"])
def test_what_trains_and_judges_knows_no_launcher_and_no_screen(module: str) -> None:
    assert "ray" not in {root for each in closure(module, late=True) for root in roots(each)}
    assert not closure(module, late=True) & {
        "train",
        "tune",
        "tuning",
        "cluster",
        "commands",
        "cli",
        "screen.console",
        "screen.live",
    }


@pytest.mark.parametrize("module", ["train", "tune", "commands", "cli"])
def test_importing_a_launcher_does_not_import_ray(module: str) -> None:
    assert "ray" not in {root for each in closure(module, late=False) for root in roots(each, late=False)}


@pytest.mark.parametrize(
    "module",
    [
        "data.store",
        "data.drawings",
        "data.splits",
        "trials",
        "scoring",
        "pairs",
        "data.glyphs",
        "data.omniglot",
        "data.sets",
        "settings",
        "screen.live",
        "outcomes",
        "report.pictures",
    ],
)
def test_drawings_trials_settings_and_screens_know_no_torch(module: str) -> None:
    assert "torch" not in {root for each in closure(module, late=True) for root in roots(each)}


@pytest.mark.parametrize(
    "module", ["commands", "tune", "tuning", "trial", "study", "history", "runs", "judgement", "reporting", "modelcard"]
)
def test_what_only_drives_imports_no_torch(module: str) -> None:
    """A study's driver and a trial's multiply nothing: they start sooner, and a refusal is said at once."""
    assert "torch" not in {root for each in closure(module, late=False) for root in roots(each, late=False)}


@pytest.mark.parametrize("module", ["trials", "scoring"])
def test_trials_know_no_network(module: str) -> None:
    assert not closure(module, late=True) & {"models", "embedding", "artifact", "loop", "images"}


def test_importing_the_package_imports_neither_torch_nor_ray() -> None:
    code = "import oneshot, sys; print(sorted({'torch', 'ray', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert done.stdout.strip() == "[]"


def modules_of(*arguments: str) -> set[str]:
    """The modules that a Python of these arguments imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    lines = (line.split("|") for line in done.stderr.splitlines() if line.startswith("import time:"))
    return {parts[2].strip() for parts in lines}


VERBS = ("train", "tune", "evaluate", "classify", "verify", "export", "report", "record", "repeat", "data", "bench")


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_waits_for_neither_torch_nor_ray(verb: str) -> None:
    assert not modules_of("-m", f"oneshot.{verb}", "--help") & {"torch", "ray", "pandas"}


def test_a_network_is_loaded_without_torchs_compiler(trained_run: Path) -> None:
    """A second of imports, which a tensor without storage asks for as soon as it is computed with."""
    seen = modules_of("-c", f"import oneshot; oneshot.load({str(trained_run)!r}, device='cpu')")
    assert "torch" in seen and "torch._dynamo" not in seen
