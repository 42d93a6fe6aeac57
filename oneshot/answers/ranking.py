"""Which class an image is of: scores of queries against classes, ranked, with what the scores are worth.

Legend of shapes: Q queries, C classes, D the length of an embedding.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from oneshot.answers.calibration import RATE, Calibration, sigmoid, softmax
from oneshot.answers.embeddings import Classes
from oneshot.base.errors import UserError, shown
from oneshot.network.models import Siamese

TABLE = 1 << 20  # scores of queries against classes that are held at once


@dataclass(frozen=True)
class Ranking:
    """The classes by how well they fit one image, the best first: all, or as many as were asked for.

    `probabilities`: of the image being of that class, where it is of one of these; where there is one class only, of it
    being of this one. `scores`: logits. `known`: whether the best is good enough to be named; None where the network's
    probabilities are not calibrated.
    """

    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    scores: tuple[float, ...]
    known: bool | None

    @property
    def best(self) -> str | None:
        """The class of the image, None for "none of these"."""
        return None if self.known is False else self.classes[0]

    def to_dict(self, top: int | None = None) -> dict[str, Any]:
        """As `--json` prints it; `top`: so many classes."""
        rows = zip(self.classes[:top], self.probabilities[:top], self.scores[:top], strict=True)
        ranked = [{"class": name, "probability": probability, "score": score} for name, probability, score in rows]
        return {"class": self.best, "known": self.known, "ranked": ranked}


def check_rate(calibration: Calibration | None, false_accept: float) -> None:
    """Raises UserError unless the limit for this rate of false acceptance was measured."""
    rates = calibration.record["rates"] if calibration else []
    if calibration and false_accept not in (*rates, 1):
        known = ", ".join(f"{rate:g}" for rate in rates)
        raise UserError(
            f"a false-accept rate of {shown(false_accept)} was not measured; use {known}, or 1: never refuse"
        )


def rank(
    net: Siamese, calibration: Calibration | None, classes: Classes, z_QD: torch.Tensor, *, false_accept: float = RATE,
    top: int | None = None,
) -> list[Ranking]:  # fmt: skip
    """The ranking of each query, or its `top` classes. Equal scores stand in the order of the classes.

    Beside the embeddings little memory is needed, however many classes there are, where `top` is few. Raises UserError.
    """
    return [one for (one,) in rank_at(net, calibration, classes, z_QD, rates=(false_accept,), top=top)]


@torch.no_grad()
def rank_at(
    net: Siamese, calibration: Calibration | None, classes: Classes, z_QD: torch.Tensor, *, rates: Sequence[float],
    top: int | None = None,
) -> list[tuple[Ranking, ...]]:  # fmt: skip
    """As `rank`, of each query a ranking for each of these rates of false acceptance, in their order. All are of one
    scoring and differ in `known` alone. Raises UserError."""
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
    """The places of the best of scores (C,), all of them or `top`, those of equal ones in their order."""
    places = np.arange(len(scores))
    if top is not None and top < len(scores):  # to sort all takes longer than to score short embeddings
        known = np.where(np.isnan(scores), -np.inf, scores)
        places = np.flatnonzero(known >= np.partition(known, -top)[-top])
    return places[np.argsort(-scores[places], kind="stable")][:top]


def _worth(calibration: Calibration | None, scores_QC: np.ndarray, k_shot: int) -> np.ndarray:
    alone = scores_QC.shape[1] == 1
    if calibration is None:
        return sigmoid(scores_QC) if alone else softmax(scores_QC)
    return (calibration.pair if alone else calibration.classes)(scores_QC, k_shot=k_shot)


def _known(calibration: Calibration | None, scores_QC: np.ndarray, k_shot: int, rate: float) -> list[bool] | None:
    """Of each query whether its best class is good enough; None where nothing says so."""
    return None if calibration is None else calibration.known(scores_QC, k_shot=k_shot, rate=rate).tolist()
