"""Any content of a file or a command is either accepted or refused with a UserError; nothing else may happen.

`ONESHOT_FUZZ=50` runs fifty times as many examples, which takes some minutes.
"""

import copy
import hashlib
import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache, reduce
from operator import getitem
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import tiny
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from rich.console import Console
from samples import result, study, trial, verification
from tables import FIXED, row, written
from zips import MEMBERS, SMALL, made_archives

import oneshot
from oneshot.answers import artifact, calibration, matching
from oneshot.base.errors import UserError
from oneshot.base.jobs import job_file, override, parse, parse_toml, read, with_point
from oneshot.base.settings import Settings, Train
from oneshot.base.storage import Folder
from oneshot.cluster import packing
from oneshot.data import omniglot, splits, store
from oneshot.data.archives import read_zip
from oneshot.data.pairs import PairDataset
from oneshot.data.store import DRAWINGS, TRIALS
from oneshot.evaluation import modelcard
from oneshot.evaluation.outcomes import Seen, outcomes
from oneshot.evaluation.trials import lake400, protocols, within
from oneshot.evaluation.verification import Scored
from oneshot.network.worker import Worker
from oneshot.records import pages, record
from oneshot.report import compare, reading
from oneshot.report import page as report
from oneshot.report.canvas import LIGHT, svg
from oneshot.run import cards, checkpoint, formats
from oneshot.run.history import read_failure
from oneshot.run.opened import read_experiment
from oneshot.run.watch import Watch, following
from oneshot.screen.console import one_line
from oneshot.screen.live import StudyView
from oneshot.screen.progress import TrainView
from oneshot.screen.results import alphabet_table, result_panel
from oneshot.screen.tables import study_table
from oneshot.search import points
from oneshot.search.study import STUDY, Study
from oneshot.training import train
from oneshot.training.loop import Diverged, Training

TIMES = int(os.environ.get("ONESHOT_FUZZ", "1"))


def examples(count: int) -> settings:
    """The same examples in every run, without a time limit for each."""
    return settings(
        max_examples=count * TIMES, derandomize=True, deadline=None, phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


def taken_or_refused(use: Callable[[], Any], *names: str) -> None:
    """`use` returns or raises a UserError; if `names` are given, the error must contain one of them."""
    try:
        use()
    except UserError as error:
        assert not names or any(name in str(error) for name in names), str(error)
        assert len(one_line(error)) < 2_000, "that is no sentence"


# Possible contents of a file: any JSON, any bytes

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 200), st.integers(), st.just(10**400), st.floats(), st.text(max_size=5),
    st.sampled_from(["auto", "sgd", "adam", "pairs", "episodes", "koch", "train.lr", "../../x", "\x1b[2J", "000"]),
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def ways(draw: st.DrawFn, tree: Any) -> list:
    """The keys and indices from the root of a tree of dicts and lists to a place in it, often near the root."""
    way: list = []
    while isinstance(tree, dict | list) and tree and (draw(st.booleans()) or not way):
        way.append(draw(st.sampled_from(list(tree) if isinstance(tree, dict) else range(len(tree)))))
        tree = tree[way[-1]]
    return way


@st.composite
def damaged(draw: st.DrawFn, tree: Any) -> Any:
    """A JSON value with one to three places replaced or removed; sometimes another value altogether."""
    if draw(st.integers(0, 19)) == 0:
        return draw(values)
    tree = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(ways(tree)) or [None]
        place = reduce(getitem, way, tree)
        if last is None:
            return place
        if draw(st.booleans()):
            place[last] = draw(values)
        else:
            del place[last]
    return tree


