"""A whole search on a Tune that trains nothing: however little room there is and however often the search is resumed,
the study equals that of an undisturbed search."""

import itertools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.search import Searcher
from ray.tune.trainable.metadata import _TrainingRunMetadata
from rich.console import Console

from oneshot.base.errors import NoRoom
from oneshot.base.jobs import parse
from oneshot.base.storage import Folder
from oneshot.cluster.packing import Packing
from oneshot.run.history import read_history, write_history
from oneshot.screen.live import StudyView
from oneshot.search import tune
from oneshot.search.study import Study
from oneshot.search.trial import HOMELESS
from oneshot.search.tuning import PlannedSearch, Recorder

SETTINGS = parse(
    {
        "train": {"epochs": 9},
        "search": {"searcher": "random", "trials": 12, "grace": 1, "reduction": 3, "first": [{}, {"lr": 3e-3}]},
    },
    "the test",
)
PACKING = Packing(workers=1, cpus=1, gpus=0.0, concurrent=1)


class Tune:
    """Asks a search for one trial after the other, and tells it and the recorder what Ray Tune tells them. A trial
    finds no room if `homeless`, called with its number and the epochs it has, is true."""

    def __init__(self, search: PlannedSearch, recorder: Recorder, homeless: Callable[[str, int], bool]) -> None:
        self.search, self.recorder, self.homeless = search, recorder, homeless

    def fit(self) -> None:
        for number in itertools.count():
            name = f"tune-{number}"
            config = self.search.suggest(name)
            if config == Searcher.FINISHED:
                return
            assert isinstance(config, dict)
            trial = SimpleNamespace(config=config, run_metadata=_TrainingRunMetadata(), last_result={})
            self.recorder.on_trial_start(0, [], trial)
            rows = [{"epoch": 0, "val_loss": float("inf"), "ended": HOMELESS, "why": "the cluster had no room"}]
            if not self.homeless(config["trial"], config["known"]):
                rows = self.trained(config)
            for trial.last_result in rows:
                self.recorder.on_trial_result(0, [], trial, trial.last_result)
            assert trial.last_result, f"trial {config['trial']} ended without a report: Tune breaks off the search"
            self.search.on_trial_complete(name, trial.last_result)
            self.recorder.on_trial_complete(0, [], trial)
            self.recorder.on_step_end(0, [])

    @staticmethod
    def trained(config: dict[str, Any]) -> list[dict[str, Any]]:
        """Write a trial's history up to its rung; returns the rows that it had not reported yet."""
        folder, height = Folder.of(config["folder"]), (int(config["trial"]) * 0.618) % 1
        rows = [
            {"epoch": n, "val_loss": height + 1 / n, "best": True, "ended": "epochs" if n == 9 else ""}
            for n in range(1, config["until"] + 1)
        ]
        assert read_history(folder) == rows[: config["known"]]
        write_history(folder, rows)
        return rows[config["known"] :]


def searched(
    run: Path, monkeypatch: pytest.MonkeyPatch, homeless: Callable[[str, int], bool]
) -> tuple[list[dict[str, Any]], int]:
    """The trials of a study that is resumed until it is over, and how many sessions that took."""

    def tuner(settings: Any, study: Study, data: Folder, packing: Packing, view: StudyView, **more: Any) -> Any:
        search = PlannedSearch(settings, study, data, concurrent=1, nodes=lambda: 1, remade=more["remade"])
        return Tune(search, Recorder(study, view), homeless), search

    monkeypatch.setattr(tune, "_tuner", tuner)
    monkeypatch.setattr(tune, "_reopen_damaged", lambda study: {})  # there is no network
    for sessions in itertools.count(1):
        header = {
            "job": "quick", "dataset": "none", "split": "none", "started": 0.0, "epochs": 9, "searcher": "random",
            "workers": 1, "device": "cpu", "concurrent": 1,
        }  # fmt: skip
        study = Study(Folder.of(run), trials=SETTINGS.search.trials, header=header)
        study.resume()
        view = StudyView(Console(quiet=True))
        try:
            assert tune.tune(SETTINGS, study, Folder.of(run), PACKING, view)
        except NoRoom:
            assert sessions < 100
            continue
        return [{key: each[key] for key in each if key not in ("seconds", "notes")} for each in study.trials], sessions
    raise AssertionError


def test_a_search_whose_every_trial_finds_no_room_at_first_is_that_of_one_that_always_had_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time that a trial begins or goes on from a rung, its first try finds no room, so that the search ends and is
    resumed."""
    whole, once = searched(tmp_path / "whole", monkeypatch, lambda trial, epochs: False)
    assert once == 1 and {1, 3, 9} <= {trial["epochs"] for trial in whole}
    tried: set[tuple[str, int]] = set()

    def at_first(trial: str, epochs: int) -> bool:
        before = (trial, epochs) in tried
        tried.add((trial, epochs))
        return not before

    parts, sessions = searched(tmp_path / "parts", monkeypatch, at_first)
    assert parts == whole
    assert {epochs for _, epochs in tried} == {0, 1, 3} and sessions == 1 + len(tried)
