"""`prune` removes the checkpoints that nothing needs any more and nothing else; all else works as before."""

import contextlib
import io
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import command
import pytest
import tiny
from objects import ObjectStore
from pictures import figure
from rich.console import Console

import oneshot
from oneshot.base.errors import DiskFull, RunFailed, UserError
from oneshot.base.jobs import override, with_point
from oneshot.base.settings import Settings
from oneshot.base.storage import Folder
from oneshot.cli import prune as pruner
from oneshot.cli import request
from oneshot.cluster.packing import Packing
from oneshot.evaluation.evaluate import evaluate
from oneshot.evaluation.judgement import RESULT, TOUCHED
from oneshot.report import reading
from oneshot.report.compare import row
from oneshot.report.page import page
from oneshot.run import checkpoint, owner
from oneshot.run.history import HISTORY, NOTES, read_history
from oneshot.run.opened import EXPERIMENT, IDENTITY
from oneshot.run.pruning import PRUNED
from oneshot.screen.console import size
from oneshot.search import closing, final, tune
from oneshot.search.study import STUDY, Study
from oneshot.training import start, train

SETTINGS = override(
    tiny.settings(epochs=4),
    {
        "data.dataset": "glyphs-10", "data.split": "lake", "search.trials": 3, "search.grace": 2,
        "search.reduction": 2, "search.batch": [16], "search.first": [], "evaluate.trials": 20,
    },
    source="the test",
)  # fmt: skip
POINTS = {"000": {"lr": 1e-4}, "001": {"lr": 0.05}, "002": {"lr": 1e-3}}
EPOCHS = {"000": 2, "001": 4, "002": 2}  # of three at the rung of two epochs, one goes on
BEST = "001"
HEADER = {
    "job": "tiny", "dataset": "glyphs (generated)", "why": "", "split": "lake", "epochs": 4, "searcher": "random",
    "started": 0.0, "workers": 1, "device": "cpu", "concurrent": 1,
}  # fmt: skip


class View:
    def update(self, shown: dict[str, Any]) -> None: ...

    def say(self, text: str) -> None: ...


@pytest.fixture(scope="module")
def data(data_root: Path) -> Folder:
    return Folder.of(data_root / "glyphs-10")


