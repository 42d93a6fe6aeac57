"""The verb `train`: one training, in this process or under Ray, and its network in `best/`."""

import contextlib
from typing import Any

from rich.console import Console

from oneshot.base.jobs import job_file, read
from oneshot.base.reach import reach
from oneshot.base.settings import Settings
from oneshot.base.storage import Folder
from oneshot.cli import request
from oneshot.cli.session import Session
from oneshot.cluster import addresses
from oneshot.cluster.packing import Packing, pack
from oneshot.run import history, watch
from oneshot.screen.console import print_line
from oneshot.screen.progress import Stages, TrainView
from oneshot.training import parts, start


def train(
    console: Console, *, job: str | None, local: bool, workers: str | None, gpu: bool, device: str, run: str | None,
    changes: list[str], root: str | None, source: str | None, address: str | None, verbose: bool, debug: bool,
) -> dict[str, Any]:  # fmt: skip
    """Train once: in this process, or with Ray Train. Returns what --json prints: the run and its best epoch."""
    where = None if local else addresses.chosen(address)
    scale = ([f"scale.workers={workers}"] if workers else []) + (["scale.gpus=1"] if gpu else [])
    with contextlib.ExitStack() as held, contextlib.ExitStack() as stack:  # the run is held until its workers are gone
        session = Session(console, where, stack, verbose=verbose)
        job = job or request.default_job(console, session.nodes)
        settings = read(job_file(job), changes + scale)
        here = _device(device) if local else None
        packing = None if local else pack(settings.scale, session.nodes)  # refuses now what can never run
        lies = request.data_root(root, reach(run)) if run is not None else root
        settings, prepared = request.with_data(console, settings, lies, source)
        untaught = parts.check(settings, prepared.folder)
        folder = request.run_folder(run, job, root, attached=session.attached, stack=stack)
        settings, begin = start.resolve(settings, folder)
        session.check_sharing(folder, prepared.folder)
        packing = packing and pack(settings.scale, session.nodes)
        held.enter_context(
            request.held_run(
                console, settings, folder, prepared, begin, root, kind="training", fixed=("data", "model")
            )
        )  # fmt: skip
        if untaught:
            print_line(console, untaught)
        if packing:
            session.tell_packing(packing, settings.scale, training="training")
        session.how = f"the same command with --run {folder.quoted}"
        if local:
            _train_here(console, settings, prepared.folder, folder, device=here, debug=debug)
        else:
            session.start()
            _train_there(console, settings, prepared.folder, folder, packing)
        from oneshot.training.train import CPU, finish

        with Stages(console) as progress:  # under Ray the GPUs are the workers': this process may have none
            finish(settings, folder, device=here or CPU, data=prepared.folder, progress=progress)
    with session.told_how_to_go_on():
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
    """Train under the Ray that this process is connected to, and show it here."""
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
