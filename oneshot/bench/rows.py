"""The rows of the performance table: what each compares, its goal, and where it is measured. Imports nothing heavy."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from oneshot.base.errors import UserError, nearest

REPEATS, CAP = 3, 1800.0  # defaults of a request
OF_MATMUL = "of the matmul rate"  # share: a step's operations, of those that matrix products do in its time
ACCURACY = 0.70  # goal of the row `time_to_accuracy`: `within` on validation


class NotRun(Exception):
    """A row that this machine or this request leaves out; the message says why."""


@dataclass(frozen=True)
class Request:
    """What a row is given: where the data lie, and how long it may take."""

    data: str  # the folder of a prepared data set
    repeats: int = REPEATS  # times that each side is measured, in turns
    cap: float = CAP  # seconds after which a reference that has not reached its goal is broken off
    quick: bool = False  # only see that the row runs, at sizes so small that its figures mean nothing
    keep: str = ""  # folder in which a row that takes hours leaves its studies, to be resumed; empty: none is left


@dataclass(frozen=True)
class Measured:
    """The outcome of a row. `value` and `reference` hold each side's samples, in the row's unit; `reference` is empty
    if there is no other side. `shares` are further conditions of the goal by name, each a number that the goal reads.
    `bound`: the reference was broken off before it reached its goal, so that it and the ratio are lower bounds."""

    value: list[float]
    reference: list[float] = field(default_factory=list)
    note: str = ""
    shares: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    bound: bool = False


@dataclass(frozen=True)
class Row:
    """A row before it is measured. `met` is given the median value, the ratio of the medians, and the shares."""

    name: str
    what: str
    against: str  # what the reference is
    unit: str
    goal: str
    met: Callable[[float, float, dict[str, float]], bool]
    measure: str  # module of this package and function
    seconds: float  # time limit with REPEATS and CAP
    smaller_is_better: bool = False  # in the row's unit: the ratio is reference / value
    cost: bool = False  # the ratio is of what is spent, value / reference: less is better
    asked_for: bool = False  # runs only if it is named: it takes hours
    reworded: tuple[str, str] | None = None  # `what` and `against` in older records that compare the very same

    def limit(self, request: Request) -> float:
        """Seconds that the row may take for a request, which may ask for more than is usual."""
        return self.seconds * max(1.0, request.repeats / REPEATS) + max(0.0, request.cap - CAP)


def _ratio(least: float) -> Callable[[float, float, dict[str, float]], bool]:
    return lambda value, ratio, shares: ratio >= least


def _at_most(most: float) -> Callable[[float, float, dict[str, float]], bool]:
    return lambda value, ratio, shares: value <= most


_DOCUMENT = "the source document's way"

ROWS = (
    Row(
        "pairs", "pairs made, 105 px, batches of 128, ready for the network", f"{_DOCUMENT}, one process", "pairs/s",
        "≥ 800 x", _ratio(800), "data:pairs", 120,
    ),
    Row(
        "load", "the data set from Parquet into memory, as the bits that a CPU trains on, cold process",
        "decoding its PNGs, to bytes", "s", "≥ 40 x", _ratio(40), "data:load", 240, smaller_is_better=True,
        reworded=("the data set from Parquet into memory, cold process", "decoding its PNGs"),
    ),
    Row(
        "distort", "affine distortion of images that are there, 28 px", "the same on PIL, image by image", "images/s",
        "≥ 20 x; of a GPU step < 3 %",
        lambda value, ratio, shares: ratio >= 20 and shares.get("of a GPU step", 0) < 0.03, "gpu:distortion", 120,
    ),
    Row(
        "pipeline", "training step with its input pipeline", "the same on a constant batch", "images/s", "≥ 98 %",
        _ratio(0.98), "steps:pipeline", 360,
    ),
    Row(
        "koch_cpu", "Koch net on CPU; share of the bf16 matmul rate", f"{_DOCUMENT}: fp32, two calls", "images/s",
        "≥ 2.4 x, ≥ 80 % of matmul",
        lambda value, ratio, shares: ratio >= 2.4 and shares[OF_MATMUL] >= 0.8, "steps:koch_cpu", 420,
    ),
    Row(
        "time_to_accuracy", f"until {100 * ACCURACY:.0f} % within on validation, conv4",
        f"{_DOCUMENT} on the same net", "s", "≥ 20 x", _ratio(20),
        "learning:time_to_accuracy", 2400, smaller_is_better=True,
    ),
    Row(
        "koch_gpu", "Koch net on a GPU; share of the bf16 matmul rate at 128 pairs, at the best batch",
        f"{_DOCUMENT} on the same GPU", "pairs/s", "≥ 30 x, ≥ 45 and 55 % of matmul",
        lambda value, ratio, shares: ratio >= 30 and shares[f"{OF_MATMUL} at 128"] >= 0.45
        and shares[f"{OF_MATMUL} at best"] >= 0.55,
        "gpu:koch_gpu", 420,
    ),
    Row(
        "evaluate", "400 one-shot trials, 20-way", "pairwise forward, the same predictions", "s", "≥ 15 x", _ratio(15),
        "learning:evaluate", 120, smaller_is_better=True,
    ),
    Row(
        "ray_one", "Ray Train, 1 worker, steady state", "the same loop in local mode", "images/s", "≥ 98 %",
        _ratio(0.98), "launch:ray_one", 600,
    ),
    Row(
        "ray_two", "Ray Train, 2 CPU workers", "1 worker with the same cores", "images/s", "≥ 90 %", _ratio(0.9),
        "launch:ray_two", 600,
    ),
    Row(
        "turnaround", "a trial stopped early → the next trial's first step", "15 s, a prototype's best", "s", "≤ 6 s",
        _at_most(6), "launch:turnaround", 300, smaller_is_better=True,
    ),
    Row(
        "startup", "`make tune` → first training step, everything installed", "", "s", "≤ 12 s", _at_most(12),
        "launch:startup", 240, smaller_is_better=True,
    ),
    Row(
        "early_stopping", "epochs run by a search with early stopping", "all its trials to the end", "epochs",
        "≤ 33.3 %; accuracy lost within a standard error of 3 seeds",
        lambda value, ratio, shares: ratio <= 1 / 3 and shares["loss of accuracy"] <= shares["its noise"],
        "studies:early_stopping", 4 * 3600, cost=True, asked_for=True,
    ),
    Row(
        "memory", "a worker's peak memory beyond torch's and Ray's, conv4 at 28 px",
        "the whole data set at 105 px, unpacked", "MB", "≤ 2 x",
        lambda value, ratio, shares: ratio <= 2, "launch:memory", 180, cost=True,
        reworded=("a worker's peak memory beyond torch's and Ray's", "the data set, unpacked"),
    ),
    Row(
        "driver", "driver's CPU time a report, 1,000 trials", "their beginning", "ms", "≤ 1.25 x, memory ≤ 1.1 x",
        lambda value, ratio, shares: ratio <= 1.25 and shares["growth of memory"] <= 1.1, "studies:driver", 1800,
        cost=True,
    ),
)  # fmt: skip
BY_NAME = {row.name: row for row in ROWS}
NAMES = tuple(BY_NAME)


def in_todays_words(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A record's row with today's description and goal, if it was not measured or compares the very same things. A row
    that compared something else is returned as it is."""
    now, compares = BY_NAME.get(row["name"]), (row["what"], row["against"])
    if now and (row["value"] is None or compares in ((now.what, now.against), now.reworded)):
        return {**row, "what": now.what, "against": now.against, "goal": now.goal}
    return row


def chosen(names: Iterable[str] | None) -> list[Row]:
    """The rows of these names, in the table's order; without names, all but those that take hours.

    Raises UserError for an unknown name."""
    if names is None:
        return [row for row in ROWS if not row.asked_for]
    names = list(names)
    for name in names:
        if name not in NAMES:
            raise UserError(f"--rows: there is no row '{name}'; {nearest(name, NAMES)}")
    return [row for row in ROWS if row.name in names]
