"""A user's own images: training, judgement, the resulting network, and what is refused."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from command import refused, run
from pictures import figure, tree
from PIL import Image

import oneshot
from oneshot.base.errors import UserError
from oneshot.base.storage import Folder
from oneshot.data import store
from oneshot.data.sets import prepare
from oneshot.network.images import Images
from oneshot.training.debug import picture

# A training of a few seconds: what it learns does not matter, only that every stage runs.
TINY = [
    "--set", "train.epochs=2", "--set", "train.examples=128", "--set", "train.batch=32", "--set", "train.val_pairs=100",
    "--set", "train.val_trials=50", "--set", "evaluate.trials=100", "--set", "search.trials=2", "--set",
    "search.batch=[32]", "--set", "search.first=[{lr=1e-2, batch=32}]", "--set", "data.size=28",
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images of two sets, `logos` in groups and `coins` without groups, prepared below `root`."""
    place = tmp_path_factory.mktemp("own")
    for name, kind, groups in (("coins", "photo", 0), ("logos", "light", 5)):
        source = tree(place / name, classes=15, images=3, groups=groups, kind=kind)
        prepare("folder", data_root=place / "root", source=str(source))
    return place


@pytest.fixture(scope="module")
def trained(place: Path) -> Path:
    text = run(
        "train", "own", "--local", "--run", str(place / "run"), "--set", "data.dataset=logos", *TINY,
        "--set", "train.lr=0.003", "--set", "train.optimizer=adam", ONESHOT_DATA=str(place / "root"),
    )  # fmt: skip
    assert "conv4 at 28 px on logos (own images), split own" in text
    return place / "run"


def test_a_run_on_own_images_is_judged_and_says_how_many_ways(trained: Path, place: Path) -> None:
    text = run("evaluate", str(trained), ONESHOT_DATA=str(place / "root"))
    result = json.loads((trained / "result.json").read_text())
    assert (result["dataset"], result["split"]) == ("logos (own images)", "own")
    assert result["protocols"]["within"]["n_way"] == 3
    assert "within is 3-way and not 20-way, which is easier" in text and "within" in result["lowered"]
    assert "two drawers" not in text and "not comparable with logos (own images)" in " ".join(text.split())
    assert result["test"] == {"classes": 3, "images": 9}
    said = "only 3 classes with 9 images were tested: the accuracy on other classes may lie far outside these intervals"
    assert said in " ".join(text.replace("│", " ").split())
    experiment = (trained / "experiment.toml").read_text()
    assert re.search(r'dataset = "logos@[0-9a-f]{8}"\nsplit = "own"', experiment)


def test_the_network_takes_images_as_they_lie_in_files(trained: Path, place: Path) -> None:
    data = Folder.of(place / "root" / "own" / "logos")
    drawings = store.load(data)
    rows = np.arange(0, len(drawings), 7)
    paths = [
        place / "logos" / drawings.characters[drawings.character[row]] / f"image{drawings.drawer[row] - 1}.png"
        for row in rows
    ]
    last = max((trained / "checkpoints").iterdir())
    for where in (trained, trained / "best", last):
        net = oneshot.load(where, device="cpu")
        images = Images(drawings, size=28, device=torch.device("cpu"))
        with torch.no_grad():
            known = net.net.embed(images.gather(rows))
        assert torch.equal(net.embed([Image.open(path) for path in paths]), known)
        assert torch.equal(net.embed([np.asarray(Image.open(path)) for path in paths]), known), "RGB arrays too"
        assert torch.equal(net.embed(np.asarray(Image.open(paths[0]))), net.embed(Image.open(paths[0]))), "and one"
        assert torch.equal(net.embed_pixels(torch.cat([net.read(path) for path in paths])), known), "and files"
    with pytest.raises(UserError, match="the image is blank"):
        oneshot.load(trained).similarity(Image.new("L", (9, 9)), Image.new("L", (9, 9)))
    card = json.loads((trained / "best" / "model.json").read_text())["preprocessing"]
    assert card["cleaning"] == {"side": 105, "polarity": "light"} and "light ink on dark paper" in card["ink"]
    told = (trained / "best" / "README.md").read_text()
    assert "light ink on dark paper" in told and "dark lines" not in told and "whoever trained this network" in told


