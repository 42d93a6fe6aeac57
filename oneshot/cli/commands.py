"""What each verb of the command line does: settings, data, a run folder, a cluster, in this order; then the work.

What imports torch is imported where it is used: a request that is refused, and a search that only drives, need none.
"""

import contextlib
import json
import re
import time
from pathlib import Path
from shlex import quote
from typing import Any

from rich.console import Console

from oneshot.base.errors import UserError
from oneshot.base.jobs import job_file, override, read, with_point
from oneshot.base.reach import reach
from oneshot.base.settings import Settings
from oneshot.base.storage import Folder
from oneshot.cli import request
from oneshot.cluster import connection
from oneshot.cluster.packing import Packing, describe, pack
from oneshot.data import sets, splits, store
from oneshot.data.cache import near
from oneshot.evaluation import judgement, overlap
from oneshot.run import cards, history, opened, watch
from oneshot.screen.console import duration, print_line, print_warning
from oneshot.screen.live import StudyView
from oneshot.screen.progress import Stages, TrainView
from oneshot.screen.results import alphabet_table, result_panel
from oneshot.screen.tables import study_table
from oneshot.screen.words import words_of
from oneshot.search import closing, final, points
from oneshot.search import tune as search
from oneshot.search.halving import Halving
from oneshot.search.study import STUDY, Study
from oneshot.training import parts, start


def train(
    console: Console, *, job: str | None, local: bool, workers: str | None, gpu: bool, device: str, run: str | None,
    changes: list[str], root: str | None, source: str | None, address: str | None, verbose: bool, debug: bool,
) -> dict[str, Any]:  # fmt: skip
    """Train once: in this process, or with Ray Train. Returns what a script asks for: the run and its best epoch."""
    where = None if local else connection.address(address)
    scale = ([f"scale.workers={workers}"] if workers else []) + (["scale.gpus=1"] if gpu else [])
    how = ""
    with contextlib.ExitStack() as held, contextlib.ExitStack() as stack:  # the run is held until its workers are gone
        stack.enter_context(request.told_how_to_go_on(console, lambda: how))
        nodes = request.nodes_of(console, where, verbose, stack, how_to_go_on=lambda: how)
        job = job or request.default_job(console, nodes)
        settings = read(job_file(job), changes + scale)
        here = _device(device) if local else None
        packing = None if local else pack(settings.scale, nodes)  # refuses now what can never run
        lies = request.data_root(root, reach(run)) if run is not None else root
        settings, prepared = request.with_data(console, settings, lies, source)
        untaught = parts.check(settings, prepared.folder)
        folder = request.run_folder(run, job, root, attached=where is not None, stack=stack)
        settings, begin = start.resolve(settings, folder)
        nodes = request.check_sharing(console, where, nodes, folder, prepared.folder)
        packing = packing and pack(settings.scale, nodes)
        held.enter_context(
            request.held_run(
                console, settings, folder, prepared, begin, root, kind="training", fixed=("data", "model")
            )
        )  # fmt: skip
        if untaught:
            print_line(console, untaught)
        if packing:
            used = connection.in_use(settings.scale.accelerator) if where else None
            print_line(console, describe(packing, settings.scale, nodes, used=used, training="training"))
        how = f"the same command with --run {folder.quoted}"
        if local:
            _train_here(console, settings, prepared.folder, folder, device=here, debug=debug)
        else:
            if where is None:
                stack.enter_context(
                    connection.connect(None, console=console, verbose=verbose, how_to_go_on=lambda: how)
                )
            _train_there(console, settings, prepared.folder, folder, packing)
        from oneshot.training.train import CPU, finish

        with Stages(console) as progress:  # under Ray the GPUs are the workers': this process may have none
            finish(settings, folder, device=here or CPU, data=prepared.folder, progress=progress)
    with request.told_how_to_go_on(console, lambda: how):
        _show_network(console, folder, settings)
    rows = history.read_history(folder)
    epochs = len(history.measured(rows))
    return {"run": str(folder), "network": str(folder / "best"), "epochs": epochs, "best_epoch": history.best_row(rows)}


