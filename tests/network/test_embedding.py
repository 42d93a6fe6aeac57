"""Each drawing is embedded once; the scores equal those of embedding both drawings of every pair."""

import numpy as np
import pytest
import tiny
import torch

from oneshot.answers.recogniser import OneShot
from oneshot.base.errors import UserError
from oneshot.network import embedding
from oneshot.network.embedding import class_scores, embed, similarity
from oneshot.network.images import Images
from oneshot.network.models import Siamese, build
from oneshot.network.worker import Worker, pick_device, resolve_precision, without_tf32

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def net() -> Siamese:
    """A network in training mode, whose batch statistics are no longer the initial ones."""
    torch.manual_seed(0)
    made = build(tiny.settings().model, size=28)
    made(torch.rand(8, 1, 28, 28), torch.rand(8, 1, 28, 28))
    return made


@pytest.fixture(scope="module")
def images() -> Images:
    return Images(tiny.drawings({"Greek": 5, "Latin": 6}), size=28, device=CPU)


@pytest.mark.parametrize("chunk", [512, 44, 7])
def test_all_drawings_are_embedded_in_order_as_in_evaluation(
    net: Siamese, images: Images, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "chunk", lambda device: chunk)
    seen: list[tuple[int, int]] = []
    z_ND = embed(net, images, Worker(CPU, precision="fp32"), progress=lambda _, done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == [*range(chunk, 44, chunk), 44] and {total for _, total in seen} == {44}
    assert net.training  # the mode is restored
    assert z_ND.shape == (44, 64) and not z_ND.requires_grad
    net.eval()
    with torch.no_grad():
        one_by_one = torch.cat([net.embed(images.gather(np.array([index]))) for index in range(44)])
    net.train()
    assert (z_ND - one_by_one).abs().max() < 1e-5


def test_what_is_float32_is_embedded_without_tf32(
    net: Siamese, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that answers are the same on a GPU and on a CPU. The switches are restored, since a training may use TF32."""
    seen: list[bool] = []
    switches = (torch.backends.cudnn, torch.backends.cuda.matmul)  # convolutions, products

    def looked(x_B1SS: torch.Tensor) -> torch.Tensor:
        seen.extend(each.allow_tf32 for each in switches)
        return torch.zeros(len(x_B1SS), 2)

    monkeypatch.setattr(net, "embed", looked)
    given = OneShot(net, {}, CPU)
    asked = torch.zeros(1, 28, 28, dtype=torch.uint8)
    before = [each.allow_tf32 for each in switches]
    try:
        for usual in (True, False):
            for each in switches:
                each.allow_tf32 = usual
            embed(net, images, Worker(CPU, precision="fp32"))
            given.embed_pixels(asked)
            assert [each.allow_tf32 for each in switches] == [usual] * 2
    finally:  # monkeypatch cannot give the second one back
        for each, allowed in zip(switches, before, strict=True):
            each.allow_tf32 = allowed
    assert seen == [False] * 8


def test_of_blocks_without_tf32_that_overlap_the_last_puts_back_what_was() -> None:
    """As with threads, the first block that is entered may be the first that is left."""
    switches = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [each.allow_tf32 for each in switches]
    try:
        for usual in ([True, True], [False, True]):
            for each, allowed in zip(switches, usual, strict=True):
                each.allow_tf32 = allowed
            one, other = without_tf32(), without_tf32()
            for step in (one.__enter__, other.__enter__, lambda one=one: one.__exit__(None, None, None)):
                step()
                assert [each.allow_tf32 for each in switches] == [False, False]
            other.__exit__(None, None, None)
            assert [each.allow_tf32 for each in switches] == usual
    finally:  # monkeypatch cannot give the second one back
        for each, allowed in zip(switches, before, strict=True):
            each.allow_tf32 = allowed


def test_scores_by_position_are_those_of_the_pairs(net: Siamese, images: Images) -> None:
    z_ND = embed(net, images, Worker(CPU, precision="fp32"))
    left, right = (np.random.default_rng(seed).integers(44, size=200) for seed in (0, 1))
    scores = similarity(net, z_ND)(left, right)
    assert scores.shape == (200,) and scores.dtype == np.float64
    net.eval()
    with torch.no_grad():
        expected = net(images.gather(left), images.gather(right))
    net.train()
    assert np.abs(scores - expected.numpy()).max() < 1e-5
    assert np.array_equal(scores, similarity(net, z_ND)(right, left))


def test_many_pairs_are_scored_in_slices(net: Siamese, images: Images) -> None:
    z_ND = embed(net, images, Worker(CPU, precision="fp32"))
    left, right = (np.random.default_rng(seed).integers(44, size=600_000) for seed in (0, 1))
    scores = similarity(net, z_ND)(left, right)  # a slice has 2^24 / 64 = 262,144 pairs
    some = np.array([0, 262_143, 262_144, 599_999])
    assert np.abs(scores[some] - similarity(net, z_ND)(left[some], right[some])).max() < 1e-6


def test_several_drawings_of_a_class_are_scored_by_their_mean_in_slices_too(
    net: Siamese, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    z_ND = embed(net, images, Worker(CPU, precision="fp32"))
    generator = np.random.default_rng(2)
    query, support = generator.integers(44, size=9), generator.integers(44, size=(9, 5, 3))
    scores = class_scores(net, z_ND, query, support)
    assert scores.shape == (9, 5) and scores.dtype == np.float64
    for trial in range(9):
        for way in range(5):
            with torch.no_grad():
                expected = net.score(z_ND[query[trial]], z_ND[support[trial, way]].mean(dim=0))
            assert scores[trial, way] == pytest.approx(float(expected), abs=1e-5)
    monkeypatch.setattr(embedding, "at_once", lambda device, numbers: 4)
    assert np.abs(class_scores(net, z_ND, query, support) - scores).max() < 1e-6


@pytest.mark.parametrize("k_shot", [1, 2])
def test_a_class_is_scored_by_the_mean_of_its_embeddings_to_the_bit(k_shot: int) -> None:
    random = np.random.default_rng(0)
    net, z_ND = build(tiny.settings().model, size=28), torch.rand(30, 64)
    query, support = random.integers(30, size=7), random.integers(30, size=(7, 5, k_shot))
    with torch.no_grad():
        expected = net.score(z_ND[query][:, None], z_ND[support].mean(dim=2)).double().numpy()
    assert np.array_equal(class_scores(net, z_ND, query, support), expected)


# Where it is computed


def test_the_cpu_is_always_there_and_auto_takes_a_gpu_if_there_is_one() -> None:
    assert pick_device("cpu") == CPU
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_a_gpu_whose_driver_is_too_old_for_torch_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)  # as NVML counts GPUs, with a driver of any version
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"device 'cuda': the GPU's driver may be older than torch \S+ is built for"):
        pick_device("cuda")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("gpu", "unknown device 'gpu'; use cpu, cuda or cuda:N"),
        ("cuda:99", r"device 'cuda:99': this machine has \d+ GPU\(s\) that torch can use"),
        ("meta", "device 'meta' is not supported; use cpu, cuda or cuda:N"),
    ],
)
def test_a_device_that_is_not_there_is_a_sentence(name: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        pick_device(name)


def test_the_precision_is_what_is_asked_for_and_auto_is_one_of_the_two() -> None:
    assert resolve_precision("fp32", CPU) == "fp32"
    assert resolve_precision("bf16", CPU) == "bf16"  # without hardware support it is slow, but correct
    assert resolve_precision("auto", CPU) in ("fp32", "bf16")
