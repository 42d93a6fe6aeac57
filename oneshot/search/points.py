"""Which points a study tries: first the named ones, then random ones or those that Optuna's TPE proposes.

A point is a dict of settings: `optimizer`, `lr`, `batch`, `weight_decay` with adamw, and dotted keys of data, model or
train. AdamW without weight decay is Adam (Loshchilov & Hutter 2019), so each point with it draws one, from numbers of
its own: the rest of the point is what it would be without. If `search.choices` names train.weight_decay or
train.optimizer, the choices decide instead.
"""

import itertools
import math
import warnings
from collections.abc import Iterator
from operator import attrgetter
from typing import Any

from oneshot.base import counter
from oneshot.base.errors import UserError
from oneshot.base.jobs import with_point
from oneshot.base.settings import Search, Settings

Point = dict[str, Any]
COMMON = (
    "data.dataset",
    "data.split",
    "train.epochs",
    "train.val_pairs",
    "train.val_trials",
)  # what all trials are measured by
OF_START = ("data.size", "model.name", "model.width", "model.depth", "model.init", "model.head")  # train.start decides
COMBINATIONS = 100_000  # of batch sizes and choices, at the most: `check` tries them in two seconds


def check(settings: Settings) -> None:
    """Check the settings with every point that a trial may have, but for what is drawn from a range, before anything
    runs.

    Raises UserError for the first point that does not fit.
    """
    search = settings.search
    named = {key if "." in key else f"train.{key}" for point in search.first for key in point}
    for key in sorted(named | search.choices.keys()):
        if key.partition(".")[0] not in ("data", "model", "train") or key in COMMON:
            raise UserError(f"search: '{key}' cannot vary between trials, which could not be compared then; remove it")
        if key == "train.start" or (settings.train.start and key in OF_START):
            raise UserError(f"search: '{key}' cannot vary between trials that all start from one network; remove it")
    if len(search.first) > search.trials:
        raise UserError(
            f"search.trials = {search.trials}: less than the {len(search.first)} points of search.first; raise it"
        )
    sizes = [len(values) for values in search.choices.values()]
    if math.prod(sizes) * len(search.batch) > COMBINATIONS:
        raise UserError(
            f"search.choices: {math.prod(sizes)} combinations, and {len(search.batch)} batch sizes with each; at most"
            f" {COMBINATIONS} are allowed in all"
        )
    for _, point in variants(search):
        with_point(settings, point)


def variants(search: Search) -> Iterator[tuple[str, Point]]:
    """Every named point and, if others are drawn, every point that these may be, each with the setting that asks for
    it."""
    for number, point in enumerate(search.first):
        yield f"search.first.{number}", point
    if search.trials != len(search.first):
        yield from drawn(search)


def drawn(search: Search) -> Iterator[tuple[str, Point]]:
    """Every combination of batch size and choices, each with the settings that ask for it."""
    # Two choices may each fit and contradict each other; a study must not learn of it at its fortieth trial.
    for batch, *values in itertools.product(search.batch, *search.choices.values()):
        point = {"batch": batch} | dict(zip(search.choices, values, strict=True))
        yield "search." + ", ".join(f"{key} = {value!r}" for key, value in point.items()), point


def completed(point: Point, settings: Settings) -> Point:
    """A point with what it leaves to the settings. A named one may hold no more than what is special about it."""
    chosen = with_point(settings, point)
    names = ("optimizer", "lr", "batch", *["weight_decay"] * _decays(settings.search, chosen.train.optimizer))
    own = {key: getattr(chosen.train, key) for key in names}
    return own | {key: attrgetter(key)(chosen) for key in settings.search.choices}


class RandomPoints:
    """Point i is a pure function of (seed, i)."""

    def __init__(self, search: Search) -> None:
        self.search = search

    def ask(self, index: int) -> Point:
        if index < len(self.search.first):
            return dict(self.search.first[index])
        draw = counter.uniforms(
            counter.SEARCH, seed=self.search.seed, epoch=0, start=index, count=1, width=3 + len(self.search.choices)
        )[0].tolist()
        optimizer = _pick(list(self.search.lr), draw[0])
        low, high = self.search.lr[optimizer]
        point = {
            "optimizer": optimizer,
            "lr": _short(low * (high / low) ** draw[1], low, high),
            "batch": _pick(self.search.batch, draw[2]),
        }
        choices = zip(self.search.choices.items(), draw[3:], strict=True)
        return point | self._decay(optimizer, index) | {key: _pick(values, u) for (key, values), u in choices}

    def _decay(self, optimizer: str, index: int) -> Point:
        if not _decays(self.search, optimizer):
            return {}
        low, high = self.search.weight_decay
        u = counter.uniforms(counter.DECAYS, seed=self.search.seed, epoch=0, start=index, count=1, width=1)[0, 0]
        return {"weight_decay": _short(low * (high / low) ** float(u), low, high)}

    def tell(self, index: int, point: Point, loss: float | None) -> None:
        """Random search does not learn."""


