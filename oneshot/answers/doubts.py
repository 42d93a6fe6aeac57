"""Why what a calibration states may not hold, in sentences; empty if nothing speaks against it.

`record` is as `calibration.Calibration` reads it; `words` are those for the data that it was measured on.
"""

from collections.abc import Mapping
from typing import Any

from oneshot.screen.words import Words

# Limits and thresholds measured on fewer classes are rough. Limits, simulated with 20 classes to choose from and a
# stated rate of 10 %: 40 to 53 % pass with 2 validation classes, 16 to 23 % with 3, 11 to 19 % with 6, 11 to 12 % with
# 11. Thresholds, however many pairs there are, with half of the scores' spread due to the two classes: at a stated rate
# of 1 %, 11 % pass on average with 2 validation classes, 4.7 % with 3, 1.7 % with 6 and 1.1 % with 12; at a stated rate
# of 0.1 %, 7.8, 2.1, 0.3 and 0.15 %.
FEW = 10
# The rule of 30 (Doddington et al. 2000, and ISO/IEC 19795-1): with so many errors, a rate is within 30 % of the true
# one with 90 % confidence, if the pairs are independent.
ENOUGH = 30
OFF = 1.5  # times the rate that is meant: if more than that pass on the other half, it is said


def flattered(record: Mapping[str, Any], words: Words) -> str:
    """Why the probabilities themselves may be surer than they should be."""
    taught = record["measured_on"].get("taught")  # older records do not say
    if not taught:
        return ""
    return (
        f"this network {'may also have been' if taught == 'perhaps' else 'was also'} trained on the {words.held} on"
        " which its probabilities were measured: on new classes they are overconfident, and errors are more frequent"
    )


def limits(record: Mapping[str, Any]) -> str:
    """Why the limits of "none of these" may be rough."""
    classes = record["measured_on"]["characters"]
    if classes >= FEW:
        return ""
    return (
        f'the limits for "none of these" were measured on only {classes} validation classes: far more images of'
        " no class than the stated share may be taken for one"
    )


def false_accept(record: Mapping[str, Any], words: Words) -> str:
    """Why a rate of false acceptance may not be kept."""
    return "; ".join(filter(None, [flattered(record, words), limits(record)]))


def false_match(record: Mapping[str, Any], rate: float, words: Words) -> str:
    """Why this false match rate may not be kept."""
    about, pairs, said = record["measured_on"], record["match"]["pairs"], [flattered(record, words)]
    if about["characters"] < FEW:
        said.append(
            f"the threshold was measured on only {about['characters']} validation classes: far more pairs of two"
            " classes than the stated share may be called the same"
        )
    elif rate * pairs < ENOUGH:
        said.append(
            f"the threshold was measured on {pairs:,} pairs of two classes, and {100 * rate:g} % of them are fewer"
            f" than {ENOUGH}: the rate is rough"
        )
    else:  # pairs from one alphabet or one hand are alike, and so worth less than as many from all
        passed = record["match"]["false_match"][record["match"]["rates"].index(rate)]
        if passed > OFF * rate:
            halved = words.groups if about["alphabets"] > 1 else "trials"
            said.append(
                f"with thresholds from one half of the validation {halved}, {100 * passed:.2g} % of the other half's"
                f" pairs of two classes are called the same instead of {100 * rate:g} %: the rate is rough"
            )
    return "; ".join(filter(None, said))
