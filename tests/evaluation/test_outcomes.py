"""What a judgement keeps of single trials: each different error, rankings without bias, and a small file."""

import base64
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import runs
import tiny
from PIL import Image

from oneshot.answers.matching import curve
from oneshot.base.errors import UserError
from oneshot.base.storage import Folder
from oneshot.evaluation.outcomes import CURVE, MAP_SIDE, Seen, outcomes
from oneshot.evaluation.paired import hits_of
from oneshot.evaluation.scoring import judge
from oneshot.evaluation.trials import within
from oneshot.evaluation.verification import Scored
from oneshot.run import formats


@pytest.fixture(scope="module")
def drawn() -> runs.Drawings:
    return runs.drawings()


def kept(test: runs.Drawings, *, boost: float = 2.0) -> tuple[dict, Seen]:
    seen = runs.seen(test, runs.judged(test, boost=boost))
    return outcomes(seen, sha256=runs.SHA), seen


def taken(found: dict) -> list[tuple[int, str]]:
    """For each kept error: the query, and the character that it was taken for."""
    return [(error["query"], found["drawings"][error["ranking"][0]]["character"]) for error in found["errors"]]


def test_every_different_error_of_the_fixed_trials_is_kept_the_worst_first(drawn: runs.Drawings) -> None:
    found, seen = kept(drawn)
    trials, scores = seen.judged[0]
    hits = judge(trials, scores).hits
    assert found["protocol"] == "lake400" and found["correct"] == hits.sum()
    wrong = np.flatnonzero(~hits)
    chosen = drawn.character[trials.support[wrong, scores[wrong].argmax(axis=1), 0]]
    assert len(found["errors"]) == len(set(zip(trials.query[wrong], chosen, strict=True))) > 50
    margins = [error["scores"][0] - error["scores"][1] for error in found["errors"]]
    assert margins == pytest.approx(sorted(margins, reverse=True), abs=0.002) and margins[-1] >= 0  # scores are rounded
    for error in found["errors"]:
        query, chosen, right = (found["drawings"][n]["character"] for n in (error["query"], *error["ranking"]))
        assert query == right != chosen


def test_of_every_protocol_it_is_kept_which_trials_were_hits(drawn: runs.Drawings) -> None:
    found, seen = kept(drawn)
    assert list(found["hits"]) == ["lake400", "within", "between"]
    for trials, scores in seen.judged:
        assert (hits_of(found["hits"][trials.name]) == judge(trials, scores).hits).all()
    assert len({each["digest"] for each in found["hits"].values()}) == 3


def test_a_query_that_is_taken_for_the_same_class_again_and_again_is_one_error() -> None:
    """With six classes of six images, many trials ask the same: one bad error must not fill the list of errors."""
    test = tiny.drawings({"coins": 6}, drawers=6)
    trials = within(test, trials=2_000, n_way=6)
    worth = np.random.default_rng(0).normal(size=(len(test), len(test.characters)))  # score of a query and a class
    scores = worth[trials.query[:, None], test.character[trials.support[:, :, 0]]]
    found = outcomes(runs.seen(test, [(trials, scores)]), sha256=None)
    assert found["trials"] - found["correct"] > 1_000
    assert len(found["errors"]) == len(set(taken(found))) == (worth.argmax(axis=1) != test.character).sum() > 24
    margins = [error["scores"][0] - error["scores"][1] for error in found["errors"]]
    assert margins == pytest.approx(sorted(margins, reverse=True), abs=0.002)


def test_a_ranking_falls_and_says_where_the_right_one_stands(drawn: runs.Drawings) -> None:
    found, _ = kept(drawn)
    for trial in found["gallery"]:
        assert trial["scores"] == sorted(trial["scores"], reverse=True) and len(trial["ranking"]) == 20
        character = [found["drawings"][n]["character"] for n in (trial["query"], trial["ranking"][trial["right"]])]
        assert character[0] == character[1]


def test_a_network_that_answers_a_constant_is_not_shown_to_be_right(drawn: runs.Drawings) -> None:
    scored = [(trials, np.zeros_like(scores)) for trials, scores in runs.judged(drawn)]
    found = outcomes(runs.seen(drawn, scored), sha256=None)
    hits = judge(*scored[0]).hits
    places = np.linspace(0, 399, 12).round().astype(int)
    assert [trial["right"] == 0 for trial in found["gallery"]] == hits[places].tolist()
    assert 300 < len(found["errors"]) == len(set(taken(found))) <= (~hits).sum()


def test_scores_that_are_not_numbers_are_misses_and_have_no_map(drawn: runs.Drawings) -> None:
    scored = [(trials, np.full_like(scores, np.nan)) for trials, scores in runs.judged(drawn)]
    seen = runs.seen(drawn, scored)
    pairs = {kind: Scored(each.logits * np.nan, each.same, each.different) for kind, each in seen.pairs.items()}
    found = outcomes(Seen(seen.drawings, seen.embeddings * np.nan, scored, pairs), sha256=None)
    assert found["curves"]["any"] == [[1, 0], [0, 1]]
    assert found["correct"] == 0 and found["map"] == []
    assert all(trial["right"] > 0 and set(trial["scores"]) == {None} for trial in found["gallery"])
    formats.check(formats.Outcomes, json.loads(json.dumps(found)))


