"""A wrong request gets one sentence on what is wrong and what to do, exit code 2, and nothing is begun. The module
also tests help, completion, output for scripts, and the exit codes of other failures."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from command import ROOT, VERBS, environment, refused, run, settings

from oneshot.base import garbage
from oneshot.cli import main as cli
from oneshot.cluster import packing
from oneshot.data import sets

WRONG = {
    "an unknown job": (["tune", "quik"], "no job 'quik' in tune_jobs/: did you mean 'quick'?"),
    "a file that is not there": (["train", "no/such.toml"], "no/such.toml: no such file"),
    "a folder for a file": (["train", "tune_jobs"], "tune_jobs is a folder"),
    "an unknown key": (["tune", "quick", "--set", "train.lrr=1"], "'train.lrr' names no setting; did you mean 'lr'?"),
    "no key": (["tune", "quick", "--set", "train.lr"], "write section.key=value"),
    "a wrong type": (["tune", "quick", "--set", "train.epochs=many"], "train.epochs = 'many': must be a valid integer"),
    "a negative lr": (["train", "quick", "--set", "train.lr=-1"], "train.lr = -1: must be greater than 0"),
    "no trials": (["tune", "quick", "--set", "search.trials=0"], "search.trials = 0: must be greater than or equal"),
    "fewer trials than points": (
        ["tune", "quick", "--set", "search.trials=1", "--set", "search.first=[{lr=1e-2}, {lr=1e-3}]"],
        "search.trials = 1: less than the 2 points",
    ),
    "a point that does not fit": (
        ["tune", "quick", "--set", "search.batch=[100]"],
        "train.batch = 100: an episode needs a multiple",
    ),
    "a batch that workers cannot share": (
        ["train", "quick", "--workers", "3"],
        "train.batch = 128: not divisible by scale.workers = 3",
    ),
    "more workers than cores": (
        ["train", "quick", "--workers", "65536", "--set", "train.batch=131072", "--set", "train.examples=131072"],
        "scale.workers = 65536: each needs 1 core(s), and the cluster holds",
    ),
    "a range of workers of which one cannot share the batch": (
        ["train", "quick", "--workers", "1..3"],
        "train.batch = 128: not divisible by scale.workers = 3, an end of 1..3",
    ),
    "a range that runs backwards": (
        ["train", "quick", "--workers", "4..1"],
        "--set: scale.workers = '4..1': must be a number of at least 1, or a range of them as '1..4'",
    ),
    "a time whose variable is not set": (["tune", "quick", "--max-time", ""], "--max-time '': write hours, minutes"),
    "no time": (["tune", "quick", "--max-time", "soon"], "--max-time soon: write hours, minutes and seconds, as 2h"),
    "a GPU that is not there": (["train", "quick", "--gpu"], "each needs 1 core(s) and 1 GPU(s)"),
    "an unknown device": (["train", "quick", "--local", "--device", "tpu"], "unknown device 'tpu'"),
    "a GPU beyond the last": (["train", "quick", "--local", "--device", "cuda:99"], "device 'cuda:99': this"),
    "local with a GPU of Ray's": (["train", "quick", "--local", "--gpu"], "with --local, use --device cuda"),
    "local on a cluster": (["train", "quick", "--local", "--address", "h:6379"], "--address h:6379 names a cluster"),
    "a device for Ray's workers": (["train", "quick", "--device", "cpu"], "--device goes with --local; under Ray,"),
    "other settings for a run to go on with": (
        ["tune", "quick", "--resume", "no/such/run"],
        "--resume takes the run's own settings: leave JOB and --run out",
    ),
    "local with workers": (["train", "quick", "--local", "--workers", "2"], "--local is one process"),
    "an unknown option": (["tune", "--fast"], "No such option: --fast; known: --address, --data,"),
    "a misspelt option": (["evaluate", "x", "--protocl", "within"], "--protocl; did you mean '--protocol'?"),
    "a verb's misspelt option": (["data", "show", "--alphabt", "x"], "--alphabt; did you mean '--alphabet'?"),
    "an option for a value": (["tune", "quick", "--data", "--set", "train.lr=1"], "--data needs a value before --set"),
    "an option for a setting": (["tune", "--set", "--data", "x", "y"], "--set needs a value before --data: is a value"),
    "too many jobs": (["tune", "quick", "koch"], "Got unexpected extra argument(s) (koch); --help shows what there is"),
    "quiet for what is shown": (["data", "--quiet", "show"], "--quiet and --json go with data alone"),
    "a picture and images": (["data", "show", "--images", "x", "--png", "y"], "--images and --png write different"),
    "an unknown data set": (["data", "--dataset", "mnist"], "there is no data set 'mnist'"),
    "a run to go on with whose variable is not set": (["tune", "--resume", ""], "a folder's name is empty: is a"),
    "no run to go on with": (["tune", "--resume", "no/such/run"], "holds no run"),
    "no run to report on": (["report", "no/such/run"], "holds no run: experiment.toml is missing"),
    "a ladder elsewhere": (["report", "ladder", "--out", "x"], "--out goes with one run"),
    "no network": (["evaluate", "no/such/run"], "no such folder"),
    "no network to ask": (["classify", "no/such/run", "--support", "x", "y.png"], "no such folder; name a run"),
    "no support": (["classify", "runs/x", "y.png"], "Missing option '--support'"),
    "no image": (["classify", "runs/x", "--support", "y"], "name what to classify: images, or folders of images, or"),
    "images and labelled ones": (
        ["classify", "runs/x", "--support", "y", "z.png", "--labelled", "z"],
        "name what to classify: images, or folders of images, or else --labelled with a folder of them by class",
    ),
    "no network for labelled images": (
        ["classify", "no/such/run", "--support", "x", "--labelled", "y"],
        "no such folder; name a run",
    ),
    "no network to embed by": (["embed", "no/such/run", "y.png", "--out", "x.parquet"], "no such folder; name a run"),
    "no place for embeddings": (["embed", "runs/x", "y.png"], "name where to write to: --out, a file"),
    "nothing to embed": (["embed", "runs/x", "--out", "x.parquet"], "name what to embed: images, or folders of images"),
    "no format": (["export", "runs/x"], "name what to export to: --onnx"),
    "an unknown split": (
        ["train", "quick", "--local", "--set", "data.split=luke", "--set", "data.dataset=glyphs-10"],
        "data.split = 'luke': must be 'lake'",
    ),
    "a search by what was taught": (
        ["tune", "quick", "--set", "data.split=lake-all", "--set", "data.dataset=glyphs-10"],
        "data.split = 'lake-all': it also trains on the validation alphabets",
    ),
    "no archives": (["data", "--dataset", "omniglot", "--source", "/no/such/folder"], "/no/such/folder"),
    "a cluster that is not there": (["tune", "quick", "--address", "127.0.0.1:1"], "cannot reach the Ray cluster at"),
}  # fmt: skip
# Also tested in a process of their own. The cluster only there, as connecting sets variables that Ray reads.
IN_A_PROCESS = ("an unknown job", "an unknown option", "a GPU that is not there", "a cluster that is not there")


def complete(arguments: list[str], run: Path) -> list[str]:
    """The arguments, plus a run folder if they begin a run."""
    begins = arguments[0] in ("train", "tune") and "--resume" not in arguments
    return [*arguments, "--run", str(run)] if begins else arguments


@pytest.fixture
def asked_here(monkeypatch: pytest.MonkeyPatch, data_root: Path) -> None:
    """Set up this process like that of a command, on a machine without a GPU."""
    monkeypatch.setattr(packing, "_shown", lambda: False)
    for name in [name for name in os.environ if name.startswith(("ONESHOT_", "RAY_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ONESHOT_DATA", str(data_root))
    monkeypatch.chdir(ROOT)


@pytest.mark.usefixtures("asked_here")
@pytest.mark.parametrize("name", [name for name in WRONG if name != "a cluster that is not there"])
def test_a_wrong_request_is_refused_with_one_sentence(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, sentence = WRONG[name]
    assert cli._answer(complete(arguments, tmp_path / "run")) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("error: ") and sentence in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", IN_A_PROCESS)
def test_a_wrong_request_ends_the_process_with_that_sentence(name: str, tmp_path: Path, data_root: Path) -> None:
    arguments, sentence = WRONG[name]
    assert sentence in refused(*complete(arguments, tmp_path / "run"), ONESHOT_DATA=str(data_root))
    assert not (tmp_path / "run").exists()


def test_the_help_of_every_verb_has_an_example() -> None:
    for verb in VERBS:
        text = run("__main__", verb, "--help")
        assert "Example: " in text and "--debug" in text


def test_the_help_of_data_breaks_no_line_inside_a_sentence() -> None:
    assert "\n A set that is remade keeps" in run("__main__", "data", "--help")


def test_the_help_lists_verbs_in_the_order_of_their_use_and_says_what_exit_codes_mean() -> None:
    text = run("__main__", "--help")
    listed = [word for word in re.findall(r"(?m)^│ (\w+) ", text) if word in VERBS]
    assert listed == list(VERBS)
    assert text.index("export") < text.index("Records and measurements") < text.index("repeat")
    assert "2 the request was wrong" in " ".join(text.split())


def test_the_ladder_is_printed_and_nothing_is_written() -> None:
    pages = [ROOT / name for name in ("README.md", "cluster/README.md", "tune_jobs/README.md")]
    before = [page.stat().st_mtime_ns for page in pages]
    assert "lake400" in run("report", "ladder")
    assert [page.stat().st_mtime_ns for page in pages] == before


def test_make_alone_lists_every_target_and_does_nothing() -> None:
    listed = subprocess.run(["make"], cwd=ROOT, env=environment(), text=True, capture_output=True, check=True).stdout
    targets = re.search(r"(?m)^\.PHONY: (.*)$", (ROOT / "Makefile").read_text())[1].split()
    lines = [line.split(maxsplit=2) for line in listed.splitlines() if line.startswith("make ")]
    assert sorted(line[1] for line in lines) == sorted(targets) and all(len(line) == 3 for line in lines)


def test_without_a_verb_there_is_help_and_no_error() -> None:
    text = run("__main__", code=2)
    assert "classify" in text and "error" not in text


def test_a_command_searches_for_garbage_less_often() -> None:
    script = (
        "import atexit, gc; atexit.register(lambda: print(gc.get_threshold()[0]))\n"
        "from oneshot.cli.main import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", script, "--help"], cwd=ROOT, env=environment(), capture_output=True)
    assert done.stdout.splitlines()[-1] == str(garbage.NEW).encode(), done.stderr


def test_a_misspelt_verb_is_told_the_nearest() -> None:
    text = run("__main__", "trian", code=2)
    assert text == "error: No such command 'trian'; did you mean 'train'?\n"


def test_the_shell_completes_verbs_and_options() -> None:
    for words, at, completed in (("oneshot tr", 1, "train"), ("oneshot train --lo", 2, "--local")):
        given = {"_ONESHOT_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(at)}
        assert run("__main__", **given).split() == [completed]
    assert "complete -o default" in run(
        "__main__", "--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1"
    )


def test_a_script_gets_where_it_lies_and_nothing_else(tmp_path: Path, data_root: Path) -> None:
    folder, where = str(data_root / "glyphs-10"), str(tmp_path / "run")
    variables = {"ONESHOT_DATA": str(data_root)}
    assert run("data", "--dataset", "glyphs-10", "--quiet", **variables) == f"{folder}\n"
    told = json.loads(run("data", "--dataset", "glyphs-10", "--json", **variables))
    assert told == {"dataset": "glyphs-10", "name": "glyphs (generated)", "why": None, "folder": folder}
    command = ["train", "quick", "--local", "--run", where, *settings(train__epochs="1")]
    assert run(*command, "--quiet", **variables) == f"{where}\n"
    told = json.loads(run(*command, "--json", **variables))  # the run is over: it gives the same answer again
    assert (told["run"], told["network"], told["epochs"]) == (where, f"{where}/best", 1)
    assert told["best_epoch"]["epoch"] == 1 and told["best_epoch"]["val_loss"] > 0
    within = ["evaluate", where, "--protocol", "within", "--trials", "50"]
    assert re.fullmatch(r"within\t[01]\.\d{4}\n", run(*within, "--quiet", **variables))


def test_a_run_folder_that_holds_something_else_is_not_written_into(tmp_path: Path, data_root: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    said = refused(
        "train", "quick", "--local", "--run", str(tmp_path), "--set", "data.dataset=glyphs-10",
        ONESHOT_DATA=str(data_root),
    )  # fmt: skip
    assert "is not empty and holds no run" in said
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (
            OSError(28, "No space left on device", "/data/x"),
            1,
            "/data/x: No space left on device; free some space on the disk",
        ),
        (PermissionError(13, "Permission denied", "/data/x"), 2, "/data/x: Permission denied; name a file or folder"),
        (OSError("the store is gone"), 2, "the store is gone; name a file or folder that can be used"),
        (
            MemoryError("Unable to allocate 9 TiB"),
            1,
            "there is not enough memory (Unable to allocate 9 TiB); ask for less",
        ),
        (
            torch.OutOfMemoryError("Tried to allocate 9 TiB"),
            1,
            "the GPU is out of memory: make train.batch or data.size smaller (Tried to allocate 9 TiB)",
        ),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
            1,
            "the GPU is out of memory, or others are using it: nvidia-smi shows who (CUDA error: CUBLAS_STATUS_ALLOC",
        ),
        (
            torch.AcceleratorError("CUDA error: CUDA-capable device(s) is/are busy\nCompile with TORCH_USE_CUDA_DSA"),
            1,
            "the GPU failed: CUDA error: CUDA-capable device(s) is/are busy; is it reserved by another",
        ),
        (ValueError("odd"), 1, "ValueError: odd; this is a bug in oneshot: --debug shows where"),
    ],
)
def test_what_goes_wrong_on_the_way_is_a_sentence_too(
    error: Exception, code: int, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(sets, "prepare", fail)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # keep the handlers of this process
    monkeypatch.setattr(sys, "argv", ["oneshot"])
    with pytest.raises(SystemExit) as ended:
        cli.main(["data"])
    assert ended.value.code == code
    assert capsys.readouterr().err.startswith(f"error: {sentence}")


# A signal may come anywhere: here inside an `exec`, as when a dataclass is made, and while Python shuts down.
STRUCK = """
import os, signal
from oneshot.cli import main as cli
from oneshot.cluster import packing
from oneshot.data import sets

def prepare(*_, **__):
    exec("import os, signal; os.kill(os.getpid(), signal.SIGTERM)")

class Late:
    def __del__(self, kill=os.kill, me=os.getpid(), number=signal.SIGTERM):
        kill(me, number)

late = Late()
sets.prepare = prepare
cli.main(["data"])
"""


def test_a_signal_anywhere_leaves_the_exit_code_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "struck.py").write_text(STRUCK)
    (tmp_path / "late.py").write_text(STRUCK.replace('["data"]', '["data", "--help"]'))
    for module, code in (("struck", 130), ("late", 0)):
        ended = subprocess.run([sys.executable, "-m", module], cwd=tmp_path, env=environment(), capture_output=True)
        assert ended.returncode == code, (module, ended.stderr)


def test_closed_streams_are_no_fault(tmp_path: Path) -> None:
    command = f"{sys.executable} -m oneshot.data --dataset glyphs-4 --data {tmp_path} >&- 2>&-"
    assert subprocess.run(["bash", "-c", command], cwd=ROOT, env=environment()).returncode == 0


def test_debug_shows_the_traceback() -> None:
    assert "Traceback" in run("tune", "quik", "--debug", code=1)
