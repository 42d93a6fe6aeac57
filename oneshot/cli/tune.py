"""The verb `tune`: settings, data, a run folder, a cluster, in this order; then the search and its judgement."""

import contextlib
import re
import threading
import time
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple

from rich.console import Console

from oneshot.base.errors import UserError
from oneshot.base.jobs import changed, job_file, override, read, with_point
from oneshot.base.reach import reach
from oneshot.base.settings import Settings
from oneshot.base.storage import Folder
from oneshot.cli import request
from oneshot.cli.session import Session
from oneshot.cluster import addresses
from oneshot.cluster.packing import Packing, pack
from oneshot.data import sets, splits, store
from oneshot.data.cache import near
from oneshot.evaluation import judgement, overlap
from oneshot.run import opened
from oneshot.screen.console import duration, print_line, print_warning
from oneshot.screen.live import StudyView
from oneshot.screen.progress import Stages
from oneshot.screen.results import result_panel
from oneshot.screen.tables import study_table
from oneshot.screen.words import words_of
from oneshot.search import closing, final, points
from oneshot.search import tune as search
from oneshot.search.halving import Halving
from oneshot.search.study import STUDY, Study
from oneshot.training import parts, start


class Asked(NamedTuple):
    """The search that is asked for, a new one or one that goes on."""

    job: str
    folder: Folder
    settings: Settings
    trials: int  # as asked for; `settings` have those that the run has by now, if these are more
    had: int  # trials that the search was to have so far; 0 if none was begun


def tune(
    console: Console, *, job: str | None, run: str | None, resume: str | None, changes: list[str], root: str | None,
    source: str | None, address: str | None, verbose: bool, max_time: str | None, max_concurrent: int | None,
) -> dict[str, Any]:  # fmt: skip
    """Search, then judge the best trial's network once. Returns what --json prints: the run and its result."""
    where, limit = addresses.chosen(address), None if max_time is None else _seconds(max_time)
    with contextlib.ExitStack() as held, contextlib.ExitStack() as stack:  # the run is held until its workers are gone
        session = Session(console, where, stack, verbose=verbose, trials=True)
        if resume is not None:
            asked = _resumed(reach(resume), changes)
        else:
            asked = _of_job(session, job or request.default_job(console, session.nodes), run, changes, root)
        folder, settings = asked.folder, asked.settings
        points.check(settings)
        bound = {"scale.max_concurrent": max_concurrent} if max_concurrent else {}  # for this session only
        scale = override(settings, bound, source="--max-concurrent").scale
        pack(scale, session.nodes)  # refuses now what can never run
        settings, prepared = request.with_data(console, settings, request.data_root(root, folder), source)
        settings, begin = start.resolve(settings, folder)
        closing.check(folder, settings)
        untaught = _check_trials(settings, prepared.folder, asked)
        _check_judgement(console, settings, prepared, begin)
        session.check_sharing(folder, prepared.folder)
        packing = pack(scale, session.nodes)
        fixed = (*opened.IDENTITY, "search")
        lost = held.enter_context(
            request.held_run(console, settings, folder, prepared, begin, root, kind="study", fixed=fixed)
        )
        _tell_trials(console, asked)
        study = _study(console, settings, folder, prepared, packing, job=Path(asked.job).stem)
        for sentence in untaught:
            print_line(console, sentence)
        session.tell_packing(packing, settings.scale)
        session.how = f"python -m oneshot.tune --resume {folder.quoted}"
        over, result = _search_and_judge(session, settings, study, prepared.folder, packing, limit=limit, lost=lost)
    with session.told_how_to_go_on():
        _show_result(console, folder, result, to_go_on="" if over and not study.failed() else session.how)
    return {"run": str(folder), "network": str(folder / "best"), "over": over, "trials": study.counts(), **result}


def _resumed(folder: Folder, changes: list[str]) -> Asked:
    """The search that a run folder holds. Raises UserError for a change of more than its scale and its number of
    trials."""
    begun = opened.settings_of_run(folder)
    for text in changes:
        key = text.partition("=")[0].strip()
        if key != "search.trials" and not key.startswith("scale."):
            raise UserError(
                f"--set {text}: a resumed run keeps its settings; --set may change only scale.KEY and search.trials"
            )
    settings = changed(begun, changes)
    return Asked(folder.name, folder, settings, trials=settings.search.trials, had=begun.search.trials)


def _of_job(session: Session, job: str, run: str | None, changes: list[str], root: str | None) -> Asked:
    """The search of a job. It goes on if the run folder holds it already: schedulers submit the command that began a
    run again, which may ask for fewer trials than the run has by now."""
    settings = read(job_file(job), changes)
    folder = request.run_folder(run, Path(job).stem, root, attached=session.attached, stack=session.stack)
    trials = settings.search.trials
    had = opened.read_experiment(folder).search.trials if folder.has(opened.EXPERIMENT) else 0
    settings = override(settings, {"search.trials": max(trials, had)}, source="the run")
    return Asked(job, folder, settings, trials=trials, had=had)


def _check_trials(settings: Settings, data: Folder, asked: Asked) -> list[str]:
    """Refuse new trials that the drawings do not carry, and return what a network is not taught then, a sentence each.
    Earlier trials are not checked: if one cannot run, the others are worth it."""
    if asked.trials <= asked.had:
        return []
    new = points.drawn(settings.search) if asked.had else points.variants(settings.search)
    return parts.check_each(settings, data, new)


