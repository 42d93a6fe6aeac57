"""N workers give the same statistics, gradients, losses and weights as one. Over gloo, without Ray."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import ranks
import tiny
import torch
from torch import nn

from oneshot.base.jobs import override
from oneshot.base.storage import Folder
from oneshot.network.models import build
from oneshot.run import checkpoint

TOLERANCE = 5e-6

COMPRESSED = {
    how: override(tiny.CASES["conv4 on pairs"], {"scale.compress": how}, source="the test") for how in ("none", "bf16")
}
# Begun by one worker, interrupted in the second epoch and continued by many; or begun by many and continued by one.
GOES_ON = override(tiny.CASES["conv4 on episodes"], {"scale.checkpoint_steps": 1}, source="the test")


def noise(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


IMAGES = noise(12, 5, 6, 7, seed=1) * 3 + 10  # the mean is far from 0: the variance must not lose its digits
UPSTREAM = noise(12, 5, 6, 7, seed=2)
WEIGHT, BIAS = noise(5, seed=3), noise(5, seed=4)
ROWS, TABLE = noise(12, 4, seed=5), noise(12, 4, seed=6)
UNEVEN = noise(13, 2, seed=7)


# Koch's network takes long: it is trained by two workers only.
MEETINGS = [(2, case) for case in tiny.CASES] + [
    (3, case) for case in tiny.CASES if tiny.CASES[case].model.name != "koch"
]
EITHER = pytest.mark.parametrize("workers", [2, 3])


Met = tuple[list[dict[str, Any]], Path]  # what each rank computed, and the folder of their trainings


@pytest.fixture(scope="module")
def meet(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Met]:
    """Runs all tasks on so many workers, once for each number of workers."""

    @cache
    def hold(workers: int) -> Met:
        folder = tmp_path_factory.mktemp("ranks")
        with ranks.smooth(), pytest.raises(tiny.Killed):
            tiny.train(folder / "begun by one", GOES_ON, watch=tiny.Killer(within=2, steps=3))
        tasks: dict[str, dict[str, Any]] = {
            "normalise": {"x": IMAGES, "upstream": UPSTREAM, "weight": WEIGHT, "bias": BIAS},
            "gathered": {"rows": ROWS, "upstream": TABLE},
            "talk": {"rows": UNEVEN},
            "embedded": {"drawings": workers - 1},
            "refused": {"folder": folder / "refused"},
            "interrupted": {"settings": tiny.CASES["resnet on episodes"], "folder": folder / "interrupted"},
            "train": {
                "cases": {case: tiny.CASES[case] for size, case in MEETINGS if size == workers}
                | {"begun by one": GOES_ON, "ended by one": override(GOES_ON, {"train.epochs": 2}, source="the test")}
                | COMPRESSED,
                "folder": folder,
            },
        }
        return ranks.run(ranks.together, world_size=workers, where=folder / "meeting", **tasks), folder

    return hold


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, list[dict[str, Any]]], Path]:
    """The same trainings by one worker: their histories and their folder."""
    folder = tmp_path_factory.mktemp("alone")
    made = {}
    for name, settings in tiny.CASES.items():
        with ranks.smooth():
            made[name] = tiny.train(folder / name, settings, data=tiny.parts(side=settings.data.size)).history
    return made, folder


def interleaved(parts: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack(parts, dim=1).flatten(0, 1)


def reference() -> dict[str, torch.Tensor]:
    """Torch's batch normalisation of the whole batch, in float64."""
    norm = nn.BatchNorm2d(5).double()
    norm.load_state_dict(norm.state_dict() | {"weight": WEIGHT.double(), "bias": BIAS.double()})
    x = IMAGES.double().requires_grad_()
    y = norm(x)
    (y * UPSTREAM).sum().backward()
    assert x.grad is not None and norm.weight.grad is not None and norm.bias.grad is not None
    assert norm.running_mean is not None and norm.running_var is not None
    return {
        "y": y.detach(), "x": x.grad, "weight": norm.weight.grad, "bias": norm.bias.grad, "mean": norm.running_mean,
        "variance": norm.running_var,
    }  # fmt: skip


def check_norm(found: list[dict[str, Any]]) -> None:
    expected = reference()
    for key in ("y", "x"):
        whole = interleaved([each[key] for each in found])
        assert (whole - expected[key]).abs().max() < 1e-5, key
    for key in ("weight", "bias"):  # each rank has the sum over its images; DDP adds them up
        assert (sum(each[key] for each in found) - expected[key]).abs().max() < 1e-4, key
    for each in found:
        assert (each["mean"] - expected["mean"]).abs().max() < 1e-5
        assert (each["variance"] - expected["variance"]).abs().max() < 1e-5
        assert each["batches"] == 1


@EITHER
def test_batch_norm_over_ranks_is_batch_norm_over_the_whole_batch(meet: Callable[[int], Met], workers: int) -> None:
    check_norm([rank["normalise"] for rank in meet(workers)[0]])


def test_batch_norm_of_one_worker_is_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "share", lambda whole: whole)
    check_norm([ranks.normalise(IMAGES, UPSTREAM, WEIGHT, BIAS)])


@EITHER
def test_gathered_rows_come_in_the_batchs_order_and_bring_their_gradient_back(
    meet: Callable[[int], Met], workers: int
) -> None:
    found = [rank["gathered"] for rank in meet(workers)[0]]
    for each in found:
        assert torch.equal(each["whole"], ROWS)
    # DDP averages the gradients of the ranks afterwards, so each rank's are multiplied by the number of ranks.
    whole = interleaved([each["gradient"] for each in found]) / len(found)
    assert (whole - 2 * ROWS * TABLE).abs().max() < 1e-5


