"""Inject faults at seeded random times into one small study after another: `make chaos SECONDS=1800 SEED=1`.

Each study is resumed after each fault until it ends, and is then compared with an undisturbed one: weights, histories
and protocols must be identical bit for bit.
"""

import argparse
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from command import ROOT, run, settings
from driver import Driver, wait
from outcome import differences, outcome
from rich.console import Console
from rich.table import Table
from strikes import FAULTS, Fault, possible, settle, steps, strike

from oneshot.base.environment import environment
from oneshot.data import sets

TRIALS, EPOCHS, STEPS, EVERY = 3, 5, 16, 4  # trials, epochs a trial, steps an epoch, steps between checkpoints
CHANGES = settings(
    search__trials=str(TRIALS), search__grace="0", search__batch="[64]", train__epochs=str(EPOCHS),
    train__examples=str(64 * STEPS), scale__checkpoint_steps=str(EVERY), scale__timeout="15", scale__max_failures="3",
)  # fmt: skip
MOST = 4  # faults a study, so that each study comes to its end


@dataclass
class Struck:
    """A fault that was injected. `repeated`: the most steps that may have been trained more than once; `recovery`:
    seconds from the fault until every trial then in progress has advanced."""

    name: str
    survived: bool = False
    repeated: int = 0
    recovery: float | None = None


class Chaos:
    """Studies in fresh folders below `place`, struck one after the other until the time is up."""

    def __init__(self, place: Path, console: Console, *, seed: int, seconds: float) -> None:
        self.place, self.console, self.seed, self.seconds = place, console, seed, seconds
        self.data = place / "data"
        sets.prepare("glyphs-10", data_root=self.data)
        began = time.monotonic()
        run("tune", "quick", "--run", str(place / "whole"), *CHANGES, ONESHOT_DATA=str(self.data), timeout=1800)
        self.lasts = time.monotonic() - began
        self.whole = outcome(place / "whole")
        self.studies, self.equal = 0, True
        self.struck: list[Struck] = []
        self.flaws: list[str] = []  # what went wrong

    def go(self) -> None:
        end, deck = time.monotonic() + self.seconds, self._deck()
        while time.monotonic() < end:
            self.studies += 1
            study = Study(self, self.place / f"study-{self.studies:03d}" / "run", deck, end)
            try:
                study.go()
            except AssertionError as error:
                self.flaws.append(f"study {self.studies}, {study.folder}: {error}")
                if study.strikes:
                    self.struck[-1].survived = False
                continue
            found = differences(outcome(study.folder), self.whole)
            self.flaws += [f"study {self.studies}, {study.folder}: {each}" for each in found]
            self.equal = self.equal and not found
            self.say("another result" if found else "the same result")
            if not found:
                shutil.rmtree(study.folder.parent)

    def _deck(self) -> Iterator[Fault]:
        """Every kind of fault once, in random order, again and again."""
        order = random.Random(self.seed)
        while True:
            yield from order.sample(FAULTS, k=len(FAULTS))

    def draw(self) -> random.Random:
        """The random numbers for the next fault, which depend on the seed and the number of faults so far."""
        return random.Random(f"{self.seed}/{len(self.struck)}")

    def say(self, what: str) -> None:
        self.console.print(f"study {self.studies:3d}  {what}", markup=False, soft_wrap=True)


