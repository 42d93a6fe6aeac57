"""The final judgement: a trained network on the test alphabets, once, by every one-shot protocol.

`python -m oneshot.evaluate RUN` does only this; a study ends with it as a job on its cluster.
"""

import errno
import json
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from oneshot.answers import artifact
from oneshot.base.environment import environment
from oneshot.base.errors import UserError
from oneshot.base.settings import Evaluate
from oneshot.base.storage import Folder
from oneshot.data import splits, store
from oneshot.data.cache import near
from oneshot.data.drawings import Drawings
from oneshot.evaluation import pixels
from oneshot.evaluation.judgement import TOUCHED, check, lowered, touched, trials_of
from oneshot.evaluation.lots import Unsuited
from oneshot.evaluation.outcomes import OUTCOMES, Seen, outcomes
from oneshot.evaluation.overlap import overlap
from oneshot.evaluation.scoring import Trials, judge, per_alphabet, score
from oneshot.evaluation.trials import within
from oneshot.evaluation.verification import pairs_of, verification
from oneshot.network.embedding import class_scores, embed, similarity
from oneshot.network.images import Images
from oneshot.network.models import Siamese
from oneshot.network.worker import Worker, pick_device
from oneshot.run.cards import START
from oneshot.run.opened import EXPERIMENT
from oneshot.run.watch import Showing


def _measure(
    net: Siamese, data: Folder, *, split: str, how: Evaluate, worker: Worker, progress: Showing | None = None
) -> tuple[dict[str, Any], Seen]:  # fmt: skip
    """Accuracy of a network on the test part of a split, by the protocols asked for, and what it was computed from.

    The former has the keys that result.json has: `dataset`, `split`, `test` (how many classes and images judge),
    `protocols`, `skipped` and `lowered` ({protocol: why}), `per_alphabet` (of `within`), `within_fixed` (`within` on
    the alphabets of the fixed trials alone; None without them) and `verification`. Shares are fractions. Each drawing
    is embedded once; with k_shot > 1 a class is the mean of its embeddings, as in `OneShot.classify`. Raises UserError
    if the data cannot carry the trials.
    """
    data = near(data)
    about = store.describe(data)
    test, made, skipped = trials_of(data, split, how)

    def embedded(drawings: Drawings, part: str) -> torch.Tensor:
        images = Images(drawings, size=net.size, device=worker.device)
        return embed(net, images, worker, progress=progress, what=f"embedding {part} drawings")

    z_ND = embedded(test, "test")
    logits_of = similarity(net, z_ND)

    def scored(trials: Trials) -> np.ndarray:
        """Scores (T, n_way). Several drawings of a class count as their mean embedding, as when an image is
        classified: the network is judged as it will be used."""
        if trials.k_shot == 1:
            return score(trials, logits_of)
        return class_scores(net, z_ND, trials.query, trials.support)

    judged = [(trials, scored(trials)) for trials in made]
    accuracies, alphabets = _accuracies(judged, test)
    validation = splits.load_part(data, splits.split(split, about).validation)
    pairs = pairs_of(test, logits_of)
    known_pairs = pairs_of(validation, similarity(net, embedded(validation, "validation")))
    result = {
        "dataset": about.name,
        "split": split,
        "test": {"classes": len(test.characters), "images": len(test)},
        "protocols": accuracies,
        "skipped": skipped,
        "lowered": lowered(made, how),
        "per_alphabet": alphabets,
        "within_fixed": _within_fixed(test, about.trial_alphabets, how, scored),
        "verification": verification(pairs, known_pairs),
    }
    return result, Seen(test, z_ND.cpu().numpy(), judged, pairs)


def _accuracies(judged: list[tuple[Trials, np.ndarray]], test: Drawings) -> tuple[dict[str, Any], dict[str, Any]]:
    """`protocols`, each with the accuracy that pixels alone have on its trials, and `per_alphabet`."""
    looks = pixels.looks(test)
    accuracies: dict[str, Any] = {}
    alphabets: dict[str, Any] = {}
    for trials, scores in judged:
        outcome = judge(trials, scores)
        accuracies[trials.name] = outcome.to_dict() | {
            "alphabets": len(np.unique(test.alphabet[trials.query])),
            "pixels": judge(trials, pixels.nearest(trials, looks)).accuracy,
        }
        if trials.name == "within":
            alphabets = per_alphabet(trials, outcome.hits, test)
    return accuracies, alphabets


