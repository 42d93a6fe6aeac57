"""What a study's run folder holds when its session ends, what is then printed for a script, and what may be changed
when the study is resumed. Ray does not run."""

import contextlib
import io
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from command import TINY, settings
from rich.console import Console

from oneshot.base.errors import UserError
from oneshot.base.storage import Folder
from oneshot.cli import main as cli
from oneshot.cli import session
from oneshot.cli import tune as verb
from oneshot.cluster import capacity, connection
from oneshot.cluster.packing import Node
from oneshot.run import opened, owner
from oneshot.search.study import STUDY, Study

NEW_OWNERS = b"{}"


def tune(where: Path, root: Path, *, said: io.StringIO | None = None, **changes: Any) -> None:
    given: dict[str, Any] = {
        "job": "quick", "run": str(where), "resume": None, "changes": [f"{key}={value}" for key, value in TINY.items()],
        "root": str(root), "source": None, "address": None, "verbose": False, "max_time": None, "max_concurrent": None,
    }  # fmt: skip
    verb.tune(Console(file=said or io.StringIO(), width=200), **given | changes)


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The settings and packings that searches got; each search is interrupted while its first trial runs."""
    given: list[Any] = []

    def search(settings: Any, study: Study, data: Any, packing: Any, view: Any, *, seconds: float | None) -> bool:
        study.start("000", {})
        given.append((settings, packing))
        raise KeyboardInterrupt

    monkeypatch.setattr(connection, "connect", lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr(verb.search, "tune", search)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return given


@pytest.fixture
def over(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list, filled by the test, of how the trials of a search end. No training runs; the judgement is made up."""
    ends: list[str] = []

    def search(settings: Any, study: Study, *_: object, **__: object) -> bool:
        for trial, end in zip(study.trials, ends, strict=False):
            study.start(trial["id"], {})
            failed = end == "failed"
            study.row(trial["id"], {"epoch": 1, "val_loss": 0.5, "best": True, "ended": "" if failed else end})
            study.end(trial["id"], error="the GPU is full" if failed else None)
        return len(ends) == len(study.trials)

    monkeypatch.setattr(connection, "connect", lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr(verb.search, "tune", search)
    monkeypatch.setattr(verb.final, "judge_best", lambda *_, **__: {"protocols": {"within": 0.5}})
    monkeypatch.setattr(verb, "_show_result", lambda *_, **__: None)
    monkeypatch.setattr(session, "why_no_gpu", str)
    monkeypatch.setattr(session, "this_machine", lambda: Node("here", 4, 0))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return ends


@pytest.mark.parametrize(
    ("ends", "counts", "warned"),
    [
        (["epochs", "", "", "epochs"], [2, 2, 0, 0, 0], ""),
        (["diverged", "epochs"], [1, 0, 1, 0, 2], ""),
        (
            ["", "failed", "epochs", "failed"],
            [1, 1, 0, 2, 0],
            "warning: 2 of 4 trials failed, study.json says why: --resume tries them again\n",
        ),
    ],
)
def test_a_script_is_told_how_many_trials_ended_how_and_warned_of_those_that_failed(
    ends: list[str], counts: list[int], warned: str, over: list[str], tmp_path: Path, data_root: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    over[:] = ends
    asked = ["tune", "quick", "--data", str(data_root), *settings(search__trials="4"), "--debug"]
    assert cli._answer([*asked, "--json", "--run", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr()
    told = json.loads(printed.out)
    assert told["trials"] == dict(zip(("finished", "stopped", "diverged", "failed", "pending"), counts, strict=True))
    assert told["over"] == (len(ends) == 4) and told["protocols"] == {"within": 0.5}
    assert printed.err == warned
    assert cli._answer([*asked, "--quiet", "--run", str(tmp_path / "quiet")]) == 0
    assert capsys.readouterr() == (f"{tmp_path / 'quiet'}\n", warned)


def test_who_lost_its_run_to_another_process_writes_no_record_any_more(
    tmp_path: Path, data_root: Path, searches: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, lost, start = tmp_path / "run", threading.Event(), Study.start

    def taken_over(study: Study, *given: Any) -> None:
        start(study, *given)
        study.run.write(STUDY, NEW_OWNERS)
        lost.set()

    @contextlib.contextmanager
    def opening(settings: Any, folder: Any, **how: Any) -> Any:
        folder.make()
        yield lost

    monkeypatch.setattr(opened, "open_run", opening)
    monkeypatch.setattr(Study, "start", taken_over)
    with pytest.raises(KeyboardInterrupt):
        tune(run, data_root)
    assert (run / STUDY).read_bytes() == NEW_OWNERS


def test_an_interrupted_study_records_that_its_trials_wait(
    tmp_path: Path, data_root: Path, searches: list[Any]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        tune(tmp_path / "run", data_root)
    assert '"status": "running"' not in (tmp_path / "run" / STUDY).read_text()


def test_a_run_is_held_until_the_workers_of_a_cluster_are_gone(
    tmp_path: Path, data_root: Path, searches: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    left = []

    @contextlib.contextmanager
    def attached(*_: object, **__: object) -> Any:
        try:
            yield [Node("there", 2, 0)]
        finally:
            with pytest.raises(UserError, match="is in use by"), owner.sole(Folder.of(tmp_path / "run")):
                pass
            left.append("the cluster")

    monkeypatch.setattr(connection, "connect", attached)
    monkeypatch.setattr(capacity, "in_use", lambda _: Node("others", 0, 0))
    with pytest.raises(KeyboardInterrupt):
        tune(tmp_path / "run", data_root, address="there:6379")
    assert left == ["the cluster"]
    with owner.sole(Folder.of(tmp_path / "run")):
        pass


def test_how_many_trials_run_at_once_is_asked_of_a_session_and_other_scale_of_the_run(
    tmp_path: Path, data_root: Path, searches: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    monkeypatch.setattr(session, "this_machine", lambda: Node("here", 4, 0))

    def goes_on(**changes: Any) -> tuple[int, Any]:
        """How many trials run at once, and the scale then stored in the run's settings."""
        with pytest.raises(KeyboardInterrupt):
            tune(run, data_root, **changes)
        return searches[-1][1].concurrent, opened.read_experiment(Folder.of(run)).scale

    resumed = {"job": None, "run": None, "resume": str(run), "changes": []}
    assert goes_on(max_concurrent=2)[0] == 2
    concurrent, scale = goes_on(**resumed)
    assert (concurrent, scale.max_concurrent) == (4, 0)
    concurrent, scale = goes_on(**resumed | {"changes": ["scale.max_concurrent=3", "scale.timeout=60"]})
    assert (concurrent, scale.max_concurrent, scale.timeout) == (3, 3, 60)
    assert goes_on(**resumed)[1] == scale
    for change, sentence in (("train.lr=1", "keeps its settings"), ("scale.wrong=1", "names no setting")):
        with pytest.raises(UserError, match=sentence):
            tune(run, data_root, **resumed | {"changes": [change]})
    assert opened.read_experiment(Folder.of(run)).scale == scale


def test_a_search_may_be_given_more_trials_and_none_is_taken_away(
    tmp_path: Path, data_root: Path, searches: list[Any]
) -> None:
    run = tmp_path / "run"
    same = [f"{key}={value}" for key, value in TINY.items()]

    def goes_on(**changes: Any) -> tuple[list[int], list[str]]:
        """The number of trials in the search, its settings and its record, and what was printed about it."""
        said = io.StringIO()
        with pytest.raises(KeyboardInterrupt):
            tune(run, data_root, said=said, **changes)
        kept = opened.read_experiment(Folder.of(run)).search.trials
        numbers = [searches[-1][0].search.trials, kept, len(json.loads((run / STUDY).read_text())["trials"])]
        return numbers, [line for line in said.getvalue().splitlines() if "in all" in line or "already has" in line]

    def resumed(*changes: str) -> dict[str, Any]:
        return {"job": None, "run": None, "resume": str(run), "changes": [*changes]}

    assert goes_on() == ([10] * 3, [])
    assert goes_on(**resumed(" search.trials = 12", "scale.timeout=60")) == ([12] * 3, ["2 trials more, 12 in all"])
    assert opened.read_experiment(Folder.of(run)).scale.timeout == 60
    assert goes_on(**resumed()) == ([12] * 3, [])
    by_now = "warning: search.trials = 10: the run already has 12 trials and keeps them all"
    assert goes_on() == ([12] * 3, [by_now])  # the job's own number: a scheduler gives the command again
    assert goes_on(changes=[*same, "search.trials=13"]) == ([13] * 3, ["1 trial more, 13 in all"])
    kept = {name: (run / name).read_bytes() for name in ("experiment.toml", STUDY)}
    for refused, sentence in (
        (resumed("search.trials=12"), r"^search\.trials = 12: .* already has 13 trials, and the number cannot"),
        (resumed("search.trials=20", "search.seed=1"), r"^--set search\.seed=1: a resumed run keeps its settings"),
        ({"changes": [*same, "search.trials=20", "search.seed=1"]}, r"a run with search\.seed = 0, not 1"),
    ):
        with pytest.raises(UserError, match=sentence):
            tune(run, data_root, **refused)
    assert kept == {name: (run / name).read_bytes() for name in kept}


def test_of_the_trials_that_are_added_it_is_known_before_whether_the_drawings_carry_them(
    tmp_path: Path, data_root: Path, searches: list[Any]
) -> None:
    """A value that no earlier trial could draw is checked, and named, when trials are added."""
    run = tmp_path / "run"
    own = {
        "train.examples": "512", "search.trials": "1", "search.first": "[{batch=64}]", "search.batch": "[512]",
        "search.choices": '{"data.alphabets" = [1]}',
    }  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        tune(run, data_root, changes=[f"{key}={value}" for key, value in (TINY | own).items()])
    before = (run / "experiment.toml").read_bytes()
    more = {"job": None, "run": None, "resume": str(run), "changes": ["search.trials=2"]}
    with pytest.raises(UserError, match=r"^search\.batch = 512, .* an episode needs 1 alphabets of 128 characters"):
        tune(run, data_root, **more)
    assert (run / "experiment.toml").read_bytes() == before
    with pytest.raises(KeyboardInterrupt):
        tune(run, data_root, **more | {"changes": []})