class Study:
    """One study that is struck and resumed until it ends."""

    def __init__(self, chaos: Chaos, folder: Path, deck: Iterator[Fault], end: float) -> None:
        self.chaos, self.folder, self.deck, self.until = chaos, folder, deck, end
        self.patience = 120 + 20 * chaos.lasts  # seconds to wait for what should take a fraction of that
        self.before: dict[Path, int] = {}  # how far the trials were at the last fault, in steps
        self.strikes = 0

    def go(self) -> None:
        """Run the study to its end. Raises AssertionError if it does not go on or does not end."""
        self.folder.parent.mkdir()
        self.fault = next(self.deck)
        arguments, tries = ["quick", "--run", str(self.folder), *CHANGES], 0
        while True:
            session = Driver("tune", *arguments, ONESHOT_DATA=str(self.chaos.data))
            try:
                if self.strikes:
                    self._recover(session)
                if not self._session(session):
                    code = session.end(seconds=self.patience)
                    assert code == 0 and "Traceback" not in session.text, f"exit code {code}:\n{session.text}"
                    if self._finished():
                        return
                    tries += 1  # failed trials are tried again
                    assert tries <= MOST, f"trials fail again and again:\n{session.text}"
            finally:
                if session.process.poll() is None:
                    session.kill()
            arguments = ["--resume", str(self.folder)]

    def _session(self, session: Driver) -> bool:
        """Strike a session as long as it lasts and time is left; returns whether a fault ended it."""
        while self.strikes < MOST and time.monotonic() < self.until:
            draw = self.chaos.draw()
            if not self._moment(session, draw) or not self._strike(session, draw):
                return False  # it ended first: the next session or study gets the fault
            fault, self.fault = self.fault, next(self.deck)
            if fault.codes:
                return True
            self._recover(session)
        return False

    def _moment(self, session: Driver, draw: random.Random) -> bool:
        """Wait for the moment of the fault; returns whether it came before the session's end."""
        fault, over = self.fault, session.process.poll
        here = fault.part or fault.at_rest
        wait(
            lambda: over() is not None or (possible(fault, session, self.folder) if here else "run " in session.text),
            seconds=self.patience, pause=0.5,
        )  # fmt: skip
        wait(lambda: over() is not None, seconds=draw.uniform(0, self.chaos.lasts / 2), pause=0.2)
        return over() is None and possible(fault, session, self.folder)

    def _strike(self, session: Driver, draw: random.Random) -> bool:
        """Inject the fault, check how the session reacts, and count what it costs; returns whether there was anything
        to strike."""
        fault, struck = self.fault, Struck(self.fault.name)
        self.before, self.since = self._progress(), time.monotonic()
        at_work = 1 if fault.part in ("worker", "trial") else len(session.part("worker"))
        if not strike(fault, session, draw):
            return False
        self.strikes += 1
        self.chaos.struck.append(struck)
        struck.survived = not fault.codes or self._ended_well(session)
        if fault.codes:
            settle(session)
            self.before = self._progress()
            if fault.at_rest:
                moved = fault.at_rest(self.folder, draw)
                self.before = {moved / each.relative_to(self.folder): done for each, done in self.before.items()}
                self.folder = moved
            struck.repeated = sum(done - steps(each, STEPS, whole=True) for each, done in self.before.items())
        struck.repeated += (EVERY - 1) * at_work
        return True

    def _ended_well(self, session: Driver) -> bool:
        """Whether the session ended as this fault requires, and printed what it must."""
        fault, code = self.fault, session.end(seconds=self.patience)
        if (self.folder / "result.json").exists() and code == 0:
            return True  # the study was over before the signal came
        well = code in fault.codes
        if fault.signal != "kill":
            well = well and "to go on: " in session.text and not session.left()
        if fault.part:
            well = well and "to go on: " in session.text and "error: Ray's " in session.text
        if not well:
            self.chaos.flaws.append(f"{fault.name}: exit code {code}, left {session.left(seconds=0)}\n{session.text}")
        return well

    def _recover(self, session: Driver) -> None:
        """Wait until every trial that was in progress has advanced, or the study is over."""
        on_their_way = {each: done for each, done in self.before.items() if done < EPOCHS * STEPS}

        def recovered() -> bool:
            now = self._progress()
            if session.process.poll() is not None or (self.folder / "result.json").exists():
                return True
            if on_their_way:
                return all(now.get(each, 0) > done for each, done in on_their_way.items())
            return not self.before and any(now.values())

        assert wait(recovered, seconds=self.patience, pause=0.5), f"it does not go on:\n{session.text}"
        struck = self.chaos.struck[-1]
        struck.recovery = time.monotonic() - self.since
        self.chaos.say(f"{struck.name}: went on after {struck.recovery:.0f} s")

    def _progress(self) -> dict[Path, int]:
        return {each: steps(each, STEPS) for each in self.folder.glob("trials/*")}

    def _finished(self) -> bool:
        study = json.loads((self.folder / "study.json").read_text())
        return all(each["status"] == "finished" for each in study["trials"])


def counts(struck: list[Struck]) -> list[dict[str, Any]]:
    """A row for each kind of fault, as the record holds it."""
    rows = []
    for fault in FAULTS:
        own = [each for each in struck if each.name == fault.name]
        times = sorted(each.recovery for each in own if each.recovery is not None)
        rows.append({
            "fault": fault.name, "injected": len(own), "survived": sum(each.survived for each in own),
            "steps_repeated": max((each.repeated for each in own), default=None),
            "recovery_seconds": {"median": statistics.median(times), "most": times[-1]} if times else None,
        })  # fmt: skip
    return rows


def table(rows: list[dict[str, Any]]) -> Table:
    shown = Table("fault", box=None, pad_edge=False, header_style="dim")
    for name in ("injected", "survived", "steps trained twice, most", "seconds to go on, median", "most"):
        shown.add_column(name, justify="right")
    for row in rows:
        seconds = row["recovery_seconds"]
        times = [f"{seconds[key]:.0f}" for key in ("median", "most")] if seconds else ["–", "–"]
        repeated = "–" if row["steps_repeated"] is None else str(row["steps_repeated"])
        shown.add_row(row["fault"], str(row["injected"]), str(row["survived"]), repeated, *times)
    return shown


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--seconds", type=float, default=1800)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--record", type=Path, default=ROOT / "tune_jobs/records/chaos.json")
    given = options.parse_args()
    console, place = Console(highlight=False), Path(tempfile.mkdtemp(prefix="oneshot-chaos-"))
    chaos = Chaos(place, console, seed=given.seed, seconds=given.seconds)
    console.print(f"the study to which nothing happens: {chaos.lasts:.0f} s")
    chaos.go()
    rows, survived, injected = counts(chaos.struck), sum(each.survived for each in chaos.struck), len(chaos.struck)
    record = {
        "seed": given.seed, "seconds": given.seconds, "studies": chaos.studies, "undisturbed_seconds": chaos.lasts,
        "study": {"trials": TRIALS, "epochs": EPOCHS, "steps_per_epoch": STEPS, "checkpoint_steps": EVERY},
        "faults": rows, "injected": injected, "survived": survived, "equal": chaos.equal,
        "environment": environment("cpu"),
    }  # fmt: skip
    given.record.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    console.print(*chaos.flaws, sep="\n\n", markup=False, soft_wrap=True)
    console.print(table(rows))
    console.print(f"survived {survived} of {injected}, result equal: {'yes' if chaos.equal else 'no'}")
    if survived == injected and chaos.equal and not chaos.flaws:
        shutil.rmtree(place)
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
