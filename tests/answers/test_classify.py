"""Which class an image belongs to, from a few examples: a trained network used as people use it."""

import contextlib
import copy
import io
import json
import os
import re
import shutil
import threading
import warnings
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

import oneshot
from oneshot.answers import classify, port, preprocess, queries, verify
from oneshot.answers.calibration import Calibration
from oneshot.answers.ranking import Classes, Ranking, rank
from oneshot.answers.recogniser import OneShot
from oneshot.base.errors import RunFailed, UserError
from oneshot.base.storage import Folder
from oneshot.data import clean, splits, store
from oneshot.data.drawings import Drawings
from oneshot.data.png import encode
from oneshot.evaluation import calibrate
from oneshot.evaluation.scoring import Trials
from oneshot.evaluation.trials import within
from oneshot.network.images import resize
from oneshot.screen.console import percent
from oneshot.screen.words import words_for


@pytest.fixture(scope="module")
def net(trained_run: Path) -> OneShot:
    return oneshot.load(trained_run, device="cpu")


@pytest.fixture(scope="module")
def held(small_glyphs: Folder) -> Drawings:
    """Alphabets that neither the network nor its calibration has seen."""
    return splits.load_part(small_glyphs, splits.split("lake", store.describe(small_glyphs)).test)


@pytest.fixture(scope="module")
def pages(held: Drawings) -> np.ndarray:
    """Scans of 12 characters by 6 drawers, (12, 6, H, W) uint8: dark ink on light paper."""
    rows = [np.flatnonzero(held.character == character)[:6] for character in range(12)]
    return np.stack([255 - held.pixels(row) for row in rows])


@pytest.fixture
def folders(pages: np.ndarray, tmp_path: Path) -> tuple[Path, Path]:
    """Support: 5 classes of one image each, except `c4`, which has three. Queries: 12 characters, once each."""
    support, asked = tmp_path / "support", tmp_path / "asked"
    (support / "c4").mkdir(parents=True)
    asked.mkdir()
    for name in range(4):
        (support / f"c{name}.png").write_bytes(encode(255 - pages[name, 0]))
    for shot in range(3):
        (support / "c4" / f"{shot}.png").write_bytes(encode(255 - pages[4, shot]))
    for name in range(12):
        (asked / f"q{name:02}.png").write_bytes(encode(255 - pages[name, 5]))
    return support, asked


def one_shot(pages: np.ndarray, classes: int = 5) -> dict[str, Any]:
    return {f"c{number}": pages[number, 0] for number in range(classes)}


def ask(where: Path, support: Path, *images: Path, **options: Any) -> None:
    given = {"top": 5, "false_accept": None, "as_json": True, "device": "cpu"} | options
    classify.run(Folder.of(where), [str(image) for image in images], support=str(support), **given)


@pytest.fixture
def plain(trained_run: Path, tmp_path: Path) -> Path:
    """The network as an older version wrote it, without a calibration."""
    best = Path(shutil.copytree(trained_run / "best", tmp_path / "older"))
    card = json.loads((best / "model.json").read_text())
    del card["calibration"]
    (best / "model.json").write_text(json.dumps(card))
    return best


# What a network answers


def test_the_probability_of_verify_is_monotone_in_similarity(net: OneShot, pages: np.ndarray) -> None:
    left, right = list(pages[:, 0]) * 6, [page for shot in range(6) for page in np.roll(pages, shot, axis=0)[:, 1]]
    similarity, verified = net.similarity(left, right), net.verify(left, right)
    order = similarity.argsort()
    assert (verified[order].diff() >= 0).all()
    assert ((verified > 0) & (verified < 1)).all()
    assert not torch.allclose(verified, similarity.double(), atol=0.01)  # otherwise nothing was calibrated
    assert torch.equal(verified, net.verify(right, left))


def test_most_queries_find_their_class(net: OneShot, pages: np.ndarray) -> None:
    asked = [(number, pages[number, by]) for number in range(5) for by in range(1, 6)]
    found = net.classify([page for _, page in asked], one_shot(pages), false_accept=1)
    right = sum(ranking.best == f"c{number}" for ranking, (number, _) in zip(found, asked, strict=True))
    assert right >= 12  # of 25; chance: 5


