"""A training may start from the weights of another network; the run keeps a copy, whatever happens to the original."""

import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from objects import ObjectStore
from outcome import history, weights
from tiny import Killed, Killer

from oneshot.answers import artifact
from oneshot.base.errors import UserError
from oneshot.base.jobs import override
from oneshot.base.settings import Settings
from oneshot.base.storage import Folder
from oneshot.cli import evaluate as evaluate_verb
from oneshot.cli import train as train_verb
from oneshot.cli import tune as tune_verb
from oneshot.cli.repeat import run as repeat
from oneshot.network.worker import Worker
from oneshot.records.record import differing
from oneshot.records.repeat import same_settings
from oneshot.run import cards, checkpoint, opened, tensors
from oneshot.run.watch import Watch
from oneshot.screen.console import console
from oneshot.training import debug, start
from oneshot.training.batches import Batch
from oneshot.training.loop import Training
from oneshot.training.train import finish

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose network was trained for two epochs, with an average of its weights. Do not write in it."""
    given, run = tiny.settings(epochs=2, ema=0.8, dataset="glyphs-10"), tmp_path_factory.mktemp("first") / "run"
    tiny.train(run, given)
    finish(given, Folder.of(run))
    return run


@pytest.fixture
def copy(first: Path, tmp_path: Path) -> Path:
    """A copy of `first`, to be changed or lost."""
    return Path(shutil.copytree(first, tmp_path / "first"))


def another(folder: Path) -> None:
    """Replace the network in a network's folder by another undamaged one."""
    card = json.loads((folder / "model.json").read_text())
    state = {name: value + 1 for name, value in artifact.read(Folder.of(folder))[0].state_dict().items()}
    data = tensors.pack(state)
    (folder / "model.safetensors").write_bytes(data)
    (folder / "model.json").write_text(json.dumps(card | {"sha256": hashlib.sha256(data).hexdigest()}))


def begun(run: Path, given: Settings) -> Settings:
    """Open a run with these settings, so that it keeps a copy of its start; returns the settings that it resolved."""
    folder = Folder.of(run)
    settled, found = start.resolve(given, folder)
    with opened.open_run(settled, folder, kind="training", fixed=("data", "model")):
        start.keep(found, folder)
    return settled


def training(run: Path, given: Settings, **more: Any) -> Training:
    return Training(Worker(CPU, precision="fp32"), given, tiny.parts(), Folder.of(run), Watch(), **more)


def digest(network: Path) -> str:
    return json.loads((network / "model.json").read_text())["sha256"]


# The weights