def _within_fixed(
    test: Drawings, alphabets: tuple[str, ...], how: Evaluate, scored: Callable[[Trials], np.ndarray]
) -> dict[str, Any] | None:  # fmt: skip
    """`within` on the test alphabets of the fixed trials: comparable to those, with many more trials."""
    chosen = [name for name in alphabets if name in test.alphabets]
    if not chosen or "within" not in how.protocols:
        return None
    try:
        trials = within(
            test, trials=how.trials, n_way=how.n_way, k_shot=how.k_shot, seed=how.seed, alphabets=chosen
        )  # fmt: skip
    except Unsuited:
        return None
    return judge(trials, scored(trials)).to_dict() | {"alphabets": len(chosen)}


def evaluate(
    where: Folder,
    data: Folder,
    *,
    dataset: str,
    split: str,
    how: Evaluate,
    device: str = "auto",
    keep: bool = False,
    progress: Showing | None = None,
) -> dict[str, Any]:
    """Judge the network of a run, of its `best/` or of a checkpoint; returns the whole content of result.json. There
    `overlap` says how far the test alphabets are not new to the network, `start` which one it started from, if any,
    `trained` in what environment it was made, if its card knows, and `environment` in which it was judged.

    `keep`: single trials, for the report, are written into `where` as `outcomes.json`.

    If `where` is a run or lies in one, the evaluation is noted in the run's `evaluations.jsonl` before anything is
    measured, so that one that breaks off counts too: how often the test set was touched is part of the record. Raises
    UserError, also if it cannot be noted, or if `data` holds another making of one's own images than `dataset`
    (NAME@DIGEST) asks for.
    """
    about = store.describe(near(data))
    about.require(dataset)
    net, card = artifact.read(where)
    worker = Worker(pick_device(device))
    check(data, split=split, how=how)  # first: a request that is refused touches nothing
    count = None
    if (run := _run_of(where)) is not None:
        asked = {"dataset": about.name, "split": split, **how.model_dump()}
        count = _counted(run, {"sha256": card.get("sha256"), "asked": asked})
    result, seen = _measure(net.to(worker.device), data, split=split, how=how, worker=worker, progress=progress)
    provenance = card["provenance"]
    own, start = provenance["settings"].get("data", {}), provenance.get("start", [])
    result["overlap"] = overlap(own, about, dataset=dataset, split=split, start=start)
    result["views"] = card.get("views", 1)
    result["best_trial"] = provenance.get("best_trial")
    result["test_evaluations"] = count
    result["sha256"] = card.get("sha256")
    if start:
        result["start"] = start[0]["sha256"]
    if trained := provenance.get("environment"):
        result["trained"] = trained  # where, and by which commit: it may be judged elsewhere and later
    result["environment"] = environment(str(worker.device)) | {
        "device": str(worker.device), "seeds": {"train": _train_seed(card), "evaluate": how.seed},
    }  # fmt: skip
    if keep:
        try:
            text = json.dumps(outcomes(seen, sha256=result["sha256"]), separators=(",", ":"), ensure_ascii=False)
            where.write(OUTCOMES, text.encode())
        except Exception as error:  # the judgement is made: what is only for show must not lose it
            result["skipped"]["single trials for the report"] = f"{type(error).__name__}: {error}"
    return result


def _counted(run: Folder, judgement: dict[str, Any]) -> int:
    """Note a judgement in a run; returns how many it now has. Raises UserError if the file may not be written."""
    try:
        run.append_json(TOUCHED, judgement)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise UserError(
            f"{run.file(TOUCHED)}, where judgements are counted, cannot be written: {os.strerror(error.errno)}; make"
            " it writable, or judge a copy of the run"
        ) from error
    return touched(run)


def _run_of(where: Folder) -> Folder | None:
    """The run that a folder belongs to: the run itself, its `best/` or `start/`, or a checkpoint in its `checkpoints/`
    or in those of one of its `trials/`. None for any other folder, wherever it lies."""
    around, training = where.parent, where.parent.parent
    runs = [where]
    if where.name in ("best", START):
        runs.append(around)
    if around.name == "checkpoints":
        runs.append(training)
        if training.parent.name == "trials":
            runs.append(training.parent.parent)
    return next((run for run in runs if run.has(EXPERIMENT)), None)


def _train_seed(card: dict[str, Any]) -> int | None:
    return card["provenance"]["settings"].get("train", {}).get("seed")
