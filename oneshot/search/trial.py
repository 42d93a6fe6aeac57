"""A trial, as Ray Tune runs it: an actor that takes no core and drives one training. Free of torch, as `trainer` is."""

import math
from collections.abc import Callable
from typing import Any

from ray import tune
from ray.train import UserCallback
from ray.tune.trainable.function_trainable import wrap_function

from oneshot.base.errors import DiskFull, NoRoom, RunFailed, UserError
from oneshot.base.jobs import parse_toml
from oneshot.base.storage import Folder
from oneshot.cluster.packing import Packing
from oneshot.cluster.trainer import train_on_ray
from oneshot.run.history import FAILURE

METRIC, TIME = "val_loss", "epoch"
FAILED, HOMELESS = "failed", "homeless"  # how a trial ended that has no epoch to report

# A trial's driver takes a sliver of a resource that only the head node has. It must not take a core from the workers,
# and Ray refuses a trial that asks for nothing.
DRIVER = {"node:__internal_head__": 0.001}


class Report(UserCallback):
    """Hands each report on to Tune. Ray's own callback starts a process for that, because it expects Ray Train's
    controller in another process than the trial. Here both are in one."""

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        tune.report(metrics[0])  # all ranks have the same


def run_trial(config: dict[str, Any], packing: Packing) -> None:
    """What Tune runs for a trial: a driver that takes no core and starts Ray Train's workers.

    If the training fails, the reason goes to a file: Tune restarts what raises or dies, and it would fail again. A
    trial that found no room has not failed.
    """
    settings = parse_toml(config["settings"].encode(), f"trial {config['trial']}")
    data, run = Folder.of(config["data"]), Folder.of(config["folder"])
    try:
        train_on_ray(
            settings, data, run, packing, known=config["known"], until=config["until"], name=f"trial-{config['trial']}",
            callbacks=[Report()], followed=settings.scale.ahead and config["followed"],
        )  # fmt: skip
    except DiskFull:
        raise
    except NoRoom as error:
        tune.report({TIME: 0, METRIC: math.inf, "ended": HOMELESS, "why": str(error)})
    except (UserError, RunFailed) as error:
        run.write_json(FAILURE, {"error": str(error)})
        tune.report({TIME: 0, METRIC: math.inf, "ended": FAILED})  # Tune breaks off if a trial ends without a report


def trainable(packing: Packing, run: Callable[..., None] = run_trial) -> type:
    """The class of the actor that runs a trial. Ray's dashboard shows the actor by the trial's name."""

    class Trial(wrap_function(tune.with_parameters(run, packing=packing))):
        def __repr__(self) -> str:
            return f"trial-{self.config['trial']}"

    made = tune.with_resources(Trial, DRIVER)  # a class of its own, whose name the process would bear
    made.__name__ = made.__qualname__ = Trial.__name__
    return made


def name(trial: Any) -> str:
    """A trial's name in Ray's folders."""
    return f"trial-{trial.config['trial']}"


def folder(trial: Any) -> str:
    """The name of Tune's own folder for a trial. A trial has another one each time that it goes on."""
    return f"{name(trial)}-{trial.trial_id}"
