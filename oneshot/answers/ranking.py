"""Which class an image is of: scores of queries against classes, ranked, with what the scores are worth.

Legend of shapes: Q queries, C classes, D the length of an embedding.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from oneshot.answers.calibration import RATE, Calibration, sigmoid, softmax
from oneshot.base.errors import UserError
from oneshot.network.models import Siamese, at_once


@dataclass(frozen=True)
class Classes:
    """What can be chosen from: names, the mean embedding (C, D) of each, and from how many images that is."""

    names: tuple[str, ...]
    z_CD: torch.Tensor
    counts: tuple[int, ...]

    @property
    def k_shot(self) -> int:
        """The number of images that scores are taken to rest on: the least of a class."""
        return min(self.counts)


@dataclass(frozen=True)
class Ranking:
    """The classes by how well they fit one image, the best first.

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
        raise UserError(f"a false-accept rate of {false_accept:g} was not measured; use {known}, or 1: never refuse")


@torch.no_grad()
def rank(
    net: Siamese, calibration: Calibration | None, classes: Classes, z_QD: torch.Tensor, *, false_accept: float = RATE
) -> list[Ranking]:
    """The ranking of each query. Equal scores stand in the order of the classes. Raises UserError."""
    check_rate(calibration, false_accept)
    step = at_once(z_QD.device, classes.z_CD.numel())
    parts = [net.score(part[:, None], classes.z_CD).double().cpu().numpy() for part in z_QD.split(step)]
    scores_QC = np.concatenate(parts)
    probabilities_QC, known = _worth(calibration, scores_QC, classes.k_shot, false_accept)
    order_QC = np.argsort(-scores_QC, axis=1, kind="stable")
    return [
        Ranking(
            classes=tuple(classes.names[place] for place in order),
            probabilities=tuple(probabilities[order].tolist()),
            scores=tuple(scores[order].tolist()),
            known=None if known is None else bool(known[query]),
        )
        for query, (order, probabilities, scores) in enumerate(zip(order_QC, probabilities_QC, scores_QC, strict=True))
    ]


def _worth(
    calibration: Calibration | None, scores_QC: np.ndarray, k_shot: int, false_accept: float
) -> tuple[np.ndarray, np.ndarray | None]:
    alone = scores_QC.shape[1] == 1
    if calibration is None:
        return (sigmoid(scores_QC) if alone else softmax(scores_QC)), None
    probabilities = calibration.pair if alone else calibration.classes
    return probabilities(scores_QC, k_shot=k_shot), calibration.known(scores_QC, k_shot=k_shot, rate=false_accept)