@st.composite
def corrupt(draw: st.DrawFn, data: bytes) -> bytes:
    """The bytes with one to three parts overwritten, lost or added."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(changed)))
        end = draw(st.sampled_from([start, start + 1, start + 8, len(changed)]))
        changed[start:end] = draw(st.binary(max_size=9))
    return bytes(changed)


# Settings

SECTIONS = tuple(Settings.model_fields)
KEYS = sorted({key for name in SECTIONS for key in Settings.model_fields[name].annotation.model_fields})
some_key = st.sampled_from(KEYS) | st.text(max_size=5)
trees = st.dictionaries(
    st.sampled_from(SECTIONS) | st.text(max_size=5),
    st.dictionaries(some_key, values | st.dictionaries(some_key, values, max_size=3), max_size=4) | values,
    max_size=4,
)
QUICK = job_file("quick")


def use(made: Settings) -> None:
    """Everything that is done with settings before a run starts."""
    assert parse_toml(made.to_toml().encode(), "job.toml") == made
    points.check(made)
    for index in range(len(made.search.first), len(made.search.first) + 2):
        with_point(made, points.RandomPoints(made.search).ask(index))
    packing.pack(made.scale, [packing.Node("node", 8, 2)])


@given(trees | damaged(read(QUICK).model_dump()))
@examples(300)
def test_any_tree_is_settings_or_a_sentence(tree: Any) -> None:
    taken_or_refused(lambda: use(parse(tree, "job.toml")), "job.toml: ", "search", "scale.")


@given(corrupt(QUICK.read_bytes()))
@examples(150)
def test_any_bytes_are_settings_or_a_sentence(content: bytes) -> None:
    taken_or_refused(lambda: use(parse_toml(content, "job.toml")), "job.toml", "search", "scale.")


@given(st.text(max_size=12), st.sampled_from([f"{name}.{key}" for name in SECTIONS for key in KEYS]))
@examples(200)
def test_any_text_after_set_is_a_change_or_a_sentence(text: str, key: str) -> None:
    for change in (text, f"{key}={text}", f"{text}={key}", f"{key}.{text}=1"):
        taken_or_refused(lambda change=change: read(QUICK, [change]), "--set")


# Parquet


# Enough for every split: five background alphabets and two others, by four drawers
MANY = [
    row(alphabet, character, drawer)
    for alphabet in ("Alpha", "Beta", "Eta", "Iota", "Kappa", "Mu", "Zeta")
    for character in (1, 2)
    for drawer in (1, 2, 3, 4)
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    folder = written(tmp_path_factory.mktemp("data"), MANY, trial_alphabets=["Zeta"])
    store.write_trials(folder, FIXED)
    return folder


def use_data(folder: Folder) -> np.ndarray:
    """Call everything that reads a data set; returns its pixels."""
    about, fixed, drawings = store.describe(folder), store.load_trials(folder), store.load(folder)
    pixels = drawings.pixels()
    assert len(pixels) == about.rows
    PairDataset(drawings, seed=0).pairs(epoch=0, start=0, count=8)
    protocols(drawings, fixed, n_way=2, trials=5)
    lake400(fixed, drawings)
    for name in splits.SPLITS:
        split = splits.split(name, about)
        for part in (split.train, split.validation, split.test):
            splits.load_part(folder, part)
    return pixels


# Errors that do not blame the file: the contents that it states are too few for what is asked.
LACKING = ("the split '", "a split needs", "no one-shot trial can be made")


def with_facts(content: bytes, facts: Any) -> bytes:
    """A file of drawings with other facts in its footer."""
    with pq.ParquetFile(io.BytesIO(content)) as file:
        sink = io.BytesIO()
        with pq.ParquetWriter(sink, file.schema_arrow) as writer:
            for index in range(file.num_row_groups):
                writer.write_table(file.read_row_group(index))
            writer.add_key_value_metadata({"oneshot": json.dumps(facts)})
    return sink.getvalue()


def facts(content: bytes) -> Any:
    with pq.ParquetFile(io.BytesIO(content)) as file:
        return json.loads(file.metadata.metadata[b"oneshot"])


@given(case=st.data())
@examples(100)
def test_any_metadata_of_a_parquet_file_is_read_or_refused(data: Folder, tmp_path: Path, case: st.DataObject) -> None:
    folder, content = Folder.of(tmp_path), data.read(DRAWINGS)
    folder.write(TRIALS, data.read(TRIALS))
    folder.write(DRAWINGS, with_facts(content, case.draw(damaged(facts(content)))))
    taken_or_refused(lambda: use_data(folder), DRAWINGS, *LACKING)


@given(case=st.data())
@examples(100)
def test_any_bytes_of_a_parquet_file_are_read_or_refused(data: Folder, tmp_path: Path, case: st.DataObject) -> None:
    folder = Folder.of(tmp_path)
    for name in (DRAWINGS, TRIALS):
        folder.write(name, data.read(name))
    name = case.draw(st.sampled_from([DRAWINGS, TRIALS]))
    folder.write(name, case.draw(corrupt(data.read(name))))
    taken_or_refused(lambda: use_data(folder), name, *LACKING)


@given(case=st.data(), whole=st.booleans())
@examples(40)
def test_any_file_of_classes_is_asked_or_refused(
    trained: Path, tmp_path: Path, case: st.DataObject, whole: bool
) -> None:
    net, file = oneshot.load(trained / "sgd" / NEWEST, device="cpu"), tmp_path / "classes.parquet"
    page = np.eye(28, dtype=np.uint8) * 255
    net.classes({"a": 255 - page, "b": 255 - page.T[::-1]}).save(file)
    content = file.read_bytes()
    changed = corrupt(content) if whole else damaged(facts(content)).map(lambda told: with_facts(content, told))
    file.write_bytes(case.draw(changed))
    taken_or_refused(lambda: net.classify(255 - page, file), file.name)


# Checkpoints

SMALL_STEPS: dict[str, Any] = {"size": 16, "batch": 4, "examples": 8, "val_pairs": 4, "val_trials": 2}
SETTINGS = {name: tiny.settings(epochs=2, optimizer=name, **SMALL_STEPS) for name in ("sgd", "adam")}
PARTS = tiny.parts()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of two epochs, one for each optimizer."""
    folder = tmp_path_factory.mktemp("trained")
    for name, chosen in SETTINGS.items():
        tiny.train(folder / name, chosen, data=PARTS)
    return folder


