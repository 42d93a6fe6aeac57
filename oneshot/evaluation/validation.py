"""Validation: the same pairs and the same one-shot trials at every epoch, on alphabets the training never sees."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from oneshot.answers.calibration import platt
from oneshot.base import settings
from oneshot.data.drawings import Drawings
from oneshot.data.pairs import PairDataset
from oneshot.evaluation.scoring import judge, score
from oneshot.evaluation.trials import PROTOCOLS, suited
from oneshot.network.embedding import embed, similarity
from oneshot.network.images import Images
from oneshot.network.losses import pair_loss
from oneshot.network.models import Siamese
from oneshot.network.worker import Worker

SEED = 20_15  # of the pairs and trials: not the run's, so that every trial of a search is measured by the same ones


class Validation:
    """Fixed pairs and fixed `within` trials of the validation alphabets.

    The loss is the binary cross-entropy on the pairs, whatever the training objective: early stopping and the tuner
    read it. The objective "softmax" alone does not train the head's bias, which cancels in it. With it the logits are
    first put on the line (scale and shift, Platt 1999) that fits these pairs best, and loss and accuracy say how well
    the network tells them apart; the network itself is not changed.

    `n_way` is 20, or the most that an alphabet carries if none carries 20; on one's own images, what half of the groups
    carry, at most 20. If no two characters share an alphabet, as in small sets of one's own images, the trials are
    `between`.
    """

    def __init__(self, drawings: Drawings, train: settings.Train, *, size: int, device: torch.device) -> None:
        self.fits_line = train.objective == "softmax"
        count = train.val_pairs + train.val_pairs % 2
        pairs = PairDataset(drawings, seed=SEED).pairs(epoch=0, start=0, count=count)
        kind, self.n_way = suited(drawings, 20)
        trials = PROTOCOLS[kind](drawings, trials=train.val_trials, n_way=self.n_way, seed=SEED)
        # Only the drawings that are asked about are kept and embedded: a large network on a CPU is slow.
        asked = np.zeros(len(drawings), dtype=bool)
        for positions in (pairs.left, pairs.right, trials.query, trials.support):
            asked[positions] = True
        place = np.cumsum(asked) - 1
        self.pairs = replace(pairs, left=place[pairs.left], right=place[pairs.right])
        self.trials = replace(trials, query=place[trials.query], support=place[trials.support])
        self.images = Images(drawings.where(asked), size=size, device=device)

    def measure(self, net: Siamese, worker: Worker, *, moved: Callable[[], object] = lambda: None) -> dict[str, float]:
        """val_loss, val_accuracy (of pairs), val_oneshot (of trials), and val_spread: the standard deviation of the
        pairs' logits, 0 in a dead network. The same on every rank. `moved` is called after each part of the work."""
        logits_of = similarity(net, embed(net, self.images, worker, progress=lambda *_: moved()))
        logits = torch.from_numpy(logits_of(self.pairs.left, self.pairs.right))
        seen = self._on_line(logits) if self.fits_line else logits
        loss, accuracy = pair_loss(seen, torch.from_numpy(self.pairs.same))
        outcome = judge(self.trials, score(self.trials, logits_of))
        return {
            "val_loss": float(loss),
            "val_accuracy": float(accuracy),
            "val_oneshot": outcome.accuracy,
            "val_spread": float(logits.std()),
        }

    def _on_line(self, logits: torch.Tensor) -> torch.Tensor:
        """The logits of the pairs, scaled and shifted; all 0 if the fitted scale would reverse them."""
        if not logits.isfinite().all():
            return logits
        slope, offset = platt(logits.numpy(), self.pairs.same)
        return logits * slope + offset if slope > 0 else torch.zeros_like(logits)