def _tell_trials(console: Console, asked: Asked) -> None:
    """Say if a search that goes on has more trials than before, or more than are asked for."""
    more = asked.trials - asked.had
    if asked.had and more > 0:
        print_line(console, f"{more} trial{'s' * (more > 1)} more, {asked.trials} in all")
    if more < 0:
        print_warning(
            console,
            f"search.trials = {asked.trials}: the run already has {asked.had} trials and keeps them all",
        )


def _search_and_judge(
    session: Session, settings: Settings, study: Study, data: Folder, packing: Packing, *, limit: float | None,
    lost: threading.Event,
) -> tuple[bool, dict[str, Any]]:  # fmt: skip
    """Search, for `limit` seconds at the most, then judge the best trial's network. Returns whether the search is over,
    and the result. The trials are printed however it ends; `lost` is set if another process has taken the run over."""
    console, searched = session.console, None
    try:
        session.start()
        with StudyView(console) as view:
            over = search.tune(settings, study, data, packing, view, seconds=limit)
        print_line(console, _how_it_ended(study, limit if not over else None))
        if failed := study.failed():
            print_warning(console, _to_try_again(failed, of=len(study.trials)))
        searched = study.record()  # taken now: its time excludes the judgement
        with Stages(console) as stages:
            result = final.judge_best(settings, study, data, packing, progress=stages, alone=not session.attached)
    except KeyboardInterrupt:
        if not lost.is_set():  # else the record is another process's by now
            study.interrupt()
        raise
    finally:
        console.print(study_table(searched or study.record()), new_line_start=True)
    return over, result


def _check_judgement(
    console: Console, settings: Settings, prepared: sets.Prepared, begin: start.Start | None
) -> None:  # fmt: skip
    """Refuse, before the search, settings with which it cannot choose or the final job cannot judge."""
    name, about = settings.data.split, store.describe(near(prepared.folder))
    held = words_of(name).held
    if splits.split(name, about).validation_seen:
        raise UserError(
            f"data.split = '{name}': it also trains on the {held}, so a search cannot choose by them;"
            f" search with --set data.split={name.removesuffix(splits.ALL)}, then train on all"
        )
    if begin and overlap.taught(begin.origins, about, dataset=settings.data.dataset, split=name) is True:
        raise UserError(
            f"train.start = '{settings.train.start}': that network was trained on the {held}, so a search cannot"
            " choose by them; start from another, or search with another data.split"
        )
    for protocol, why in judgement.check(prepared.folder, split=name, how=settings.evaluate).items():
        print_warning(console, f"{protocol} will be {why}")


def _show_result(console: Console, folder: Folder, result: dict[str, Any], *, to_go_on: str) -> None:
    from oneshot.cli import report

    console.print(result_panel(result), new_line_start=True)
    request.tell_worth(console, folder)
    report.at_the_end(console, folder)
    print_line(console, f"record: {folder.file(judgement.RESULT)}; network: {folder / 'best'}")
    if to_go_on:
        print_line(console, f"to go on with the search: {to_go_on}")


def _seconds(text: str) -> int:
    """The seconds of a text such as `1h30m`. Raises UserError for any other text."""
    found = re.fullmatch(r"(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6})s)?", text)
    hours, minutes, seconds = (int(part or 0) for part in found.groups()) if found else (0, 0, 0)
    if not hours + minutes + seconds:
        raise UserError(f"--max-time {text or quote(text)}: write hours, minutes and seconds, as 2h, 90m or 1h30m")
    return 3600 * hours + 60 * minutes + seconds


def _how_it_ended(study: Study, limit: float | None) -> str:
    if limit is None:
        return "the search is over; judging the best trial's network on the test alphabets, once"
    waiting = study.waiting()
    left = f"{waiting} of {len(study.trials)} trials are saved and wait" if waiting else "the best trials would go on"
    reached = f"the time limit of {duration(limit)} is reached: {left}"
    return f"{reached}; judging the best network so far on the test alphabets"


def _to_try_again(failed: int, *, of: int) -> str:
    return f"{failed} of {of} trials failed, {STUDY} says why: --resume tries {'them' if failed > 1 else 'it'} again"


def _study(
    console: Console, settings: Settings, folder: Folder, prepared: sets.Prepared, packing: Packing, *, job: str
) -> Study:
    header = {
        "job": job, "dataset": prepared.name, "why": prepared.why, "split": settings.data.split,
        "epochs": settings.train.epochs, "keep": settings.train.keep,
        "searcher": settings.search.searcher, "named": len(settings.search.first),
        "started": time.time(),
        "workers": settings.scale.workers, "device": packing.device, "concurrent": packing.concurrent,
        "rungs": Halving(settings).rungs, "reduction": settings.search.reduction,
    }  # fmt: skip
    study = Study(folder, trials=settings.search.trials, header=header)
    for sentence in study.resume():
        print_warning(console, sentence)
    for trial in study.trials:
        with_point(settings, trial["settings"], source=f"{folder.file(STUDY)}: trial {trial['id']}")
    study.save()
    return study
