"""Published 20-way one-shot accuracies on Omniglot: the ladder a result is shown on. Figures and sources only."""

from dataclasses import dataclass

_SCIENCE = "Lake, Salakhutdinov & Tenenbaum 2015, Science 350"
_PROGRESS = "Lake, Salakhutdinov & Tenenbaum 2019, The Omniglot challenge: a 3-year progress report"
_KOCH = "Koch, Zemel & Salakhutdinov 2015, Siamese neural networks for one-shot image recognition"
# Vinyals et al. 2016, section 4.1.1; Snell et al. 2017, section 3.1: no test alphabet is new to such a network.
_BY_CHARACTER = "1,200 characters of all alphabets taught, turned copies as further ones"
_OPEN = "public repositories"
_DISTORTED = "affine distortions; at validation's best threshold"


@dataclass(frozen=True)
class Figure:
    """One published accuracy, a fraction in [0, 1], and the protocol it holds for (other protocols do not compare).

    `protocol` is a name of `evaluation.trials.NAMES`, or `verification`: same or different, of pairs. `note` says
    what a reader has to know, such as training data other than the 30 background alphabets.
    """

    name: str
    accuracy: float
    protocol: str
    source: str
    note: str = ""


FIGURES: tuple[Figure, ...] = (
    Figure("ARC", 0.985, "lake400", "Shyam, Gupta & Dukkipati 2017, Attentive recurrent comparators"),
    Figure("BPL", 0.967, "lake400", _SCIENCE, "95.7 and 96.0 % with 5 alphabets"),
    Figure("humans", 0.955, "lake400", _SCIENCE),
    Figure("RCN", 0.927, "lake400", _PROGRESS, "quoted from memory"),
    Figure("convolutional Siamese net", 0.92, "lake400", _KOCH, "its own split: 40 alphabets to train and validate"),
    Figure("deep convnet", 0.865, "lake400", _SCIENCE, "76 to 77.7 % with 5 alphabets"),
    Figure("prototypical net", 0.863, "lake400", _PROGRESS, "quoted from memory"),
    Figure("Modified Hausdorff", 0.612, "lake400", _SCIENCE, "no training; exactly 61.25 % on the 400 trials"),
    Figure("best open Siamese net", 0.78, "within", _OPEN),
    Figure("prototypical net", 0.96, "between", "Snell, Swersky & Zemel 2017, Prototypical networks", _BY_CHARACTER),
    Figure(
        "matching nets", 0.938, "between", "Vinyals et al. 2016, Matching networks for one shot learning", _BY_CHARACTER
    ),
    Figure("best open Siamese net", 0.895, "between", _OPEN),
    Figure("source document", 321 / 352, "seed352", "the source document", "321 of 352 trials"),
    Figure("convolutional Siamese net", 0.9342, "verification", _KOCH, f"150,000 pairs, {_DISTORTED}"),
    Figure("convolutional Siamese net", 0.9315, "verification", _KOCH, f"90,000 pairs, {_DISTORTED}"),
    Figure("convolutional Siamese net", 0.9163, "verification", _KOCH, "150,000 pairs"),
    Figure("convolutional Siamese net", 0.9154, "verification", _KOCH, "90,000 pairs"),
    Figure("convolutional Siamese net", 0.9061, "verification", _KOCH, "30,000 pairs"),
)


def ladder(protocol: str) -> tuple[Figure, ...]:
    """The figures of one protocol, the greatest accuracy first; empty if nothing is published for it."""
    figures = (figure for figure in FIGURES if figure.protocol == protocol)
    return tuple(sorted(figures, key=lambda figure: -figure.accuracy))