def _device(name: str) -> Any:
    from oneshot.network.worker import pick_device

    return pick_device(name)


def _train_here(
    console: Console, settings: Settings, data: Folder, folder: Folder, *, device: Any, debug: bool
) -> None:
    from oneshot.training.parts import load_parts
    from oneshot.training.train import train_here

    if debug:
        from oneshot.training import debug as inspection

        inspection.inspect(console, settings, load_parts(data, settings.data), folder, device=device)
    with TrainView(console) as view:
        train_here(settings, data, folder, device=device, watch=view)


def _train_there(
    console: Console, settings: Settings, data: Folder, folder: Folder, packing: Packing
) -> None:  # fmt: skip
    """Under the Ray that this process is connected to, and seen from here."""
    from oneshot.cluster.trainer import train_on_ray

    with TrainView(console, prints=False) as view, watch.following(folder, view, settings.train):
        done = len(history.read_history(folder))
        view.start(epochs=settings.train.epochs, steps_per_epoch=settings.train.steps, done=done)
        train_on_ray(settings, data, folder, packing, name=folder.name)


def _show_network(console: Console, folder: Folder, settings: Settings) -> None:
    from oneshot.cli import report

    request.tell_worth(console, folder)
    report.at_the_end(console, folder)
    print_line(
        console,
        f"the {'last' if settings.train.keep == 'last' else 'best'} epoch's network is in {folder / 'best'};"
        f" judge it: python -m oneshot.evaluate {folder.quoted}",
    )


def tune(
    console: Console, *, job: str | None, run: str | None, resume: str | None, changes: list[str], root: str | None,
    source: str | None, address: str | None, verbose: bool, max_time: str | None, max_concurrent: int | None,
) -> dict[str, Any]:  # fmt: skip
    """Search, then judge the best trial's network once. Returns what a script asks for: the run and its result."""
    where, limit = connection.address(address), None if max_time is None else _seconds(max_time)
    how, searched = "", None
    with contextlib.ExitStack() as held, contextlib.ExitStack() as stack:  # the run is held until its workers are gone
        stack.enter_context(request.told_how_to_go_on(console, lambda: how))
        nodes = request.nodes_of(console, where, verbose, stack, how_to_go_on=lambda: how, trials=True)
        if resume is not None:
            folder = reach(resume)
            begun = opened.settings_of_run(folder)
            settings, job = request.resumed(begun, changes), folder.name
            asked, had = settings.search.trials, begun.search.trials
        else:
            job = job or request.default_job(console, nodes)
            settings = read(job_file(job), changes)
            folder = request.run_folder(run, Path(job).stem, root, attached=where is not None, stack=stack)
            asked, had = settings.search.trials, request.trials_of(folder)
            # The command that began it, as schedulers give it again, may be of fewer.
            settings = override(settings, {"search.trials": max(asked, had)}, source="the run")
        points.check(settings)
        bound = {"scale.max_concurrent": max_concurrent} if max_concurrent else {}  # of this session: not the run's
        scale = override(settings, bound, source="--max-concurrent").scale
        pack(scale, nodes)  # refuses now what can never run
        settings, prepared = request.with_data(console, settings, request.data_root(root, folder), source)
        settings, begin = start.resolve(settings, folder)
        closing.check(folder, settings)
        untaught: list[str] = []
        if asked > had:  # of those that were begun the other trials are worth going on with
            new = points.drawn(settings.search) if had else points.variants(settings.search)
            untaught = parts.check_each(settings, prepared.folder, new)
        _check_judgement(console, settings, prepared, begin)
        nodes = request.check_sharing(console, where, nodes, folder, prepared.folder)
        packing = pack(scale, nodes)
        fixed = (*opened.IDENTITY, "search")
        lost = held.enter_context(
            request.held_run(console, settings, folder, prepared, begin, root, kind="study", fixed=fixed)
        )
        request.tell_trials(console, had=had, asked=asked)
        study = _study(console, settings, folder, prepared, packing, job=Path(job).stem)
        for sentence in untaught:
            print_line(console, sentence)
        used = connection.in_use(settings.scale.accelerator) if where else None
        print_line(console, describe(packing, settings.scale, nodes, used=used))
        how = f"python -m oneshot.tune --resume {folder.quoted}"
        try:
            if where is None:
                stack.enter_context(
                    connection.connect(None, console=console, verbose=verbose, how_to_go_on=lambda: how, trials=True)
                )
            with StudyView(console) as view:
                over = search.tune(settings, study, prepared.folder, packing, view, seconds=limit)
            print_line(console, _how_it_ended(study, limit if not over else None))
            if failed := study.failed():
                print_warning(console, _to_try_again(failed, of=len(study.trials)))
            searched = study.record()  # its time is the search's, not the judgement's
            with Stages(console) as stages:
                result = final.judge_best(
                    settings, study, prepared.folder, packing, progress=stages, alone=where is None
                )
        except KeyboardInterrupt:
            if not lost.is_set():  # else the record is another process's by now
                study.interrupt()
            raise
        finally:
            console.print(study_table(searched or study.record()), new_line_start=True)
    with request.told_how_to_go_on(console, lambda: how):
        _show_result(console, folder, result, to_go_on="" if over and not study.failed() else how)
    return {"run": str(folder), "network": str(folder / "best"), "over": over, "trials": study.counts(), **result}