@cache
def training(optimizer: str) -> Training:
    """A training that is used again for each checkpoint to resume from."""
    worker, nowhere = Worker(torch.device("cpu")), Folder.of("/nowhere")
    return Training(worker, override(SETTINGS[optimizer], {"train.epochs": 3}, source="more"), PARTS, nowhere, Watch())


def go_on(folder: Path) -> int:
    """Call everything that reads a checkpoint: a training that resumes and runs an epoch, and the readers of its
    network. Returns the epoch after which it resumes."""
    going = training(folder.name)
    going.folder = Folder.of(folder)
    after = going.progress.epoch if going._resume() else 0
    if after and not going.progress.ended:
        with suppress(Diverged):
            going.run_epoch(after + 1)
    checkpoint.best(Folder.of(folder / "checkpoints"))
    net, _ = artifact.read(Folder.of(folder / NEWEST))
    net.embed(torch.zeros(1, 1, 16, 16))
    return after


NEWEST = "checkpoints/epoch-0002"
OTHERS = "holds a training with"  # other settings, as valid as the requested ones
optimizers = st.sampled_from(sorted(SETTINGS))


def forged(trained: Path, folder: Path, name: str, content: bytes) -> Path:
    """A copy of a run in whose newest checkpoint this file has this content, with the right digest."""
    folder = Path(shutil.copytree(trained, folder / trained.name, dirs_exist_ok=True))
    (folder / NEWEST / name).write_bytes(content)
    if name != checkpoint.STATE:
        state = json.loads((folder / NEWEST / checkpoint.STATE).read_text())
        state["sha256"][name] = hashlib.sha256(content).hexdigest()
        (folder / NEWEST / checkpoint.STATE).write_text(json.dumps(state))
    return folder


