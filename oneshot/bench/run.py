"""Run the bench: its rows one after the other, each in its own process and session, and their record."""

import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from oneshot.base.environment import commit, environment
from oneshot.base.errors import UserError
from oneshot.base.jobs import jobs_folder
from oneshot.base.storage import Folder
from oneshot.bench.rows import NAMES, Request, Row
from oneshot.run import formats

KEYS = ("name", "value", "unit", "reference", "ratio", "goal", "met", "note")


def here() -> dict[str, Any]:
    """This machine's environment, as records hold it: with the GPU if there is one, since rows then use it."""
    import torch

    return environment("cuda" if torch.cuda.is_available() else "cpu")


def bench(
    rows: list[Row], request: Request, *, path: Path | None = None, show: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:  # fmt: skip
    """Measure the rows and return their record: `environment`, `settings` and `rows`, each row with its own commit,
    settings and versions. A row that failed (`met` is False) or was not run (None) says why in its note. `show` is
    given each row's name before it is measured; the record is written to `path`, if given, after each row."""
    record = {"kind": "bench", "environment": here(), "settings": asdict(request), "rows": []}
    record["settings"]["data"] = data_name(request)
    del record["settings"]["keep"]  # a path of this machine
    for row in rows:
        show(row.name)
        began = time.monotonic()
        found = _apart(row, request)
        seconds = round(time.monotonic() - began, 1)
        made = _row(row, found) | {"seconds": seconds, "commit": found.get("commit", commit())}
        record["rows"].append(made | {"settings": record["settings"], "versions": record["environment"]["versions"]})
        if path:
            keep(record, path)
    return record


def data_name(request: Request) -> str:
    """The name of the request's data set, as records have it."""
    return Folder.of(request.data).name


def _apart(row: Row, request: Request) -> dict[str, Any]:
    """The result of `one.measure` in its own process, or {"failed": why}. All that the row started ends with it."""
    with tempfile.TemporaryDirectory(prefix="oneshot-bench-") as folder:
        result, log = Path(folder) / "result.json", Path(folder) / "log"
        with open(log, "wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "oneshot.bench.one", row.name, json.dumps(asdict(request)), str(result)],
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        try:
            code = process.wait(timeout=row.limit(request))
        except subprocess.TimeoutExpired:
            return {"failed": f"it did not finish within {row.limit(request):g} s"}
        finally:
            _end(process)
        if code == 0 and result.is_file():
            return json.loads(result.read_text())
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
        return {"failed": lines[-1][:300] if lines else f"its process exited with code {code}"}


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the session of a row, Ray's processes included."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=40)
        except subprocess.TimeoutExpired:
            pass
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # nothing of the session is left
    process.wait()


def _row(row: Row, found: dict[str, Any]) -> dict[str, Any]:
    """A row of the record: the columns of KEYS, then the samples, their spread and what else was noted."""
    made: dict[str, Any] = dict.fromkeys(KEYS) | {"name": row.name, "unit": row.unit, "goal": row.goal}
    made |= {"what": row.what, "against": row.against, "better": "less" if row.cost else "more"}
    if "not_run" in found:
        return made | {"note": f"not run: {found['not_run']}"}
    if "failed" in found:
        return made | {"met": False, "note": f"failed: {found['failed']}"}
    value = statistics.median(found["value"])
    reference = statistics.median(found["reference"]) if found["reference"] else None
    ratio = None
    if reference is not None:
        ratio = reference / value if row.smaller_is_better else value / reference
    return made | {
        "value": value,
        "reference": reference,
        "ratio": ratio,
        "bound": found["bound"],
        "met": bool(row.met(value, ratio or 0.0, found["shares"])),
        "note": found["note"],
        "repeats": len(found["value"]),
        "samples": {"value": found["value"], "reference": found["reference"]},
        "spread": {side: [min(found[side]), max(found[side])] for side in ("value", "reference") if found[side]},
        "shares": found["shares"],
        "details": found["details"],
    }


def records_folder() -> Path:
    return jobs_folder() / "records"


def default_path(hardware: dict[str, Any]) -> Path:
    """The path of this hardware's record: bench-2-cores-amd-epyc-avx2.json, or bench-nvidia-h100.json."""
    name = hardware["gpus"][0] if hardware["gpus"] else f"{hardware['cores']} cores {hardware['cpu']}"
    return records_folder() / f"bench-{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.json"


def read(path: Path) -> dict[str, Any]:
    """Read a record of the bench. Raises UserError if the file is missing or is no such record."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; `python -m oneshot.bench` writes records to tune_jobs/records/")
    folder = Folder.of(path.parent)
    record = folder.read_json(path.name)
    if not isinstance(record, dict) or record.get("kind") != "bench":
        raise UserError(f"{path} is not a benchmark record; `python -m oneshot.bench --out {path.name}` makes one")
    return formats.read(formats.Bench, folder, path.name)


def kept(path: Path, hardware: dict[str, Any], *, quick: bool, data: str | None = None) -> list[dict[str, Any]]:
    """The rows that the record at this path already has; none if there is no file. Raises UserError if it is something
    else, or holds figures of other hardware, of another data set (if `data` is given), or quick ones if `quick` is
    False, or the reverse. Memory does not count as hardware: machines of one kind differ by tenths of a GiB."""
    if not path.exists():
        return []
    record = read(path)
    if {**record["environment"]["hardware"], "memory_gib": None} != {**hardware, "memory_gib": None}:
        raise UserError(f"{path} holds figures of another machine; name another --out")
    settings = record["settings"]
    if settings["quick"] != quick:
        there, here = ("quick", "full") if settings["quick"] else ("full", "quick")
        raise UserError(f"{path} holds {there} figures, and this is a {here} measurement; name another --out")
    if data is not None and settings["data"] != data:
        raise UserError(f"{path} holds figures on the data set {settings['data']}, not {data}; name another --out")
    return record["rows"]


def keep(record: dict[str, Any], path: Path) -> None:
    """Write a record. Rows of an earlier record at `path` stay if they were not measured now; a row that failed or was
    not run does not replace a measured one. The settings and versions beside the rows are those of the last call.
    Raises UserError as `kept` does."""
    settings = record["settings"]
    old = kept(path, record["environment"]["hardware"], quick=settings["quick"], data=settings["data"])
    rows = {row["name"]: row for row in old}
    for row in record["rows"]:
        if row["value"] is not None or rows.get(row["name"], row)["value"] is None:
            rows[row["name"]] = row
    record = record | {"rows": [rows[name] for name in NAMES if name in rows]}
    Folder.of(path.parent).write_json(path.name, record)
