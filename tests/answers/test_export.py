"""A network for programs without torch: the same answers on onnxruntime, with all its users need next to it."""

import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from command import ROOT
from pictures import figure

import oneshot
from oneshot.answers import export, preprocess
from oneshot.base.errors import RunFailed, UserError
from oneshot.base.settings import KOCH_LEAST
from oneshot.base.storage import Folder
from oneshot.network import models

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")


def network(folder: Folder, name: str, **options: int) -> Path:
    """A run of a network whose batch statistics have been updated."""
    size = KOCH_LEAST if name == "koch" else 28
    settings = tiny.settings(name=name, size=size, rotations=True, flips=True, **options)
    torch.manual_seed(1)
    net = models.build(settings.model, size=size)
    net(torch.rand(8, 1, size, size), torch.rand(8, 1, size, size))
    return tiny.network(folder, net, settings)


@pytest.mark.parametrize(("name", "views"), [*((name, 1) for name in models.ENCODERS), ("resnet", 8)])
def test_every_network_answers_the_same_on_onnxruntime(name: str, views: int, tmp_path: Path) -> None:
    run = network(Folder.of(tmp_path), name, views=views)
    made = export.onnx(Folder.of(run))
    assert made.folder.path == str(run / "best" / "onnx") and made.difference <= export.TOLERANCE
    written = [path for path in (run / "best" / "onnx").rglob("*") if path.is_file()]
    assert sorted(made.files) == sorted(str(path.relative_to(run / "best" / "onnx")) for path in written)
    net = oneshot.load(run, device="cpu").net
    encoder, scorer = (
        onnxruntime.InferenceSession(run / "best" / "onnx" / name) for name in (export.ENCODER, export.SCORER)
    )
    images = torch.rand(5, 1, net.size, net.size)
    with torch.no_grad():
        z_BD = net.embed(images)
        logits = net.score(z_BD[:4], z_BD[1:])
    (found_BD,) = encoder.run(None, {"image": images.numpy()})
    (found,) = scorer.run(None, {"query": found_BD[:4], "support": found_BD[1:]})
    assert np.abs(found_BD - z_BD.numpy()).max() < 1e-4 and np.abs(found - logits.numpy()).max() < 1e-4


def test_the_command_prints_how_near_it_is(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export.run(Folder.of(trained_run), out=str(tmp_path / "onnx"))
    said = capsys.readouterr().out
    assert re.search(r"checked on onnxruntime: at most \d\.\de-\d\d from torch", said)
    assert "encoder.onnx, scorer.onnx, calibration.json, README.md, example/one.png, example/other.png," in said
    card = oneshot.load(trained_run, device="cpu").card
    readme = (tmp_path / "onnx" / "README.md").read_text()
    assert card["sha256"] in readme and f"{card['calibration']['shots'][0]['pair']['slope']:.6f}" in readme
    assert f"| 0.01 | {card['calibration']['match']['limits'][1]:.6f} |" in readme


def test_what_lies_beside_a_network_of_own_images_speaks_of_classes(trained_run: Path) -> None:
    loaded = oneshot.load(trained_run, device="cpu")
    for split, held in (("lake", "alphabets"), ("own", "classes")):
        card = loaded.card | {"provenance": {"settings": {"data": {"split": split}}}}
        assert f"Chosen on the validation {held};" in export._readme(loaded.net, card, 0.0)


@pytest.mark.parametrize("shape", [(28, 28), (105, 105), (40, 200), (7, 3), (301, 17), (29, 31)])
def test_the_recipe_beside_it_makes_the_image_that_the_network_learned_from(shape: tuple[int, int]) -> None:
    page = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    space: dict[str, Any] = {}
    exec(preprocess.RECIPE, space)
    expected = preprocess.fit(page, 28).numpy()
    found = space["preprocess"](page, 28)
    assert found.shape == (1, 28, 28) and found.dtype == np.float32
    assert np.abs(found * 255 - expected).max() <= 1.001  # halves may be rounded either way
    assert (np.abs(found * 255 - expected) > 0.5).mean() < 0.01


# Runs the recipe where torch and other packages cannot be imported: it needs only what the page names.
WITHOUT_TORCH = """
import sys
for name in ("torch", "pyarrow", "rich", "typer", "ray"):
    sys.modules[name] = None
space = {}
exec(sys.argv[1], space)
from PIL import Image
import numpy as np
np.save(sys.argv[3], space["preprocess"](Image.open(sys.argv[2]), 28))
"""


@pytest.mark.parametrize("polarity", ["dark", "photo"])
def test_of_own_images_too_the_recipe_makes_what_the_network_learned_from(polarity: str, tmp_path: Path) -> None:
    given, cleaning = tiny.settings(), {"side": 105, "polarity": polarity}
    torch.manual_seed(1)
    run = tiny.network(tmp_path / "run", models.build(given.model, size=28), given, cleaning=cleaning)
    page = (Path(export.onnx(Folder.of(run)).folder.path) / "README.md").read_text()
    assert "(`pip install --no-deps` is enough), NumPy, Pillow and pydantic, but not torch." in page
    (recipe,) = re.findall("```python\n(.*?)```", page, re.DOTALL)
    figure(3, kind=polarity).save(tmp_path / "figure.png")
    command = [sys.executable, "-c", WITHOUT_TORCH, recipe, tmp_path / "figure.png", tmp_path / "made.npy"]
    subprocess.run(command, check=True, cwd=ROOT)
    found, expected = np.load(tmp_path / "made.npy"), preprocess.fit(figure(3, kind=polarity), 28, cleaning).numpy()
    assert found.shape == (1, 28, 28) and found.dtype == np.float32
    assert np.abs(found * 255 - expected).max() <= 1.001 and expected.max() > 100


def test_a_checkpoint_can_be_exported_too(tmp_path: Path) -> None:
    run = network(Folder.of(tmp_path), "conv4")
    made = export.onnx(Folder.of(run / "checkpoints" / "epoch-0001"), Folder.of(tmp_path / "out"))
    assert "not calibrated" in (tmp_path / "out" / "README.md").read_text() and made.difference <= export.TOLERANCE


def test_what_differs_is_not_written(trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(RunFailed, match=r"differs from torch by .*nothing was written"):
        export.onnx(Folder.of(trained_run), Folder.of(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_an_answer_that_is_no_number_is_a_difference(trained_run: Path, tmp_path: Path) -> None:
    export.onnx(Folder.of(trained_run), Folder.of(tmp_path))
    files = [(tmp_path / name).read_bytes() for name in (export.ENCODER, export.SCORER)]
    net = oneshot.load(trained_run, device="cpu").net
    torch.nn.init.constant_(net.head.bias, torch.nan)
    assert math.isnan(export._check(net, *files))


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_extra_is_named(package: str, trained_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=f"the extra 'onnx', which is not installed: pip install {package}$"):
        export.onnx(Folder.of(trained_run))