@given(case=st.data(), optimizer=optimizers)
@examples(80)
def test_any_state_of_a_checkpoint_is_gone_on_with_or_refused(
    trained: Path, tmp_path: Path, case: st.DataObject, optimizer: str
) -> None:
    state = json.loads((trained / optimizer / NEWEST / checkpoint.STATE).read_text())
    content = json.dumps(case.draw(damaged(state))).encode()
    taken_or_refused(lambda: go_on(forged(trained / optimizer, tmp_path, checkpoint.STATE, content)), NEWEST, OTHERS)


@given(
    case=st.data(),
    optimizer=optimizers,
    name=st.sampled_from([checkpoint.STATE, checkpoint.TRAINING, checkpoint.WEIGHTS]),
)
@examples(60)
def test_any_bytes_of_a_checkpoint_are_gone_on_with_or_refused(
    trained: Path, tmp_path: Path, case: st.DataObject, optimizer: str, name: str
) -> None:
    content = case.draw(corrupt((trained / optimizer / NEWEST / name).read_bytes()))
    taken_or_refused(lambda: go_on(forged(trained / optimizer, tmp_path, name, content)), NEWEST, OTHERS)


@given(case=st.data(), optimizer=optimizers, name=st.sampled_from([checkpoint.WEIGHTS, checkpoint.TRAINING]))
@examples(80)
def test_any_safetensors_header_is_read_or_refused(
    trained: Path, tmp_path: Path, case: st.DataObject, optimizer: str, name: str
) -> None:
    content = (trained / optimizer / NEWEST / name).read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(case.draw(damaged(json.loads(content[8:end])))).encode()
    content = len(header).to_bytes(8, "little") + header + content[end:]
    taken_or_refused(lambda: go_on(forged(trained / optimizer, tmp_path, name, content)), NEWEST)


tensors = st.sampled_from(
    [
        torch.zeros(()), torch.zeros(3), torch.full((64,), torch.nan), torch.zeros(64, dtype=torch.complex64),
        torch.zeros(64, dtype=torch.int8), torch.zeros(64), torch.tensor(-1.0), torch.tensor(1e30), torch.zeros(0),
    ]
)  # fmt: skip


@given(case=st.data(), optimizer=optimizers)
@examples(60)
def test_any_optimizer_state_is_gone_on_with_or_refused(
    trained: Path, tmp_path: Path, case: st.DataObject, optimizer: str
) -> None:
    state = safetensors.torch.load_file(trained / optimizer / NEWEST / checkpoint.TRAINING)
    for _ in range(case.draw(st.integers(1, 3))):
        name = case.draw(st.sampled_from(sorted(state)) | st.text(max_size=9))
        if case.draw(st.booleans()):
            state[name] = case.draw(tensors).clone()
        else:
            state.pop(name, None)
    content = safetensors.torch.save(state)
    taken_or_refused(lambda: go_on(forged(trained / optimizer, tmp_path, checkpoint.TRAINING, content)), NEWEST)


# The records of a run