@EITHER
def test_workers_agree_average_and_interleave(meet: Callable[[int], Met], workers: int) -> None:
    for rank, each in enumerate(made["talk"] for made in meet(workers)[0]):
        assert each["place"] == (rank, workers)
        assert each["agreed"] == {"from": 0}
        assert each["of each"] == [f"GPU {rank}" for rank in range(workers)]
        assert each["mean"].tolist() == [(workers - 1) / 2, 1.0]
        assert torch.equal(each["rows"], UNEVEN)  # 13 rows: the ranks have different numbers of them
        assert each["precision"] == "fp32", "the least able decides"


@EITHER
def test_a_rank_for_which_no_drawing_is_left_has_the_embeddings_of_all(
    meet: Callable[[int], Met], workers: int
) -> None:
    expected = ranks.embedded(workers - 1)
    assert len(expected) == workers - 1
    for made in meet(workers)[0]:
        assert made["embedded"].shape == expected.shape and (made["embedded"] - expected).abs().max() < 1e-5


@EITHER
def test_what_rank_0_refuses_is_refused_by_all(meet: Callable[[int], Met], workers: int) -> None:
    assert [made["refused"] for made in meet(workers)[0]] == ["rank 0 refuses it"] * workers


MEASURED = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_oneshot", "val_spread")


@pytest.mark.parametrize(("workers", "case"), MEETINGS)
def test_any_number_of_workers_has_the_losses_of_one(
    meet: Callable[[int], Met], alone: tuple[dict[str, list[dict[str, Any]]], Path], workers: int, case: str
) -> None:
    expected = alone[0][case]
    assert len(expected) == tiny.CASES[case].train.epochs
    for rank in meet(workers)[0]:
        history = rank["train"][case]["history"]
        assert [row["epoch"] for row in history] == [row["epoch"] for row in expected]
        for row, same in zip(history, expected, strict=True):
            assert {key: row[key] for key in MEASURED} == pytest.approx(
                {key: same[key] for key in MEASURED}, abs=TOLERANCE
            )
    moved = [row["train_loss"] for row in expected] + [row["val_loss"] for row in expected]
    assert max(moved) - min(moved) > 100 * TOLERANCE  # otherwise the comparison would mean nothing


@EITHER
def test_a_training_may_go_on_with_another_number_of_workers(
    meet: Callable[[int], Met], alone: tuple[dict[str, list[dict[str, Any]]], Path], workers: int
) -> None:
    made, folder = meet(workers)
    expected = alone[0]["conv4 on episodes"]
    more = made[0]["train"]["begun by one"]["history"]
    with ranks.smooth():
        less = tiny.train(folder / "ended by one", GOES_ON).history
    assert [row.get("resumed_at") for row in more] == [None, 2, None]
    assert [row.get("resumed_at") for row in less] == [None, None, 0]
    for history in (more, less):
        assert [row["epoch"] for row in history] == [1, 2, 3]
        for row, same in zip(history, expected, strict=True):
            assert {key: row[key] for key in MEASURED} == pytest.approx(
                {key: same[key] for key in MEASURED}, abs=TOLERANCE
            )


@EITHER
def test_many_workers_that_go_on_end_with_the_bits_of_those_that_never_stopped(
    meet: Callable[[int], Met], workers: int
) -> None:
    """Three workers add their gradients in an order that depends on their layout in memory."""
    folder = meet(workers)[1]
    going_on, whole = (
        checkpoint.newest(Folder.of(folder / name / "checkpoints"))[0] for name in ("interrupted", "resnet on episodes")
    )
    assert going_on is not None and whole is not None
    assert going_on.progress.epoch == whole.progress.epoch == 3
    assert [row.get("resumed_at") for row in going_on.progress.history] == [None, 0, None]
    assert all(torch.equal(value, whole.weights[name]) for name, value in going_on.weights.items())


@EITHER
def test_gradients_that_travel_as_bf16_train_nearly_alike(meet: Callable[[int], Met], workers: int) -> None:
    made = meet(workers)[0][0]["train"]
    plain, none, half = (made[case]["history"] for case in ("conv4 on pairs", "none", "bf16"))
    for row, same in zip(none, plain, strict=True):
        assert {key: row[key] for key in MEASURED} == {key: same[key] for key in MEASURED}
    losses, expected = ([row["train_loss"] for row in history] for history in (half, plain))
    assert losses != expected
    assert losses == pytest.approx(expected, abs=1e-4)
    moved = expected[0] - expected[-1]
    assert losses[0] - losses[-1] == pytest.approx(moved, rel=0.1)


@pytest.mark.parametrize(("workers", "case"), MEETINGS)
def test_any_number_of_workers_ends_with_the_weights_of_one(
    meet: Callable[[int], Met], alone: tuple[dict[str, list[dict[str, Any]]], Path], workers: int, case: str
) -> None:
    torch.manual_seed(tiny.CASES[case].train.seed)
    first = build(tiny.CASES[case].model, size=tiny.CASES[case].data.size).state_dict()

    def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
        return sum(float((one[name].double() - other[name].double()).square().sum()) for name in one) ** 0.5

    last, same = (
        checkpoint.newest(Folder.of(folder / case / "checkpoints"))[0] for folder in (meet(workers)[1], alone[1])
    )
    assert last is not None and same is not None
    assert last.progress.epoch == same.progress.epoch == tiny.CASES[case].train.epochs
    assert distance(last.weights, same.weights) < 1e-3 * distance(first, same.weights)


@EITHER
def test_every_rank_records_the_same_history(meet: Callable[[int], Met], workers: int) -> None:
    first, *others = (
        [row[key] for made in rank["train"].values() for row in made["history"] for key in MEASURED]
        for rank in meet(workers)[0]
    )
    assert all(each == first for each in others)