def test_a_support_class_that_holds_the_query_wins(net: OneShot, pages: np.ndarray) -> None:
    support = one_shot(pages, 12)
    for number, ranking in enumerate(net.classify(list(pages[:, 0]), support)):
        assert ranking.classes[0] == f"c{number}"


def test_a_ranking_holds_each_class_once_by_probability(net: OneShot, pages: np.ndarray) -> None:
    (ranking,) = net.classify(pages[3, 1], one_shot(pages))
    assert sorted(ranking.classes) == [f"c{number}" for number in range(5)]
    assert list(ranking.probabilities) == sorted(ranking.probabilities, reverse=True)
    assert sum(ranking.probabilities) == pytest.approx(1)
    assert list(ranking.scores) == sorted(ranking.scores, reverse=True)


def test_k_copies_of_an_image_are_one_image(net: OneShot, pages: np.ndarray) -> None:
    one = net.classify(list(pages[:5, 5]), one_shot(pages))
    many = net.classify(list(pages[:5, 5]), {name: [page] * 4 for name, page in one_shot(pages).items()})
    assert one == many


def test_the_order_of_the_support_changes_nothing(net: OneShot, pages: np.ndarray) -> None:
    support = {f"c{number}": list(pages[number, :3]) for number in range(5)}
    turned = {name: images[::-1] for name, images in reversed(support.items())}
    for one, other in zip(*(net.classify(list(pages[:5, 5]), each) for each in (support, turned)), strict=True):
        assert one.classes == other.classes and one.known == other.known
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-6)


def rankings(net: OneShot, drawings: Drawings, trials: Trials, *, calibration: Calibration, **options: Any) -> Any:
    """The answer to each trial. Its classes are named 0, 1, ...; each drawing is embedded once."""
    z_ND = net.embed_pixels(torch.cat([net.fit(page) for page in 255 - drawings.pixels()]))
    names = tuple(map(str, range(trials.n_way)))
    for query, support in zip(trials.query, trials.support, strict=True):
        classes = Classes(names, z_ND[support].mean(dim=1), (trials.k_shot,) * trials.n_way)
        yield rank(net.net, calibration, classes, z_ND[[query]], **options)[0]


def test_more_examples_are_averaged_and_help(net: OneShot, held: Drawings) -> None:
    trials = within(held, trials=400, n_way=10, k_shot=5, seed=4)
    hits = []
    for k_shot in (1, 5):
        fewer = replace(trials, support=trials.support[..., :k_shot])
        found = rankings(net, held, fewer, calibration=net.calibration)
        hits.append(sum(one.classes[0] == str(target) for one, target in zip(found, trials.target, strict=True)))
    assert hits[1] > 1.1 * hits[0]


def test_with_one_class_the_probability_is_that_of_verify(net: OneShot, pages: np.ndarray) -> None:
    (ranking,) = net.classify(pages[0, 1], {"only": pages[0, 0]})
    assert ranking.probabilities == pytest.approx(net.verify(pages[0, 1], pages[0, 0]).tolist())
    assert ranking.known is not None


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_images_of_no_class_are_refused_at_about_the_stated_rate(net: OneShot, held: Drawings, rate: float) -> None:
    """Calibrated on half of the characters, measured on the others."""
    halves = [held.where(held.character % 2 == half) for half in (0, 1)]
    record = calibrate.measure(net.net, halves[0])
    assert record is not None
    trials = within(halves[1], trials=1_000, n_way=record["measured_on"]["n_way"], k_shot=1, seed=9)
    true = np.arange(trials.n_way) == trials.target[:, None]
    absent = replace(trials, support=trials.support[~true].reshape(len(trials), -1, 1))
    found = rankings(net, halves[1], absent, calibration=Calibration(record), false_accept=rate)
    assert 0.4 * rate < np.mean([ranking.known for ranking in found]) < 1.8 * rate


def test_the_calibration_makes_probabilities_truer(net: OneShot, small_glyphs: Folder) -> None:
    """The network is made overconfident first."""
    part = splits.load_part(small_glyphs, splits.split("lake", store.describe(small_glyphs)).validation)
    sure = copy.deepcopy(net.net)
    with torch.no_grad():
        for parameter in sure.head.parameters():
            parameter.mul_(5)
    record = calibrate.measure(sure, part)
    assert record is not None and record["measured_on"]["part"] == "validation"
    for worth in (record["shots"][0]["pair"], record["shots"][0]["classes"]):
        assert worth["ece_after"] < 0.5 * worth["ece_before"]
    assert record["pooling"]["embeddings"] >= record["pooling"]["scores"] - 0.02


