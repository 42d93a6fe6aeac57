"""A training that Ray Train ends with an error: whether it is restarted, and the sentence raised. Without Ray."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny
from ray.exceptions import RayActorError

from oneshot.base.errors import DiskFull, NoRoom, RunFailed, UserError
from oneshot.base.storage import Folder
from oneshot.cluster import trainer
from oneshot.cluster.packing import Packing
from oneshot.run.history import FAILURE


class Ended(Exception):
    """An error like Ray Train's: of its workers, by rank, or of its controller."""

    def __init__(self, text: str, *, worker: Exception | None = None, controller: Exception | None = None) -> None:
        super().__init__(text)
        self.worker_failures, self.controller_failure = {1: worker} if worker else {}, controller


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """A function that trains in `tmp_path` and returns the number of attempts. Each attempt ends with the next of the
    given errors, or well for `None`. `refused`: what the first worker writes down before."""

    def train(*errors: Exception | None, max_failures: int = 2, refused: str = "") -> int:
        made = 0

        def fit() -> None:
            if refused:
                Folder.of(tmp_path).write_json(FAILURE, {"error": refused})
            if error := errors[made - 1]:
                raise error

        def one(*_: object, **__: object) -> SimpleNamespace:
            nonlocal made
            made += 1
            return SimpleNamespace(fit=fit)

        monkeypatch.setattr(trainer, "_trainer", one)
        packing = Packing(workers=1, cpus=1, gpus=0.0, concurrent=1)
        settings = tiny.settings(max_failures=max_failures, timeout=30.0)
        trainer.train_on_ray(settings, Folder.of("/nowhere"), Folder.of(tmp_path), packing, name="one")
        return made

    return train


def test_the_loss_of_ray_trains_controller_restarts_a_training_so_many_times(train: Callable[..., int]) -> None:
    assert train(RayActorError(), RayActorError(), None) == 3
    with pytest.raises(RunFailed, match="failed: The actor experienced an error"):
        train(RayActorError(), RayActorError(), max_failures=1)


def test_no_other_error_restarts_it_from_without(train: Callable[..., int]) -> None:
    with pytest.raises(RunFailed, match=r"failed: what it was$") as raised:
        train(Ended("a traceback\noneshot.base.errors.RunFailed: what it was\n"), None)
    assert isinstance(raised.value.__cause__, Ended)


def test_a_full_disk_is_said_as_the_worker_said_it_whatever_else_is_known(train: Callable[..., int]) -> None:
    with pytest.raises(DiskFull, match=r"^the disk is full$"):
        train(Ended("of its workers", worker=DiskFull("the disk is full")), refused="there are no such drawings")


def test_want_of_room_is_not_failure(train: Callable[..., int]) -> None:
    with pytest.raises(NoRoom, match=r"no room for its 1 worker\(s\) within 30 s, there is 1 core: a node was lost"):
        train(Ended("of its controller", controller=NoRoom("there is 1 core")))


@pytest.mark.parametrize("error", [None, Ended("its worker 1 died")])
def test_what_the_first_worker_refused_is_a_refusal_however_the_training_ends(
    error: Exception | None, train: Callable[..., int]
) -> None:
    with pytest.raises(UserError, match=r"^there are no such drawings$"):
        train(error, refused="there are no such drawings")


def test_what_was_refused_once_is_forgotten_when_it_is_trained_again(train: Callable[..., int], tmp_path: Path) -> None:
    Folder.of(tmp_path).write_json(FAILURE, {"error": "there are no such drawings"})
    assert train(None) == 1
