"""Hand-made run folders like those that a study leaves, for the tests of the report and of records."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import samples
import tiny

from oneshot.base.jobs import job_file, override, parse_toml, read
from oneshot.base.storage import Folder
from oneshot.data.drawings import Drawings
from oneshot.evaluation.outcomes import Seen, outcomes
from oneshot.evaluation.scoring import Trials, judge, per_alphabet
from oneshot.evaluation.trials import between, within
from oneshot.evaluation.verification import Scored, pairs_of, verification
from oneshot.run.history import write_history

ENVIRONMENT = {
    "versions": {"oneshot": "0.1.0", "torch": "2.99"},
    "hardware": {"cpu": "Some CPU", "cores": 2, "memory_gib": 7.5, "gpus": []},
    "commit": "0123456789ab+changes",
    "seeds": {"train": 0, "evaluate": 0},
    "device": "cpu",
}
SHA = "f" * 64
NAMES = ("Greek", "Old_Church_Slavonic_(Cyrillic)", "Runes")


def drawings(names: Sequence[str] = NAMES, *, bits: int = 1) -> Drawings:
    """Alphabets of 22 characters by 4 drawers; in grey if `bits` is 8 (a pixel)."""
    made = tiny.drawings(dict.fromkeys(names, 22))
    return made if bits == 1 else replace(made, bits=8, packed=(made.pixels() // 2 + 60).reshape(len(made), -1))


def judged(test: Drawings, *, boost: float = 2.0, trials: int = 400) -> list[tuple[Trials, np.ndarray]]:
    """Three protocols with random scores; the target's score is raised by `boost`."""
    made = [
        replace(within(test, trials=trials, seed=1), name="lake400"),
        within(test, trials=trials),
        between(test, trials=trials),
    ]
    generator = np.random.default_rng(0)
    scored = []
    for each in made:
        scores = generator.normal(size=(len(each), each.n_way))
        scores[np.arange(len(each)), each.target] += boost
        scored.append((each, scores))
    return scored


def pairs(test: Drawings) -> dict[str, Scored]:
    """Scored pairs; the scores of same pairs are on average 3 standard deviations above the others."""
    generator = np.random.default_rng(0)

    def logits(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return 3.0 * (test.character[left] == test.character[right]) - 1.5 + generator.normal(size=len(left))

    return pairs_of(test, logits)


def seen(test: Drawings, scored: list[tuple[Trials, np.ndarray]]) -> Seen:
    """What a judgement has at hand, with embeddings that are close together for drawings of one character."""
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(len(test.characters), 6))
    return Seen(test, centres[test.character] + 0.05 * generator.normal(size=(len(test), 6)), scored, pairs(test))


def study(
    where: Path | Folder, *, names: Sequence[str] = NAMES, boost: float = 2.0, outcome: bool = True,
    trials: list[dict[str, Any]] | None = None, over: bool = True, **changes: Any,
) -> Folder:  # fmt: skip
    """Write a study of three trials that is over and judged, or with `over=False` one that is not. `changes` replace
    parts of its result."""
    run = Folder.of(where)
    trials = trials or [
        samples.trial("000", "finished", 8, floor=0.21, optimizer="sgd", lr=1e-2),
        samples.trial("001", "stopped", 2, floor=0.4, lr=1.2e-4, batch=64),
        samples.trial("002", "failed", 0, error="OutOfMemoryError: <b>no</b> memory"),
    ]
    asked = [f"search.trials={len(trials)}"] if over else []  # else the job's 10
    run.write("experiment.toml", read(job_file("quick"), ["train.epochs=8", *asked]).to_toml().encode())
    for trial in trials:
        if trial["history"]:
            _history(run / "trials" / trial["id"], trial["history"])
    rows = [{key: value for key, value in trial.items() if key != "history"} for trial in trials]
    run.write_json("study.json", samples.study(*rows, epochs=8))
    if not over:
        return run
    test = drawings(names)
    scored = judged(test, boost=boost)
    results = [(each.name, judge(each, scores), each) for each, scores in scored]
    result = samples.result(
        protocols={name: outcome.to_dict() for name, outcome, _ in results},
        per_alphabet=per_alphabet(results[1][2], results[1][1].hits, test),
        best_trial={"id": "000", "settings": trials[0]["settings"], "epoch": 8, "val_loss": 0.2725},
        verification=verification(pairs(test), pairs(test)),
        environment=ENVIRONMENT, sha256=SHA, skipped={}, test_evaluations=1,
    )  # fmt: skip
    run.write_json("result.json", result | changes)
    run.append_json("evaluations.jsonl", {"sha256": SHA})
    if outcome:
        run.write("outcomes.json", json.dumps(outcomes(seen(test, scored), sha256=SHA)).encode())
    return run


def changed(run: Folder, **changes: object) -> Folder:
    """Change settings of the run; in their keys, `__` stands for the point."""
    settings = parse_toml(run.read("experiment.toml"), "the test")
    given = {key.replace("__", "."): value for key, value in changes.items()}
    run.write("experiment.toml", override(settings, given, source="the test").to_toml().encode())
    return run


def finished(where: Path | Folder, kept: Mapping[str, Any], **changes: object) -> Folder:
    """Write the folder of a recorded study as it was when the study ended, with some of its settings changed."""
    run, experiment = Folder.of(where), kept["experiment"]
    if changes:
        experiment = override(parse_toml(experiment.encode(), "the record"), changes, source="the test").to_toml()
    run.write("experiment.toml", experiment.encode())
    for trial in kept["study"]["trials"]:
        write_history(run / "trials" / trial["id"], trial["history"])
    run.write_json("study.json", kept["study"])
    run.write_json("result.json", kept["result"])
    return run


def training(where: Path, *, epochs: int) -> Folder:
    """Write a single training of 8 epochs, of which `epochs` are done."""
    run = Folder.of(where)
    run.write("experiment.toml", read(job_file("quick"), ["train.epochs=8"]).to_toml().encode())
    if epochs:
        rows = samples.history(epochs)
        rows[-1]["ended"] = "epochs" if epochs == 8 else ""
        _history(run, rows)
    return run


def _history(folder: Folder, rows: list[dict[str, Any]]) -> None:
    write_history(folder, [{"best": True, "ended": "", **row} for row in rows])
