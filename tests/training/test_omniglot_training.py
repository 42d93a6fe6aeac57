"""On the real Omniglot: a minute of the main job's training already tells new characters apart."""

from pathlib import Path

import torch

from oneshot.answers import artifact
from oneshot.base.jobs import job_file, override, read
from oneshot.base.settings import Data
from oneshot.base.storage import Folder
from oneshot.evaluation.evaluate import evaluate
from oneshot.run.opened import EXPERIMENT
from oneshot.training.parts import load_parts
from oneshot.training.train import finish, train_here

SHORT = {
    "data.dataset": "omniglot",
    "model.views": 1,  # eight take eight times as long to judge
    "train.optimizer": "adam",
    "train.lr": 3e-3,
    "train.epochs": 2,
    "train.examples": 5120,
    "evaluate.trials": 2000,
}


def test_a_short_training_is_far_above_chance_on_alphabets_it_never_saw(omniglot: Folder, tmp_path: Path) -> None:
    settings = override(read(job_file("quick")), SHORT, source="the test")
    run = Folder.of(tmp_path / "run")
    progress = train_here(settings, omniglot, run, device=torch.device("cpu"))
    assert progress.history[-1]["val_oneshot"] > 0.4  # chance: 0.05
    finish(settings, run)
    run.write(EXPERIMENT, settings.to_toml().encode())
    few = settings.evaluate.model_copy(update={"protocols": ["lake400"]})
    result = evaluate(run, omniglot, dataset="omniglot", split="lake", how=settings.evaluate, device="cpu")
    assert result["dataset"] == "omniglot" and result["test_evaluations"] == 1
    again = evaluate(run / "best", omniglot, dataset="omniglot", split="lake", how=few, device="cpu")
    assert again["test_evaluations"] == 2, "a network that lies in the run is the run's"
    assert result["protocols"]["lake400"]["trials"] == 400
    assert result["protocols"]["lake400"]["accuracy"] > 0.5  # 10,240 drawings seen; the Hausdorff distance has 0.61
    # The gap that no protocol should hide: characters of one alphabet are harder to tell apart.
    assert result["protocols"]["within"]["accuracy"] < result["protocols"]["between"]["accuracy"]
    assert len(result["per_alphabet"]) == 20
    net, _ = artifact.read(run)
    assert net.size == 28


def test_training_needs_no_byte_of_the_test_alphabets(omniglot: Folder, tmp_path: Path) -> None:
    """The drawings of the test alphabets are overwritten in the file; training does not notice."""
    import pyarrow.parquet as pq

    copy = Folder.of(tmp_path / "omniglot")
    for name in omniglot.names():
        copy.write(name, omniglot.read(name))
    path = Path(copy.file("drawings.parquet"))
    footer = pq.ParquetFile(path).metadata
    data = bytearray(path.read_bytes())
    for index in range(footer.num_row_groups):
        group = footer.row_group(index)
        columns = [group.column(number) for number in range(group.num_columns)]
        if index < 30:  # the background alphabets come first
            continue
        for column in columns:
            if column.path_in_schema == "pixels":
                start = column.dictionary_page_offset or column.data_page_offset
                data[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(bytes(data))
    whole, cut = load_parts(omniglot, Data()), load_parts(copy, Data())
    assert (whole.train.packed == cut.train.packed).all()
    assert (whole.validation.packed == cut.validation.packed).all()
