"""A trained network saved as a folder: the same scores wherever it is loaded, for images as files contain them."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

import oneshot
from oneshot.answers import artifact, preprocess
from oneshot.base.errors import UserError
from oneshot.base.storage import Folder
from oneshot.data import clean
from oneshot.evaluation.calibrate import measure
from oneshot.network.models import Siamese, build
from oneshot.run import cards, checkpoint, tensors
from oneshot.training.train import finish

RECORDED = {name: getattr(tiny.settings(), name).model_dump() for name in ("data", "model", "train")}


def trained() -> Siamese:
    """An initialised network whose batch statistics have been updated."""
    torch.manual_seed(3)
    net = build(tiny.settings().model, size=28)
    net(torch.rand(16, 1, 28, 28), torch.rand(16, 1, 28, 28))
    return net.eval()


@pytest.fixture(scope="module")
def net() -> Siamese:
    return trained()


@pytest.fixture(scope="module")
def run(net: Siamese, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with a checkpoint and the best network."""
    return tiny.network(tmp_path_factory.mktemp("run"), net, tiny.settings())


def test_a_network_of_another_width_and_depth_comes_back_as_it_was(tmp_path: Path) -> None:
    given = tiny.settings(name="resnet", width=8, depth=2, ema=0.9, epochs=1)
    tiny.train(tmp_path, given)
    finish(given, Folder.of(tmp_path))
    found, card = artifact.read(Folder.of(tmp_path))
    assert (card["architecture"], card["width"], card["depth"]) == ("resnet", 8, 2)
    best = checkpoint.best(Folder.of(tmp_path / "checkpoints"))
    assert best is not None
    for name, value in found.state_dict().items():
        assert torch.equal(value, best.weights[name]), name
    assert artifact.read(Folder.of(tmp_path / "checkpoints" / best.name))[0].dimension == found.dimension


def test_a_network_of_eight_views_looks_so_wherever_it_is_loaded(tmp_path: Path) -> None:
    """Training is the same as with a single view: the weights are equal."""
    turned: dict[str, Any] = {"rotations": True, "flips": True, "epochs": 1}
    for views in (1, 8):
        given, where = tiny.settings(views=views, **turned), tmp_path / str(views)
        tiny.train(where, given)
        best = checkpoint.best(Folder.of(where / "checkpoints"))
        assert best is not None
        artifact.save(
            Folder.of(where / "best"), data=best, provenance={"settings": best.settings},
            calibration=measure(artifact.of_checkpoint(best, Folder.of(where)), tiny.parts().validation, views=views),
        )  # fmt: skip
    one, eight = (oneshot.load(tmp_path / views, device="cpu") for views in ("1", "8"))
    assert one.card["sha256"] == eight.card["sha256"] and "views" not in one.card["calibration"]
    assert eight.net.dimension == 8 * one.net.dimension
    said = eight.card["calibration"]["views"]
    shots = [each.card["calibration"]["shots"][0]["classes"]["accuracy"] for each in (eight, one)]
    assert said["positions"] == 8 and [said["accuracy"], said["one"]] == shots
    assert (
        oneshot.load(tmp_path / "8" / "checkpoints" / "epoch-0001", device="cpu").net.dimension == eight.net.dimension
    )
    left, right = pages(2)
    turned_pair = [np.ascontiguousarray(np.rot90(page)) for page in (left, right)]
    assert float(eight.similarity(*turned_pair)) == pytest.approx(float(eight.similarity(left, right)), abs=1e-5)
    assert abs(float(one.similarity(*turned_pair)) - float(one.similarity(left, right))) > 1e-5


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """A copy of the best network's folder, for tests that damage it."""
    return Path(shutil.copytree(run / "best", tmp_path / "best"))


def pages(count: int, height: int = 28, width: int = 28, seed: int = 0) -> list[np.ndarray]:
    """Scans: dark ink on light paper, uint8."""
    ink = np.random.default_rng(seed).random((count, height, width)) < 0.2
    return [np.where(one, 20, 235).astype(np.uint8) for one in ink]


# The same network


