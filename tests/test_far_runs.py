"""Data and run folders on an object store, used as a user does: prepare, train, stop, resume, judge, record."""

import json
import signal
from pathlib import Path

import pytest
import tiny
from command import killed, refused, run, settings, start
from objects import ObjectStore

import oneshot
from oneshot.base.storage import Folder
from oneshot.data import store
from oneshot.records import record
from oneshot.run.owner import NOTE


@pytest.fixture
def variables(object_store: ObjectStore, bucket: str, tmp_path: Path) -> dict[str, str]:
    """The environment of commands whose data are on the object store."""
    return object_store.variables() | {"ONESHOT_CACHE": str(tmp_path / "cache"), "ONESHOT_DATA": f"{bucket}/data"}


def test_an_epoch_asks_for_little(bucket: str, object_store: ObjectStore) -> None:
    asked = {}
    for epochs in (2, 3):
        object_store.asked.clear()
        tiny.train(Folder.of(f"{bucket}/{epochs}"), tiny.settings(epochs=epochs))
        asked[epochs] = len(object_store.asked)
    assert asked[3] - asked[2] <= 16  # a checkpoint of three files, an old one removed, the history


def test_a_killed_training_goes_on_where_nobody_holds_it_and_is_judged(
    variables: dict[str, str], bucket: str, object_store: ObjectStore
) -> None:
    text = run("data", "--dataset", "glyphs-10", **variables)
    assert f"is ready in {bucket}/data/glyphs-10" in text
    where = f"{bucket}/runs/one"
    arguments = ["train", "quick", "--local", "--run", where, *settings(train__epochs="3", train__examples="512")]
    pid, text = killed(*arguments, epoch=2, step=2, **variables)
    assert "epoch 1/3" in text
    with start(*arguments, **variables) as waiting:
        assert f"{where} is in use by process {pid} on " in (waiting.stdout.readline() if waiting.stdout else "")
        Folder.of(where).remove(NOTE)  # else it waits until the note expires
        text, _ = waiting.communicate(timeout=300)
    assert waiting.returncode == 0, text
    assert "epoch 1/3" not in text and "epoch 3/3" in text
    assert f"report: {where}/report.html" in text
    assert Folder.of(where).names() == [
        "best", "checkpoints", "events", "experiment.toml", "figures", "hardware.json", "history.jsonl", "report.html",
    ]  # fmt: skip

    text = run("evaluate", where, **variables)
    assert f"written to {where}/result.json" in text
    result = Folder.of(where).read_json("result.json")
    assert result["sha256"] == oneshot.load(where).card["sha256"]
    assert Folder.of(where).read_json("outcomes.json")["sha256"] == result["sha256"]
    assert b"Most confused characters" in Folder.of(where).read("report.html")
    assert object_store.gets(store.DRAWINGS) == 1  # for all these processes


@pytest.mark.ray
@pytest.mark.long
def test_a_study_goes_on_from_an_object_store_and_its_record_is_kept(
    variables: dict[str, str], bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, object_store: ObjectStore
) -> None:
    where = f"{bucket}/runs/study"
    changes = settings(search__trials="1", search__grace="0", scale__workers="2", train__epochs="12")
    with start("tune", "quick", "--run", where, *changes, **variables) as process:
        for line in process.stdout or []:
            if "trial 000 epoch  1/12" in line:
                process.send_signal(signal.SIGTERM)
                break
        rest, _ = process.communicate(timeout=300)
    assert process.returncode == 130 and f"--resume {where}" in rest and "Traceback" not in rest
    assert f"report: {where}/report.html" in run("report", where, **variables)
    page = Folder.of(where).read("report.html").decode()
    assert "0 of 1 trials are over, 0 are running, 1 waiting." in page

    text = run("tune", "--resume", where, **variables)
    assert "trial 000 epoch  1/12" not in text and f"record: {where}/result.json" in text
    study = Folder.of(where).read_json("study.json")
    assert [(trial["status"], trial["epochs"]) for trial in study["trials"]] == [("finished", 12)]
    assert object_store.gets(store.DRAWINGS) == 1

    monkeypatch.setattr(record, "records_folder", lambda: tmp_path)
    kept = json.loads(record.keep(Folder.of(where), name="small").read_text())
    assert kept["result"]["test_evaluations"] == 1
    assert [len(trial["history"]) for trial in kept["study"]["trials"]] == [12]


def test_a_bucket_that_is_not_there_is_named_before_anything_is_made(variables: dict[str, str]) -> None:
    for arguments in (["data"], ["train", "quick", "--local"], ["evaluate", "s3://nowhere/runs/one"]):
        sentence = refused(*arguments, **variables | {"ONESHOT_DATA": "s3://nowhere/data"})
        assert "there is no bucket 'nowhere'" in sentence
