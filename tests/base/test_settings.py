"""A run's settings come from a file. An error in them is reported in one sentence before anything runs."""

import math
import os
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest

from oneshot.base import settings
from oneshot.base.errors import UserError
from oneshot.base.jobs import job_file, jobs_folder, override, parse, read, with_point
from oneshot.base.settings import Model, Scale, Settings
from oneshot.data import splits
from oneshot.evaluation import trials
from oneshot.network.models import build
from oneshot.search import points

JOBS = sorted(jobs_folder().glob("*.toml"))


def refused(tree: dict[str, Any]) -> str:
    with pytest.raises(UserError) as caught:
        parse(tree, "job.toml")
    sentence = str(caught.value)
    assert "\n" not in sentence and len(sentence) < 300
    assert sentence.startswith("job.toml: ")
    return sentence.removeprefix("job.toml: ")


# The jobs that come with the program


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_every_job_that_comes_with_the_program_is_sound(path: Path) -> None:
    points.check(read(path))


def test_the_three_jobs_are_there() -> None:
    assert {path.stem for path in JOBS} >= {"quick", "koch", "source"}
    assert read(job_file("koch")).model.name == "koch"
    assert read(job_file("koch")).data.size == 105


def test_the_source_documents_job_is_the_source_documents() -> None:
    job = read(job_file("source"))
    first = with_point(job, job.search.first[0])
    assert (first.train.optimizer, first.train.lr, first.train.batch, first.train.momentum) == ("sgd", 1e-2, 128, 0.9)
    assert first.train.epochs == 200


# What is refused, and how


