"""A run folder: opened by one process at a time, with the settings that the run was begun with. Free of torch."""

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

from oneshot.base.errors import UserError
from oneshot.base.jobs import parse, parse_toml
from oneshot.base.settings import Settings
from oneshot.base.storage import Folder
from oneshot.run import cards, checkpoint, formats, owner, trust
from oneshot.run.history import HISTORY

EXPERIMENT, STUDY, DATA_ROOT = "experiment.toml", "study.json", "data.json"
IDENTITY = ("data", "model", "train")  # the sections that decide a training's result
Kind = Literal["study", "training"]
LEAVES: dict[Kind, set[str]] = {"study": {STUDY, "trials"}, "training": {"checkpoints", HISTORY}}  # only this kind


@contextlib.contextmanager
def open_run(
    settings: Settings, run: Folder, *, kind: Kind, fixed: tuple[str, ...], say: Callable[[str], None] = owner.aloud,
    check: Callable[[], object] = lambda: None,
) -> Iterator[threading.Event]:  # fmt: skip
    """Make the run folder and write the resolved settings. While the block runs, no second process may train there.
    `say` is called if a process that trained there may have been killed and has to be waited for. The event is set if
    another process takes the run over all the same: then nothing more may be written there. `check` is called once the
    run is held and before anything is written, and may raise UserError, too.

    Raises UserError if the folder is in use, is another user's, holds something else or a run of the other kind; also
    if the `fixed` sections of its run differ, or its checkpoints are of an older version or of a training that could
    not go on with these settings. A study may be given more trials than it has, but not fewer.
    """
    trust.check(run)
    if run.has(EXPERIMENT):
        _refuse_older(run)
        _check_begun(settings, run, kind=kind, fixed=fixed)
    elif set(run.names()) - {owner.NOTE}:
        raise UserError(f"{run} is not empty and holds no run; name another --run")
    elif (around := run.parent).name == "trials" and around.parent.has(EXPERIMENT):
        raise UserError(f"{run} is the place of a trial of the run {around.parent}; name another --run")
    run.make()
    with owner.sole(run, say=say) as lost:
        if begun := run.has(EXPERIMENT):  # whoever held it until now may have begun it, or changed it
            _check_begun(settings, run, kind=kind, fixed=fixed)
        check()
        run.write(EXPERIMENT, settings.to_toml().encode())
        if not begun:
            _check_rights(run)
        yield lost


def _refuse_older(run: Folder) -> None:
    """Refuse checkpoints of an older version. Nobody writes such now, so once is enough, while each trial is asked."""
    trials = run / "trials"
    for training in (run, *(trials / name for name in trials.names() if name.isdigit())):
        checkpoint.refuse_older(training / "checkpoints")


def _check_begun(settings: Settings, run: Folder, *, kind: Kind, fixed: tuple[str, ...]) -> None:
    """Make every check of its kind and settings that may refuse a run which goes on. They come first: once written, the
    settings are the record."""
    names = set(run.names())
    for other in LEAVES:
        if other != kind and names & LEAVES[other]:
            raise UserError(f"{run} holds a {other}, and not a {kind}: name another folder")
    known = read_experiment(run)
    free = ("trials",) if kind == "study" else ()  # the points of the first trials do not depend on it
    check_same(known.model_dump(), settings, f"{run} holds a run", fixed=fixed, free=free)
    if kind == "study" and settings.search.trials < known.search.trials:
        raise UserError(
            f"search.trials = {settings.search.trials}: {run} already has {known.search.trials} trials, and the number"
            " cannot be lowered; ask for as many or more"
        )
    saved = checkpoint.settings_of(run / "checkpoints")
    if saved is not None:
        check_training(saved, settings, run)


def _check_rights(run: Folder) -> None:
    """Refuse a new run at once if its access rights would have it refused when it goes on, at night."""
    try:
        trust.check(run)
    except UserError:
        run.remove(EXPERIMENT)
        raise


def keep_data_root(run: Folder, root: Folder) -> None:
    """Record which data root a run was told to use, for whoever goes on with it or judges it. It is not a setting: data
    sets are known by what they hold, and may move."""
    run.write_json(DATA_ROOT, {"root": root.uri})


def data_root_of(run: Folder) -> str | None:
    """The data root that a run was told to use; None if it was told none, or if another user may have told it.

    Raises UserError if the file is damaged."""
    if not run.has(DATA_ROOT):
        return None
    try:
        trust.check(run)
    except UserError:
        return None
    return formats.read(formats.DataRoot, run, DATA_ROOT)["root"]


def read_experiment(run: Folder) -> Settings:
    """The settings as a run resolved them. Raises UserError if the file is damaged."""
    return parse_toml(run.read(EXPERIMENT), run.file(EXPERIMENT))


def settings_of_run(run: Folder) -> Settings:
    """The settings that a run was begun with. Raises UserError if the folder holds none."""
    if not run.has(EXPERIMENT):
        raise UserError(f"{run} holds no run: {EXPERIMENT} is missing; name a folder that train or tune made")
    return read_experiment(run)


def settings_of_network(where: Folder) -> Settings:
    """The settings that a network was trained with; for a study, those of its best trial. `where` is the folder of a
    run, of a network or of a checkpoint. Settings that no training depends on, such as `scale`, are the run's, or else
    the defaults.

    Raises UserError if there is no network, as in a run that is not over.
    """
    begun = where.has(EXPERIMENT)
    if begun and not (where / "best").has(cards.CARD):
        kind, how = "training", f"the command that began it, with --run {where.quoted}, continues it"
        if where.has(STUDY):
            kind, how = "search", f"python -m oneshot.tune --resume {where.quoted} continues it"
        raise UserError(
            f"{where} holds no network yet to take settings from: it is written when its {kind} is over; {how}"
        )
    own = read_experiment(where).model_dump() if begun else {}
    return parse(own | cards.recorded_settings(where), str(where))


def check_training(saved: Mapping[str, Any], settings: Settings, run: Folder) -> None:
    """Raise UserError unless the training in a folder, whose checkpoint has the settings `saved`, can go on with
    these."""
    # More epochs or other patience may be asked for, but every step of the cosine depends on the number of epochs.
    free = ("patience",) if settings.train.schedule == "cosine" else ("patience", "epochs")
    check_same(saved, settings, f"{run} holds a training", fixed=IDENTITY, free=free)


def equal(key: str, one: Any, other: Any) -> bool:
    """Whether two values of a setting mean the same: a network to start from is the same wherever it lies."""
    return one == other or (key == "start" and cards.alike(one, other))


def check_same(
    recorded: Mapping[str, Any], settings: Settings, what: str, *, fixed: Iterable[str], free: Iterable[str] = (),
    advice: str = "name another --run, or use the same settings to go on",
) -> None:  # fmt: skip
    """Raise UserError, with a message that begins with `what`, unless the `fixed` sections are as recorded, except for
    the keys in `free`."""
    for section in fixed:
        for key, value in getattr(settings, section).model_dump().items():
            default = Settings.model_fields[section].default.model_dump()[key]  # what a key meant before it existed
            old = recorded.get(section, {}).get(key, default)
            if key not in free and not equal(key, old, value):
                raise UserError(f"{what} with {section}.{key} = {old!r}, not {value!r}: {advice}")