@pytest.fixture(scope="module")
def run(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study that is over."""
    folder = Folder.of(tmp_path_factory.mktemp("run"))
    chosen = read(QUICK, ["search.trials=2"])
    folder.write("experiment.toml", chosen.to_toml().encode())
    trials = [trial("000", "finished", 3, floor=0.21), trial("001", "stopped", 1, lr=1.23e-4)]
    for each in trials:
        rows = [row | {"best": True, "ended": ""} for row in each.pop("history")]
        (folder / "trials" / each["id"]).write(
            "history.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows).encode()
        )
    (folder / "trials/000").append_json("notes.jsonl", {"note": "a checkpoint was damaged"})
    (folder / "trials/000").write_json("error.json", {"error": "a worker refused its input"})
    trials[0]["notes"] = ["a checkpoint was damaged"]
    header = {"epochs": 9, "why": "no Omniglot is here", "named": 1, "rungs": [1, 3], "reduction": 3}
    folder.write_json(STUDY, study(*trials, epochs_run=4, **header))
    train.finish(chosen, folder, trial=Folder.of(trained / "sgd"))
    sha256 = cards.digest(folder)  # otherwise the result counts as another network's and is not read
    environment = {"hardware": {"cpu": "some", "cores": 2, "gpus": []}, "commit": "0123"}
    folder.write_json("result.json", result(environment=environment, verification=verification(), sha256=sha256))
    folder.write_json("outcomes.json", few_outcomes(sha256))
    scores = np.random.default_rng(0).normal(size=(40, 3)) + np.eye(3)[0]
    about = {"alphabets": 1, "characters": 3, "drawings": 12, "trials": 40, "n_way": 3}
    pooling = {"k_shot": 2, "embeddings": 0.5, "scores": 0.5}
    fitted = calibration.fit({1: scores, 2: scores}, np.zeros(40, dtype=int))
    card = folder.read_json("best/model.json")
    match = matching.fit(scores, np.zeros(40, dtype=int)) | {"pairs": 60}
    card["calibration"] = {"measured_on": about, **fitted, "match": match, "pooling": pooling}
    (folder / "best").write_json("model.json", card)
    return Path(folder.path)


def few_outcomes(sha256: str) -> dict[str, Any]:
    """The single trials that the judgement of a network keeps, on two small alphabets."""
    test = tiny.drawings({"Greek": 6, "Runes": 6})
    trials = within(test, trials=30, n_way=5)
    scores = np.random.default_rng(0).normal(size=(30, 5))
    pairs = {"any": Scored(np.arange(8.0), np.arange(8) % 2 == 0, 4)}
    return outcomes(Seen(test, test.packed[:, :9].astype(float), [(trials, scores)], pairs), sha256=sha256)


FILES = [
    "experiment.toml", STUDY, "result.json", "outcomes.json", "best/model.json", "trials/000/history.jsonl",
    "trials/000/notes.jsonl", "trials/000/error.json",
]  # fmt: skip


def use_run(folder: Folder, kept: Path) -> None:
    """Call everything that reads a run: the resumed study, the judgement, the network, the record, the report."""
    console = Console(file=io.StringIO(), width=100)
    chosen = read_experiment(folder)
    points.check(chosen)
    with TrainView(console) as view, following(folder / "trials/000", view, Train()):
        view.start(3, 10)
    read_failure(folder / "trials/000")
    header = {
        "job": "quick", "epochs": chosen.train.epochs, "started": 0.0, "dataset": "omniglot", "split": "lake",
        "concurrent": 2, "workers": 1, "device": "cpu", "searcher": "random",
    }  # fmt: skip
    going = Study(folder, trials=chosen.search.trials, header=header)
    going.resume()
    for each in going.trials:
        with_point(chosen, each["settings"])
    with StudyView(console) as view:
        view.update(going.record())
    console.print(study_table(going.record()))
    judged = formats.read(formats.Result, folder, "result.json")
    console.print(result_panel(judged), alphabet_table(judged))
    page = np.eye(28, dtype=np.uint8) * 255
    net = oneshot.load(folder, device="cpu")
    net.classify(page, {"a": page, "b": 255 - page})
    if net.calibration and net.calibration.record.get("match"):
        net.threshold(0.01)
    modelcard.write(folder)
    parse(cards.recorded_settings(folder), "the network")
    seen = reading.read(folder)
    console.print(compare.screen(compare.compared([seen, seen])))
    _, figures = report.page(seen)
    for name, canvas in figures.items():
        svg(canvas, name=name, theme=LIGHT)
    record.keep(folder, name="kept")
    pages.results_table(record.read_all())
    assert (kept / "kept.json").is_file()


def kept_records(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """An empty place for records instead of the repository's."""
    monkeypatch.setattr(record, "records_folder", lambda: folder)
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def test_what_is_whole_is_taken(
    data: Folder, trained: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Undamaged files are accepted; otherwise every damaged example could be refused for another reason."""
    rows = sorted(MANY, key=lambda one: (one.alphabet, one.character, one.drawer))
    assert np.array_equal(use_data(data), np.stack([one.ink for one in rows]))
    for optimizer in SETTINGS:
        assert go_on(Path(shutil.copytree(trained / optimizer, tmp_path / optimizer))) == 2
    kept = kept_records(monkeypatch, tmp_path / "records")
    use_run(Folder.of(shutil.copytree(run, tmp_path / "run")), kept)
    assert {file.name for file in kept.iterdir()} == {"kept.json", "kept.svg", "kept-live.svg", "kept-errors.png"}


@given(case=st.data(), name=st.sampled_from(FILES), whole=st.booleans())
@examples(100)
def test_any_record_of_a_run_is_used_or_refused(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: st.DataObject, name: str, whole: bool
) -> None:
    folder, kept = tmp_path / "run", kept_records(monkeypatch, tmp_path / "records")
    shutil.copytree(run, folder, dirs_exist_ok=True)
    content = (run / name).read_bytes()
    if whole or name.endswith(".toml"):
        changed = case.draw(corrupt(content))
    elif name.endswith(".jsonl"):
        rows = case.draw(damaged([json.loads(line) for line in content.splitlines()]))
        changed = "".join(f"{json.dumps(row)}\n" for row in (rows if isinstance(rows, list) else [rows])).encode()
    else:
        changed = json.dumps(case.draw(damaged(json.loads(content)))).encode()
    (folder / name).write_bytes(changed)
    # A history that lacks epochs is valid: it is like that of a search that is not over.
    taken_or_refused(lambda: use_run(Folder.of(folder), kept), Path(name).name, "is not over")
    # The record, two screens, and a picture of the errors if there is something to show in it.
    assert not kept.exists() or len(list(kept.iterdir())) in (3, 4)


# Archives

names = st.one_of(
    st.sampled_from([*MEMBERS, "images_x/", "../x.png", "/x.png", "a\\b.png", "C:x.png", "images_x/G/x.png"]),
    st.text(max_size=12), st.text(max_size=6).map(lambda text: f"images_x/{text}/character01/0001_01.png"),
)  # fmt: skip
members = st.tuples(
    names, st.sampled_from([0, 0o100644, 0o40755, 0o120777, 0o10644]), st.integers(0, 1200), st.booleans()
)


@given(st.lists(members, max_size=6))
@examples(150)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_any_listing_of_an_archive_is_read_or_refused(
    tmp_path: Path, listing: list[tuple[str, int, int, bool]]
) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, mode, size, lies in listing:
            info = zipfile.ZipInfo(name or "x")
            info.external_attr = mode << 16
            archive.writestr(info, bytes(size))
            if lies:
                info.file_size //= 2
    taken_or_refused(lambda: omniglot.drawings(read_zip(path, limits=SMALL), "images_x"))
    assert [found.name for found in tmp_path.iterdir()] == ["a.zip"]


@given(case=st.data())
@examples(40)
def test_any_members_of_the_archives_are_trials_or_refused(case: st.DataObject) -> None:
    archives = list(made_archives())
    for _ in range(case.draw(st.integers(1, 3))):
        members = archives[case.draw(st.integers(0, 1))]
        name = case.draw(st.sampled_from(sorted(members)))
        content = members.pop(name)
        action = case.draw(st.sampled_from(["lost", "corrupt", "renamed", "swapped"]))
        if action == "corrupt":
            members[name] = case.draw(corrupt(content))
        elif action == "renamed":
            members[case.draw(names)] = content
        elif action == "swapped":
            members[name] = members[case.draw(st.sampled_from(sorted(members)))]
    evaluation, runs = archives
    taken_or_refused(lambda: omniglot.resolve_trials(runs, evaluation, first_row=0))
