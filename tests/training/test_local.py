"""One training in a single process: no Ray, interruptions, a debugger, and `--debug`, which looks inside first."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny
import torch
from command import ROOT, environment, killed, refused, run, settings, start
from outcome import history, weights
from PIL import Image

import oneshot
from oneshot.base.errors import RunFailed
from oneshot.base.storage import Folder
from oneshot.screen.console import console
from oneshot.training import debug, train


def test_a_training_without_ray_leaves_a_network_that_can_be_loaded_and_judged(tmp_path: Path, data_root: Path) -> None:
    folder = tmp_path / "run"
    script = "import sys; sys.modules['ray'] = None; from oneshot.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, "train", "quick", "--local", "--run", str(folder), *settings()],
        cwd=ROOT, env=environment(ONESHOT_DATA=str(data_root)), text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, timeout=300,
    )  # fmt: skip
    text = done.stdout
    assert done.returncode == 0, text
    assert "epoch 1/2" in text and "epoch 2/2" in text and "\x1b" not in text
    dark = Image.new("L", (60, 90), 255)
    dark.paste(0, (20, 20, 30, 70))
    assert oneshot.load(folder).similarity([dark], [dark]).shape == (1,)

    text = run("evaluate", str(folder), ONESHOT_DATA=str(data_root))
    assert "glyphs (generated)" in text and "not comparable" in text
    result = json.loads((folder / "result.json").read_text())
    assert set(result["protocols"]) == {"lake400", "within", "between", "seed352"}
    for outcome in result["protocols"].values():
        low, high = outcome["interval"]
        assert 0 <= low <= outcome["accuracy"] <= high <= 1
        assert outcome["accuracy"] == outcome["correct"] / outcome["trials"]
    assert sum(one["trials"] for one in result["per_alphabet"].values()) == 200

    again = json.loads(
        run(
            "evaluate", str(folder), "--json", "--n-way", "5", "--k-shot", "3", "--trials", "100",
            "--protocol", "within", ONESHOT_DATA=str(data_root),
        )
    )  # fmt: skip
    assert (again["protocols"]["within"]["n_way"], again["protocols"]["within"]["k_shot"]) == (5, 3)
    assert again["test_evaluations"] == 2  # the record counts how often the test alphabets were touched
    assert json.loads((folder / "result.json").read_text()) == result  # and the run's own result stays


def test_a_network_that_was_trained_further_is_judged_anew(tmp_path: Path, data_root: Path) -> None:
    folder, told = tmp_path / "run", []
    for epochs in ("1", "2"):
        changes = settings(train__epochs=epochs, train__schedule="none", train__keep="last")
        run("train", "quick", "--local", "--run", str(folder), *changes, ONESHOT_DATA=str(data_root))
        told.append([(folder / name).read_text() for name in ("report.html", "best/README.md")])
        assert f"written to {folder}/result.json" in run("evaluate", str(folder), ONESHOT_DATA=str(data_root))
        result = json.loads((folder / "result.json").read_text())
        card = json.loads((folder / "best/model.json").read_text())
        assert result["sha256"] == card["sha256"] == json.loads((folder / "outcomes.json").read_text())["sha256"]
        assert result["test_evaluations"] == int(epochs)
        assert "Not judged yet" not in (folder / "best/README.md").read_text()
        assert "Most confused characters" in (folder / "report.html").read_text()
    page, card = told[1]  # between the second training and its judgement
    assert "result.json is not for the network that is now in best/: its figures are not shown." in page
    assert "This network <b>is trained</b>" in page and "Errors</h2>" not in page and "Not judged yet" in card
    run("evaluate", str(folder), ONESHOT_DATA=str(data_root))
    assert json.loads((folder / "result.json").read_text()) == result, "a network that has its result keeps it"


def test_a_killed_training_goes_on_and_ends_bit_for_bit_as_an_undisturbed_one(tmp_path: Path, data_root: Path) -> None:
    changes = settings(train__epochs="4", train__examples="512")
    run("train", "quick", "--local", "--run", str(tmp_path / "whole"), *changes, ONESHOT_DATA=str(data_root))
    arguments = ["train", "quick", "--local", "--run", str(tmp_path / "killed"), *changes]
    _, text = killed(*arguments, epoch=3, step=2, ONESHOT_DATA=str(data_root))
    assert "epoch 2/4" in text
    text = run(*arguments, ONESHOT_DATA=str(data_root))
    assert "epoch 2/4" not in text and "epoch 4/4" in text
    assert history(tmp_path / "killed") == history(tmp_path / "whole")
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")


def test_every_process_trains_to_the_same_bits(tmp_path: Path, data_root: Path) -> None:
    """Without `worker.warm_up`, two of five processes differ on a Xeon with AMX, from the first step on."""
    changes, found = settings(train__epochs="1", train__examples="128", train__val_trials="20"), []
    for number in range(4):
        folder = tmp_path / str(number)
        run("train", "quick", "--local", "--run", str(folder), *changes, ONESHOT_DATA=str(data_root))
        found.append(weights(folder))
    assert found == found[:1] * 4


def test_an_interrupted_training_exits_with_130(tmp_path: Path, data_root: Path) -> None:
    arguments = ["train", "quick", "--local", "--run", str(tmp_path / "run"), *settings(train__epochs="500")]
    for number in (signal.SIGINT, signal.SIGTERM):
        with start(*arguments, ONESHOT_DATA=str(data_root)) as process:
            for line in process.stdout or []:
                if "epoch" in line:
                    process.send_signal(number)
                    break
            text, _ = process.communicate(timeout=300)
        assert process.returncode == 130
        assert "to go on" in text and "Traceback" not in text


def test_a_second_process_does_not_train_in_the_same_folder(tmp_path: Path, data_root: Path) -> None:
    arguments = ["train", "quick", "--local", "--run", str(tmp_path / "run"), *settings(train__epochs="500")]
    for _ in range(2):  # the second time it goes on: the lock ended with its killed owner
        with start(*arguments, ONESHOT_DATA=str(data_root)) as owner:
            assert any("epoch" in line for line in owner.stdout or [])
            assert f"is in use by process {owner.pid}" in refused(*arguments, ONESHOT_DATA=str(data_root))


def test_a_training_without_an_epoch_leaves_no_network(tmp_path: Path) -> None:
    run = Folder.of(tmp_path)
    with pytest.raises(RunFailed, match=f"no epoch of {tmp_path} was finished: there is no network to keep"):
        train.finish(tiny.settings(), run)
    assert run.names() == []


def test_a_debugger_can_stop_in_it(tmp_path: Path, data_root: Path) -> None:
    script = (
        "import oneshot.training.loop as loop; inner = loop.Training.run_epoch\n"
        "def stop(self, epoch):\n    breakpoint()\n    return inner(self, epoch)\n"
        "loop.Training.run_epoch = stop\nfrom oneshot.cli.main import main; main()"
    )
    arguments = ["train", "quick", "--local", "--run", str(tmp_path / "run"), *settings(train__epochs="1")]
    terminal, other = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments], cwd=ROOT, stdin=other, stdout=other, stderr=other,
        env=environment(ONESHOT_DATA=str(data_root), TERM="xterm"),
    )  # fmt: skip
    os.close(other)
    seen = _read_until(terminal, "(Pdb)")
    os.write(terminal, b"p 'the epoch is', epoch\n")
    seen += _read_until(terminal, "('the epoch is', 1)")
    os.write(terminal, b"c\n")
    seen += _read_until(terminal, "judge it")
    assert process.wait(timeout=300) == 0, seen


def _read_until(terminal: int, mark: str, seconds: float = 300) -> str:
    text, end = "", time.monotonic() + seconds
    while mark not in text and time.monotonic() < end:
        try:
            text += os.read(terminal, 4096).decode(errors="replace")
        except OSError:  # the other side is closed
            break
    assert mark in text, text
    return text


@pytest.mark.parametrize("sampling", [pytest.param("episodes", marks=pytest.mark.long), "pairs"])
def test_debug_looks_inside_first(sampling: str, tmp_path: Path, data_root: Path) -> None:
    changes = settings(
        train__lr="0.003", train__optimizer="adam", train__batch="32", data__sampling=sampling, train__objective="bce"
    )
    text = run("train", "quick", "--local", "--debug", "--run", str(tmp_path), *changes, ONESHOT_DATA=str(data_root))
    assert "111,745" in text and "one batch, 100 steps" in text
    assert Image.open(tmp_path / "batch.png").size[0] > 100


def test_debug_names_a_network_that_cannot_learn_one_batch(tmp_path: Path, data_root: Path) -> None:
    changes = settings(train__lr="1e-9", train__batch="32")
    text = run(
        "train", "quick", "--local", "--debug", "--run", str(tmp_path), *changes, code=1, ONESHOT_DATA=str(data_root)
    )  # fmt: skip
    assert "does not learn with train.optimizer" in text.replace("\n", " ")


@pytest.mark.parametrize(("head_lr", "learns"), [(1.0, True), (10.0, False)])
def test_debug_takes_the_steps_of_the_training_that_follows(head_lr: float, learns: bool, tmp_path: Path) -> None:
    """With its calibrated head and the head's own learning rate; it ends where the gradient is not finite."""
    given = tiny.settings(lr=2.0, head_lr=head_lr, sampling="episodes", objective="both")
    before = torch.is_anomaly_enabled()
    try:
        with contextlib.nullcontext() if learns else pytest.raises(RunFailed, match=r"to inf .* train\.head_lr = 10;"):
            debug.inspect(console(), given, tiny.parts(), Folder.of(tmp_path), device=torch.device("cpu"))
    finally:
        torch.autograd.set_detect_anomaly(before)
    assert [path.name for path in tmp_path.iterdir()] == [debug.PICTURE]
