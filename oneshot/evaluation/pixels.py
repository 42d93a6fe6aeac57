"""What pixels alone would answer: the baseline of a judgement. Nothing is learnt from any data.

The class of the most similar image. As images lie, the cosine similarity gets little right (Lake et al. 2015: 21.7 % of
their trials), since strokes of two hands seldom meet: here both are moved to the middle of their ink and blurred, which
on Omniglot's validation alphabets lifts `within` from 22 to 58 %. No blur did better there than 1.25 and 1.5 pixels.

Legend of shapes: N drawings, D cells, S pixels a side, T trials.
"""

import numpy as np

from oneshot.data.drawings import Drawings
from oneshot.evaluation.scoring import Trials
from oneshot.network.images import fitted

SIDE, CELLS, BLUR = 28, 14, 1.5  # pixels and cells a side, whatever the network sees; spread of a Gaussian in pixels
_DRAWINGS, _IMAGES = 2048, 4096  # drawings, and images of trials, that are held at once


def looks(drawings: Drawings) -> np.ndarray:
    """How the drawings look from afar, float32 (N, D): in each cell the ink around it, weighed by a Gaussian, as seen
    from the middle of all ink; of mean 0 and norm 1, so that products are correlations. Of a blank one 0.

    A photo has no ink on paper: it stays where it is, and around it is no paper but its mean."""
    images_NSS, photos, parts = fitted(drawings, SIDE), drawings.polarity == "photo", []
    pixel = np.arange(SIDE, dtype=np.float32) + 0.5 - SIDE / 2
    cell = (np.arange(CELLS, dtype=np.float32)[:, None] + 0.5) * (SIDE / CELLS) - SIDE / 2
    for at in range(0, len(drawings), _DRAWINGS):
        ink = images_NSS[at : at + _DRAWINGS].astype(np.float32)
        total = np.inf if photos else np.maximum(ink.sum(axis=(1, 2)), 1)
        middles = [ink.sum(axis=axis) @ pixel / total for axis in (2, 1)]  # down, across
        if photos:
            ink -= ink.mean(axis=(1, 2), keepdims=True)
        down, across = (np.exp(-(((cell + middle[:, None, None] - pixel) / BLUR) ** 2) / 2) for middle in middles)
        seen = (down @ ink @ across.transpose(0, 2, 1)).reshape(len(ink), -1)
        seen -= seen.mean(axis=1, keepdims=True)
        parts.append(seen / np.maximum(np.linalg.norm(seen, axis=1, keepdims=True), 1e-6))
    return np.concatenate(parts)


def nearest(trials: Trials, looks_ND: np.ndarray) -> np.ndarray:
    """Scores (T, n_way): how similar the query is to the nearest image of each class, -1 to 1."""
    parts, step = [], max(1, _IMAGES // trials.support[0].size)
    for at in range(0, len(trials), step):
        query, support = looks_ND[trials.query[at : at + step]], looks_ND[trials.support[at : at + step]]
        parts.append(np.einsum("td,tnkd->tnk", query, support).max(axis=-1))
    return np.concatenate(parts)
