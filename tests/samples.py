"""Small hand-made contents of `study.json` and `result.json`, for the tests of what is shown."""

from typing import Any

EPOCHS = 30  # the most epochs that a trial of these studies may run


def history(epochs: int, *, floor: float = 0.2, turn: int | None = None) -> list[dict[str, Any]]:
    """Epochs 1 to `epochs`: the validation loss falls towards `floor`, and after epoch `turn`, if given, it rises."""
    rows = []
    for epoch in range(1, epochs + 1):
        val_loss = floor + 0.5 / min(epoch, turn or epoch) + 0.01 * max(0, epoch - (turn or epoch))
        rows.append(
            {
                "epoch": epoch,
                "train_loss": floor + 0.45 / epoch,
                "train_accuracy": 1 - 0.5 / (epoch + 1),
                "val_loss": val_loss,
                "val_accuracy": 1 - 0.55 / (epoch + 1),
                "val_oneshot": 0.9 - 0.8 / (epoch + 1),
                "lr": 3e-3,
                "seconds": 4.0,
                "images_per_second": 1234.5,
            }
        )
    return rows


def trial(
    id: str, status: str = "running", epochs: int = 0, *, floor: float = 0.2, turn: int | None = None,
    error: str | None = None, **settings: Any,
) -> dict[str, Any]:  # fmt: skip
    """One trial of `study.json`, with a history from `history`."""
    rows = history(epochs, floor=floor, turn=turn)
    best = min(rows, key=lambda row: row["val_loss"], default=None)
    return {
        "id": id,
        "status": status,
        "settings": {"optimizer": "adam", "lr": 3e-3, "batch": 128, **settings},
        "epochs": epochs,
        "best_epoch": best["epoch"] if best else None,
        "val_loss": best["val_loss"] if best else None,
        "seconds": 10.0 + 4 * epochs,
        "error": error,
        "history": rows,
    }


def pulse(epoch: int, step: int) -> dict[str, Any]:
    """The `pulse.json` of a training with 500 steps an epoch, each of a tenth of a second."""
    return {
        "epoch": epoch, "step": step, "steps": 500, "loss": 0.4321, "images_per_second": 96.4, "epoch_seconds": 50.0,
    }  # fmt: skip


def study(*trials: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A `study.json` of these trials."""
    return {
        "job": "quick",
        "dataset": "omniglot",
        "split": "lake",
        "epochs": EPOCHS,
        "workers": 2,
        "device": "cpu",
        "searcher": "random",
        "started": 1_700_000_000.0,
        "seconds": 125.0,
        "concurrent": 2,
        "trials": list(trials),
        "epochs_run": sum(t["epochs"] for t in trials),
        "epochs_if_all_had_finished": EPOCHS * len(trials),
    } | changes


def small_study() -> dict[str, Any]:
    """A study with trials of every status."""
    return study(
        trial("000", "finished", 30, floor=0.21, optimizer="sgd", lr=1e-2),
        trial("001", "stopped", 3, floor=0.4, lr=1.23e-4),
        trial("002", "running", 12, floor=0.18, turn=10, lr=2.5e-3, batch=256),
        trial("003", "diverged", 2, floor=0.6, optimizer="sgd", lr=0.2, error="the loss is not finite"),
        trial("004", "failed", 0, error="OutOfMemoryError: CUDA out of memory\nTried to allocate 2 GiB"),
        trial("005", "running", 0, optimizer="adamw"),
        trial("006", "pending", 0),
    )


def outcome(correct: int, trials: int, low: float, high: float, **changes: Any) -> dict[str, Any]:
    """The outcome of one protocol, or of one alphabet, as `result.json` holds it."""
    accuracy = correct / trials
    return {
        "n_way": 20, "k_shot": 1, "trials": trials, "correct": correct, "accuracy": accuracy, "interval": [low, high],
        "seed": 0,
    } | changes  # fmt: skip


def result(**changes: Any) -> dict[str, Any]:
    """A `result.json` of Omniglot with all four protocols."""
    return {
        "dataset": "omniglot",
        "split": "lake",
        "protocols": {
            "lake400": outcome(363, 400, 0.875, 0.932),
            "within": outcome(8_421, 10_000, 0.8348, 0.8491),
            "between": outcome(9_312, 10_000, 0.9261, 0.9360),
            "seed352": outcome(329, 352, 0.904, 0.956),
        },
        "per_alphabet": {
            "Tengwar": outcome(34, 40, 0.709, 0.929),
            "Old_Church_Slavonic_(Cyrillic)": outcome(38, 40, 0.835, 0.986),
            "Gurmukhi": outcome(30, 40, 0.598, 0.858),
        },
        "best_trial": {
            "id": "007", "settings": {"optimizer": "adam", "lr": 2.5e-3, "batch": 128}, "epoch": 27, "val_loss": 0.2156,
        },
        "environment": {},
    } | changes  # fmt: skip


def verification() -> dict[str, Any]:
    """The verification (same or different) of a `result.json`."""
    at = [
        {"rate": 0.1, "similarity": 0.41, "false_match": 0.112, "false_non_match": 0.008},
        {"rate": 0.01, "similarity": 0.83, "false_match": 0.0134, "false_non_match": 0.041},
        {"rate": 0.001, "similarity": 0.97, "false_match": 0.0016, "false_non_match": 0.126},
    ]
    return {
        "pairs": 10_000, "accuracy": 0.976, "interval": [0.973, 0.979], "threshold": 0.52, "at_threshold": 0.977,
        "errors": {
            "any": {"eer": 0.0231, "auc": 0.9968, "different": 4_990, "at_false_match": at},
            "within": {"eer": 0.0617, "auc": 0.9821, "different": 4_700, "at_false_match": at},
        },
    }  # fmt: skip


def glyphs_result() -> dict[str, Any]:
    """A `result.json` of generated glyphs, which have no fixed trials."""
    protocols = {name: value for name, value in result()["protocols"].items() if name != "lake400"}
    return result(dataset="glyphs (generated)", protocols=protocols)
