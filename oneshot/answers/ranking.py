"""Which class an image is of: scores of queries against classes, ranked, with their probabilities.

Legend of shapes: Q queries, C classes, D the length of an embedding.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from oneshot.answers.calibration import RATE, Calibration, sigmoid, softmax
from oneshot.answers.classes import Classes
from oneshot.base.errors import UserError, shown
from oneshot.network.models import Siamese

TABLE = 1 << 20  # scores of queries against classes that are held at once


@dataclass(frozen=True)
class Ranking:
    """The classes by how well they fit one image, the best first: all, or as many as were asked for.

    `probabilities` are those that the image is of each class, if it is of one of these; with one class only, that it is
    of this one. `scores` are logits. `known` says whether the best class is good enough to be named; it is None if the
    network's probabilities are not calibrated.
    """

    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    scores: tuple[float, ...]
    known: bool | None

    @property
    def best(self) -> str | None:
        """The class of the image; None for "none of these"."""
        return None if self.known is False else self.classes[0]

    def to_dict(self, top: int | None = None) -> dict[str, Any]:
        """The ranking as `--json` prints it, of the `top` classes."""
        rows = zip(self.classes[:top], self.probabilities[:top], self.scores[:top], strict=True)
        ranked = [{"class": name, "probability": probability, "score": score} for name, probability, score in rows]
        return {"class": self.best, "known": self.known, "ranked": ranked}


def check_rate(calibration: Calibration | None, false_accept: float) -> None:
    """Raises UserError unless the limit for this rate of false acceptance was measured."""
    rates = calibration.record["rates"] if calibration else []
    if calibration and false_accept not in (*rates, 1):
        known = ", ".join(f"{rate:g}" for rate in rates)
        raise UserError(
            f"a false-accept rate of {shown(false_accept)} was not measured; use {known}, or 1 to never refuse"
        )


def rank(
    net: Siamese, calibration: Calibration | None, classes: Classes, z_QD: torch.Tensor, *, false_accept: float = RATE,
    top: int | None = None,
) -> list[Ranking]:  # fmt: skip
    """The ranking of each query, of all classes or of the `top`. Classes of equal score stay in their order.

    If `top` is small, little memory is needed besides the embeddings, however many classes there are. Raises UserError.
    """
    return [one for (one,) in rank_at(net, calibration, classes, z_QD, rates=(false_accept,), top=top)]


@torch.no_grad()
def rank_at(
    net: Siamese, calibration: Calibration | None, classes: Classes, z_QD: torch.Tensor, *, rates: Sequence[float],
    top: int | None = None,
) -> list[tuple[Ranking, ...]]:  # fmt: skip
    """As `rank`, but each query has a ranking for each of these rates of false acceptance, in their order. These come
    from one scoring and differ in `known` alone. Raises UserError."""
    for rate in rates:
        check_rate(calibration, rate)
    z_CD, ranked = classes.z_CD.to(z_QD.device), []
    for part in z_QD.split(max(1, TABLE // len(z_CD))):
        scores_QC = net.score_between(part, z_CD).double().cpu().numpy()
        probabilities_QC = _worth(calibration, scores_QC, classes.k_shot)
        known = [_known(calibration, scores_QC, classes.k_shot, rate) for rate in rates]
        for query, (scores, probabilities) in enumerate(zip(scores_QC, probabilities_QC, strict=True)):
            order = _best(scores, top)
            one = Ranking(
                classes=tuple(classes.names[place] for place in order),
                probabilities=tuple(probabilities[order].tolist()),
                scores=tuple(scores[order].tolist()),
                known=None,
            )
            ranked.append(tuple(replace(one, known=each and each[query]) for each in known))
    return ranked


def _best(scores: np.ndarray, top: int | None) -> np.ndarray:
    """The places of scores (C,), the best first, all or `top` of them; those of equal scores in their order."""
    places = np.arange(len(scores))
    if top is not None and top < len(scores):  # sorting all takes longer than scoring short embeddings
        known = np.where(np.isnan(scores), -np.inf, scores)
        places = np.flatnonzero(known >= np.partition(known, -top)[-top])
    return places[np.argsort(-scores[places], kind="stable")][:top]


def _worth(calibration: Calibration | None, scores_QC: np.ndarray, k_shot: int) -> np.ndarray:
    alone = scores_QC.shape[1] == 1
    if calibration is None:
        return sigmoid(scores_QC) if alone else softmax(scores_QC)
    return (calibration.pair if alone else calibration.classes)(scores_QC, k_shot=k_shot)


def _known(calibration: Calibration | None, scores_QC: np.ndarray, k_shot: int, rate: float) -> list[bool] | None:
    """For each query, whether its best class is good enough; None without a calibration."""
    return None if calibration is None else calibration.known(scores_QC, k_shot=k_shot, rate=rate).tolist()
