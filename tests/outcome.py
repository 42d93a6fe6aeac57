"""The outcome of a training and of a study, without times: equal settings must give equal outcomes."""

import hashlib
import json
from pathlib import Path
from typing import Any

TRIAL = ("status", "settings", "epochs", "best_epoch", "val_loss", "error")


def history(folder: Path) -> list[dict]:
    """What a training measured, without what may differ between two runs: times, interruptions, and the
    commit, which a busy machine may fail to find out in time."""
    rows = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    own = ("seconds", "images_per_second", "resumed_at", "commit")
    return [{key: row[key] for key in row if key not in own} for row in rows]


def weights(folder: Path) -> str:
    """The digest of the weights in the last checkpoint."""
    last = sorted((folder / "checkpoints").iterdir())[-1]
    return json.loads((last / "state.json").read_text())["sha256"]["model.safetensors"]


def outcome(run: Path) -> dict[str, Any]:
    """A study's trials with their histories and weights, its best network's digest, and that network's judgement."""
    study, result = (json.loads((run / name).read_text()) for name in ("study.json", "result.json"))
    trials = {}
    for trial in study["trials"]:
        folder = run / "trials" / trial["id"]
        own = {"history": history(folder), "weights": weights(folder)}
        trials[trial["id"]] = {key: trial[key] for key in TRIAL} | own
    return {
        "trials": trials,
        "best": result["best_trial"],
        "network": hashlib.sha256((run / "best/model.safetensors").read_bytes()).hexdigest(),
        "protocols": result["protocols"],
        "per_alphabet": result["per_alphabet"],
    }


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """The places in which two outcomes differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = sorted(one.keys() | other.keys(), key=str)
        return [each for key in keys for each in differences(one.get(key), other.get(key), f"{where}/{key}")]
    return [] if one == other else [f"{where}: {one} and {other}"]
