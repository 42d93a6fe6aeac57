"""The files that Ray Train writes about a training, which nobody reads, are removed when it ends."""

from pathlib import Path

import pytest
from ray.train import RunConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from oneshot.base.errors import RunFailed
from oneshot.cluster.trainer import Trainer


@pytest.mark.parametrize("fails", [False, True])
def test_what_ray_notes_of_a_training_goes_with_it(
    fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(trainer: Trainer) -> str:
        (tmp_path / "one" / "worker").mkdir(parents=True)
        if fails:
            raise RunFailed("it failed")
        return "its result"

    monkeypatch.setattr(DataParallelTrainer, "fit", fit)
    trainer = object.__new__(Trainer)
    trainer.run_config = RunConfig(name="one", storage_path=str(tmp_path))
    (tmp_path / "another").mkdir()
    if fails:
        with pytest.raises(RunFailed):
            trainer.fit()
    else:
        assert trainer.fit() == "its result"
    assert [path.name for path in tmp_path.iterdir()] == ["another"]