@pytest.mark.parametrize(
    "change", [{}, {"ema": 0.9}, {"init": "koch", "head": "plain"}, {"views": 4, "rotations": True}]
)
def test_it_begins_with_the_weights_of_that_network_its_head_and_average_too(
    first: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    found = training(tmp_path, begun(tmp_path, tiny.settings(start=str(first), seed=7, **change)))
    known = artifact.read(Folder.of(first))[0].state_dict()
    for net in (found.net, found.judged):
        for name, value in net.state_dict().items():
            assert torch.equal(value, known[name]), name
    assert found.net.encoder[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_a_trial_finds_it_in_the_folder_of_its_study(first: Path, tmp_path: Path) -> None:
    given = begun(tmp_path, tiny.settings(start=str(first)))
    found = training(tmp_path / "trials" / "007", given)
    assert torch.equal(found.net.head.weight, training(tmp_path, given).net.head.weight)
    # A separate run, in a folder with a name like that of a trial's.
    (tmp_path / "trials" / "mine").mkdir(parents=True)
    (tmp_path / "start").rename(tmp_path / "trials" / "mine" / "start")
    assert training(tmp_path / "trials" / "mine", given).origins == found.origins


def test_how_the_images_are_cleaned_is_of_the_new_data_and_not_of_that_network(first: Path, tmp_path: Path) -> None:
    given = begun(tmp_path, tiny.settings(start=str(first), epochs=1))
    data = tiny.parts()
    tiny.train(tmp_path, given, data=replace(data, train=replace(data.train, own=True, polarity="photo")))
    finish(given, Folder.of(tmp_path))
    assert json.loads((tmp_path / "best/model.json").read_text())["preprocessing"]["cleaning"]["polarity"] == "photo"


@pytest.mark.parametrize("how", [{"after": 1}, {"within": 1}])
def test_a_checkpoint_goes_before_it_and_needs_neither_network(
    first: Path, tmp_path: Path, how: dict[str, int]
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    changes: dict[str, Any] = {"start": str(first), "ema": 0.9, "optimizer": "adam", "lr": 1e-3, "epochs": 3}
    tiny.train(whole, begun(whole, tiny.settings(**changes)))
    given = begun(cut, tiny.settings(**changes))
    with pytest.raises(Killed):
        tiny.train(cut, given, watch=Killer(**how))
    if "after" in how:  # before that there is no checkpoint to go on from
        shutil.rmtree(cut / "start")
    tiny.train(cut, given)
    assert history(cut) == history(whole) and weights(cut) == weights(whole)
    last = checkpoint.best(Folder.of(cut / "checkpoints"))
    assert last is not None and [each["sha256"] for each in last.start] == [digest(first / "best")]


def test_where_no_checkpoint_is_whole_it_starts_again_from_that_network(first: Path, tmp_path: Path) -> None:
    given = begun(tmp_path, tiny.settings(start=str(first), epochs=1))
    tiny.train(tmp_path, given)
    known = weights(tmp_path)
    (tmp_path / "checkpoints/epoch-0001/model.safetensors").write_bytes(b"damaged")
    tiny.train(tmp_path, given)
    assert weights(tmp_path) == known


def test_looking_inside_looks_at_that_network(first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []

    def overfit(training: Training, batch: Batch) -> tuple[float, float]:
        seen.append(training.net.head.weight)
        return 1.0, 0.0

    monkeypatch.setattr(debug, "overfit", overfit)
    monkeypatch.setattr(torch.autograd, "set_detect_anomaly", lambda mode: None)
    given = begun(tmp_path, tiny.settings(start=str(first)))
    debug.inspect(console(), given, tiny.parts(), Folder.of(tmp_path), device=CPU)
    assert torch.equal(*seen, artifact.read(Folder.of(first))[0].head.weight)


def test_another_network_in_the_runs_folder_is_not_started_from(first: Path, tmp_path: Path) -> None:
    given = begun(tmp_path, tiny.settings(start=str(first)))
    another(tmp_path / "start")
    with pytest.raises(UserError, match=r"start holds another network than train\.start = '.*/run@[0-9a-f]{12}'"):
        training(tmp_path, given)


# What is named


@pytest.mark.parametrize("place", ["", "best", "checkpoints/epoch-0002"])
def test_a_run_its_best_and_its_checkpoint_are_one_network_named_by_its_digest(
    first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(first.parent)
    given = begun(tmp_path / "run", tiny.settings(start=os.path.join("run", place)))
    name = str(first / place).rstrip("/")
    assert given.train.start == f"{name}@{digest(first / 'best')[:12]}"
    assert opened.read_experiment(Folder.of(tmp_path / "run")) == given
    card, data = cards.load(Folder.of(tmp_path / "run/start"))
    assert card["sha256"] == digest(first / "best") == hashlib.sha256(data).hexdigest()
    assert card["provenance"]["settings"] == cards.recorded_settings(Folder.of(first))
    monkeypatch.chdir(tmp_path)  # the name in the run's settings is valid in any folder
    assert begun(tmp_path / "run", given) == given and begun(tmp_path / "again", given) == given


@pytest.mark.parametrize("becomes", ["gone", "another", "damaged"])
def test_a_run_keeps_the_network_that_it_was_begun_with(copy: Path, tmp_path: Path, becomes: str) -> None:
    run, asked = tmp_path / "run", tiny.settings(start=str(copy))
    given, known = begun(run, asked), digest(copy / "best")
    if becomes == "gone":
        shutil.rmtree(copy)
    elif becomes == "another":
        another(copy / "best")
    else:
        (copy / "best/model.safetensors").write_bytes(b"")
    assert begun(run, asked) == begun(run, given) == given and digest(run / "start") == known
    with pytest.raises(UserError, match=r"^train\.start = '.*/first@[0-9a-f]{12}': "):
        begun(tmp_path / "new", given)  # with this name, no other network is taken
    assert not (tmp_path / "new").exists()


def test_one_that_a_run_has_lost_is_copied_again_from_where_it_was(copy: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    given = begun(run, tiny.settings(start=str(copy)))
    for lost in ("model.json", "model.safetensors"):
        (run / "start" / lost).unlink()
        assert begun(run, given) == given and cards.load(Folder.of(run / "start"))
    (run / "start/model.safetensors").write_bytes(b"damaged")
    another(copy / "best")
    with pytest.raises(
        UserError, match=r"run/start, the network that this run starts from, is missing or damaged, and"
    ):
        begun(run, given)


def test_one_on_an_object_store_is_asked_for_once(
    first: Path, tmp_path: Path, bucket: str, object_store: ObjectStore
) -> None:
    for name in ("model.json", "model.safetensors"):
        (Folder.of(f"{bucket}/first") / "best").write(name, (first / "best" / name).read_bytes())
    given = begun(tmp_path, tiny.settings(start=f"{bucket}/first"))
    assert given.train.start == f"{bucket}/first@{digest(first / 'best')[:12]}"
    object_store.refuse = lambda *request: 403
    object_store.asked.clear()
    assert begun(tmp_path, tiny.settings(start=f"{bucket}/first/")) == begun(tmp_path, given) == given
    assert not object_store.asked


def test_the_same_network_in_another_place_is_no_other_start(copy: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    given = begun(run, tiny.settings(start=str(copy)))
    copy.rename(tmp_path / "moved")
    assert begun(run, tiny.settings(start=str(tmp_path / "moved" / "best"))) == given


def test_another_start_is_another_training(copy: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    given = begun(run, tiny.settings(start=str(copy), epochs=1))
    tiny.train(run, given)
    shutil.copytree(copy, tmp_path / "other")
    another(tmp_path / "other/best")
    for other in (tiny.settings(epochs=1), tiny.settings(epochs=1, start=str(tmp_path / "other"))):
        with pytest.raises(UserError, match=r"holds a training with train\.start = '.*first@[0-9a-f]{12}', not '"):
            begun(run, other)
    assert digest(run / "start") == digest(copy / "best")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"size": 32, "name": "resnet", "width": 8},
            r"that network has data\.size = 28 and not 32, model\.name = 'conv4' and not 'resnet'; to start from it:"
            r" --set data\.size=28 --set model\.name=conv4$",
        ),
        ({"start": "{first}@0123456789ab"}, "the network there has changed and is now .*leave out @0123456789ab"),
        ({"start": "{first}/none"}, "/none: no such folder; name a run, its best/ or a checkpoint"),
        ({"start": "{first}/checkpoints"}, "holds no network"),
        ({"start": "@0123456789ab"}, "a folder's name is empty"),
    ],
)
def test_a_network_that_does_not_fit_is_refused_before_anything_is_written(
    first: Path, tmp_path: Path, change: dict[str, Any], sentence: str
) -> None:
    named = {"start": str(first)} | change
    given = tiny.settings(**named | {"start": named["start"].format(first=first)})
    with pytest.raises(UserError, match=sentence) as caught:
        start.resolve(given, Folder.of(tmp_path / "run"))
    assert str(caught.value).startswith("train.start = '") and not (tmp_path / "run").exists()


def test_what_to_set_for_a_residual_network_is_its_whole_shape(tmp_path: Path) -> None:
    given = tiny.settings(name="resnet", width=8, depth=2, epochs=1)
    tiny.train(tmp_path, given)
    named = str(tmp_path / "checkpoints/epoch-0001")
    with pytest.raises(UserError, match=r"--set model\.name=resnet --set model\.width=8 --set model\.depth=2$"):
        start.resolve(tiny.settings(start=named))
    assert start.resolve(tiny.settings(start=named, name="resnet", width=8, depth=2))[1] is not None


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_a_damaged_network_is_refused(copy: Path, name: str) -> None:
    (copy / "best" / name).write_bytes((copy / "best" / name).read_bytes()[:-9])
    with pytest.raises(UserError, match=rf"best/{name} is "):
        start.resolve(tiny.settings(start=str(copy)))


# What it was taught

SHORT = {
    "data.dataset": "glyphs-10", "model.name": "conv4", "model.views": "1", "train.ema": "0", "train.examples": "128",
    "train.epochs": "1", "train.val_pairs": "100", "train.val_trials": "20", "train.precision": "fp32",
    "evaluate.trials": "100", "search.first": "[]",
}  # fmt: skip


def changes(**more: str) -> list[str]:
    return [f"{key}={value}" for key, value in (SHORT | {key.replace("__", "."): v for key, v in more.items()}).items()]


def train(run: Path, root: Path, **more: str) -> None:
    train_verb.train(
        console(), job="quick", local=True, workers=None, gpu=False, device="cpu", run=str(run),
        changes=changes(**more), root=str(root), source=None, address=None, verbose=False, debug=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def koch(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has used two of the four test alphabets of split lake. Do not write in it."""
    run = tmp_path_factory.mktemp("koch") / "run"
    train(run, data_root, data__split="koch")
    return run


def test_a_network_remembers_all_that_it_started_from(first: Path, tmp_path: Path) -> None:
    before, names = first, [digest(first / "best")]
    for number in range(2):
        run = tmp_path / str(number)
        given = begun(run, tiny.settings(start=str(before), epochs=1, seed=number))
        tiny.train(run, given)
        finish(given, Folder.of(run))
        card = json.loads((run / "best/model.json").read_text())
        assert [each["sha256"] for each in card["provenance"]["start"]] == names
        (place,) = (run / "checkpoints").iterdir()
        assert artifact.read(Folder.of(place))[1]["provenance"]["start"] == card["provenance"]["start"]
        before, names = run, [card["sha256"], *names]
    assert [each["settings"]["train"]["seed"] for each in card["provenance"]["start"]] == [0, 0]
    assert card["provenance"]["start"][1]["settings"]["data"]["dataset"] == "glyphs-10"
    said = (run / "best/README.md").read_text()
    assert (
        f"It started from the weights of another network, trained on `auto`, split `lake` (sha256 `{names[1]}`" in said
    )
    assert f"That one started from another, trained on `glyphs-10`, split `lake` (sha256 `{names[2]}`)." in said
    assert "Alphabets that the program drew itself" in said and "auto" in said.partition("Data and licence")[2]


@pytest.mark.parametrize(
    ("data", "taught"),
    [
        ({"dataset": "glyphs-10", "split": "lake-all"}, True),
        ({"dataset": "glyphs-10", "split": "minimal1"}, True),
        ({"dataset": "glyphs-10", "split": "lake"}, False),
        ({"dataset": "omniglot", "split": "lake-all"}, False),
        ({}, "perhaps"),
    ],
)
def test_a_calibration_says_whether_its_alphabets_were_taught_before(
    koch: Path, data_root: Path, tmp_path: Path, data: dict[str, str], taught: bool | str
) -> None:
    shutil.copytree(koch, tmp_path / "run")
    state = tmp_path / "run/checkpoints/epoch-0001/state.json"
    origin = {"sha256": "0" * 64, "settings": {"data": data}}
    state.write_text(json.dumps(json.loads(state.read_text()) | {"start": [origin]}))
    given = tiny.settings(dataset="glyphs-10")
    finish(given, Folder.of(tmp_path / "run"), data=Folder.of(data_root / "glyphs-10"))
    about = json.loads((tmp_path / "run/best/model.json").read_text())["calibration"]["measured_on"]
    assert about["taught"] == taught
    said = (tmp_path / "run/best/README.md").read_text()
    assert ("was also trained on the validation alphabets on which" in said) == (taught is True)
    assert ("may also have been trained on the validation alphabets on which" in said) == (taught == "perhaps")


# By the command line


def test_what_a_start_was_taught_is_told_when_it_begins_and_counted_when_it_is_judged(
    koch: Path, tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("before").symlink_to(koch)
    train(tmp_path / "run", data_root, train__start="before")
    known = (
        "2 of the 4 test alphabets are not new to this network, which started from one that was trained or validated on"
        " them (glyphs-10, split koch)"
    )
    out = " ".join(capsys.readouterr().out.split())
    named = f"{tmp_path}/before@{digest(koch / 'best')[:12]}"
    assert f"it starts from {named}; a copy lies in start/" in out and known in out
    tuned = json.loads((tmp_path / "run/best/model.json").read_text())["calibration"]["start"]
    after, before = (f"{100 * tuned[key]:.1f} %" for key in ("accuracy", "before"))
    worth = f"it gets {after} right; the network it started from got {before}"
    assert f"of the one-shot trials in validation {worth}" in out
    Path("before").unlink()
    train(tmp_path / "run", data_root, train__start="before", train__epochs="1")  # resumed, it is already over
    evaluate_verb.evaluate(
        console(), where=str(tmp_path / "run"), how={}, as_json=False, quiet=False, device="cpu", dataset=None,
        split=None, root=str(data_root), source=None,
    )  # fmt: skip
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert result["overlap"] == known and result["start"] == digest(koch / "best")
    page, card = ((tmp_path / "run" / name).read_text() for name in ("report.html", "best/README.md"))
    assert known in page and known in card and worth in card
    assert "neither training nor search has seen" not in page + card
    again = f"--set train.start={tmp_path}/run/start"
    assert again in page and f"<dt>started from</dt><dd>{named}, copied to" in page


@pytest.mark.parametrize(
    ("recorded", "asked", "same"),
    [
        ("/a@0123456789ab", "/b@0123456789ab", True),  # another place on another machine
        ("/a@0123456789ab", "/a@ba9876543210", False),
        ("/a@0123456789ab", "/a@01234567", True),
        ("/a@0123456789ab", "/a/", True),
        ("/a@0123456789ab", "file:///a", True),
        ("/a@0123456789ab", "/b", False),
        ("/a", "/a@0123456789ab", False),
        ("s3://b/x?region=r@0123456789ab", "s3://b/x/?region=r", True),
        ("s3://b/x@0123456789ab", "s3://b/y", False),
        (f"{Path.cwd()}@0123456789ab", "", False),
        ("", "/a@0123456789ab", False),
        ("", "", True),
    ],
)
def test_one_network_is_the_same_wherever_it_lies(recorded: str, asked: str, same: bool) -> None:
    assert cards.alike(recorded, asked) == same


def test_a_record_is_of_the_same_job_wherever_the_network_lies_that_it_starts_from() -> None:
    here, there, other = (
        override(tiny.settings(), {"train.start": f"/{name}"}, source="the test")
        for name in ("here@0123456789ab", "there@0123456789ab", "there@ba9876543210")
    )
    record = {"job": "tuned", "experiment": here.to_toml()}
    assert same_settings(record, there) and not same_settings(record, other)
    assert not differing(here, there) and list(differing(here, other)) == ["train.start"]
    opened.check_same(here.model_dump(), there, "a run", fixed=("train",))  # a seed that was begun elsewhere goes on
    with pytest.raises(UserError, match=r"a run with train\.start = '/here@0123456789ab', not '/there@ba9876543210'"):
        opened.check_same(here.model_dump(), other, "a run", fixed=("train",))
    job = override(here, {"train.start": "/here"}, source="the test")
    assert not differing(here, job)
    assert not same_settings({"job": "old", "experiment": "[gone]\nkey = 1\n"}, here)  # of an older version


def test_seeds_share_the_network_they_start_from_when_it_is_gone(koch: Path, tmp_path: Path, data_root: Path) -> None:
    copy = Path(shutil.copytree(koch, tmp_path / "before"))
    for seeds in ("1", "1..2"):
        repeat(
            console(), jobs=["quick"], seeds=seeds, minutes=None, device="cpu", folder=str(tmp_path / "run"),
            changes=changes(train__start=str(copy)), root=str(data_root), source=None,
        )  # fmt: skip
        shutil.rmtree(copy, ignore_errors=True)
    made = json.loads((tmp_path / "run/record.json").read_text())
    assert [row["result"]["start"] for row in made["seeds"]] == [digest(koch / "best")] * 2
    assert digest(tmp_path / "run/seed-1/best") != digest(tmp_path / "run/seed-2/best")


def tune(run: Path, root: Path, **more: str) -> dict[str, Any]:
    return tune_verb.tune(
        console(), job="quick", run=str(run), resume=None, changes=changes(**more), root=str(root), source=None,
        address=None, verbose=False, max_time=None, max_concurrent=None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"search__choices": '{"model.head" = ["plain"]}'}, r"'model\.head' cannot vary between trials that all start"),
        ({"search__choices": '{"train.start" = ["", "x"]}'}, r"'train\.start' cannot vary between trials"),
        ({"search__first": '[{"data.size" = 32}]'}, r"'data\.size' cannot vary between trials that all start from one"),
        ({"data__size": "32"}, r"that network has data\.size = 28 and not 32; to start from it: --set data\.size=28"),
        ({}, "was trained on the validation alphabets, so a search cannot choose by them"),
    ],
)
def test_a_search_that_could_not_compare_its_trials_is_refused(
    koch: Path, tmp_path: Path, data_root: Path, change: dict[str, str], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        tune(tmp_path / "run", data_root, train__start=str(koch), **change)
    assert not (tmp_path / "run").exists()


@pytest.mark.ray
@pytest.mark.long
def test_a_study_and_its_resumption_start_from_the_copy_in_its_folder(
    koch: Path, tmp_path: Path, data_root: Path
) -> None:
    copy, run = Path(shutil.copytree(koch, tmp_path / "before")), tmp_path / "run"
    more = {
        "data__split": "koch",
        "train__start": str(copy),
        "search__trials": "2",
        "search__grace": "0",
        "search__batch": "[32]",
    }
    tune(run, data_root, **more)
    shutil.rmtree(copy)
    study = json.loads((run / "study.json").read_text())
    study["trials"][1] |= {"status": "pending", "settings": {}, "epochs": 0, "best_epoch": None, "val_loss": None}
    (run / "study.json").write_text(json.dumps(study))
    shutil.rmtree(run / "trials/001")  # as if it had not begun
    done = tune_verb.tune(
        console(), job=None, run=None, resume=str(run), changes=[], root=str(data_root), source=None, address=None,
        verbose=False, max_time=None, max_concurrent=None,
    )  # fmt: skip
    assert done["over"] and done["start"] == digest(koch / "best")
    for number in ("000", "001"):
        found = checkpoint.best(Folder.of(run / "trials" / number / "checkpoints"))
        assert found is not None and found.start[0]["sha256"] == digest(koch / "best")
