"""Calibration runs on the device of its caller, and its record says on what it was measured."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from oneshot.answers.calibration import SHOTS
from oneshot.base.storage import Folder
from oneshot.evaluation import calibrate
from oneshot.network.models import Siamese, Turned, build, looking
from oneshot.network.worker import Worker
from oneshot.records import repeat
from oneshot.run.watch import Watch
from oneshot.screen.console import console
from oneshot.screen.progress import Stages, TrainView
from oneshot.search import final
from oneshot.training import train


class Asked(Exception):
    """Calibration was requested: the test need not go on."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The devices on which calibration was requested."""
    devices: list[str] = []

    def measure(net: Siamese, *_: Any, **__: Any) -> None:
        devices.append(str(net.head.weight.device))
        raise Asked

    monkeypatch.setattr(train, "measure", measure)
    monkeypatch.setattr(train, "load_validation", lambda *_: None)
    return devices


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """A device that every machine has, in place of a GPU."""
    device = torch.device("meta")
    monkeypatch.setattr("oneshot.network.worker.pick_device", lambda name: device if name == "cuda" else name)
    return device


def test_a_network_is_calibrated_where_its_caller_says(
    tmp_path: Path, asked: list[str], elsewhere: torch.device
) -> None:
    """Calibrating Koch's network on a CPU would take minutes, while a GPU is idle."""
    given, run = tiny.settings(epochs=1), Folder.of(tmp_path / "run")
    tiny.train(run, given)
    with pytest.raises(Asked):  # the default is the CPU: under Ray this process may have no GPU
        train.finish(given, run, data=run)
    with pytest.raises(Asked):
        train.finish(given, run, device=elsewhere, data=run)
    with pytest.raises(Asked):
        final._judge(given.model_dump(), run.uri, run.uri, run.uri, best_trial={}, device="cuda", threads=1)
    assert asked == ["cpu", "meta", "meta"]


def test_a_seed_is_calibrated_where_it_was_trained(
    tmp_path: Path, asked: list[str], elsewhere: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(settings: Any, data: Folder, run: Folder, *, device: torch.device, watch: Watch) -> None:
        assert device == elsewhere
        tiny.train(run, settings)

    monkeypatch.setattr(repeat, "train_here", trained)
    with pytest.raises(Asked):
        repeat.train_seed(
            tiny.settings(epochs=1), Folder.of(tmp_path), Folder.of(tmp_path / "run"), device=elsewhere,
            view=TrainView(console()), stages=Stages(console()), until=float("inf"),
        )  # fmt: skip
    assert asked == ["meta"]


def test_it_is_measured_where_the_network_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    def embedded(net: Siamese, images: Any, worker: Worker, **_: Any) -> None:
        assert {str(each.device) for each in net.parameters()} == {"meta"}
        assert str(worker.device) == str(images.device) == "meta"
        raise Asked

    def on_another(net: Siamese, views: int) -> Siamese:  # its new head is on the CPU, as with the real `looking`
        return Siamese(Turned(net.encoder, views), size=net.size)

    monkeypatch.setattr(calibrate, "looking", on_another)
    monkeypatch.setattr(calibrate, "embed", embedded)
    with pytest.raises(Asked):
        calibrate.measure(build(tiny.settings().model, size=28).to("meta"), tiny.parts().validation, views=8)


@pytest.mark.parametrize("split", ["lake", "lake-all"])
def test_the_record_keeps_whether_the_network_was_taught_what_it_is_measured_on(
    split: str, trained_run: Path, small_glyphs: Folder, tmp_path: Path
) -> None:
    shutil.copytree(trained_run, tmp_path / "run")
    given = tiny.settings(split=split)
    train.finish(given, Folder.of(tmp_path / "run"), data=small_glyphs)
    about = Folder.of(tmp_path / "run").read_json("best/model.json")["calibration"]["measured_on"]
    assert about["taught"] == (split == "lake-all")


def drawn(seed: int) -> Siamese:
    """A network with fresh weights whose scores fall with the distance of two drawings."""
    torch.manual_seed(seed)
    net = build(tiny.settings().model, size=28)
    with torch.no_grad():
        net.head.weight.fill_(-1.0)
    return net


@pytest.mark.parametrize("views", [1, 4])
def test_what_a_training_was_worth_is_measured_on_the_same_trials(views: int) -> None:
    drawings = tiny.drawings({"Greek": 9, "Latin": 8}, noise=0.2)
    after, before = (calibrate.measure(drawn(seed), drawings, views=views) for seed in (0, 1))
    both = calibrate.measure(drawn(0), drawings, views=views, before=looking(drawn(1), views))
    assert after and before and both
    shares = [each["shots"][0]["classes"]["accuracy"] for each in (after, before)]
    assert both.pop("start") == {"accuracy": shares[0], "before": shares[1]} and shares[0] != shares[1]
    assert both == after
    alone = calibrate.measure(drawn(0), drawings, before=looking(drawn(1), views))  # with the views that `before` has
    assert alone and alone["start"]["before"] == shares[1]


def test_more_images_a_class_are_measured_where_half_of_the_groups_have_them() -> None:
    """Otherwise all trials, even one-shot ones, would come from the one group that has the most images."""
    many = replace(tiny.drawings({f"group{number}": 4 for number in range(6)}, drawers=7, noise=0.2), own=True)
    record = calibrate.measure(drawn(0), many.where((many.alphabet == 0) | (many.drawer <= 3)))
    assert record is not None and record["measured_on"]["alphabets"] == 6
    assert [shots["k_shot"] for shots in record["shots"]] == [k for k in SHOTS if k < 3]
    record = calibrate.measure(drawn(0), many.where((many.alphabet < 3) | (many.drawer <= 3)))
    assert record is not None and record["measured_on"]["alphabets"] == 3
    assert [shots["k_shot"] for shots in record["shots"]] == [k for k in SHOTS if k < 7]


def test_classes_of_which_no_two_share_a_group_are_told_apart_among_as_many_as_there_are() -> None:
    drawings = replace(tiny.drawings({f"group{number}": 1 for number in range(12)}), own=True)
    torch.manual_seed(0)
    net = build(tiny.settings().model, size=28)
    with torch.no_grad():
        net.head.weight.fill_(-1.0)
    record = calibrate.measure(net, drawings)
    assert record is not None
    assert (record["measured_on"]["protocol"], record["measured_on"]["n_way"]) == ("between", 12)