def judged(run: Folder, data: Folder) -> None:
    """Run the study's final judgement in this process."""
    final._judge(
        SETTINGS.model_dump(), run.uri, data.uri, (run / "trials" / BEST).uri,
        best_trial={"id": BEST, "settings": POINTS[BEST]}, device="cpu", threads=1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(data: Folder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study: trained, stopped at its rung and judged as a search does it. Do not write to it."""
    run = Folder.of(tmp_path_factory.mktemp("study") / "run")
    run.write(EXPERIMENT, SETTINGS.to_toml().encode())
    with owner.sole(run):
        study = Study(run, trials=3, header=dict(HEADER))
        for trial, epochs in EPOCHS.items():
            study.start(trial, POINTS[trial])
            folder, given = study.folder(trial), with_point(SETTINGS, POINTS[trial], source="the test")
            killer = tiny.Killer(after=epochs if epochs < 4 else None)
            try:
                tiny.train(folder, given, watch=killer)
            except tiny.Killed:
                assert epochs < 4
            for epoch in read_history(folder):
                study.row(trial, epoch)
            study.end(trial)
        best = study.best()
        assert best is not None and best["id"] == BEST, "the points were chosen for that"
        assert [trial["status"] for trial in study.trials] == ["stopped", "finished", "stopped"]
        judged(run, data)
    return Path(run.path)


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Folder:
    shutil.copytree(made, tmp_path / "run")
    return Folder.of(tmp_path / "run")


def pruned(*runs: Folder, stopped: bool = False, dry_run: bool = False) -> list[str]:
    """Prune the runs and return what is printed, one line for each."""
    text = io.StringIO()
    pruner.prune(Console(file=text, width=500), runs=[each.uri for each in runs], stopped=stopped, dry_run=dry_run)
    return text.getvalue().splitlines()


def files(run: Folder) -> dict[str, bytes]:
    """All files of a run except the note on who holds it."""
    found = {}

    def walk(folder: Folder, before: str) -> None:
        for name in folder.names():
            try:
                found[before + name] = folder.read(name)
            except (OSError, RunFailed):  # a folder
                walk(folder / name, f"{before}{name}/")

    walk(run, "")
    return {name: content for name, content in found.items() if name != owner.NOTE}


def trials(run: Folder) -> dict[str, list[str]]:
    """The checkpoints of each trial."""
    return {trial: checkpoint.names(run / "trials" / trial / "checkpoints") for trial in EPOCHS}


def on_store(run: Folder, bucket: str) -> Folder:
    """A copy on the object store."""
    place = Folder.of(f"{bucket}/runs/one")
    for name, content in files(run).items():
        folder, _, file = name.rpartition("/")
        (place / folder if folder else place).write(file, content)
    return place


def resumed(run: Folder, data: Folder, monkeypatch: pytest.MonkeyPatch, settings: Settings = SETTINGS) -> None:
    """Do what `tune --resume` does with a study, without a cluster. Training anything fails the test."""
    closing.check(run, settings)
    study = Study(run, trials=settings.search.trials, header=dict(HEADER))
    assert study.resume() == []
    study.save()
    monkeypatch.setattr(tune, "_tuner", lambda *_, **__: pytest.fail("a trial is run again"))
    assert tune.tune(settings, study, data, Packing(workers=1, cpus=1, gpus=0, concurrent=1), View())
    judged(run, data)


@pytest.fixture(params=["on disk", "on a store"])
def either(request: pytest.FixtureRequest, run: Folder) -> Folder:
    """The study, on the local disk or in a bucket."""
    return run if request.param == "on disk" else on_store(run, request.getfixturevalue("bucket"))


def test_the_winner_keeps_what_it_needs_the_others_lose_theirs_and_nothing_else_changes(either: Folder) -> None:
    before, had = files(either), trials(either)
    assert all(len(names) == 2 for trial, names in had.items() if trial != BEST)
    found = checkpoint.best(either / "trials" / BEST / "checkpoints")
    assert found is not None
    (line,) = pruned(either)
    stays = sorted({"epoch-0004", found.name})
    assert trials(either) == {"000": [], BEST: stays, "002": []}
    after = files(either)
    gone = {name for name in before if "/checkpoints/" in name and name.split("/")[3] not in stays}
    gone |= {name for name in before if "/checkpoints/" in name and name.split("/")[1] != BEST}
    assert {name: content for name, content in before.items() if name not in gone} == {
        name: content for name, content in after.items() if name != PRUNED
    }
    assert either.read_json(PRUNED)["trials"] == sorted({name.split("/")[1] for name in gone})
    freed, kept = size(sum(len(before[name]) for name in gone)), ", ".join(stays)
    assert line.startswith(f"{either}: {freed} freed, {sum(map(len, had.values())) - len(stays)} checkpoints of ")
    assert f"; {kept} (" in line and line.endswith(f") of trial {BEST} stays")
    assert pruned(either) == [f"{either}: nothing to remove; {line.partition('; ')[2]}"]
    assert files(either) == after


def test_what_is_asked_of_a_run_is_answered_as_before(either: Folder, data: Folder) -> None:
    def asked() -> list[Any]:
        net = oneshot.load(either, device="cpu")
        classes = {"alpha": figure(0), "beta": figure(1)}
        ranking = net.classify(figure(0, 1), classes)[0].to_dict()
        _, begun = start.resolve(override(SETTINGS, {"train.start": either.uri}, source="the test"))
        shown = asdict(reading.read(either)) | {"read": 0.0, "pruned": False, "held": False}
        told = evaluate(either, data, dataset="glyphs-10", split="lake", how=SETTINGS.evaluate, device="cpu")
        return [net.embed(figure(2)).tolist(), ranking, begun and begun.mark, shown, told["protocols"]]

    before = asked()
    pruned(either)
    after = asked()
    before[3]["touched"] += 1  # the evaluation in `asked` counts
    assert after == before


def test_a_study_that_is_over_trains_nothing_and_judges_nothing_when_it_is_taken_up_again(
    either: Folder, data: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    pruned(either)
    before = files(either)
    resumed(either, data, monkeypatch)
    after = files(either)
    for name in (RESULT, TOUCHED, "best/model.safetensors", f"trials/{BEST}/history.jsonl"):
        assert after[name] == before[name], name
    assert {name for name in after if NOTES in name} == {name for name in before if NOTES in name}
    assert json.loads(after[STUDY])["trials"] == json.loads(before[STUDY])["trials"]


def test_a_dry_run_says_the_same_and_touches_nothing(made: Path, run: Folder) -> None:
    found = lambda: {path: path.stat().st_mtime_ns for path in [Path(run.path), *Path(run.path).rglob("*")]}  # noqa: E731
    before = found()
    (line,) = pruned(run, dry_run=True)
    assert found() == before
    assert pruned(run) == [line.replace(" would be freed", " freed")]


def test_a_run_that_somebody_holds_is_refused(run: Folder) -> None:
    before = files(run)
    with owner.sole(run), pytest.raises(UserError, match=f"{run} is in use by"):
        pruned(run)
    study = run.read_json(STUDY)
    study["trials"][2]["status"] = "running"
    run.write_json(STUDY, study)
    with owner.sole(run), pytest.raises(UserError, match=f"{run} is running: wait for it or stop it"):
        pruned(run, dry_run=True)
    run.write(STUDY, before[STUDY])
    assert files(run) == before


def waiting(run: Folder) -> None:
    study = run.read_json(STUDY)
    study["trials"][2] |= {"status": "pending", "epochs": 1}
    run.write_json(STUDY, study)
    (run / "trials/002").write("history.jsonl", (run / "trials/002").read("history.jsonl").splitlines(True)[0])


def failed(run: Folder) -> None:
    study = run.read_json(STUDY)
    study["trials"][0] |= {"status": "failed", "error": "no memory"}
    run.write_json(STUDY, study)


def due(run: Folder) -> None:
    settings = override(SETTINGS, {"train.epochs": 8}, source="the test")  # the next rung is at four epochs
    run.write(EXPERIMENT, settings.to_toml().encode())
    study = run.read_json(STUDY)
    study["trials"][1]["status"] = "stopped"
    run.write_json(STUDY, study)
    folder = run / "trials" / BEST
    folder.write("history.jsonl", folder.read("history.jsonl").replace(b'"ended": "epochs"', b'"ended": ""'))


def unjudged(run: Folder) -> None:
    run.remove(RESULT)


def more(run: Folder) -> None:
    run.write(EXPERIMENT, override(SETTINGS, {"search.trials": 5}, source="the test").to_toml().encode())


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (waiting, "trial 002 would be trained"),
        (failed, "trial 000 would be trained"),
        (due, f"trial {BEST} would go on after epoch 4"),
        (more, "trials 003, 004 would be trained"),
        (unjudged, "the network of its best trial has not been judged"),
    ],
)
def test_a_study_that_is_not_over_is_refused_and_given_up_does_not_go_on(
    change: Callable[[Folder], None], why: str, run: Folder, data: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(run)
    settings, before = reading.read(run).settings, files(run)
    closing.check(run, settings)  # accepted while no checkpoint is missing
    with pytest.raises(UserError) as refused:
        pruned(run)
    assert str(refused.value) == (
        f"{run} is not over: {why}; let it finish, or prune it as it is with --stopped; then it cannot go on"
    )
    assert files(run) == before
    assert " freed, " in pruned(run, stopped=True)[0]
    assert trials(run)["000"] == trials(run)["002"] == [] and trials(run)[BEST]
    if change is unjudged:  # judging needs only the winner's checkpoints
        resumed(run, data, monkeypatch)
        assert run.has(RESULT)
        return
    with pytest.raises(UserError, match=f"{run} was pruned, and its search cannot go on: {why}, but the checkpoints"):
        closing.check(run, settings)


def test_a_study_that_was_given_up_says_so_wherever_it_is_shown(run: Folder) -> None:
    waiting(run)
    unjudged(run)
    pruned(run, stopped=True)
    found = reading.read(run)
    assert (row(found)["state"], row(found)["pruned"]) == ("stopped", True)
    shown = page(found)[0]
    assert "checkpoints were removed: it cannot go on" in shown and "--resume" not in shown


def test_the_command_refuses_to_go_on_before_anything_is_written(run: Folder, data_root: Path) -> None:
    waiting(run)
    text = command.run("prune", run.path, "--stopped")
    assert text.startswith(f"{run}: ") and " freed, " in text
    before = files(run)
    said = command.refused("tune", "--resume", run.path, ONESHOT_DATA=str(data_root))
    assert said.startswith(f"{run} was pruned, and its search cannot go on: trial 002 would be trained")
    assert files(run) == before


def test_a_study_that_is_pruned_while_more_trials_are_asked_for_does_not_get_them(
    either: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    sole, before = owner.sole, {}
    more = override(SETTINGS, {"search.trials": 64}, source="the test")
    closing.check(either, more)  # accepted while no checkpoint is missing

    @contextlib.contextmanager
    def after(folder: Folder, **how: Any) -> Iterator[Any]:
        monkeypatch.setattr(owner, "sole", sole)
        pruned(either)
        before.update(files(either))
        with sole(folder, **how) as lost:
            yield lost

    monkeypatch.setattr(owner, "sole", after)
    held = request.held_run(
        Console(file=io.StringIO()), more, either, None, None, None, kind="study", fixed=(*IDENTITY, "search")
    )
    with pytest.raises(UserError, match="its search cannot go on: trials 003, 004, 005, 006 and"), held:
        pass
    assert PRUNED in before and files(either) == before


def test_to_ask_whether_a_study_goes_on_leaves_it_as_it_is(run: Folder) -> None:
    """With histories lost: that of the best trial is also in its checkpoints, that of another trial nowhere."""
    pruned(run)
    for trial, goes_on in ((BEST, False), ("000", True)):
        (run / "trials" / trial).remove(HISTORY)
        before = files(run)
        with pytest.raises(UserError, match="trial 000 would be trained") if goes_on else contextlib.nullcontext():
            closing.check(run, SETTINGS)
        assert files(run) == before


def test_what_was_broken_off_is_finished_and_starts_no_trial_from_nothing_meanwhile(
    either: Folder, data: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, remove, left = files(either), Folder.remove, []

    def dies(folder: Folder, name: str = "") -> None:
        if folder.name.startswith("epoch-"):
            left.append(folder)
            if len(left) > 2:
                raise KeyboardInterrupt
        remove(folder, name)

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "remove", dies)
        with pytest.raises(KeyboardInterrupt):
            pruned(either)
    assert either.has(PRUNED) and 0 < len(files(either)) < len(whole)
    resumed(either, data, monkeypatch)
    pruned(either)
    assert trials(either)["000"] == trials(either)["002"] == []
    assert {"000", "002"} <= {*either.read_json(PRUNED)["trials"]}


def test_room_for_the_note_is_made_of_what_no_trial_would_miss(run: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the note is written, a session can still continue any trial."""
    write, room = Folder.write, 2
    for trial in EPOCHS:
        (run / "trials" / trial / "checkpoints" / "epoch-0009").write(checkpoint.WEIGHTS, b"half")
    newest = lambda: [checkpoint.newest(run / "trials" / trial / "checkpoints")[0].name for trial in EPOCHS]  # noqa: E731
    before, most = newest(), sum(map(len, trials(run).values()))

    def full(folder: Folder, name: str, data: bytes) -> None:
        if name == PRUNED and sum(map(len, trials(run).values())) > most - room:
            raise DiskFull("no room")
        assert name != PRUNED or newest() == before
        write(folder, name, data)

    monkeypatch.setattr(Folder, "write", full)
    pruned(run)
    assert trials(run)["000"] == trials(run)["002"] == [] and run.has(PRUNED)


def test_where_no_room_can_be_made_every_trial_can_still_go_on(run: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Folder.write

    def full(folder: Folder, name: str, data: bytes) -> None:
        if name == PRUNED:
            raise DiskFull("no room")
        write(folder, name, data)

    monkeypatch.setattr(Folder, "write", full)
    with pytest.raises(DiskFull):
        pruned(run)
    assert all(checkpoint.newest(run / "trials" / trial / "checkpoints")[0] for trial in EPOCHS)
    closing.check(run, override(SETTINGS, {"search.trials": 5}, source="the test"))


@pytest.mark.parametrize("refused", ["DELETE POST", "POST"])  # not even the note can be removed, or only the note
def test_who_may_not_remove_anything_leaves_a_study_that_goes_on(
    refused: str, run: Folder, bucket: str, object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, more = on_store(run, bucket), override(SETTINGS, {"search.trials": 5}, source="the test")
    before = files(place)
    refuse = lambda method, *_: 403 if method in refused.split() else None  # noqa: E731
    with monkeypatch.context() as patch:
        patch.setattr(object_store, "refuse", refuse)
        with pytest.raises(RunFailed, match="cannot remove"):
            pruned(place)
    place.remove(owner.NOTE)  # its removal may have been refused, too
    assert {name: content for name, content in files(place).items() if name != PRUNED} == before
    assert not reading.read(place).pruned
    closing.check(place, more)
    pruned(place)
    with pytest.raises(UserError, match="was pruned"):
        closing.check(place, more)


def test_where_one_of_several_is_refused_nothing_is_removed_of_any(run: Folder, made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "other")
    other = Folder.of(tmp_path / "other")
    failed(other)
    before = files(run)
    with pytest.raises(UserError, match=f"{other} is not over"):
        pruned(run, other)
    with pytest.raises(UserError, match="none holds no run"):
        pruned(run, Folder.of(tmp_path / "none"))
    assert files(run) == before and not (tmp_path / "none").exists()
    assert len(pruned(run, run, other, stopped=True)) == 2


def test_a_winner_that_is_damaged_already_is_told_of_and_nothing_is_removed(run: Folder) -> None:
    for name in trials(run)[BEST]:
        (run / "trials" / BEST / "checkpoints" / name).write(checkpoint.WEIGHTS, b"x")
    before = files(run)
    with pytest.raises(UserError, match=r"checkpoint of the best epoch, \d, in .* is missing or damaged: restore it"):
        pruned(run)
    assert files(run) == before


def test_a_single_training_keeps_its_newest_and_its_best_and_goes_on(tmp_path: Path, data: Folder) -> None:
    run = Folder.of(tmp_path / "run")
    run.write(EXPERIMENT, SETTINGS.to_toml().encode())
    with pytest.raises(tiny.Killed):
        tiny.train(run, SETTINGS, watch=tiny.Killer(after=3))
    with pytest.raises(UserError, match=r"its training has not ended; .* prune it as it is with --stopped$"):
        pruned(run)
    tiny.train(run, SETTINGS)
    train.finish(SETTINGS, run, data=data)
    had = checkpoint.names(run / "checkpoints")
    before, found = files(run), checkpoint.best(run / "checkpoints")
    assert found is not None and len(had) > 1
    (line,) = pruned(run)
    stays = sorted({"epoch-0004", found.name})
    assert checkpoint.names(run / "checkpoints") == stays
    assert line.endswith(" stays") and " of trial" not in line
    assert {name for name in before if "checkpoints/" not in name} == {
        name for name in files(run) if "checkpoints/" not in name
    }
    longer = override(SETTINGS, {"train.epochs": 5}, source="the test")
    assert tiny.train(run, longer).epoch == 5
    again = checkpoint.newest(run / "checkpoints")[0]
    assert again is not None and [each["epoch"] for each in again.progress.history] == [1, 2, 3, 4, 5]


def test_of_a_training_without_a_whole_checkpoint_all_stay(tmp_path: Path) -> None:
    run = Folder.of(tmp_path / "run")
    run.write(EXPERIMENT, SETTINGS.to_toml().encode())
    (run / "checkpoints" / "epoch-0000-step-00002").write(checkpoint.WEIGHTS, b"half")
    assert pruned(run, stopped=True)[0].startswith(f"{run}: nothing to remove; epoch-0000-step-00002")