class OptunaPoints:
    """Optuna's tree-structured Parzen estimator (Bergstra et al. 2011). Each optimizer has its own range of learning
    rates.

    Point i is a function of the seed, of i and of what was told by then, in whatever order, so a study that is resumed
    goes on as if it had not been interrupted. Points are compared by their best validation loss. It is infinite for one
    that diverged before it had any, so that the estimator keeps away from there. Named points are told like any other.
    """

    def __init__(self, search: Search) -> None:
        self.search = search
        self.told: dict[int, Any] = {}  # Optuna's own trials, by the number of ours

    def ask(self, index: int) -> Point:
        if index < len(self.search.first):
            return dict(self.search.first[index])
        trial = self._study(index).ask()
        optimizer = trial.suggest_categorical("optimizer", list(self.search.lr))
        low, high = self.search.lr[optimizer]
        point = {
            "optimizer": optimizer,
            "lr": _short(trial.suggest_float(f"lr.{optimizer}", low, high, log=True), low, high),
            "batch": trial.suggest_categorical("batch", self.search.batch),
        }
        choices = {key: trial.suggest_categorical(key, values) for key, values in self.search.choices.items()}
        if _decays(self.search, optimizer):
            low, high = self.search.weight_decay
            point["weight_decay"] = _short(trial.suggest_float("weight_decay", low, high, log=True), low, high)
        return point | choices

    def _study(self, index: int) -> Any:
        """An Optuna study of all that was told, with random numbers that belong to this index alone."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        word = counter.words(counter.SEARCH, seed=self.search.seed, epoch=0, start=index, count=1, width=1)[0, 0]
        with warnings.catch_warnings():  # `group` and `multivariate` may change, `gamma` may go; the version is pinned
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            warnings.simplefilter("ignore", FutureWarning)
            sampler = optuna.samplers.TPESampler(
                seed=int(word) >> 32, n_startup_trials=8, multivariate=True, group=True, gamma=self._good
            )
        study = optuna.create_study(direction="minimize", sampler=sampler)
        study.add_trials(self.told[number] for number in sorted(self.told))
        return study

    def _good(self, count: int) -> int:
        """How many of the trials that were told the estimator takes for good ones and proposes points near: a tenth, 25
        at most, as is Optuna's default, but none that diverged, however few others there are."""
        return min(math.ceil(count / 10), 25, sum(math.isfinite(trial.value) for trial in self.told.values()))

    def tell(self, index: int, point: Point, loss: float | None) -> None:
        """Record the best validation loss of trial `index`, which has this point: infinite if it diverged before it had
        one; None, or not a number, if nothing is known of it, as of one that failed. What was told of the trial before,
        at an earlier rung, is forgotten."""
        import optuna

        self.told.pop(index, None)
        low_high = self.search.lr.get(point.get("optimizer", ""))
        if low_high is None or not low_high[0] <= point.get("lr", 0) <= low_high[1]:
            return  # a named point outside the searched space
        if loss is None or math.isnan(loss):
            return  # a failure may not be the point's fault, and Optuna refuses what cannot be compared
        kinds = optuna.distributions
        space: dict[str, Any] = {
            "optimizer": kinds.CategoricalDistribution(list(self.search.lr)),
            f"lr.{point['optimizer']}": kinds.FloatDistribution(*low_high, log=True),
        }
        values = {"optimizer": point["optimizer"], f"lr.{point['optimizer']}": point["lr"]}
        for key, options in {"batch": self.search.batch, **self.search.choices}.items():
            if point.get(key) in options:
                space[key], values[key] = kinds.CategoricalDistribution(options), point[key]
        low, high = self.search.weight_decay
        if _decays(self.search, point["optimizer"]) and low <= point.get("weight_decay", 0) <= high:
            space["weight_decay"] = kinds.FloatDistribution(low, high, log=True)
            values["weight_decay"] = point["weight_decay"]
        self.told[index] = optuna.trial.create_trial(params=values, distributions=space, value=loss)


def proposer(search: Search) -> RandomPoints | OptunaPoints:
    return OptunaPoints(search) if search.searcher == "optuna" else RandomPoints(search)


def _decays(search: Search, optimizer: str) -> bool:
    """Whether a point with this optimizer draws its weight decay from `search.weight_decay`."""
    return optimizer == "adamw" and not {"train.weight_decay", "train.optimizer"} & search.choices.keys()


def _pick(values: list[Any], u: float) -> Any:
    return values[int(u * len(values))]


def _short(value: float, low: float, high: float) -> float:
    """Round to three significant digits, inside the range, so that the screen shows what was run."""
    return min(max(float(f"{value:.3g}"), low), high)
