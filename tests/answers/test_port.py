"""The files written with an exported network are enough to answer as it does, without this package."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from pictures import figure
from PIL import Image

import oneshot
from oneshot.answers import export, port, preprocess
from oneshot.answers.calibration import Calibration
from oneshot.answers.recogniser import OneShot
from oneshot.base.storage import Folder
from oneshot.data import clean, splits, store
from oneshot.network import models
from oneshot.screen.words import Words

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")

RATES = (0.01, 0.05, 0.1, 0.2, 0.5)
CLEANINGS = [{"side": 105, "polarity": polarity} for polarity in clean.POLARITIES]


@pytest.fixture(scope="module")
def net(trained_run: Path) -> OneShot:
    return oneshot.load(trained_run, device="cpu")


@pytest.fixture(scope="module")
def exported(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of a calibrated network."""
    out = tmp_path_factory.mktemp("exported")
    export.onnx(Folder.of(trained_run), Folder.of(out))
    return out


def blocks(page: Path) -> list[str]:
    return re.findall("```python\n(.*?)```", page.read_text(), re.DOTALL)


def reading(page: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that the page's code for "none of these" defines, run next to its calibration.json."""
    (code,) = (block for block in blocks(page) if "calibration.json" in block)
    assert "import oneshot" not in code and "from oneshot" not in code
    monkeypatch.chdir(page.parent)
    space: dict[str, Any] = {}
    exec(code, space)
    return space


# None of these


def test_by_the_page_alone_the_same_images_are_none_of_these(
    net: OneShot, exported: Path, small_glyphs: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At all rates, for one class, for the most classes measured, for numbers between them and beyond."""
    held = splits.load_part(small_glyphs, splits.split("lake", store.describe(small_glyphs)).test)
    pages = [255 - held.pixels(np.flatnonzero(held.character == one)[:4]) for one in range(60)]
    measured = [cell["n_way"] for cell in net.card["calibration"]["shots"][0]["none"]]
    space, told = reading(exported / "README.md", monkeypatch), set()
    assert measured[0] == 1 and 4 < measured[-1] < 60 <= len(held.characters)
    for ways in (1, 2, 4, measured[-1], 60):
        for images in (1, 3):
            classes = net.classes({str(number): list(pages[number][:images]) for number in range(ways)})
            for rate in (*RATES, 1):
                for ranking in net.classify([page[3] for page in pages[:9]], classes, false_accept=rate):
                    assert space["known"](ranking.scores, images, rate) == ranking.known
                    told.add((ways, ranking.known))
    assert told == {(ways, known) for ways in (1, 2, 4, measured[-1], 60) for known in (True, False)}


def record(ways: tuple[int, ...], lead: float, shots: tuple[int, ...]) -> dict[str, Any]:
    """A calibration with random limits: lower for larger rates, and mostly higher for more classes."""
    rng = np.random.default_rng(len(ways))
    limits = np.sort(rng.normal(size=(len(shots), len(ways), len(RATES))))[..., ::-1] + np.arange(len(ways))[:, None]
    return {
        "lead": lead,
        "rates": [*RATES],
        "shots": [
            {"k_shot": k, "none": [{"n_way": n, "limits": each} for n, each in zip(ways, rows, strict=True)]}
            for k, rows in zip(shots, limits.tolist(), strict=True)
        ],
    }


@pytest.mark.parametrize("lead", [0.0, 0.5])
@pytest.mark.parametrize("ways", [(1,), (1, 2), (1, 2, 5), (2,), (1, 2, 5, 10, 20)])
@pytest.mark.parametrize("shots", [(1,), (1, 2, 5)])
def test_whatever_was_measured_the_page_finds_the_same_limits(
    lead: float, ways: tuple[int, ...], shots: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = record(ways, lead, shots)
    (tmp_path / "calibration.json").write_text(json.dumps(found))
    (tmp_path / "README.md").write_text(f"```python\n{port.LIMITS}```")
    space = reading(tmp_path / "README.md", monkeypatch)
    for classes in (1, 2, 3, 7, 20, 21, 500):
        for images in (1, 2, 3, 40):
            for rate in RATES:
                expected = Calibration(found).limit(classes, k_shot=images, rate=rate)
                assert space["limit"](classes, images, rate) == pytest.approx(expected, abs=1e-12)


def test_the_file_of_numbers_is_the_cards_and_goes_with_it(
    net: OneShot, exported: Path, trained_run: Path, tmp_path: Path
) -> None:
    assert json.loads((exported / "calibration.json").read_text()) == net.card["calibration"]
    page = " ".join((exported / "README.md").read_text().split())
    lead = net.card["calibration"]["lead"]
    assert f"evidence = best + lead · (best - second), with lead = {lead:g}" in page
    export.onnx(Folder.of(trained_run), Folder.of(tmp_path))
    assert (tmp_path / "calibration.json").exists()
    export.onnx(Folder.of(trained_run / "checkpoints" / "epoch-0001"), Folder.of(tmp_path))  # has no calibration
    assert not (tmp_path / "calibration.json").exists()
    page = (tmp_path / "README.md").read_text()
    assert "not calibrated" in page and "None of these" not in page and "`limits`" not in page


def test_limits_that_few_classes_gave_are_doubted(net: OneShot) -> None:
    found = net.card["calibration"]
    few = found | {"measured_on": found["measured_on"] | {"characters": 2, "taught": True}}
    for calibration, doubted in ((few, 1), (found, 0)):
        page = port.probabilities(calibration, Words())
        assert page.count("measured on only 2 validation classes") == doubted
        assert page.count("trained on the validation alphabets on which") == doubted


# Images


def from_the_steps(image: Image.Image, side: int, polarity: str) -> np.ndarray:
    """A drawing made by following the page's steps, without Pillow's scaling: uint8 (side, side)."""
    if image.mode == "I;16":
        values = np.asarray(image).astype(float)
        depth = min(each for each in (255, 4095, 65535) if each >= values.max())
        grey, clear = np.round(255 * values / depth), np.zeros(values.shape)
    else:
        red, green, blue, opacity = np.moveaxis(np.asarray(image.convert("RGBA")).astype(int), 2, 0)
        grey = (19595 * red + 38470 * green + 7471 * blue + 32768) // 65536
        clear, grey = 255 - opacity, grey * opacity // 255
    height, width = grey.shape
    new = [max(1, round(side * length / max(height, width))) for length in (height, width)]
    grey, clear = (scaled(layer, new) for layer in (grey, clear))
    if polarity == "dark":
        grey = 255 - (grey + clear)
    covered = 255 - clear
    if polarity == "photo" and clear.any() and covered[grey > covered / 2].sum() < 0.05 * covered.sum():
        grey = grey + clear
    assert grey.max() - grey.min() >= 12
    if polarity == "photo":
        low, high = np.percentile(grey, (1, 99))
        drawn = (grey - low) / max(high - low, 1)
    else:
        rows, columns = (max(1, round(length / 16)) for length in grey.shape)
        border = np.ones(grey.shape, bool)
        border[rows:-rows, columns:-columns] = False
        low = min(np.median(grey[border]), np.median(grey))
        low = low if low < (grey.min() + grey.max()) / 2 else grey.min()
        drawn = ((grey - low) / max(grey.max() - low, 1) - 0.05) / 0.95
    square = np.zeros((side, side))
    top, left = ((side - length) // 2 for length in grey.shape)
    square[top : top + new[0], left : left + new[1]] = np.round(255 * drawn.clip(0, 1))
    return square.astype(np.uint8)


def half_up(values: Any) -> np.ndarray:
    return np.floor(np.array(values) + 0.5)


def scaled(layer: np.ndarray, new: list[int]) -> np.ndarray:
    lengths = layer.shape
    blocks = [max(1, int(length / short / 3)) for length, short in zip(lengths, new, strict=True)]
    down, across = ([slice(at, at + b) for at in range(0, n, b)] for n, b in zip(lengths, blocks, strict=True))
    layer = half_up([[layer[rows, columns].mean() for columns in across] for rows in down])
    for axis in (1, 0):
        step = lengths[axis] / blocks[axis] / new[axis]
        old = np.arange(layer.shape[axis])
        weight = 1 - np.abs(old + 0.5 - (np.arange(new[axis])[:, None] + 0.5) * step) / max(step, 1)
        weight = weight.clip(0)
        weight /= weight.sum(axis=1, keepdims=True)
        layer = half_up(np.moveaxis(np.tensordot(weight, layer, (1, axis)), 0, axis))
    return layer


def cut_out(image: Image.Image) -> Image.Image:
    """An image that is transparent outside an oval, with a soft edge."""
    y, x = np.mgrid[-1 : 1 : image.height * 1j, -1 : 1 : image.width * 1j]
    opacity = (255 * (4 - 4 * np.hypot(x, y)).clip(0, 1)).astype(np.uint8)
    return Image.merge("RGBA", (*image.split(), Image.fromarray(opacity)))


@pytest.mark.parametrize("polarity", clean.POLARITIES)
@pytest.mark.parametrize("size", [(120, 90), (64, 200), (40, 30), (105, 105), (900, 640)])
def test_the_steps_make_the_image_that_the_network_learned_from(polarity: str, size: tuple[int, int]) -> None:
    page = figure(3, size=size, kind=polarity)
    deep = Image.fromarray(np.asarray(page.convert("L")).astype(np.uint16) * 15)
    for image in (page, page.convert("L"), cut_out(page), cut_out(figure(4, size=size, kind="dark")), deep):
        expected = clean.prepare(image, side=105, polarity=polarity).astype(int)
        found = from_the_steps(image, 105, polarity).astype(int)
        assert np.abs(found - expected).max() <= 3 and np.abs(found - expected).mean() < 0.3  # rounded on the way
        assert expected.max() > 200


def test_the_page_has_the_steps_with_their_numbers() -> None:
    seen = {"cleaning": {"side": 96, "polarity": "dark"}}
    page = " ".join(port.recipe(seen, 28).split())
    for number, words in enumerate(
        ("Turn and mirror", "g = floor((19595 R", "c = 255 - opacity", "the longer side gets 96 pixels", "g + c)",
         "less than 12 above", "round(h / 16)", "- 0.05) / 0.95", "floor((96 - h) / 2)", "28 x 28", ), 1,
    ):  # fmt: skip
        assert words in page.split(f" {number}. ")[1].split(f" {number + 1}. ")[0], words
    assert "percentile" not in page
    photo = port.recipe({"cleaning": {"side": 96, "polarity": "photo"}}, 28)
    assert "the 1st and the 99th percentile" in photo and "0.95" not in photo and "less than 0.05 times" in photo


# The example


@pytest.mark.parametrize(("cleaning", "views"), [(None, 1), (None, 8), *((each, 1) for each in CLEANINGS)])
def test_the_example_is_what_the_network_makes_of_its_images(
    cleaning: dict[str, Any] | None, views: int, tmp_path: Path
) -> None:
    given = tiny.settings(name="resnet", width=4, views=views, rotations=True, flips=True)
    torch.manual_seed(1)
    built = models.build(given.model, size=28)
    built(torch.rand(8, 1, 28, 28), torch.rand(8, 1, 28, 28))
    run = tiny.network(tmp_path / "run", built, given, cleaning=cleaning)
    out = Path(export.onnx(Folder.of(run)).folder.path)
    expected = json.loads((out / "example" / "expected.json").read_text())
    assert expected["images"] == ["one.png", "other.png"] and "limits" not in expected
    paths = [out / "example" / name for name in expected["images"]]
    inputs = torch.tensor(expected["inputs"], dtype=torch.uint8)
    assert inputs.shape == (2, 28, 28) and not torch.equal(*inputs)
    assert torch.equal(inputs, torch.cat([preprocess.read(path, 28, cleaning) for path in paths]))
    encoder, scorer = (onnxruntime.InferenceSession(out / name) for name in (export.ENCODER, export.SCORER))
    (found,) = encoder.run(None, {"image": inputs[:, None].numpy().astype(np.float32) / 255})
    assert np.abs(found - np.array(expected["embeddings"])).max() < 1e-4
    (logit,) = scorer.run(None, {"query": found[:1], "support": found[1:]})
    assert abs(float(logit[0]) - expected["logit"]) < 1e-4
    space: dict[str, Any] = {}
    exec(blocks(out / "README.md")[0], space)
    for path, pixels in zip(paths, inputs.numpy(), strict=True):
        image = Image.open(path)
        made = space["preprocess"](image if cleaning else np.asarray(image), 28)
        assert np.abs(255 * made[0] - pixels).max() <= 1.001 and pixels.max() > 200
        if cleaning:
            assert np.abs(from_the_steps(image, **cleaning).astype(int) - clean.prepare(image, **cleaning)).max() <= 3


def test_of_a_calibrated_network_it_has_a_probability_and_limits(
    net: OneShot, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = json.loads((exported / "example" / "expected.json").read_text())
    one, other = (exported / "example" / name for name in expected["images"])
    assert expected["probability"] == pytest.approx(float(net.verify(one, other)), abs=1e-5)
    space = reading(exported / "README.md", monkeypatch)
    assert len(expected["limits"]) == len(port.SHOWN_WAYS) * len(port.SHOWN_SHOTS) * len(RATES)
    for each in expected["limits"]:
        assert each["limit"] == pytest.approx(space["limit"](each["n_way"], each["k_shot"], each["rate"]))
