"""Embed each drawing once, then score by position: the basis of validation and of the one-shot protocols."""

from collections.abc import Callable

import numpy as np
import torch

from oneshot.network.images import Images
from oneshot.network.models import Siamese, at_once
from oneshot.network.worker import Worker, without_tf32
from oneshot.run.watch import Showing


def chunk(device: torch.device) -> int:
    """Drawings per call of the encoder: on a CPU, as many as fit its cache and memory that it has already touched."""
    return 48 if device.type == "cpu" else 512


@torch.no_grad()
def embed(
    net: Siamese, images: Images, worker: Worker, *, progress: Showing | None = None, what: str = "embedding drawings"
) -> torch.Tensor:
    """Embeddings (N, D) float32 of all drawings, in order, on every rank; the ranks share the work.

    Computes in evaluation mode, so no drawing's embedding depends on its neighbours, and leaves the mode of `net` as it
    was. If the worker's precision is fp32, a GPU computes in full float32, too.

    `progress` is called after each chunk with `what`, the number of this rank's drawings done, and their total."""
    share = np.arange(worker.rank, len(images), worker.world_size)
    drawn = share if len(share) else np.arange(1)  # a rank without drawings embeds one, to know the shape of a row
    training, step = net.training, chunk(images.device)
    net.eval()
    with worker.autocast(), without_tf32():
        parts = []
        for at in range(0, len(drawn), step):
            parts.append(net.embed(images.gather(drawn[at : at + step])).float())
            if progress:
                progress(what, min(at + step, len(share)), len(share))
    net.train(training)
    return worker.interleave(torch.cat(parts)[: len(share)], len(images))


@torch.no_grad()
def class_scores(net: Siamese, z_ND: torch.Tensor, query: np.ndarray, support: np.ndarray) -> np.ndarray:
    """Positions (T,) and (T, C, k) -> logits (T, C) float64: each query against the mean embedding of the k drawings
    of each of its classes."""
    step = at_once(z_ND.device, support[0].size * z_ND.shape[1])
    parts = []
    for at in range(0, len(query), step):
        asked, shown = (torch.as_tensor(each[at : at + step], device=z_ND.device) for each in (query, support))
        # One drawing is its own mean: averaging long embeddings on a CPU takes as long as scoring them.
        z_TCD = z_ND[shown[..., 0]] if support.shape[-1] == 1 else z_ND[shown].mean(dim=2)
        parts.append(net.score(z_ND[asked][:, None], z_TCD))
    return torch.cat(parts).double().cpu().numpy()


def similarity(net: Siamese, z_ND: torch.Tensor) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The scorer of pairs of positions (M,), (M,) -> logits (M,), in the form that `evaluation.scoring.score` takes."""
    step = at_once(z_ND.device, z_ND.shape[1])

    @torch.no_grad()
    def logits(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        parts = []
        for at in range(0, len(left), step):
            a = z_ND.index_select(0, torch.as_tensor(left[at : at + step], device=z_ND.device))
            b = z_ND.index_select(0, torch.as_tensor(right[at : at + step], device=z_ND.device))
            parts.append(net.score(a, b))
        return torch.cat(parts).double().cpu().numpy()

    return logits
