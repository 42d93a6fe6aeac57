"""The trials of the final judgement, on the test part, which are checked before anything trains. Free of torch."""

from typing import Any

from oneshot.base.settings import Evaluate, Settings
from oneshot.base.storage import Folder
from oneshot.data import splits, store
from oneshot.data.cache import near
from oneshot.data.drawings import Drawings
from oneshot.evaluation.scoring import Trials
from oneshot.evaluation.trials import protocols
from oneshot.run import cards, formats, opened

RESULT, TOUCHED = "result.json", "evaluations.jsonl"


def result_of(run: Folder) -> dict[str, Any] | None:
    """The result of a run, if it is that of the network in its `best/`: a resumed training or a search may have put
    another one there since. None if it is of another network or does not say of which, or if there is none. A run that
    has lost its network keeps its result.

    Raises UserError if a file is damaged."""
    if not run.has(RESULT):
        return None
    result = formats.read(formats.Result, run, RESULT)
    known = not (run / "best").has(cards.CARD) or result.get("sha256") == cards.digest(run)
    return result if known else None


def touched(run: Folder) -> int:
    """How often the test alphabets were scored for a run."""
    return len(run.read(TOUCHED).splitlines()) if run.has(TOUCHED) else 0


def judged(run: Folder, result: dict[str, Any]) -> int:
    """How often the network of a run's result was judged; the result says it, too, if the run's count is lost."""
    return max(touched(run), result.get("test_evaluations") or 0)


def check(data: Folder, *, split: str, how: Evaluate) -> dict[str, str]:
    """Which of the trials asked for will be made easier, {protocol: why}, because the test part allows no more.

    Raises UserError if it carries none. No pixel of it is read."""
    _, made, _ = trials_of(near(data), split, how.model_copy(update={"trials": 1}), pixels=False)
    return lowered(made, how)


def check_judged(run: Folder, settings: Settings) -> None:
    """Raises UserError if a run already has a result, and it is of other trials than these settings ask for: it is not
    judged again, and the settings would say what was not done."""
    if not (run.has(RESULT) and run.has(opened.EXPERIMENT)):
        return
    formats.read(formats.Result, run, RESULT)
    opened.check_same(
        opened.read_experiment(run).model_dump(), settings, f"{run} was judged", fixed=("evaluate",),
        advice=f"leave [evaluate] as it was; for other trials of its network: python -m oneshot.evaluate {run.quoted}",
    )  # fmt: skip


def lowered(made: list[Trials], how: Evaluate) -> dict[str, str]:
    """The protocols with fewer ways than asked for, and why: one's own images may have too few classes."""
    room = {
        "within": "fewer than half of the test groups have more classes",
        "between": "the test part has no more classes",
    }
    return {
        each.name: f"{each.n_way}-way and not {how.n_way}-way, which is easier: {room[each.name]} with"
        f" at least {each.k_shot + 1} images each"
        for each in made
        if each.name in room and each.n_way < how.n_way
    }


def trials_of(
    data: Folder, split: str, how: Evaluate, *, pixels: bool = True
) -> tuple[Drawings, list[Trials], dict[str, str]]:
    """The test drawings, the trials on them, and what was left out."""
    about = store.describe(data)
    test = splits.load_part(data, splits.split(split, about).test, pixels=pixels)
    fixed = None if about.own else store.load_trials(data)
    made, skipped = protocols(
        test, fixed, names=how.protocols, n_way=how.n_way, k_shot=how.k_shot, trials=how.trials, seed=how.seed
    )
    return test, made, skipped
