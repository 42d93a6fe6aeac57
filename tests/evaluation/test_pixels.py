"""The pixel baseline: a drawing is recognised wherever it stands, and noise or blanks are guessed at chance."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import samples
import tiny
from lineup import drawings_of
from rich.console import Console

from oneshot.base.settings import Evaluate
from oneshot.base.storage import Folder
from oneshot.data import splits, store
from oneshot.data.drawings import Drawings
from oneshot.evaluation import evaluate as judging
from oneshot.evaluation import modelcard, pixels
from oneshot.evaluation.scoring import Trials, judge
from oneshot.evaluation.trials import lake400, within
from oneshot.screen.results import result_panel


def of(images: np.ndarray, *, polarity: str = "dark") -> Drawings:
    """Images (N, S, S) uint8 as drawings: one for each of N characters of one alphabet."""
    count = len(images)
    return Drawings(
        packed=images.reshape(count, -1), height=images.shape[1], width=images.shape[2], bits=8, row=np.arange(count),
        character=np.arange(count), drawer=np.ones(count, dtype=np.int64),
        characters=tuple(f"A/{number:02}" for number in range(count)), alphabet_of=np.zeros(count, dtype=np.int64),
        alphabets=("A",), own=True, polarity=polarity,
    )  # fmt: skip


def blots(count: int = 8) -> np.ndarray:
    """Images of 28 x 28 pixels with some ink in the middle."""
    images = np.zeros((count, 28, 28), dtype=np.uint8)
    images[:, 8:20, 8:20] = 255 * (np.random.default_rng(0).random((count, 12, 12)) < 0.3)
    return images


def test_a_drawing_is_known_again_wherever_it_stands_but_a_photo_is_not_moved() -> None:
    images = blots()
    both = np.concatenate([images, np.roll(images, (5, -4), axis=(1, 2))])
    looks = pixels.looks(of(both))
    assert looks.dtype == np.float32 and np.linalg.norm(looks, axis=1) == pytest.approx(np.ones(16), abs=1e-5)
    alike = looks[:8] @ looks[8:].T
    assert np.diag(alike).min() > 0.99 and (alike - 2 * np.eye(8)).max() < 0.98
    photos = pixels.looks(of(both, polarity="photo"))
    assert np.diag(photos[:8] @ photos[8:].T).max() < 0.7
    brighter = pixels.looks(of(both // 2 + 100, polarity="photo"))
    assert (photos * brighter).sum(axis=1).min() > 0.999, "neither light nor contrast matter"


def test_a_class_is_as_similar_as_its_nearest_image() -> None:
    looks = pixels.looks(of(blots(9)))
    trials = Trials("within", np.array([0]), np.array([[[0, 1, 2], [3, 4, 5], [6, 7, 8]]]), np.array([0]))
    (scores,) = pixels.nearest(trials, looks)
    assert scores[0] == pytest.approx(1, abs=1e-5)
    assert scores[1] == pytest.approx(max(looks[0] @ looks[each] for each in (3, 4, 5)), abs=1e-5)


def test_blank_drawings_are_told_apart_by_lot() -> None:
    blank = replace(tiny.drawings({"Ogham": 10}), packed=np.zeros((40, 98), dtype=np.uint8))
    trials = within(blank, trials=2_000, n_way=10)
    outcome = judge(trials, pixels.nearest(trials, pixels.looks(blank)))
    assert outcome.tied == 2_000 and 0.07 < outcome.accuracy < 0.13


def test_patterns_are_found_and_noise_is_not() -> None:
    for drawn, low, high in ((tiny.drawings({"Ogham": 20}), 0.97, 1.0), (drawings_of({"Greek": 20}), 0.03, 0.08)):
        trials = within(drawn, trials=1_000)
        assert low <= judge(trials, pixels.nearest(trials, pixels.looks(drawn))).accuracy <= high


def test_a_judgement_has_it_beside_each_protocol(trained_run: Path, small_glyphs: Folder) -> None:
    """The baseline is computed on the same trials, without the network."""
    how = Evaluate(trials=300, n_way=5, protocols=["within", "between"])
    result = judging.evaluate(
        Folder.of(trained_run) / "best", small_glyphs, dataset="glyphs-8", split="lake", how=how, device="cpu"
    )
    test = splits.load_part(small_glyphs, splits.split("lake", store.describe(small_glyphs)).test)
    trials = within(test, trials=300, n_way=5, seed=how.seed)
    alone = judge(trials, pixels.nearest(trials, pixels.looks(test))).accuracy
    assert result["protocols"]["within"]["pixels"] == alone
    assert 0.3 < alone < 0.95 and 0.3 < result["protocols"]["between"]["pixels"] < 0.95  # chance: 0.2


@pytest.mark.parametrize("width", [80, 140])
def test_it_is_shown_where_it_is_known(width: int, trained_run: Path) -> None:
    older, known = samples.result(), samples.result()
    known["protocols"]["within"]["pixels"] = 0.5849
    texts = []
    for result in (older, known):
        console = Console(width=width, record=True, file=io.StringIO())
        console.print(result_panel(result))
        card = Folder.of(trained_run / "best").read_json("model.json")
        texts.append((console.export_text(), modelcard.render(card, result)))
    assert all("58.5 %" in text and "by pixels" in text for text in texts[1])
    assert not any("pixels alone" in text or "by pixels" in text for text in texts[0])
    assert "| `within` | 20-way 1-shot | 10,000 | 84.2 % | 83.5–84.9 % | 58.5 % |" in texts[1][1]


def test_on_lake_s_trials_it_gets_half_of_them_right(omniglot: Folder) -> None:
    """Checked roughly: 40 to 70 %. Drawings compared without centring get 21.7 %, Modified Hausdorff 61.25 %."""
    test = splits.load_part(omniglot, splits.split("lake", store.describe(omniglot)).test)
    trials = lake400(store.load_trials(omniglot), test)
    found = judge(trials, pixels.nearest(trials, pixels.looks(test)))
    assert 0.4 < found.accuracy < 0.7