def test_a_last_fit_is_taught_what_validates_too_with_all_the_settings_of_the_network_before_it(
    trained: Path, place: Path, tmp_path: Path
) -> None:
    last, where = tmp_path / "last.toml", tmp_path / "run"
    last.write_text(run("settings", str(trained), "--toml"))
    run(
        "train", str(last), "--local", "--run", str(where), "--set", "data.split=own-all",
        ONESHOT_DATA=str(place / "root"),
    )  # fmt: skip
    text = run("evaluate", str(where), ONESHOT_DATA=str(place / "root"))
    before, after = (json.loads((each / "best" / "model.json").read_text()) for each in (trained, where))
    was, now = (card["provenance"]["settings"] for card in (before, after))
    assert (was["data"].pop("split"), now["data"].pop("split")) == ("own", "own-all") and was == now
    assert [card["calibration"]["measured_on"]["taught"] for card in (before, after)] == [False, True]
    assert "trained on the validation classes on which" in (where / "best" / "README.md").read_text()
    assert "validation figures are optimistic" in (where / "report.html").read_text()
    result = json.loads((where / "result.json").read_text())
    assert (result["split"], result["overlap"]) == ("own-all", None)
    assert "logos (own images) · split own-all" in text and "alphabet" not in text
    search = ["tune", str(last), "--run", str(tmp_path / "search"), "--set", "data.split=own-all"]
    said = refused(*search, ONESHOT_DATA=str(place / "root"))
    assert (
        "data.split = 'own-all': it also trains on the validation classes" in said and "--set data.split=own," in said
    )
    assert not (tmp_path / "search").exists()


@pytest.mark.parametrize("polarity", ["dark", "light", "photo"])
def test_looking_inside_shows_images_and_not_their_negatives(polarity: str) -> None:
    images = torch.zeros(8, 1, 28, 28)
    images[:, :, 10:12] = 1  # a line of ink
    png = picture((images, torch.ones(4, dtype=torch.bool)), pairs=True, polarity=polarity)
    seen = np.asarray(Image.open(io.BytesIO(png)).convert("L"))
    assert (np.median(seen) > 200) == (polarity == "dark")


def test_a_run_does_not_go_on_with_images_that_are_others(trained: Path, place: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    source = tree(tmp_path / "logos", classes=15, images=3, groups=5, kind="light")
    prepare("folder", data_root=root, source=str(source))
    assert run("evaluate", str(trained), "--json", ONESHOT_DATA=str(root)), "the same images, elsewhere"
    figure(77, kind="light").save(source / "group0" / "class00" / "more.png")
    prepare("folder", data_root=root, source=str(source))
    said = refused("evaluate", str(trained), ONESHOT_DATA=str(root))
    assert "the data set 'logos' was remade" in said
    said = refused(
        "train", "own", "--local", "--run", str(trained), "--set", "data.dataset=logos", *TINY, ONESHOT_DATA=str(root)
    )
    assert "holds a run with data.dataset = 'logos@" in said


def test_another_job_says_what_to_change_for_few_images_and_trains_then(place: Path, tmp_path: Path) -> None:
    arguments = ["train", "quick", "--local", "--run", str(tmp_path / "run"), "--set", "data.dataset=coins", *TINY]
    said = refused(*arguments, ONESHOT_DATA=str(place / "root"))
    assert "data.drawers = 4: a character of the training set has only 3 drawings" in said
    arguments += ["--set", "data.drawers=2", "--set", "data.alphabets=0", "--set", "train.batch=16"]
    run(*arguments, ONESHOT_DATA=str(place / "root"))
    assert 'split = "own"' in (tmp_path / "run" / "experiment.toml").read_text()


def test_several_sets_have_to_be_told_apart(place: Path, tmp_path: Path) -> None:
    said = refused("train", "own", "--local", "--run", str(tmp_path / "run"), ONESHOT_DATA=str(place / "root"))
    assert "there are coins, logos: name one" in said
    assert not (tmp_path / "run").exists()
