"""A run folder is opened for the kind of run that it holds, and a request that is refused changes nothing in it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import runs
import tiny

from oneshot.base.errors import UserError
from oneshot.base.jobs import override, with_point
from oneshot.base.settings import Settings
from oneshot.base.storage import Folder
from oneshot.evaluation.judgement import check_judged
from oneshot.network.models import build
from oneshot.run import owner
from oneshot.run.opened import EXPERIMENT, Kind, open_run, read_experiment, settings_of_network

FIXED = {"study": ("data", "model", "train", "search"), "training": ("data", "model")}


def open_for(kind: Kind, settings: Settings, run: Folder) -> None:
    with open_run(settings, run, kind=kind, fixed=FIXED[kind]):
        pass


def refused(kind: Kind, settings: Settings, run: Folder) -> str:
    """The error with which opening a run is refused; its settings must stay unchanged."""
    before = run.read(EXPERIMENT)
    with pytest.raises(UserError) as caught:
        open_for(kind, settings, run)
    assert run.read(EXPERIMENT) == before
    return str(caught.value)


def test_a_training_does_not_take_over_a_study_nor_a_study_a_training(tmp_path: Path) -> None:
    study, training = runs.study(tmp_path / "study"), runs.training(tmp_path / "training", epochs=2)
    for begun, kind, other in ((study, "study", "training"), (training, "training", "study")):
        settings = read_experiment(begun)
        assert refused(other, settings, begun) == f"{begun} holds a {kind}, and not a {other}: name another folder"
        open_for(kind, settings, begun)


@pytest.mark.parametrize("left", ["study.json", "trials"])
def test_of_a_study_one_of_its_traces_is_enough(tmp_path: Path, left: str) -> None:
    run = runs.study(tmp_path / "run", over=False)
    for name in {"study.json", "trials"} - {left}:
        (run / name).remove() if name == "trials" else run.remove(name)
    assert "holds a study" in refused("training", read_experiment(run), run)


def test_a_run_that_has_left_nothing_yet_may_become_either(tmp_path: Path) -> None:
    run = Folder.of(tmp_path / "run")
    for kind in ("training", "study", "training"):
        open_for(kind, tiny.settings(), run)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [({"lr": 0.1}, "train.lr = 0.05, not 0.1"), ({"batch": 8}, "train.batch = 16, not 8")],
)
def test_a_training_is_refused_before_its_settings_are_written(
    tmp_path: Path, change: dict[str, Any], sentence: str
) -> None:
    run = Folder.of(tmp_path)
    for settings in (tiny.settings(epochs=1, **change), tiny.settings(epochs=1)):
        open_for("training", settings, run)  # nothing is trained yet
    tiny.train(run, tiny.settings(epochs=1))
    assert refused("training", tiny.settings(epochs=1, **change), run).startswith(
        f"{run} holds a training with {sentence}: name another --run"
    )


def test_more_epochs_may_be_asked_for_and_stand_in_the_settings(tmp_path: Path) -> None:
    run = Folder.of(tmp_path)
    open_for("training", tiny.settings(epochs=1), run)
    tiny.train(run, tiny.settings(epochs=1))
    (run / "checkpoints" / "epoch-0002").write("state.json", b"{")  # a damaged checkpoint is ignored
    open_for("training", tiny.settings(epochs=2), run)
    assert read_experiment(run).train.epochs == 2
    tiny.train(tmp_path / "cosine", tiny.settings(epochs=1, schedule="cosine"))
    run = Folder.of(tmp_path / "cosine")
    run.write(EXPERIMENT, tiny.settings(epochs=1, schedule="cosine").to_toml().encode())
    assert "train.epochs = 1, not 2" in refused("training", tiny.settings(epochs=2, schedule="cosine"), run)


def test_a_study_may_be_given_more_trials_and_no_fewer(tmp_path: Path) -> None:
    run = runs.study(tmp_path / "run")
    settings = read_experiment(run)
    fewer, more = (override(settings, {"search.trials": n}, source="the test") for n in (2, 5))
    assert refused("study", fewer, run).startswith(f"search.trials = 2: {run} already has 3 trials, and")
    open_for("study", more, run)
    assert read_experiment(run) == more
    assert "search.trials = 3: " in refused("study", settings, run)
    training = runs.training(tmp_path / "training", epochs=2)
    open_for("training", fewer, training)  # a training has no trials


def test_what_whoever_held_the_run_has_changed_is_looked_at_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, sole = tiny.settings(), owner.sole
    few, some, many = (override(settings, {"search.trials": n}, source="the test") for n in (2, 3, 4))
    run = Folder.of(tmp_path / "run")

    @contextlib.contextmanager
    def after(run: Folder, **how: Any) -> Iterator[Any]:
        run.write(EXPERIMENT, many.to_toml().encode())
        with sole(run, **how) as lost:
            yield lost

    monkeypatch.setattr(owner, "sole", after)
    for begun in (None, few):  # a new run that another process begins, and one that gets more trials
        run.write(EXPERIMENT, begun.to_toml().encode()) if begun else None
        with pytest.raises(UserError, match=r"search\.trials = 3: .* already has 4 trials, and the number"):
            open_for("study", some, run)
        assert read_experiment(run) == many
        run.remove()


def test_what_the_caller_checks_is_checked_while_the_run_is_held_and_before_it_is_written(tmp_path: Path) -> None:
    run = runs.study(tmp_path / "run")
    settings, before = read_experiment(run), run.read(EXPERIMENT)
    more = override(settings, {"search.trials": 12}, source="the test")

    def check() -> None:
        with pytest.raises(UserError, match="is in use by"), owner.sole(run):
            pass
        raise UserError("not now")

    with pytest.raises(UserError, match="not now"), open_run(more, run, kind="study", fixed=(), check=check):
        pass
    assert run.read(EXPERIMENT) == before


def test_a_study_begun_before_a_setting_existed_goes_on(tmp_path: Path) -> None:
    run = runs.study(tmp_path / "run", over=False)
    settings, text = read_experiment(run), run.read(EXPERIMENT).decode().splitlines(keepends=True)
    assert any(line.startswith("weight_decay = [") for line in text)
    at = next(number for number, line in enumerate(text) if line.startswith("weight_decay = ["))
    end = next(number for number in range(at, len(text)) if "]" in text[number])
    run.write(EXPERIMENT, "".join(text[:at] + text[end + 1 :]).encode())
    open_for("study", settings, run)
    assert read_experiment(run) == settings


def test_other_trials_of_a_judged_run_are_for_evaluate_to_make(tmp_path: Path) -> None:
    run = runs.study(tmp_path / "run")
    settings = read_experiment(run)
    check_judged(run, settings)
    other = settings.model_copy(update={"evaluate": settings.evaluate.model_copy(update={"k_shot": 5})})
    with pytest.raises(UserError, match=r"was judged with evaluate\.k_shot = 1, not 5: .*python -m oneshot\.evaluate"):
        check_judged(run, other)
    run.remove("result.json")
    check_judged(run, other)


# What a run's network was trained with


def networks_run(where: Path, begun: Settings, trained: Settings) -> Folder:
    """A run that was begun with some settings and holds a network that was trained with others."""
    run = Folder.of(tiny.network(where, build(trained.model, size=trained.data.size), trained))
    run.write(EXPERIMENT, begun.to_toml().encode())
    return run


def test_a_studys_settings_are_those_of_its_best_trial(tmp_path: Path) -> None:
    point = {"optimizer": "adam", "lr": 0.002, "batch": 32, "data.size": 32, "model.head": "plain"}
    begun = override(tiny.settings(), {"search.trials": 5, "evaluate.n_way": 5, "scale.timeout": 60}, source="the test")
    chosen = with_point(begun, point)
    run = networks_run(tmp_path / "run", begun, chosen)
    run.write_json("study.json", {})
    assert settings_of_network(run) == chosen != begun
    assert settings_of_network(run / "best") == with_point(tiny.settings(), point), "which knows no more than that"
    assert read_experiment(run) == begun


def test_what_an_older_network_does_not_say_it_was_trained_with_is_the_default(tmp_path: Path) -> None:
    begun = override(tiny.settings(), {"train.ema": 0.5}, source="the test")
    run = networks_run(tmp_path / "run", begun, begun)
    card = (run / "best").read_json("model.json")
    del card["provenance"]["settings"]["train"]["ema"]
    (run / "best").write_json("model.json", card)
    assert settings_of_network(run) == tiny.settings()


def test_a_run_without_a_network_has_no_settings_of_one_and_says_what_to_do(tmp_path: Path) -> None:
    study, training = runs.study(tmp_path / "my study", over=False), runs.training(tmp_path / "training", epochs=2)
    said = "holds no network yet to take settings from: it is written when its"
    with pytest.raises(UserError) as caught:
        settings_of_network(study)
    assert str(caught.value) == (
        f"{study} {said} search is over; python -m oneshot.tune --resume '{tmp_path}/my study' continues it"
    )
    with pytest.raises(UserError, match=f"{said} training is over; the command that began it, with --run {training}"):
        settings_of_network(training)
    with pytest.raises(UserError, match="holds no network"):
        settings_of_network(Folder.of(tmp_path))