@pytest.mark.parametrize("place", ["", "best", "checkpoints/epoch-0001"])
def test_a_network_loaded_again_gives_bit_identical_scores(run: Path, net: Siamese, place: str) -> None:
    loaded = oneshot.load(run / place, device="cpu")
    left, right = pages(8), pages(8, seed=1)
    inked = [torch.from_numpy(np.stack([one < 128 for one in side]))[:, None].float() for side in (left, right)]
    with torch.no_grad():
        expected = net.score(net.embed(inked[0]), net.embed(inked[1])).sigmoid()
    assert torch.equal(loaded.similarity(left, right), expected)


def test_loading_changes_nothing_for_others(run: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    loaded = oneshot.load(run, device="cpu")
    assert torch.equal(torch.rand(1), expected)
    assert not loaded.net.training


def test_the_card_says_what_the_network_is_and_where_it_comes_from(run: Path) -> None:
    card = json.loads((run / "best" / "model.json").read_text())
    assert card["architecture"] == "conv4"
    assert card["preprocessing"]["size"] == 28
    assert card["sha256"] == hashlib.sha256((run / "best" / "model.safetensors").read_bytes()).hexdigest()
    assert cards.recorded_settings(Folder.of(run)) == RECORDED
    assert cards.recorded_settings(Folder.of(run / "checkpoints" / "epoch-0001")) == RECORDED


# Images as files contain them


def test_pil_images_and_arrays_score_alike(run: Path) -> None:
    loaded = oneshot.load(run, device="cpu")
    left, right = pages(3), pages(3, seed=1)
    expected = loaded.similarity(left, right)
    for mode in ("L", "RGB", "RGBA"):
        as_images = [[Image.fromarray(one).convert(mode) for one in side] for side in (left, right)]
        assert (loaded.similarity(*as_images) - expected).abs().max() < 1e-3, mode


def test_one_bit_images_are_dark_ink_on_light_paper_too(run: Path) -> None:
    loaded = oneshot.load(run, device="cpu")
    page = np.where(pages(1)[0] < 128, 0, 255).astype(np.uint8)
    bit = Image.fromarray(page).convert("1")  # like Omniglot's PNGs: ink 0, paper 1
    assert torch.equal(loaded.embed(bit), loaded.embed(page))


@pytest.mark.parametrize("shape", [(1, 1), (28, 28), (105, 105), (40, 200), (301, 17)])
def test_images_of_any_size_are_taken(run: Path, shape: tuple[int, int]) -> None:
    loaded = oneshot.load(run, device="cpu")
    (probability,) = loaded.similarity(pages(1, *shape)[0], pages(1, 64, 48)[0]).tolist()
    assert 0 <= probability <= 1


def test_images_of_different_sizes_come_in_one_call(run: Path) -> None:
    loaded = oneshot.load(run, device="cpu")
    mixed = [pages(1, 105, 105)[0], Image.fromarray(pages(1, 30, 60)[0]), pages(1)[0]]
    assert loaded.similarity(mixed, mixed[::-1]).shape == (3,)


def test_an_array_of_three_axes_is_a_sequence(run: Path) -> None:
    loaded = oneshot.load(run, device="cpu")
    assert torch.equal(loaded.embed(np.stack(pages(3))), loaded.embed(pages(3)))


def test_a_grey_image_may_have_an_axis_for_its_one_channel(run: Path) -> None:
    """Keras and OpenCV give such arrays. It is not taken for a sequence of images of one column."""
    loaded, page = oneshot.load(run, device="cpu"), pages(1, 40, 30)[0]
    assert torch.equal(loaded.embed(page[:, :, None]), loaded.embed(page))


def test_an_image_may_be_named_by_its_file(run: Path, tmp_path: Path) -> None:
    loaded, shown = oneshot.load(run, device="cpu"), pages(2)
    files = [tmp_path / f"{number}.png" for number in range(2)]
    for page, file in zip(shown, files, strict=True):
        Image.fromarray(page).save(file)
    assert torch.equal(loaded.embed(str(files[0])), loaded.embed(shown[0]))
    assert torch.equal(loaded.embed(files), loaded.embed(shown))
    named, given = ({"one": some[0], "two": [some[1]]} for some in (files, shown))
    assert loaded.classify(files[1], named) == loaded.classify(shown[1], given)
    with pytest.raises(UserError, match=r"none\.png: no such file; name an image"):
        loaded.embed(tmp_path / "none.png")


def test_an_image_may_be_the_bytes_of_its_file(run: Path, tmp_path: Path) -> None:
    """In any bytes type, or as an open file, which stays open. The embedding is bit-identical to that of the path."""
    loaded, files = oneshot.load(run, device="cpu"), [tmp_path / f"{number}.png" for number in range(2)]
    for page, file in zip(pages(2, 40, 30), files, strict=True):
        Image.fromarray(page).save(file)
    data = [file.read_bytes() for file in files]
    expected = loaded.embed(files)
    for kind in (bytes, bytearray, memoryview, io.BytesIO):
        assert torch.equal(loaded.embed([kind(each) for each in data]), expected), kind
        assert torch.equal(loaded.embed(kind(data[0])), loaded.embed(files[0])), f"one alone, {kind}"
    assert loaded.verify(data, files[::-1]).equal(loaded.verify(files, files[::-1]))
    named, given = ({"one": some[0], "two": [some[1]]} for some in (files, data))
    assert loaded.classify(data[1], given) == loaded.classify(files[1], named)
    with open(files[0], "rb") as opened, tempfile.SpooledTemporaryFile() as uploaded:
        uploaded.write(data[0])
        for file in (opened, uploaded):
            file.read()  # a caller may have left the position at the end
            assert torch.equal(loaded.embed(file), loaded.embed(files[0])) and not file.closed
    reading, writing = os.pipe()
    with open(reading, "rb") as piped:
        os.write(writing, data[0])
        os.close(writing)
        assert torch.equal(loaded.embed(piped), loaded.embed(files[0])), "it has no beginning to go back to"


def test_bytes_that_are_no_image_are_a_sentence(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes get the same checks as files: other formats are not tried, and too large an image is not unpacked."""
    loaded, kinds = oneshot.load(run, device="cpu"), {}
    for kind in ("PNG", "PPM"):
        Image.fromarray(pages(1)[0]).save(stream := io.BytesIO(), kind)
        kinds[kind] = stream.getvalue()
    (tmp_path / "page.txt").write_text("no image")
    closed = open(tmp_path / "page.txt", "rb")
    closed.close()
    unknown, as_text = r"\(cannot identify image file\); use PNG, .*GIF$", open(tmp_path / "page.txt")
    with as_text:
        for image, sentence in (
            (b"", rf"^what was given as bytes is not a readable image {unknown}"),
            (io.BytesIO(kinds["PPM"]), rf"^what was given as bytes is not a readable image {unknown}"),
            (kinds["PNG"][:60], "^what was given as bytes is not a readable image"),
            (open(tmp_path / "page.txt", "rb"), rf"^.*page\.txt is not a readable image {unknown}"),
            (closed, r"page\.txt is not a readable image \(.*closed file"),
            (as_text, r"page\.txt cannot be used: it does not yield bytes; open it in binary mode, 'rb'"),
        ):
            with pytest.raises(UserError, match=sentence) as refused:
                loaded.embed(image)
            assert "0x" not in str(refused.value) and "\n" not in str(refused.value)
    monkeypatch.setattr(clean, "MOST_PIXELS", 28 * 28 - 1)
    for image in (kinds["PNG"], io.BytesIO(kinds["PNG"])):
        with pytest.raises(UserError, match="what was given as bytes cannot be used: it has 28 x 28 pixels"):
            loaded.embed(image)


# Several threads


def test_eight_threads_are_answered_as_one_is(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All read at the same moment and embed at the same moment. What the process has only once, the warning filters
    and torch's TF32 switches, is unchanged after it."""
    loaded, threads = oneshot.load(run, device="cpu"), 8
    for number, page in enumerate(pages(threads)):
        Image.fromarray(page).save(tmp_path / f"{number}.png")
    files = sorted(tmp_path.iterdir())
    asked = [file if number % 2 else file.read_bytes() for number, file in enumerate(files)]
    support = loaded.classes({file.stem: file for file in files[:5]})
    expected = [loaded.classify(image, support) for image in asked]
    assert len({one.classes for (one,) in expected}) > 1
    switches, together = (torch.backends.cudnn, torch.backends.cuda.matmul), threading.Barrier(threads, timeout=60)

    def meeting(function: Callable[..., Any]) -> Callable[..., Any]:
        def met(*arguments: Any, **options: Any) -> Any:
            together.wait()  # all threads are inside the function
            done = function(*arguments, **options)
            together.wait()  # and none has left it
            return done

        return met

    monkeypatch.setattr(preprocess, "fit", meeting(preprocess.fit))
    monkeypatch.setattr(loaded.net, "embed", meeting(loaded.net.embed))
    before = list(warnings.filters), [each.allow_tf32 for each in switches]
    with ThreadPoolExecutor(threads) as pool:
        assert list(pool.map(lambda image: loaded.classify(image, support), asked)) == expected
    assert (list(warnings.filters), [each.allow_tf32 for each in switches]) == before


def test_who_reads_hears_no_warning_of_pillows_and_all_others(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that came first may leave first, and other code may change the filters in between."""
    Image.fromarray(pages(1)[0]).save(tmp_path / "page.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 28 * 28 - 1)  # Pillow warns above this number
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open(tmp_path / "page.png").close()
    with warnings.catch_warnings(action="error"):
        oneshot.load(run, device="cpu").embed(tmp_path / "page.png")
        before = list(warnings.filters)
        one, other = preprocess.unwarned(), preprocess.unwarned()
        for step in (one.__enter__, other.__enter__, lambda: one.__exit__(None, None, None)):
            step()
            Image.open(tmp_path / "page.png").close()
            with pytest.raises(UserWarning, match="of others"):
                warnings.warn("of others", stacklevel=1)
        other.__exit__(None, None, None)
        assert warnings.filters == before
        with preprocess.unwarned():
            warnings.resetwarnings()
        assert warnings.filters == []


# Other operating systems

ELSEWHERE = """
import sys
sys.modules.update(dict.fromkeys(("fcntl", "pwd")))  # to import one is a ModuleNotFoundError, as on Windows
import oneshot
run, image, file = sys.argv[1:]
net = oneshot.load(run, device="cpu")
net.classes({"alpha": image}).save(file)
(ranking,) = net.classify(image, file)
print(ranking.classes[0])
"""


def test_a_network_is_asked_where_there_are_no_locks(run: Path, tmp_path: Path) -> None:
    Image.fromarray(pages(1)[0]).save(tmp_path / "page.png")
    command = [sys.executable, "-c", ELSEWHERE, str(run), str(tmp_path / "page.png"), str(tmp_path / "new.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (0, "alpha\n", "")


def test_who_asks_keeps_the_warnings_of_its_own(run: Path, tmp_path: Path) -> None:
    """Several threads read the files, and Python's warning filters belong to the whole process."""
    for number, page in enumerate(pages(40)):
        Image.fromarray(page).save(tmp_path / f"{number}.png")
    before = list(warnings.filters)
    oneshot.load(run, device="cpu").classes(tmp_path)
    assert warnings.filters == before


def test_similarity_is_symmetric_and_a_probability(run: Path) -> None:
    loaded = oneshot.load(run, device="cpu")
    left, right = pages(20), pages(20, seed=1)
    scores = loaded.similarity(left, right)
    assert torch.equal(scores, loaded.similarity(right, left))
    assert scores.shape == (20,) and ((scores >= 0) & (scores <= 1)).all()


def test_margins_of_paper_are_what_the_network_sees_as_no_ink(run: Path) -> None:
    """An oblong scan is padded with paper: padding it by hand with white gives the same, its inverse does not."""
    loaded = oneshot.load(run, device="cpu")
    oblong = np.where(pages(1, 14, 28)[0] < 128, 0, 255).astype(np.uint8)
    square = np.full((28, 28), 255, dtype=np.uint8)
    square[7:21] = oblong
    assert torch.equal(loaded.embed(oblong), loaded.embed(square))
    with pytest.warns(UserWarning, match="light ink on dark paper"):
        assert not torch.equal(loaded.embed(oblong), loaded.embed(255 - square))


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (np.zeros((3, 28, 28, 3), dtype=np.uint8), r"grey, uint8 \(height, width\); got uint8 \(28, 28, 3\)"),
        (np.zeros((28, 28, 3), dtype=np.uint8), r"got uint8 \(28, 28, 3\); a PIL image in colour is made grey"),
        (np.zeros((28, 28, 4), dtype=np.uint8), r"got uint8 \(28, 28, 4\)"),
        (np.zeros((28, 28)), r"got float64 \(28, 28\)"),
        (np.zeros((0, 28), dtype=np.uint8), r"got uint8 \(0, 28\)"),
        ([Image.new("I;16", (28, 28))], "an image of mode 'I;16' has more than 8 bits; scale it to 8"),
        ([], "no image was given"),
        ([3], "an object of type int is not an image; give PIL images or uint8 arrays"),
        (3, "an object of type int is not an image"),
        (b"\x89PNG", r"what was given as bytes is not a readable image \(cannot identify image file\); use PNG"),
        ([[Image.new("L", (28, 28))]], "an object of type list is not an image"),
    ],
)
def test_what_is_no_image_is_refused(run: Path, image: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        oneshot.load(run, device="cpu").similarity(image, image)


def test_left_and_right_must_be_pairs(run: Path) -> None:
    with pytest.raises(UserError, match="2 left and 3 right images"):
        oneshot.load(run, device="cpu").similarity(pages(2), pages(3))


# What cannot be loaded


def card(**changes: Any) -> Callable[[Path], None]:
    """A function that changes the card. `None` removes a key; a double underscore stands for the dot in a key."""

    def change(folder: Path) -> None:
        tree = json.loads((folder / "model.json").read_text())
        for key, value in changes.items():
            *sections, last = key.split("__")
            place = tree
            for section in sections:
                place = place[section]
            if value is None:
                del place[last]
            else:
                place[last] = value
        (folder / "model.json").write_text(json.dumps(tree))

    return change


def weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    """A function that changes the weights and sets the digest to match."""

    def forge(folder: Path) -> None:
        state = trained().state_dict()
        change(state)
        data = tensors.pack(state)
        (folder / "model.safetensors").write_bytes(data)
        card(sha256=hashlib.sha256(data).hexdigest())(folder)

    return forge


def flip(folder: Path) -> None:
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (flip, r"model\.safetensors is damaged: it does not match the digest"),
        (lambda folder: (folder / "model.safetensors").unlink(), r"model\.safetensors is missing"),
        (lambda folder: (folder / "model.json").write_text("{"), r"model\.json is not JSON"),
        (
            lambda folder: (folder / "model.json").write_text("[]"),
            r"model\.json is damaged .*: must be a valid dictionary",
        ),
        (card(architecture=None), r"model\.json is damaged .*'architecture' is missing"),
        (card(architecture="vgg"), "a network 'vgg', which this program does not know"),
        (card(architecture=["conv4"]), r"architecture = \['conv4'\]: must be a valid string"),
        (card(architecture="koch", preprocessing__size=105), "the weights do not fit the network 'koch' at 105 pixels"),
        (card(architecture="koch"), "at least 65 pixels"),
        (card(format=2), "of another version .*format = 2: must be 1"),
        (card(preprocessing__size=48), "the weights do not fit the network 'conv4' at 48 pixels"),
        (card(preprocessing__size=4096), "the weights do not fit the network 'conv4' at 4096 pixels"),
        (card(preprocessing__size=8), "at least 16 pixels"),
        (card(preprocessing__size="28"), "preprocessing.size = '28': must be a valid integer"),
        (card(preprocessing__size=True), "preprocessing.size = True: must be a valid integer"),
        (card(preprocessing__size=-1), "preprocessing.size = -1: must be greater than or equal to 1"),
        (weights(lambda tensors: tensors.pop("head.weight")), "the weights do not fit .*head.weight"),
        (weights(lambda tensors: tensors.update(more=torch.ones(1))), "the weights do not fit .*more"),
        (
            weights(lambda tensors: tensors["head.bias"].fill_(torch.nan)),
            "'head.bias' holds values that are not finite",
        ),
    ],
)
def test_a_network_that_is_not_whole_is_refused_in_a_sentence(
    copy: Path, damage: Callable[[Path], Any], sentence: str
) -> None:
    damage(copy)
    with pytest.raises(UserError, match=sentence) as caught:
        oneshot.load(copy, device="cpu")
    assert str(copy) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_unknown_settings_is_refused(run: Path, tmp_path: Path) -> None:
    place = Path(shutil.copytree(run / "checkpoints" / "epoch-0001", tmp_path / "epoch-0001"))
    state = json.loads((place / "state.json").read_text())
    state["settings"]["model"]["name"] = "vgg"
    (place / "state.json").write_text(json.dumps(state))
    with pytest.raises(UserError, match=r"state\.json: model\.name = 'vgg'"):
        oneshot.load(place)


