"""The record of a study, `study.json`: which trials there are, how far each came and how it ended."""

import contextlib
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from oneshot.base.errors import TROUBLE, DiskFull, Refused, RunFailed
from oneshot.base.storage import Folder
from oneshot.run import formats
from oneshot.run.history import HISTORY, measured, reached, read_history, read_notes, restore_history, write_note
from oneshot.run.opened import STUDY
from oneshot.run.watch import PULSE, forget, read_pulse

OVER = ("finished", "stopped", "diverged")  # a trial with such a status is not run again
PATIENCE, PAUSE = 120.0, 5.0  # seconds that a store has to answer again; between two tries
REQUESTS = 8  # to a store at once
T = TypeVar("T")
Left = tuple[list[dict[str, Any]], list[str]]  # the history and the notes in a trial's folder


def was_begun(trial: Mapping[str, Any]) -> bool:
    """Whether a trial of `study.json` was ever started. Its point may be {}: the job's own settings."""
    return bool(trial["settings"] or trial["status"] != "pending" or trial["epochs"])


class Study:
    """A study as it grows: a header, and a trial for every point that will be tried.

    The file is written when a trial starts or ends, and at most every `seconds` in between. The trials' histories lie
    in their own folders; they are in the record (`record()`) but not in the file.
    """

    def __init__(self, run: Folder, *, trials: int, header: dict[str, Any], seconds: float = 2.0) -> None:
        self.run, self.header, self.seconds = run, header, seconds
        self.trials: list[dict[str, Any]] = [self._new(index) for index in range(trials)]
        self.changes = 0  # to trials, so far
        self.before = 0.0  # seconds that earlier sessions of this study took
        self._began = self._written = time.monotonic()
        self._started: dict[str, float] = {}
        self._pulses: dict[str, dict[str, Any]] = {}
        self.say: Callable[[str], object] = _nobody  # called if the store does not answer
        self._failing: float | None = None  # since when the store does not answer
        self._begun: set[str] = set()  # ids of trials; a point may be {}: the job's own settings
        self._lines: dict[str, str] = {}  # the written line of each trial that has not changed since

    @staticmethod
    def _new(index: int) -> dict[str, Any]:
        return {
            "id": f"{index:03d}", "status": "pending", "settings": {}, "epochs": 0, "best_epoch": None,
            "val_loss": None, "seconds": 0.0, "error": None, "notes": [], "history": [],
        }  # fmt: skip

    def resume(self, *, mend: bool = True) -> list[str]:
        """Take over what an earlier session left in the run folder. Returns a sentence for each history that was lost;
        it is written again, with a note of it, unless `mend` is false, which leaves the run folder as it is.

        A trial's own history is the truth: the driver may have been killed before it wrote down how a trial ended.
        Raises UserError if a record is damaged.
        """
        if not self.run.has(STUDY):
            return []
        record = formats.read(formats.Study, self.run, STUDY, advice="restore it or start another --run")
        self.before = float(record["seconds"])
        self.header |= {"started": record["started"], "job": record["job"]}
        self._lines.clear()
        found = {trial["id"]: trial for trial in record["trials"]}
        for trial in self.trials:
            if trial["id"] in found:
                trial |= {key: found[trial["id"]][key] for key in trial if key not in ("notes", "history")}
            if was_begun(trial):
                self._begun.add(trial["id"])
        begun = [trial for trial in self.trials if self.begun(trial["id"])]
        lost = []
        for trial, (rows, notes) in zip(begun, self._left(trial["id"] for trial in begun), strict=True):
            trial["notes"] = notes
            lost += self._replay(trial, rows, mend=mend)
        return lost

    def begun(self, trial_id: str) -> bool:
        """Whether a trial was started, in this session or before."""
        return trial_id in self._begun

    def _left(self, trial_ids: Iterable[str]) -> list[Left]:
        """What these trials left in their folders. A store is asked for several at once, as each answer takes a
        while."""

        def read(trial_id: str) -> Left:
            return read_history(self.folder(trial_id)), read_notes(self.folder(trial_id))

        if self.run.is_local:
            return [read(trial_id) for trial_id in trial_ids]
        with ThreadPoolExecutor(REQUESTS) as pool:
            return list(pool.map(read, trial_ids))

    def _replay(self, trial: dict[str, Any], rows: list[dict[str, Any]], *, mend: bool = True) -> list[str]:
        """Take over a trial's own history. Returns a sentence if a part of it was lost."""
        self._changing(trial["id"])
        recorded, epochs, lost = trial["status"], trial["epochs"], []
        if len(measured(rows)) < epochs:
            rows = restore_history(self.folder(trial["id"]), write=mend)
            known = len(measured(rows))
            whole = max(known, epochs)
            lost = [f"{HISTORY} was lost; the newest whole checkpoint has {known} of {whole} epochs"]
            if mend:
                self.note(trial["id"], lost[0])
        trial |= {"epochs": 0, "best_epoch": None, "val_loss": None, "history": []}  # what is lost does not count
        for row in rows:
            self._add(trial, row)
        ended = rows[-1].get("ended") if rows else ""
        if recorded not in OVER or len(measured(rows)) < epochs:
            trial["status"] = _status(ended) if ended else "pending"
            trial["error"] = _reason(trial)
        return [f"trial {trial['id']}: {sentence}" for sentence in lost]

    def folder(self, trial_id: str) -> Folder:
        return self.run / "trials" / trial_id

    def trial(self, trial_id: str) -> dict[str, Any]:
        """A trial as it stands, to be read only."""
        return self.trials[int(trial_id)]

    def _changing(self, trial_id: str) -> dict[str, Any]:
        """A trial that is about to change. Its line in the file will be made again."""
        self._lines.pop(trial_id, None)
        self.changes += 1
        return self.trial(trial_id)

    def start(self, trial_id: str, settings: dict[str, Any]) -> None:
        self._changing(trial_id).update(status="running", settings=settings)
        self._begun.add(trial_id)
        forget(self.folder(trial_id), PULSE)  # of a killed session: how far it was
        self._started[trial_id] = time.monotonic() - self.trial(trial_id)["seconds"]
        self.save()

    def row(self, trial_id: str, row: dict[str, Any]) -> None:
        """Add the row of a reported epoch. It replaces a row that is there already (a worker died and repeated the
        epoch)."""
        trial = self._changing(trial_id)
        trial["seconds"] = time.monotonic() - self._started[trial_id]
        if not math.isfinite(row["val_loss"]):
            row = row | {"val_loss": None}
        self._add(trial, row)
        if time.monotonic() - self._written >= self.seconds:
            self.save()

    @staticmethod
    def _add(trial: dict[str, Any], row: dict[str, Any]) -> None:
        history = [old for old in trial["history"] if old["epoch"] < row["epoch"]] + [row]
        trial |= reached(history) | {"history": history}

    def end(self, trial_id: str, *, error: str | None = None, settings: dict[str, Any] | None = None) -> None:
        """Record that a trial is over: it finished, was stopped early, diverged, or failed with an error. `settings`:
        for a trial that may have failed before it was started."""
        trial = self._changing(trial_id)
        trial["settings"] = settings or trial["settings"]
        last = trial["history"][-1] if trial["history"] else {}
        trial["status"] = "failed" if error else _status(last.get("ended", ""))
        trial["error"] = error or _reason(trial)
        if trial_id in self._started:
            trial["seconds"] = time.monotonic() - self._started[trial_id]
        self.save()

    def hear(self, trial_id: str) -> None:
        """Take over what a trial's training noted in its own folder. If that cannot be read now, the next call does
        it."""
        with contextlib.suppress(*TROUBLE):
            self._changing(trial_id)["notes"] = read_notes(self.folder(trial_id))

    def take_pulses(self) -> None:
        """Take over how far the running trials are inside their epochs. Another thread may call this."""
        running = [trial["id"] for trial in self.trials if trial["status"] == "running"]
        pulses = {trial_id: read_pulse(self.folder(trial_id)) for trial_id in running}
        self._pulses = {trial_id: pulse for trial_id, pulse in pulses.items() if pulse}

    def note(self, trial_id: str, sentence: str) -> None:
        """Keep what happened to a trial, beside what its training notes itself. No trial fails for a note."""
        try:
            write_note(self.folder(trial_id), sentence)
        except DiskFull:
            raise
        except TROUBLE:
            trial = self._changing(trial_id)
            trial["notes"] = [*trial["notes"], sentence]
        else:
            self.hear(trial_id)

    def again(self, trial_id: str, why: str) -> None:
        """Let a trial that is over go on after all, from its newest whole checkpoint."""
        self.note(trial_id, why)
        self._changing(trial_id).update(status="pending", error=None)
        self.save()

    def catch_up(self) -> None:
        """Take over what trials that were broken off had written and not yet reported."""
        for trial in self.trials:
            if self.begun(trial["id"]) and trial["status"] == "pending":
                self._replay(trial, self.patiently(partial(read_history, self.folder(trial["id"]))))
                self.hear(trial["id"])

    def interrupt(self) -> None:
        """The driver stops: running trials become pending, to go on later."""
        for trial in self.trials:
            if trial["status"] == "running":
                self._changing(trial["id"])["status"] = "pending"
        self.save()

    def waiting(self) -> int:
        """How many trials have not been run to their end."""
        return sum(trial["status"] in ("pending", "running") for trial in self.trials)

    def failed(self) -> int:
        """How many trials failed and were not tried again since."""
        return sum(trial["status"] == "failed" for trial in self.trials)

    def counts(self) -> dict[str, int]:
        """How many trials ended in each way, and how many are pending. Once the search has ended, running trials are
        pending too."""
        found = Counter(trial["status"] for trial in self.trials)
        return {status: found[status] for status in (*OVER, "failed", "pending")}

    def best(self) -> dict[str, Any] | None:
        """The trial with the lowest validation loss, however it ended; the first of equals."""
        return min(measured(self.trials), key=lambda trial: trial["val_loss"], default=None)

    def record(self) -> dict[str, Any]:
        """The whole record, histories and pulses included, as the screens read it."""
        started = [trial for trial in self.trials if trial["status"] != "pending" or trial["epochs"]]
        return self.header | {
            "seconds": self.before + time.monotonic() - self._began,
            "trials": self.trials,
            "pulses": self._pulses,
            "epochs_run": sum(trial["epochs"] for trial in started),
            "epochs_if_all_had_finished": self.header["epochs"] * len(started),
        }

    def save(self) -> None:
        """Write study.json, a line per trial. A study of a thousand trials writes it twice for each, in
        milliseconds."""
        record = self.record()
        del record["trials"], record["pulses"]
        lines = [self._line(trial) for trial in self.trials]
        head = json.dumps(record, indent=1, ensure_ascii=False).removesuffix("\n}")
        text = head + ',\n "trials": [\n  ' + ",\n  ".join(lines) + "\n ]\n}\n"
        self.patiently(partial(self.run.write, STUDY, text.encode()))
        self._written = time.monotonic()

    def patiently(self, do: Callable[[], T]) -> T:
        """Call `do` and return its result, trying again while the store does not answer or refuses (as while
        credentials are renewed): all that the search knows is in memory. Raises RunFailed or Refused two minutes after
        the first failure, DiskFull at once."""
        while True:
            try:
                done = do()
            except DiskFull:
                raise
            except (RunFailed, Refused) as error:
                if self._failing is None:
                    self._failing = time.monotonic()
                    self.say(f"{error}; trying again for {PATIENCE:g} s")
                if time.monotonic() - self._failing >= PATIENCE:
                    raise
                time.sleep(PAUSE)
            else:
                if self._failing is not None:
                    self.say(f"{self.run} answers again, after {time.monotonic() - self._failing:.0f} s")
                self._failing = None
                return done

    def _line(self, trial: dict[str, Any]) -> str:
        """A trial's text in the file. Most trials have not changed since it was last written."""
        if trial["id"] not in self._lines:
            fields = {key: value for key, value in trial.items() if key != "history"}
            self._lines[trial["id"]] = json.dumps(fields, ensure_ascii=False)
        return self._lines[trial["id"]]


def _nobody(_: str) -> None:
    """Nobody is told."""


def _status(ended: str) -> str:
    """A trial's status by why its training ended. One that did not end by itself was stopped by the scheduler."""
    return {"epochs": "finished", "patience": "finished", "diverged": "diverged"}.get(ended, "stopped")


def _reason(trial: dict[str, Any]) -> str | None:
    """Why a trial diverged, as far as its history tells; None if it did not."""
    if trial["status"] != "diverged":
        return None
    return f"the loss was not finite in epoch {trial['history'][-1]['epoch']}"