@pytest.mark.parametrize(
    ("tree", "sentence"),
    [
        ({"trian": {}}, "'trian' names no setting; did you mean 'train'?"),
        ({"train": {"momentun": 0.9}}, "'train.momentun' names no setting; did you mean 'momentum'?"),
        ({"train": {"weight-decay": 0.1}}, "'train.weight-decay' names no setting; did you mean 'weight_decay'?"),
        ({"lr": 0.1}, "'lr' names no setting; known: data, evaluate, model, scale, search, train"),
        ({"train": {"zzz": 1}}, "'train.zzz' names no setting; known: batch, clip, "),
        ({"train": 5}, "train = 5: must be "),
        ({"train": {"lr": "fast"}}, "train.lr = 'fast': must be a valid number"),
        ({"train": {"lr": True}}, "train.lr = True: must be a valid number"),
        ({"train": {"epochs": 2.0}}, "train.epochs = 2.0: must be a valid integer"),
        ({"train": {"epochs": "2"}}, "train.epochs = '2': must be a valid integer"),
        ({"data": {"balance": 1}}, "data.balance = 1: must be a valid boolean"),
        ({"train": {"lr": -0.1}}, "train.lr = -0.1: must be greater than 0"),
        ({"train": {"lr": 0}}, "train.lr = 0: must be greater than 0"),
        ({"train": {"lr": math.nan}}, "train.lr = nan: must be a finite number"),
        ({"train": {"lr": math.inf}}, "train.lr = inf: must be a finite number"),
        ({"train": {"momentum": 1.0}}, "train.momentum = 1.0: must be less than 1"),
        ({"train": {"batch": 1}}, "train.batch = 1: must be greater than or equal to 2"),
        ({"train": {"seed": -1}}, "train.seed = -1: must be greater than or equal to 0"),
        ({"train": {"optimizer": "sdg"}}, "train.optimizer = 'sdg': must be 'sgd', 'adam' or 'adamw'"),
        ({"data": {"size": 15}}, "data.size = 15: must be greater than or equal to 16"),
        ({"data": {"hard_negatives": 1.5}}, "data.hard_negatives = 1.5: must be less than or equal to 1"),
        (
            {"data": {"hard_negatives": 0.5, "sampling": "episodes"}},
            "data.hard_negatives = 0.5: needs data.sampling = 'pairs'",
        ),
        ({"data": {"split": "lakes"}}, "data.split = 'lakes': must be 'lake', "),
        ({"model": {"name": "vgg"}}, "model.name = 'vgg': must be 'koch', 'conv4' or 'resnet'"),
        ({"scale": {"gpus": -1}}, "scale.gpus = -1: must be greater than or equal to 0"),
        ({"scale": {"gpus": "some"}}, "scale.gpus = 'some': must be "),
        ({"scale": {"workers": 0}}, "scale.workers = 0: must be a number of at least 1, or a range of them as '1..4'"),
        ({"scale": {"workers": "2..1"}}, "scale.workers = '2..1': must be a number of at least 1, or a range"),
        ({"scale": {"workers": "1-4"}}, "scale.workers = '1-4': must be a number of at least 1, or a range"),
        ({"scale": {"workers": True}}, "scale.workers = True: must be a number of at least 1, or a range"),
        ({"scale": {"timeout": 1e300}}, "scale.timeout = 1e+300: must be less than or equal to 1000000"),
        (
            {"scale": {"autoscaler": [{"nodes": 4, "cpus": 1, "gpu": 1}]}},
            "'scale.autoscaler.0.gpu' names no setting; did you mean 'gpus'?",
        ),
        ({"scale": {"autoscaler": [{"nodes": 4}]}}, "'scale.autoscaler.0.cpus' is missing"),
        ({"evaluate": {"protocols": []}}, "evaluate.protocols = []: list should have at least 1 item"),
        ({"evaluate": {"protocols": ["lake40"]}}, "evaluate.protocols.0 = 'lake40': must be 'lake400', "),
        ({"search": {"lr": {}}}, "search.lr: names no optimizer"),
        ({"search": {"lr": {"adam": [1e-2, 1e-4]}}}, "search.lr.adam = [0.01, 0.0001]: needs 0 < low <= high"),
        ({"search": {"lr": {"adam": [0.0, 1e-4]}}}, "search.lr.adam = [0.0, 0.0001]: needs 0 < low <= high"),
        ({"search": {"lr": {"adam": [1e-4]}}}, "search.lr.adam = [0.0001]: list should have at least 2"),
        ({"search": {"weight_decay": [0.1, 1e-3]}}, "search.weight_decay = [0.1, 0.001]: needs 0 < low <= high"),
        ({"search": {"weight_decay": [0.0, 0.1]}}, "search.weight_decay = [0.0, 0.1]: needs 0 < low <= high"),
        ({"search": {"lr": {"rmsprop": [1e-4, 1e-2]}}}, "search.lr.rmsprop = 'rmsprop': must be 'sgd', "),
        ({"search": {"batch": []}}, "search.batch = []: list should have at least 1 item"),
        ({"search": {"batch": [64, 1]}}, "search.batch.1 = 1: must be greater than or equal to 2"),
        ({"search": {"choices": {"model.name": []}}}, "search.choices.model.name: an empty list leaves nothing"),
        (
            {"search": {"choices": {"train.lr": [[1]]}}},
            "search.choices.train.lr.0 = [1]: must be a string, true, false or",
        ),
        (
            {"search": {"first": [{"lr": math.nan}]}},
            "search.first.0.lr = nan: must be a string, true, false or a number",
        ),
        ({"train": {"epochs": 2**31}}, "train.epochs = 2147483648: must be less than or equal to 2147483647"),
        ({"train": {"epochs": 1 << 99_999}}, "train.epochs = a number with thousands of digits: must be less than"),
        ({"data": {"dataset": 3 * ["x" * 99]}}, "data.dataset = ['xxxx"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_what_would_be_right(tree: dict[str, Any], sentence: str) -> None:
    assert refused(tree).startswith(sentence)


@pytest.mark.parametrize(
    ("tree", "sentence"),
    [
        ({"train": {"epochs": 5, "patience": 6}}, "train.patience = 6: more than train.epochs = 5"),
        ({"model": {"views": 4}}, "model.views = 4: such positions are learnt by data.rotations = true"),
        (
            {"model": {"views": 8}, "data": {"rotations": True}},
            "model.views = 8: such positions are learnt by data.flips = true",
        ),
        ({"model": {"views": 2}}, "model.views = 2: must be 1, 4 or 8"),
        ({"model": {"views": True}}, "model.views = True: must be a valid integer"),
        (
            {"train": {"keep": "last", "patience": 3}},
            "train.patience = 3: stopping early needs a best epoch: set train.keep",
        ),
        ({"train": {"objective": "softmax"}}, "train.objective = 'softmax': needs data.sampling = 'episodes'"),
        ({"train": {"examples": 100, "batch": 128}}, "train.examples = 100: less than one batch of 128"),
        ({"scale": {"workers": "1..3"}}, "train.batch = 128: not divisible by scale.workers = 3, an end of 1..3"),
        ({"scale": {"workers": "3..4"}}, "train.batch = 128: not divisible by scale.workers = 3, an end of 3..4"),
        ({"scale": {"workers": 3}}, "train.batch = 128: not divisible by scale.workers = 3"),
        ({"train": {"batch": 5}}, "train.batch = 5: must be even"),
        ({"data": {"size": 64}}, "data.size = 64: the koch network needs at least 65"),
        (
            {"data": {"sampling": "episodes"}, "train": {"batch": 24}},
            "train.batch = 24: an episode needs a multiple of data.drawers x data.alphabets = 16 drawings",
        ),
        (
            {"data": {"sampling": "episodes", "alphabets": 0}, "train": {"batch": 4}},
            "train.batch = 4: an episode needs",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused_with_both_values(tree: dict[str, Any], sentence: str) -> None:
    assert refused(tree).startswith(sentence)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"[train]\nlr = \xff\xfe", "is not UTF-8 text; a job is a TOML file"),
        (b"[train\nlr = 1", "is not TOML: "),
        (b"lr: 0.1", "is not TOML: "),
        (b"[train]\nlr = 1\nlr = 2", "is not TOML: "),
        (b"\0\0", "is not TOML: "),
        (b"x = " + b"[" * 5_000, "is not TOML: "),
        (b"x = " + b"9" * 5_000, "is not TOML: "),
    ],
)
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "job.toml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=sentence) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_a_folder_and_a_missing_file_are_no_jobs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder; a job is a TOML file"):
        read(job_file(str(tmp_path)))
    with pytest.raises(UserError, match=r"none\.toml: no such file"):
        read(job_file(str(tmp_path / "none.toml")))


def test_a_job_whose_name_no_record_could_bear_is_refused(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.toml"))
    path.write_bytes(b"")
    with pytest.raises(UserError, match="has a name that is not UTF-8"):
        job_file(str(path))


def test_an_unknown_job_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"no job 'quik' in tune_jobs/: did you mean 'quick'\?"):
        job_file("quik")
    with pytest.raises(UserError, match=r"no job 'xyz' in tune_jobs/: known: .*koch, .*quick, .*source"):
        job_file("xyz")


def test_an_empty_file_is_a_job_of_defaults(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_bytes(b"")
    assert read(tmp_path / "job.toml") == Settings()


def test_what_is_said_twice_agrees() -> None:
    build(Model(name="koch"), size=settings.KOCH_LEAST)
    with pytest.raises(UserError, match="at least 65 pixels"):
        build(Model(name="koch"), size=settings.KOCH_LEAST - 1)
    assert get_args(settings.SplitName) == (*splits.SPLITS, *settings.OWN_SPLITS)
    assert get_args(settings.Protocol) == trials.NAMES


# Changes


@pytest.mark.parametrize(
    ("change", "key", "value"),
    [
        ("train.lr=0.5", "lr", 0.5),
        ("train.lr = 5e-1", "lr", 0.5),
        ("train.optimizer=adam", "optimizer", "adam"),
        ("train.optimizer='adam'", "optimizer", "adam"),
        ("train.epochs=7", "epochs", 7),
    ],
)
def test_set_changes_one_setting(change: str, key: str, value: Any) -> None:
    before = read(job_file("source"))
    after = read(job_file("source"), [change])
    assert getattr(after.train, key) == value
    assert (
        after.model_copy(update={"train": after.train.model_copy(update={key: getattr(before.train, key)})}) == before
    )


@pytest.mark.parametrize("name", ["2024-05-01", "2024", "10.12", "1e5", "true", "inf", "07:30:00", "[a]", "coins"])
def test_a_data_set_may_be_called_as_what_is_no_text(name: str) -> None:
    for written in (name, f" {name} ", f'"{name}"', f"'{name}'"):
        assert read(job_file("own"), [f"data.dataset={written}"]).data.dataset == name


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("train.lr", "--set train.lr: write section.key=value"),
        ("=3", "--set =3: write section.key=value"),
        ("lr=3", "--set: 'lr' names no setting; write section.key"),
        ("trian.lr=3", "--set: 'trian.lr' names no setting; did you mean 'train'?"),
        ("train.lrr=3", "--set: 'train.lrr' names no setting; did you mean 'lr'?"),
        ("train.lr.x=3", "--set: 'train.lr.x' names no setting; give train.lr as a whole"),
        ("search.first.0.lr=3", "--set: 'search.first.0.lr' names no setting; give search.first as a whole"),
        ("search.choices.train.lr=[3]", "--set: 'search.choices.train.lr' names no setting; give search.choices as a"),
        ("train.lr=3\ntrain.batch=4", "--set 'train.lr=3\\ntrain.batch=4': is more than one line of text"),
        ("train.lr=" + "[" * 5_000, "--set train.lr: "),
        ("train.lr=" + "9" * 5_000, "--set train.lr: "),
        ("train.lr=fast", "--set: train.lr = 'fast': must be a valid number"),
        ("train.lr=", "--set: train.lr = '': must be a valid number"),
        ("train.lr=nan", "--set: train.lr = nan: must be a finite number"),
        ("scale.workers=3", "--set: train.batch = 128: not divisible by scale.workers = 3"),
    ],
)
def test_a_change_that_does_not_fit_is_refused(change: str, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        read(job_file("source"), [change])
    assert str(caught.value).startswith(sentence)


def test_a_point_of_the_search_takes_train_keys_and_dotted_ones() -> None:
    changed = with_point(Settings(), {"lr": 0.5, "batch": 64, "model.name": "conv4"})
    assert (changed.train.lr, changed.train.batch, changed.model.name) == (0.5, 64, "conv4")
    assert changed.data == Settings().data


def test_settings_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().train.lr = 1.0


# Round trip


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_resolved_settings_written_as_toml_are_the_same_when_read(path: Path) -> None:
    before = read(path, ["scale.gpus=0.25", "train.seed=7"])
    assert parse(tomllib.loads(before.to_toml()), "again") == before


def test_odd_strings_survive_the_round_trip() -> None:
    before = override(
        Settings(), {"data.dataset": 'a "b"\\ \n\u00e9 # [x]', "search.choices": {"data.dataset": ["a.b"]}},
        source="the test",
    )  # fmt: skip
    assert parse(tomllib.loads(before.to_toml()), "again") == before


def test_of_a_range_of_workers_those_are_possible_that_share_the_batch() -> None:
    for workers, batch, numbers in ((4, 128, [4]), ("1..4", 128, [1, 2, 4]), ("2..8", 24, [2, 3, 4, 6, 8])):
        assert Scale(workers=workers).numbers(batch) == numbers