def test_a_checkpoint_that_says_nothing_of_its_network_is_refused(run: Path, tmp_path: Path) -> None:
    place = Path(shutil.copytree(run / "checkpoints" / "epoch-0001", tmp_path / "epoch-0001"))
    state = json.loads((place / "state.json").read_text())
    del state["settings"]["model"]
    (place / "state.json").write_text(json.dumps(state))
    with pytest.raises(UserError, match=r"state\.json: data\.size = 28: the koch network needs"):
        oneshot.load(place)


def test_what_was_exported_of_another_network_goes_with_it(run: Path, tmp_path: Path) -> None:
    found = checkpoint.best(Folder.of(run / "checkpoints"))
    assert found is not None
    best = Folder.of(shutil.copytree(run / "best", tmp_path / "best"))
    (best / "onnx").write("encoder.onnx", b"of the former")
    artifact.save(best, data=found, provenance={"settings": found.settings})
    assert (best / "onnx").has("encoder.onnx")  # the same network, saved once more
    for value in found.weights.values():
        value.add_(1)
    artifact.save(best, data=found, provenance={"settings": found.settings})
    assert not (best / "onnx").has()


def test_a_missing_folder_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder; name a run, its best/ or a checkpoint"):
        oneshot.load(tmp_path / "none")


def test_a_folder_without_a_network_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no network: neither model\.json"):
        oneshot.load(tmp_path)
    with pytest.raises(UserError, match="holds no network"):
        cards.recorded_settings(Folder.of(tmp_path))


