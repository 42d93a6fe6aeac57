"""A judgement is counted in the network's run folder before anything is measured; if it cannot be, it is refused."""

import json
import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import command
import pytest
import tiny
import torch
from objects import ObjectStore
from users import plain_user

import oneshot
from oneshot.answers.ranking import Classes, rank
from oneshot.base.errors import UserError
from oneshot.base.jobs import override
from oneshot.base.settings import Evaluate, Settings
from oneshot.base.storage import Folder
from oneshot.cli import evaluate as verb
from oneshot.data.drawings import Drawings
from oneshot.evaluation import evaluate as judging
from oneshot.evaluation.judgement import RESULT, TOUCHED, trials_of
from oneshot.evaluation.outcomes import OUTCOMES
from oneshot.evaluation.scoring import judge, score
from oneshot.network.embedding import similarity
from oneshot.network.models import Siamese
from oneshot.run import cards
from oneshot.run.opened import EXPERIMENT
from oneshot.screen.console import console
from oneshot.search import final

FEW = Evaluate(trials=20)


def judged(where: Folder, data: Folder, *, how: Evaluate = FEW, split: str = "lake") -> dict[str, Any]:
    return judging.evaluate(where, data, dataset="glyphs-8", split=split, how=how, device="cpu")


def touched(run: Folder) -> list[dict[str, Any]]:
    return run.read_lines(TOUCHED) if run.has(TOUCHED) else []


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupts the judgement when it starts to measure."""

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(judging, "embed", interrupt)


@pytest.fixture
def run(trained_run: Path, tmp_path: Path) -> Folder:
    return copied(trained_run, tmp_path / "run")


def copied(trained: Path, where: Path) -> Folder:
    shutil.copytree(trained, where)
    (where / EXPERIMENT).write_text(Settings().to_toml())
    return Folder.of(where)


def test_a_judgement_that_breaks_off_is_counted(run: Folder, small_glyphs: Folder, unmeasured: None) -> None:
    with pytest.raises(KeyboardInterrupt):
        judged(run, small_glyphs)
    (line,) = touched(run)
    assert line["asked"]["split"] == "lake" and line["sha256"] == (run / "best").read_json("model.json")["sha256"]


def test_a_search_that_goes_on_is_judged_again_where_its_best_is_another_network(
    small_glyphs: Folder, tmp_path: Path
) -> None:
    """A search that --max-time ended can go on. Here only its final job runs, without Ray."""
    given, run = override(tiny.settings(epochs=1), {"evaluate.trials": 20}, source="the test"), Folder.of(tmp_path)
    run.write(EXPERIMENT, given.to_toml().encode())

    def ended(best: str) -> dict[str, Any]:
        final._judge(
            given.model_dump(), run.uri, small_glyphs.uri, (run / "trials" / best).uri,
            best_trial={"id": best, "settings": {}}, device="cpu", threads=1,
        )  # fmt: skip
        return run.read_json(RESULT)

    for seed, name in enumerate(("000", "001")):
        tiny.train(run / "trials" / name, override(given, {"train.seed": seed}, source="the test"))
    first = ended("000")
    assert ended("000") == first and first["best_trial"]["id"] == "000"
    second = ended("001")
    assert second["best_trial"]["id"] == "001" and second["sha256"] == cards.digest(run) != first["sha256"]
    assert (first["test_evaluations"], second["test_evaluations"]) == (1, 2)
    assert [line["sha256"] for line in touched(run)] == [first["sha256"], second["sha256"]]


def test_a_network_is_its_runs_and_no_other_folders(run: Folder, small_glyphs: Folder, tmp_path: Path) -> None:
    checkpoint = Path(run.path, "checkpoints/epoch-0001")
    shutil.copytree(checkpoint, Path(run.path, "trials/000/checkpoints/epoch-0001"))
    inside = ("", "best", "checkpoints/epoch-0001", "trials/000/checkpoints/epoch-0001")
    for number, place in enumerate(inside, start=1):
        assert judged(Folder.of(Path(run.path, place)), small_glyphs)["test_evaluations"] == number
    # Copies do not belong to a run: not one inside this run's folder, and not one in a folder that is called best.
    for place in (Path(run.path, "copies/epoch-0001"), tmp_path / "models/mine", tmp_path / "models/best"):
        shutil.copytree(checkpoint, place)
        assert judged(Folder.of(place), small_glyphs)["test_evaluations"] is None
    assert len(touched(run)) == len(inside) and not list((tmp_path / "models").glob("*.jsonl"))


def test_alphabets_that_are_not_new_to_the_network_are_counted(run: Folder, data_root: Path) -> None:
    card = (run / "best").read_json("model.json")
    data = card["provenance"]["settings"]["data"] | {"dataset": "glyphs-10", "split": "koch"}
    card["provenance"]["settings"]["data"] = data
    (run / "best").write_json("model.json", card)
    judge = ["evaluate", f"{run}/best", "--trials", "20"]
    said = "2 of the 4 test alphabets are not new to this network, which was trained or validated on them (glyphs-10,"
    text = command.run(*judge, "--split", "lake", ONESHOT_DATA=str(data_root))
    assert f"warning: {said} split koch)\n" in text
    assert said[:59] in text.partition("split koch)")[2], "beside the figures too"
    assert json.loads(command.run(*judge, "--json", ONESHOT_DATA=str(data_root)))["overlap"] is None


def judged_within(run: Folder) -> Folder:
    """The run, with settings by which it is judged by 20 trials within the alphabets."""
    asked = {"data.dataset": "glyphs-10", "evaluate.trials": 20, "evaluate.protocols": ["within"]}
    run.write(EXPERIMENT, override(Settings(), asked, source="the test").to_toml().encode())
    return run


def test_a_judgement_by_other_settings_than_the_runs_says_that_it_counts_and_is_not_kept(
    trained_run: Path, data_root: Path, tmp_path: Path
) -> None:
    run = judged_within(copied(trained_run, tmp_path / "run"))
    said = (
        "no result is written: a run keeps only that of its own network by its own settings; this judgement is counted"
    )
    text = command.run("evaluate", run.path, "--trials", "10", ONESHOT_DATA=str(data_root))
    assert said in text and "written to" not in text and not run.has(RESULT) and len(touched(run)) == 1


def test_a_run_that_was_judged_before_hits_were_kept_gets_them_and_is_counted(
    trained_run: Path, data_root: Path, tmp_path: Path
) -> None:
    run = judged_within(copied(trained_run, tmp_path / "run"))

    def again() -> dict[str, Any]:
        verb.evaluate(
            console(quiet=True), where=run.path, how={}, as_json=False, quiet=True, device="cpu", dataset=None,
            split=None, root=str(data_root), source=None,
        )  # fmt: skip
        return run.read_json(OUTCOMES)

    kept = again()
    result = run.read(RESULT)
    run.write_json(OUTCOMES, {key: value for key, value in kept.items() if key != "hits"})
    assert again() == kept and list(kept["hits"]) == ["within"]
    assert run.read(RESULT) == result and len(touched(run)) == 2
    run.write_json(OUTCOMES, kept | {"gallery": []})
    assert again()["gallery"] == [], "what is kept is kept"


def spread(test: Drawings) -> torch.Tensor:
    """Embeddings: the drawings of every second character lie far apart, those of each other character at one point.
    The mean of three of the first kind is nearest to a query of their character, but their mean distance is not."""
    centres = torch.eye(len(test.characters))[test.character]
    apart = torch.randn(len(test), 800, generator=torch.Generator().manual_seed(0)) / 14
    return torch.cat([centres, apart * torch.from_numpy(test.character % 2)[:, None]], dim=1)


def test_a_judgement_by_several_examples_is_that_of_the_classifier(
    run: Folder, small_glyphs: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = Evaluate(k_shot=3, trials=300, protocols=["within"])
    test, (trials,), _ = trials_of(small_glyphs, "lake", how)
    net, z_ND = oneshot.load(run, device="cpu"), spread(test)
    monkeypatch.setattr(judging, "embed", lambda *_, **__: z_ND)
    monkeypatch.setattr(Siamese, "score", lambda _, one, other: -(one - other).square().sum(dim=-1))
    monkeypatch.setattr(Siamese, "score_between", lambda net, one, other: net.score(one[:, None], other))
    names = tuple(map(str, range(trials.n_way)))
    right = 0
    for query, support, target in zip(trials.query, trials.support, trials.target, strict=True):
        classes = Classes(names, z_ND[torch.from_numpy(support)].mean(dim=1), (trials.k_shot,) * len(names))
        right += rank(net.net, None, classes, z_ND[query][None])[0].classes[0] == names[target]
    averaged = judge(trials, score(trials, similarity(net.net, z_ND)))
    assert judged(run, small_glyphs, how=how)["protocols"]["within"]["correct"] == right
    assert averaged.correct < 0.7 * right  # the usual rule, which averages scores, gives clearly less


def test_one_that_cannot_be_made_is_not_counted(run: Folder, small_glyphs: Folder) -> None:
    with pytest.raises(UserError, match="no one-shot trial can be made"):
        judged(run, small_glyphs, how=Evaluate(k_shot=8, protocols=["within"]))
    assert touched(run) == []


def test_one_that_cannot_be_counted_is_not_begun(trained_run: Path, small_glyphs: Folder, unmeasured: None) -> None:
    with TemporaryDirectory() as place:  # other users cannot look into pytest's own temporary folders
        os.chmod(place, 0o755)
        run = copied(trained_run, Path(place, "run"))
        data = Folder.of(shutil.copytree(small_glyphs.path, Path(place, "data")))
        os.chmod(run.path, 0o555)
        sentence = f"{run.file(TOUCHED)}, where judgements are counted, cannot be written: Permission denied; make"
        with plain_user(), pytest.raises(UserError, match=sentence):
            judged(run, data)
        os.chmod(run.path, 0o755)


def test_one_that_a_store_does_not_let_be_counted_is_not_begun(
    trained_run: Path, small_glyphs: Folder, bucket: str, object_store: ObjectStore, unmeasured: None
) -> None:
    run = Folder.of(f"{bucket}/run")
    for name in ("model.json", "model.safetensors"):
        (run / "best").write(name, (trained_run / "best" / name).read_bytes())
    run.write(EXPERIMENT, b"")
    object_store.refuse = lambda method, path, query: 403 if method == "PUT" else None
    with pytest.raises(UserError, match=rf"cannot write {bucket}/run/{TOUCHED}: AWS Error ACCESS_DENIED"):
        judged(run, small_glyphs)
