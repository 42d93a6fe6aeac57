"""A trial that trains nothing, to measure the driver that listens to it. It has a file of its own because each trial
process imports it."""

from typing import Any

from ray import tune

from oneshot.base.jobs import parse_toml


def synthetic(config: dict[str, Any], packing: Any) -> None:
    """The function that Tune runs: it reports a loss curve whose floor depends on the trial's number, scattered over
    0.2 to 1.2."""
    floor = 0.2 + (int(config["trial"]) * 0.618) % 1
    epochs = parse_toml(config["settings"].encode(), "the trial").train.epochs
    for epoch in range(config["known"] + 1, config["until"] + 1):
        ended = "epochs" if epoch == epochs else ""
        tune.report({"epoch": epoch, "val_loss": floor + 1 / epoch, "best": True, "ended": ended})
