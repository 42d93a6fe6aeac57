"""Measure a trained network's calibration on the validation alphabets: no setting, nothing random, some seconds."""

from typing import Any, Literal

import numpy as np
import torch

from oneshot.answers import calibration, matching
from oneshot.data.drawings import Drawings
from oneshot.evaluation.trials import PROTOCOLS, carry, suited, unfit
from oneshot.evaluation.validation import SEED
from oneshot.network.embedding import class_scores, embed
from oneshot.network.images import Images
from oneshot.network.models import Siamese, looking
from oneshot.network.worker import Worker
from oneshot.run.watch import Showing

TRIALS = 2_000
DRAWERS = 8  # that large data sets are reduced to: a large network on a CPU is slow
MANY = 2_500  # drawings above which a data set is large


def measure(
    net: Siamese, drawings: Drawings, *, taught: bool | Literal["perhaps"] = False, views: int = 1,
    before: Siamese | None = None, progress: Showing | None = None,
) -> dict[str, Any] | None:  # fmt: skip
    """A record that `calibration.Calibration` reads, with what it was measured on. None if the network is dead.

    Uses `within` trials, query and support by different drawers, since a user's own classes are mostly of one kind
    (`between` if no two classes share a group). Computed on the device of `net`: Koch's network takes seconds on a GPU.

    Several images of a class count as the mean of their embeddings. On Omniglot's validation alphabets that beats the
    mean of their scores for every number of classes and images that was tried; the record holds both accuracies.

    `taught`: whether the network was taught these alphabets, too; the record keeps it, see `doubts.flattered`.
    `net` is measured in `views` positions; with several, the record also has the accuracy of one alone. `before` is the
    network that the training started from, with its own positions: the record has its accuracy beside the new one's.
    """
    worker = Worker(net.head.weight.device)
    one, net = net, looking(net, views).to(worker.device)
    drawings = _fewer(drawings)
    characters = np.bincount(drawings.alphabet_of)
    # One class more than the usual 20, so that the true one can be left out; at least half of the alphabets carry it.
    kind, n_way = suited(drawings, 21)
    if kind == "within":
        _, n_way = suited(drawings, max(2, min(21, int(np.median(characters)))))
    most = max(k for k in calibration.SHOTS if k == 1 or _enough(drawings, kind, n_way=n_way, k_shot=k))
    trials = PROTOCOLS[kind](drawings, trials=TRIALS, n_way=n_way, k_shot=most, seed=SEED)
    images = Images(drawings, size=net.size, device=worker.device)
    calibrating = "calibrating on validation drawings"
    z_ND = embed(net, images, worker, progress=progress, what=calibrating)
    true_first = np.argsort(np.arange(n_way) != trials.target[:, None], axis=1, kind="stable")
    support = np.take_along_axis(trials.support, true_first[..., None], axis=1)
    shots = [k for k in calibration.SHOTS if k <= most]
    scores = {k: class_scores(net, z_ND, trials.query, support[..., :k]) for k in shots}
    group = drawings.alphabet[trials.query]
    record = calibration.fit(scores, group)
    if record is None:
        return None
    about = {
        "part": "validation", "protocol": kind, "alphabets": len(np.unique(group)),
        "characters": len(np.unique(drawings.character[support])),
        "drawings": len(np.unique(np.append(support, trials.query))), "trials": TRIALS, "n_way": n_way, "seed": SEED,
        "taught": taught,
    }  # fmt: skip
    others = np.broadcast_arrays(trials.query[:, None], support[:, 1:, 0])
    record["match"] = matching.fit(scores[1], group) | {"pairs": matching.distinct(*others)}
    record["pooling"] = _pooling(net, z_ND, trials.query, support, scores[most])
    if views > 1:
        alone = class_scores(one, z_ND[:, : one.dimension], trials.query, support[..., :1])
        record["views"] = {"positions": views, "accuracy": _accuracy(scores[1]), "one": _accuracy(alone)}
    if before:
        before = before.to(worker.device)
        z_ND = embed(before, images, worker, progress=progress, what=calibrating)
        untuned = class_scores(before, z_ND, trials.query, support[..., :1])
        record["start"] = {"accuracy": _accuracy(scores[1]), "before": _accuracy(untuned)}
    return {"measured_on": about, **record}


def _enough(drawings: Drawings, kind: str, *, n_way: int, k_shot: int) -> bool:
    """Whether trials of `k_shot` images a class can be made from enough alphabets. All trials are drawn from those that
    carry the most images, so at least half of those that carry one image must carry these, too."""
    if kind == "between":
        return carry(drawings, kind, n_way=n_way, k_shot=k_shot)
    one, many = (len(drawings.alphabets) - len(unfit(drawings, n_way=n_way, k_shot=k)) for k in (1, k_shot))
    return many > 0 and 2 * many >= one


def _fewer(drawings: Drawings) -> Drawings:
    """Of many drawings those of a few drawers, if these drew every character; else all."""
    if len(drawings) <= MANY:
        return drawings
    few = drawings.where(np.isin(drawings.drawer, np.unique(drawings.drawer)[:DRAWERS]))
    whole = len(few.characters) == len(drawings.characters) and np.bincount(few.character).min() == DRAWERS
    return few if whole else drawings


def _pooling(
    net: Siamese, z_ND: torch.Tensor, query: np.ndarray, support: np.ndarray, pooled: np.ndarray
) -> dict[str, Any]:
    """The accuracy of averaged embeddings and of averaged scores on these trials: why the former are used."""
    k_shot = support.shape[-1]
    averaged = sum(class_scores(net, z_ND, query, support[..., shot : shot + 1]) for shot in range(k_shot))
    share = {"embeddings": pooled, "scores": averaged}
    return {"k_shot": k_shot} | {name: _accuracy(each) for name, each in share.items()}


def _accuracy(scores: np.ndarray) -> float:
    """The accuracy of scores (T, N) whose first column is the true class."""
    return float((scores.argmax(axis=1) == 0).mean())