@pytest.mark.parametrize("provenance", [None, "x", {}, {"settings": 3}])
def test_a_card_without_settings_is_a_sentence(copy: Path, provenance: Any) -> None:
    tree = json.loads((copy / "model.json").read_text()) | {"provenance": provenance}
    (copy / "model.json").write_text(json.dumps(tree))
    with pytest.raises(UserError, match=r"model\.json is damaged .*provenance"):
        cards.recorded_settings(Folder.of(copy))


@pytest.mark.parametrize("path", [None, 3, b"runs/quick"])
def test_what_names_no_network_is_a_sentence(path: Any) -> None:
    with pytest.raises(
        UserError, match=r"an object of type .* cannot name a network; name a run, its best/ or a checkpoint"
    ):
        oneshot.load(path)


def test_a_loaded_network_says_in_a_line_what_it_is(run: Path) -> None:
    data, last = RECORDED["data"], max((run / "checkpoints").iterdir())
    for where in (run, last):
        said = f"OneShot(conv4 at 28 px, trained on {data['dataset']}, split {data['split']}; embeddings of 64 numbers)"
        assert repr(oneshot.load(where, device="cpu")) == said


def test_an_unknown_device_is_a_sentence(run: Path) -> None:
    with pytest.raises(UserError, match="unknown device 'gpu'"):
        oneshot.load(run, device="gpu")