def _check_judgement(
    console: Console, settings: Settings, prepared: sets.Prepared, begin: start.Start | None
) -> None:  # fmt: skip
    """Whether the search can choose and the final job judge: refused now, and not when the search is over."""
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
    """`1h30m` in seconds. Raises UserError."""
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


def evaluate(
    console: Console, *, where: str, how: dict[str, Any], as_json: bool, quiet: bool, device: str, dataset: str | None,
    split: str | None, root: str | None, source: str | None,
) -> None:  # fmt: skip
    """Judge a network. A run whose network has none yet keeps this result, if it is made as the run's settings say."""
    from oneshot.cli import report
    from oneshot.evaluation import modelcard
    from oneshot.report.reading import read_outcomes

    folder = reach(where)
    cards.find(folder)  # a refusal needs no torch
    settings = request.settings_for(folder)
    asked = override(settings, {f"evaluate.{key}": value for key, value in how.items()}, source="the options")
    given = {f"data.{key}": value for key, value in (("dataset", dataset), ("split", split)) if value}
    asked = override(asked, given, source="the options")
    asked, prepared = request.with_data(console, asked, request.data_root(root, folder), source)
    # What belongs to the run's result; a run that was judged before single trials were kept gets them now.
    own = folder.has(opened.EXPERIMENT) and asked == settings
    judged = judgement.result_of(folder) if own else None
    keep = own and read_outcomes(folder, judged) is None
    from oneshot.evaluation import evaluate as judging

    with Stages(console) as progress:
        result = judging.evaluate(
            folder, prepared.folder, dataset=asked.data.dataset, split=asked.data.split, how=asked.evaluate,
            device=device, keep=keep, progress=progress,
        )  # fmt: skip
    if as_json:
        print(json.dumps(result, indent=1))
    elif quiet:
        for name, outcome in result["protocols"].items():
            print(f"{name}\t{outcome['accuracy']:.4f}")
    if result["overlap"]:
        print_warning(console, result["overlap"])
    for name, why in result["skipped"].items():
        print_warning(console, f"{name} is left out: {why}")
    console.print(result_panel(result))
    if result["per_alphabet"]:
        console.print(alphabet_table(result))
    if own and judged is None:
        modelcard.keep_result(folder, result)
        print_line(console, f"written to {folder.file(judgement.RESULT)}")
    elif not own and result["test_evaluations"]:
        kept = "a run keeps that of its own network by its own settings"
        print_line(
            console, f"no result is written: {kept}; this judgement is counted in {judgement.TOUCHED} all the same"
        )
    if keep:
        report.at_the_end(console, folder)