def test_confusions_count_errors_and_the_chances_for_them(drawn: runs.Drawings) -> None:
    test = drawn
    scored = runs.judged(test, boost=9.0)
    trials, scores = scored[1]
    twins = [test.characters.index(f"Greek/character{number}") for number in ("03", "04")]
    asked, support = test.character[trials.query], test.character[trials.support[:, :, 0]]
    for this, other in (twins, twins[::-1]):
        scores[(asked == this)[:, None] & (support == other)] += 30
    found = outcomes(runs.seen(test, scored), sha256=None)["confused"]
    assert found["protocol"] == "within" and found["trials"] == 400
    first = found["pairs"][0]
    assert first["characters"] == ["Greek/character03", "Greek/character04"]
    met = sum(((asked == a) & (support == b).any(axis=1)).sum() for a, b in (twins, twins[::-1]))
    assert sum(first["counts"]) == first["met"] == met > 5
    assert all(sum(pair["counts"]) <= pair["met"] for pair in found["pairs"])


def test_the_curves_of_verification_are_thinned_and_keep_their_ends(drawn: runs.Drawings) -> None:
    found, seen = kept(drawn)
    for kind, points in found["curves"].items():
        whole = np.stack(curve(seen.pairs[kind].logits, seen.pairs[kind].same)).T.round(6).tolist()
        assert points[0] == [1, 0] and points[-1] == [0, 1] and 100 < len(points) <= CURVE < len(whole)
        assert all(point in whole for point in points)
        assert points == sorted(points, key=lambda point: (-point[0], point[1]))
        rare = [point for point in points if 0 < point[0] < 0.01]
        assert len(rare) > 20, "where few different pairs are told the same, too"
    assert set(found["curves"]) == {"any", "within"}


def test_the_map_keeps_drawings_of_one_character_together(drawn: runs.Drawings) -> None:
    found, _ = kept(drawn)
    assert [alphabet["alphabet"] for alphabet in found["map"]] == sorted(runs.NAMES)
    for alphabet in found["map"]:
        points = np.array([one["points"] for one in alphabet["characters"]])
        assert points.min() >= 0 and points.max() <= MAP_SIDE and 0 < alphabet["explained"] < 1
        inside = points.std(axis=1).mean()
        assert points.mean(axis=1).std(axis=0).mean() > 5 * inside


@pytest.mark.parametrize(("bits", "side"), [(1, 28), (8, 28)])
def test_drawings_are_kept_small_and_as_they_are(bits: int, side: int) -> None:
    test = runs.drawings(bits=bits)
    found, seen = kept(test)
    assert len(json.dumps(found)) < 1_000_000
    query = found["gallery"][0]["query"]
    with Image.open(io.BytesIO(base64.b64decode(found["drawings"][query]["png"]))) as image:
        assert image.size == (side, side)
        ink = 255 - np.asarray(image.convert("L")).astype(int)
    drawn = test.pixels(seen.judged[0][0].query[:1])[0].astype(int)
    assert np.abs(ink - drawn).max() <= (0 if bits == 1 else 17)  # 16 greys


@pytest.mark.parametrize("polarity", ["dark", "light", "photo"])
def test_drawings_are_kept_as_the_images_were(polarity: str) -> None:
    test = replace(runs.drawings(bits=8), own=True, polarity=polarity)
    found, seen = kept(test)
    drawn = test.pixels(seen.judged[0][0].query[:1])[0].astype(int)
    with Image.open(io.BytesIO(base64.b64decode(found["drawings"][found["gallery"][0]["query"]]["png"]))) as image:
        bright = np.asarray(image.convert("L")).astype(int)
    assert found["polarity"] == polarity
    assert np.abs(bright - (255 - drawn if polarity == "dark" else drawn)).max() <= 17  # 16 greys


def test_a_file_of_an_older_version_is_still_read(tmp_path: Path, drawn: runs.Drawings) -> None:
    """Older files have neither the polarity of the images nor the hits."""
    found, _ = kept(drawn)
    del found["polarity"], found["hits"]
    Folder.of(tmp_path).write_json("outcomes.json", found)
    assert formats.read(formats.Outcomes, Folder.of(tmp_path), "outcomes.json")["drawings"] == found["drawings"]


def test_a_damaged_file_is_named_with_its_flaw(tmp_path: Path, drawn: runs.Drawings) -> None:
    found, _ = kept(drawn)
    folder, hits = Folder.of(tmp_path), found["hits"]["within"]
    for change, sentence in (
        ({"drawings": found["drawings"][:3]}, "drawings: there are 3, but number"),
        ({"drawings": [{"png": '"><script>', "character": "x", "drawer": 1}]}, "drawings.0.png"),
        ({"errors": [found["gallery"][0]]}, "each ranks two drawings"),
        ({"format": 2}, "format = 2"),
        ({"polarity": "negative"}, "polarity = 'negative'"),
        (
            {"hits": {"within": hits | {"hits": hits["hits"][:-4]}}},
            "hits: 48 bytes, and the bits of 400 trials take 50",
        ),
        ({"hits": {"within": hits | {"hits": "*" + hits["hits"][1:]}}}, "hits: they are not base64"),
        ({"hits": {"within": hits | {"digest": "f"}}}, "hits.within.digest = 'f'"),
        ({"hits": {"lake400": hits | {"trials": 399}}}, "hits: 399 trials of lake400, and 400 were asked"),
    ):
        folder.write_json("outcomes.json", found | change)
        with pytest.raises(UserError, match=sentence):
            formats.read(formats.Outcomes, folder, "outcomes.json")