def test_the_calibration_is_the_same_each_time(net: OneShot, small_glyphs: Folder) -> None:
    part = splits.load_part(small_glyphs, splits.split("lake", store.describe(small_glyphs)).validation)
    assert calibrate.measure(net.net, part) == net.card["calibration"]


def test_a_network_of_an_older_version_ranks_and_says_that_nothing_is_calibrated(
    net: OneShot, plain: Path, folders: tuple[Path, Path], pages: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    older = oneshot.load(plain, device="cpu")
    assert older.calibration is None
    (ranking,) = older.classify(pages[0, 5], one_shot(pages))
    assert ranking.known is None and ranking.best == ranking.classes[0]
    assert ranking.classes == net.classify(pages[0, 5], one_shot(pages))[0].classes
    assert torch.equal(older.similarity(pages[0, 5], pages[0, 0]), net.similarity(pages[0, 5], pages[0, 0]))
    assert torch.allclose(older.verify(pages[0, 5], pages[0, 0]).float(), older.similarity(pages[0, 5], pages[0, 0]))
    ask(plain, folders[0], folders[1] / "q00.png")
    said = capsys.readouterr()
    assert "are not calibrated" in said.err and json.loads(said.out)["known"] is None
    with pytest.raises(UserError, match="leave out --false-accept"):
        ask(plain, folders[0], folders[1] / "q00.png", false_accept=0.2)


def test_stated_rates_that_few_classes_cannot_keep_are_doubted(
    trained_run: Path, folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best = Path(shutil.copytree(trained_run / "best", tmp_path / "few"))
    card = json.loads((best / "model.json").read_text())
    card["calibration"]["measured_on"]["characters"] = 2
    (best / "model.json").write_text(json.dumps(card))
    said = []
    for where, rate in ((best, None), (best, 1), (trained_run, None)):
        ask(where, folders[0], folders[1] / "q00.png", false_accept=rate)
        said.append("measured on only 2 validation classes" in capsys.readouterr().err)
    assert said == [True, False, False]


@pytest.mark.parametrize(("split", "called"), [("lake-all", "alphabets"), ("own-all", "classes")])
def test_probabilities_of_what_was_taught_are_doubted_whatever_is_asked(
    split: str, called: str, trained_run: Path, folders: tuple[Path, Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    best = Path(shutil.copytree(trained_run / "best", tmp_path / "taught"))
    card = json.loads((best / "model.json").read_text())
    card["calibration"]["measured_on"]["taught"] = True
    card["provenance"]["settings"]["data"]["split"] = split
    (best / "model.json").write_text(json.dumps(card))
    image, said = folders[1] / "q00.png", f"trained on the validation {called} on which"
    for rate in (None, 1):
        ask(best, folders[0], image, false_accept=rate)
        assert said in capsys.readouterr().err
    for where, doubted in ((best, True), (trained_run, False)):
        for rate in (None, 0.1):
            verify.run(Folder.of(where), image, image, false_match=rate, as_json=True, device="cpu")
            assert (said in capsys.readouterr().err) == doubted
    assert said in port.probabilities(card["calibration"], words_for(card))


# Folders of images


def test_a_folder_of_queries_is_answered_in_order(
    trained_run: Path, folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    support, asked = folders
    ask(trained_run, support, asked, top=2)
    whole = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [Path(each["image"]).name for each in whole] == [f"q{name:02}.png" for name in range(12)]
    assert all(len(each["ranked"]) == 2 for each in whole)
    monkeypatch.setattr(queries, "BATCH", 5)
    ask(trained_run, support, asked, top=2)
    parts = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for one, other in zip(whole, parts, strict=True):
        assert one["class"] == other["class"]
        assert one["ranked"][0]["probability"] == pytest.approx(other["ranked"][0]["probability"], abs=1e-5)


@pytest.mark.parametrize("many", [20, 5])
def test_people_are_told_what_programs_are(
    many: int, trained_run: Path, folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, plain_terminal: None,
) -> None:  # fmt: skip
    """Each image and its class, or the nearest one, then the summary. With more than `many` images, a line for each."""
    monkeypatch.setattr(classify, "MANY", many)
    monkeypatch.setenv("COLUMNS", "300")
    ask(trained_run, *folders)
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    ask(trained_run, *folders, as_json=False)
    *lines, summary = [line for line in capsys.readouterr().out.splitlines() if line]
    heads = [(number, line) for number, line in enumerate(lines) if ".png  " in line]
    for (_, line), answer in zip(heads, answers, strict=True):
        best = answer["ranked"][0]
        told = f"{best['class']}  {percent(best['probability'])}" if answer["known"] else "none of these"
        told += "" if answer["known"] else f"  nearest: {best['class']}"
        assert line == f"{answer['image']}  {told}"
    places = [number for number, _ in heads]
    for (start, end), answer in zip(pairwise([*places, len(lines)]), answers, strict=True):
        under = [line.split()[:2] for line in lines[start + 1 : end]]
        ranked = [[str(rank), each["class"]] for rank, each in enumerate(answer["ranked"], 1)]
        assert [words for words in under if words[0].isdigit()] == (ranked if many > 12 else [])
    named = sum(answer["known"] for answer in answers)
    others = f", {12 - named} none of these" if named < 12 else ""
    assert summary == f"12 images, 5 classes: {named} named{others}"


def test_a_class_is_an_image_or_a_folder_of_images(net: OneShot, folders: tuple[Path, Path]) -> None:
    found = queries.read_support(net, folders[0])
    assert found.names == ("c0", "c1", "c2", "c3", "c4")
    assert found.counts == (1, 1, 1, 1, 3) and found.k_shot == 1


def test_what_a_mac_adds_to_archives_is_no_class(net: OneShot, folders: tuple[Path, Path]) -> None:
    (folders[0] / "__MACOSX" / "c4").mkdir(parents=True)
    (folders[0] / "c4" / "__MACOSX").mkdir()
    assert queries.read_support(net, folders[0]).names == ("c0", "c1", "c2", "c3", "c4")


def test_classes_of_unlike_numbers_of_images_are_said(
    trained_run: Path, folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    ask(trained_run, *folders)
    assert "named too often: give each the same number (here 1 to 3)" in capsys.readouterr().err
    for shot in (1, 2):
        shutil.copy(folders[0] / "c4" / "0.png", folders[0] / "c4" / f"{shot}.png")  # copies count once
    ask(trained_run, *folders)
    assert "too often" not in capsys.readouterr().err


def test_only_one_batch_is_held_at_a_time(
    net: OneShot, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    support, asked = queries.read_support(net, folders[0]), sorted(folders[1].iterdir())
    monkeypatch.setattr(queries, "BATCH", 4)
    opened: list[Path] = []
    monkeypatch.setattr(queries, "_read", lambda net, path, votes: opened.append(path) or net.read(path))
    batches = queries.answer(net, support, asked * 100, false_accept=0.1)
    for number, batch in zip(range(1, 4), batches, strict=False):
        assert len(batch) == 4 and len(opened) == 4 * number
    assert len(opened) == 12


@pytest.mark.long
def test_ten_thousand_queries_need_no_more_memory_than_a_batch(net: OneShot, folders: tuple[Path, Path]) -> None:
    import psutil

    support, asked = queries.read_support(net, folders[0]), sorted(folders[1].iterdir())
    many = (asked * 834)[:10_000]
    memory, answered = [], 0
    for batch in queries.answer(net, support, many, false_accept=0.1):
        answered += len(batch)
        memory.append(psutil.Process().memory_info().rss)
    assert answered == 10_000
    assert max(memory) - memory[2] < 50e6


def test_an_image_in_a_file_is_upright_and_on_white(tmp_path: Path, pages: np.ndarray) -> None:
    page = Image.fromarray(pages[0, 0])
    page.save(tmp_path / "plain.png")
    expected = preprocess.read(tmp_path / "plain.png", 28)
    clear = Image.new("RGBA", page.size, (0, 0, 0, 0))
    clear.paste((0, 0, 0, 255), mask=Image.fromarray(255 - pages[0, 0]))  # black ink on transparency, as in logos
    clear.save(tmp_path / "clear.png")
    page.convert("RGB").save(tmp_path / "colour.webp", lossless=True)
    page.convert("P").save(tmp_path / "palette.gif")
    turned = page.transpose(Image.Transpose.ROTATE_90)
    exif = turned.getexif()
    exif[0x0112] = 6  # to be turned clockwise
    turned.save(tmp_path / "turned.tif", exif=exif)
    for name in ("clear.png", "colour.webp", "palette.gif", "turned.tif"):
        assert (preprocess.read(tmp_path / name, 28).int() - expected.int()).abs().max() <= 1, name
        with Image.open(tmp_path / name) as image:
            assert (preprocess.fit(image, 28).int() - expected.int()).abs().max() <= 1, f"{name}, from Python"


def test_black_on_white_is_inverted_and_nothing_else(pages: np.ndarray) -> None:
    for page in (*pages[:, 0], np.kron(pages[0, 0], np.ones((7, 3), np.uint8)), pages[0, 0][:, 5:40]):
        assert set(np.unique(page)) == {0, 255}
        assert torch.equal(preprocess.fit(page, 28), torch.from_numpy(resize(255 - page[None], 28)))


def test_paper_and_ink_of_any_grey_are_stretched(pages: np.ndarray) -> None:
    """A scan has grey paper, which would otherwise look like faint ink."""
    expected = preprocess.fit(pages[0, 0], 28)
    grain = np.random.default_rng(0).integers(-3, 4, pages[0, 0].shape)
    for paper, ink in ((200, 20), (255, 120), (90, 10)):
        scan = (np.where(pages[0, 0] > 127, paper, ink) + grain).clip(0, 255).astype(np.uint8)
        found = preprocess.fit(scan, 28).int()
        assert (found - expected.int()).abs().max() <= 16, (paper, ink)
        assert found[expected == 0].max() == 0, "paper is 0, its grain, too"
    blank = np.full((60, 40), 200, np.uint8) + grain[:60, :40].astype(np.uint8) // 100
    assert preprocess.fit(blank, 28).max() == 0


def test_light_ink_on_dark_paper_is_warned_of(
    trained_run: Path, folders: tuple[Path, Path], pages: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(255 - pages[0, 0]).save(tmp_path / "night.png")
    image, said = folders[1] / "q00.png", "light ink on dark paper"
    for left, right, warned in ((image, image, False), (tmp_path / "night.png",) * 2 + (True,)):
        verify.run(Folder.of(trained_run), left, right, as_json=True, device="cpu")
        assert (said in capsys.readouterr().err) == warned
    ask(trained_run, folders[0], tmp_path / "night.png")  # whether the classes warn or not
    assert f"warning: the image looks like {said}" in " ".join(capsys.readouterr().err.split())
    (tmp_path / "dark").mkdir()
    shutil.copy(tmp_path / "night.png", tmp_path / "dark" / "a.png")
    ask(trained_run, tmp_path / "dark", image)
    assert "--support: the image looks like" in (told := capsys.readouterr().err) and told.count(said) == 1
    net = oneshot.load(trained_run)
    with pytest.warns(UserWarning, match=f"the image looks like {said}"):
        net.embed(255 - pages[0, 0])
    with warnings.catch_warnings(action="error"):
        net.embed(list(pages[:, 0]))


def test_an_image_of_any_colours_is_made_grey(tmp_path: Path, pages: np.ndarray) -> None:
    expected = preprocess.fit(pages[0, 0], 28)
    neutral = Image.new("L", pages[0, 0].shape, 128)
    lab = Image.merge("LAB", (Image.fromarray(pages[0, 0]), neutral, neutral))
    for mode, image in {"LAB": lab, "CMYK": Image.fromarray(pages[0, 0]).convert("CMYK")}.items():
        image.save(tmp_path / f"{mode}.tif")
        assert (preprocess.read(tmp_path / f"{mode}.tif", 28).int() - expected.int()).abs().max() <= 4, mode


def test_folders_are_looked_through_as_those_of_a_data_set_are(tmp_path: Path, pages: np.ndarray) -> None:
    for name in ("a.jfif", "b.dib", "sub/c.png", ".ipynb_checkpoints/a.png", "__MACOSX/a.png", "sub/.d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        kind = {".jfif": "JPEG", ".dib": "BMP"}.get(Path(name).suffix, "PNG")
        Image.fromarray(pages[0, 0]).save(tmp_path / name, kind)
    assert [str(path.relative_to(tmp_path)) for path in queries.find([str(tmp_path)])] == [
        "a.jfif",
        "b.dib",
        "sub/c.png",
    ]
    assert len(queries.find([str(tmp_path / ".ipynb_checkpoints" / "a.png")])) == 1, "named, it is meant"


@pytest.mark.parametrize(("cleaning", "brightness"), [(None, 18), ({"side": 28, "polarity": "photo"}, 230)])
def test_the_picture_of_a_photo_is_no_negative(
    net: OneShot, plain_terminal: None, cleaning: dict[str, Any] | None, brightness: int
) -> None:
    preprocessing = net.card["preprocessing"] | {"cleaning": cleaning}
    asked = OneShot(net.net, net.card | {"preprocessing": preprocessing}, net.device)
    pixels = torch.full((28, 28), 230, dtype=torch.uint8)  # nearly full ink: black if the ink is dark
    answer = queries.Answer(Path("x.png"), Ranking(("alpha",), (1.0,), (0.0,), known=True), pixels)
    classes = Classes(("alpha",), torch.zeros(1, 1), (1,), pixels[None])
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system="truecolor")
    console.print(classify._shown(console, asked, answer, classes, top=1, many=False))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert set(re.findall(r"38;2;(\d+);", text)) == {str(brightness)}


def test_verify_says_same_or_different(
    trained_run: Path, net: OneShot, folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    support, asked = folders
    for other in (support / "c0.png", asked / "q07.png"):
        verify.run(Folder.of(trained_run), support / "c0.png", other, as_json=True, device="cpu")
        found = json.loads(capsys.readouterr().out)
        assert found["calibrated"] and found["same"] == (found["probability"] > 0.5)
        verify.run(Folder.of(trained_run), support / "c0.png", other, as_json=False, device="cpu")
        assert capsys.readouterr().out.startswith("same" if found["same"] else "different")


def test_at_a_false_match_rate_only_what_is_above_its_threshold_is_the_same(
    trained_run: Path, net: OneShot, folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    support, asked = folders
    images = [support / "c0.png", *sorted(asked.iterdir())[:6]]
    told: dict[float | None, list[bool]] = {}
    for rate in (None, 0.1, 0.01, 0.001):
        for other in images:
            verify.run(Folder.of(trained_run), images[0], other, false_match=rate, as_json=True, device="cpu")
            found = json.loads(capsys.readouterr().out)
            threshold = 0.5 if rate is None else net.threshold(rate)
            assert (found["threshold"], found["false_match"]) == (threshold, rate)
            assert found["same"] == (found["probability"] > threshold)
            told.setdefault(rate, []).append(found["same"])
    assert sum(told[0.001]) <= sum(told[0.01]) <= sum(told[0.1]) and told[0.1][0], "an image is the same as itself"
    thresholds = [net.threshold(rate) for rate in (0.1, 0.01, 0.001)]
    assert thresholds == sorted(set(thresholds)) and 0 < thresholds[0] < thresholds[2] < 1
    verify.run(Folder.of(trained_run), images[0], images[1], false_match=0.01, as_json=False, device="cpu")
    assert f"at a false match rate of 1 % it takes more than {100 * thresholds[1]:.3f} %" in capsys.readouterr().out


def test_different_images_are_the_same_at_about_the_stated_rate(net: OneShot, held: Drawings) -> None:
    """Calibrated on half of the characters, measured on the others."""
    halves = [held.where(held.character % 2 == half) for half in (0, 1)]
    record = calibrate.measure(net.net, halves[0])
    assert record is not None and record["match"]["pairs"] > 3_000
    trials = within(halves[1], trials=1_000, n_way=record["measured_on"]["n_way"], k_shot=1, seed=9)
    z_ND = net.embed_pixels(torch.cat([net.fit(page) for page in 255 - halves[1].pixels()]))
    wrong = np.arange(trials.n_way) != trials.target[:, None]
    asked = OneShot(net.net, net.card | {"calibration": record}, net.device)
    query = np.repeat(trials.query, trials.n_way - 1)
    passed = asked.same(z_ND[query], z_ND[trials.support[wrong][:, 0]]) > asked.threshold(0.1)
    assert 0.04 < passed.double().mean() < 0.18


def test_a_network_without_thresholds_refuses_a_false_match_rate(
    trained_run: Path, plain: Path, folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    image = folders[1] / "q00.png"
    for where, rate, sentence in (
        (plain, 0.01, "has no thresholds for false match rates"),
        (trained_run / "checkpoints" / "epoch-0001", 0.01, "has no thresholds for false match rates"),
        (trained_run, 0.02, "a false match rate of 0.02 was not measured; use one of 0.1, 0.01, 0.001"),
    ):
        with pytest.raises(UserError, match=sentence):
            verify.run(Folder.of(where), image, image, false_match=rate, as_json=True, device="cpu")
        assert capsys.readouterr().out == ""


def test_a_false_match_rate_that_few_classes_cannot_keep_is_doubted(
    trained_run: Path, folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best, image = Path(shutil.copytree(trained_run / "best", tmp_path / "few")), folders[1] / "q00.png"
    card = json.loads((best / "model.json").read_text())
    card["calibration"]["measured_on"]["characters"] = 2
    (best / "model.json").write_text(json.dumps(card))
    for rate, doubted in ((None, False), (0.1, True)):
        verify.run(Folder.of(best), image, image, false_match=rate, as_json=True, device="cpu")
        assert ("measured on only 2 validation classes" in capsys.readouterr().err) == doubted


# What is refused


def test_a_support_that_is_none_is_a_sentence(trained_run: Path, folders: tuple[Path, Path], tmp_path: Path) -> None:
    support, asked = folders
    (tmp_path / "empty").mkdir()
    (tmp_path / "hollow" / "c1").mkdir(parents=True)
    shutil.copytree(support, tmp_path / "twice")
    shutil.copytree(support / "c4", tmp_path / "twice" / "c1")
    shutil.copytree(support / "c4", tmp_path / "groups" / "group0" / "c4")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "c1.png").write_bytes(b"\x89PNG no more")
    for name, sentence in {
        "none": "no such file or directory; name a folder of classes",
        "empty": "holds no class: neither an image nor a folder of images",
        "hollow": "hollow/c1 is a class without an image",
        "twice": "holds two classes named 'c1'",
        "groups": "groups/group0 holds folders of images: name it, or another group, as --support",
        "broken": r"broken/c1\.png is not a readable image.*oneshot\.embed --support` makes a file that leaves such",
    }.items():
        with pytest.raises(UserError, match=f"(?i){sentence}"):
            ask(trained_run, tmp_path / name, asked)


def test_images_that_are_none_are_a_sentence(trained_run: Path, folders: tuple[Path, Path], tmp_path: Path) -> None:
    support, asked = folders
    (tmp_path / "empty").mkdir()
    for images, sentence in (
        ((), "no image is named"),
        ((tmp_path / "empty",), r"empty holds no image \(\.bmp"),
        ((asked / "q00.pmg",), r"q00\.pmg: no such file; did you mean 'q00\.png'"),
    ):
        with pytest.raises(UserError, match=sentence):
            ask(trained_run, support, *images)


def test_a_mistyped_name_is_not_answered_with_all_that_lies_there(
    trained_run: Path, folders: tuple[Path, Path]
) -> None:
    support, asked = folders
    for name in ("notes.txt", ".hidden.png"):
        (asked / name).write_bytes(b"")
    (asked / "scans").mkdir()
    for name, hint in {
        "scan": "did you mean 'scans'", "xyz": "name an image, or a folder of images", "q11.pnq": "'q11.png'",
        "notes.tx": "name an image, or a folder of images", ".hidden.pn": "name an image, or a folder of images",
    }.items():  # fmt: skip
        with pytest.raises(UserError) as refused:
            ask(trained_run, support, asked / name)
        assert hint in str(refused.value) and len(str(refused.value)) < len(str(asked)) + 80


def test_an_unreadable_query_stops_no_other(
    trained_run: Path, folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    support, asked = folders
    (asked / "q05.png").write_bytes(b"")
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(asked / "q06.png")
    with pytest.raises(RunFailed, match="2 of 12 images could not be read"):
        ask(trained_run, support, asked)
    said = capsys.readouterr()
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert [Path(line["image"]).name for line in lines if "error" in line] == ["q05.png", "q06.png"]
    assert "q05.png is not a readable image" in said.err and "more than 8 bits" in said.err


def test_an_image_that_would_fill_the_memory_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("1", (300, 300)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(clean, "MOST_PIXELS", 300 * 299)
    with pytest.raises(UserError, match=r"bomb\.png cannot be used: it has 300 x 300 pixels"):
        preprocess.read(tmp_path / "bomb.png", 28)


def test_a_pipe_is_no_image_and_is_not_opened(tmp_path: Path, pages: np.ndarray) -> None:
    """If nobody wrote to it, opening it would wait for ever. Here a thread writes to it, so that the test ends."""
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)

    def write() -> None:
        with contextlib.suppress(OSError):  # nobody reads from it
            pipe.write_bytes(encode(255 - pages[0, 0]))

    threading.Thread(target=write, daemon=True).start()
    try:
        with pytest.raises(UserError, match=r"pipe\.png cannot be used: it is not a file; name an image"):
            preprocess.read(pipe, 28)
    finally:
        os.close(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK))


def test_what_the_shell_has_opened_for_the_command_is_read(tmp_path: Path, pages: np.ndarray) -> None:
    (tmp_path / "page.png").write_bytes(encode(255 - pages[0, 0]))
    reading, writing = os.pipe()
    try:
        os.write(writing, (tmp_path / "page.png").read_bytes())
        os.close(writing)
        piped = preprocess.read(Path(f"/dev/fd/{reading}"), 28)
    finally:
        os.close(reading)
    assert torch.equal(piped, preprocess.read(tmp_path / "page.png", 28))


def test_a_rate_that_was_not_measured_is_refused(net: OneShot, pages: np.ndarray) -> None:
    with pytest.raises(
        UserError, match=r"a false-accept rate of 0\.3 was not measured; use 0\.01, 0\.05, 0\.1, 0\.2, 0\.5"
    ):
        net.classify(pages[0, 0], one_shot(pages), false_accept=0.3)


@pytest.mark.parametrize("support", [[np.zeros((9, 9), np.uint8)], None, 3, b"classes"])
def test_a_support_that_names_no_classes_is_a_sentence(net: OneShot, pages: np.ndarray, support: Any) -> None:
    for ask_it in (net.classes, lambda given: net.classify(pages[0, 0], given)):
        with pytest.raises(UserError, match=r"an object of type .* cannot be the support; give a mapping"):
            ask_it(support)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"top": "5"}, r"top = '5': it must be a whole number, 1 or more"),
        ({"top": 0}, r"top = 0: it must be"),
        ({"top": 2.5}, r"top = 2\.5: it must be"),
        ({"false_accept": "0.1"}, r"a false-accept rate of '0\.1' was not measured"),
    ],
)
def test_an_option_of_another_kind_is_a_sentence(
    net: OneShot, pages: np.ndarray, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        net.classify(pages[0, 0], one_shot(pages), **options)
    assert len(net.classify(pages[0, 0], one_shot(pages), top=np.int64(2))[0].classes) == 2


def test_classes_are_counted_and_say_in_a_line_what_they_are(net: OneShot, pages: np.ndarray) -> None:
    classes = net.classes(one_shot(pages, 12))
    assert len(classes) == 12 and net.classes(classes) is classes
    assert repr(classes) == "Classes(12 of 1 image each: c0, c1, c2, c3, c4, ...)"
    more = net.classes({"a": pages[0, 0], "b": list(pages[1, :3])})
    assert repr(more) == "Classes(2 of 1 to 3 images: a, b)"


def test_no_class_and_no_image_are_refused(net: OneShot, pages: np.ndarray) -> None:
    with pytest.raises(UserError, match="the support has no classes"):
        net.classify(pages[0, 0], {})
    with pytest.raises(UserError, match="no image was given"):
        net.classify(pages[0, 0], {"empty": []})
    with pytest.raises(UserError, match="no such folder; name a run"):
        ask(Path("no/such/run"), Path("x"), Path("y"))
