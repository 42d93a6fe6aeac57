"""Measure a row in a process of its own: `python -m oneshot.bench.one NAME REQUEST RESULT`. REQUEST is JSON, and RESULT
names the JSON file to write."""

import importlib
import json
import sys
from dataclasses import asdict
from pathlib import Path

from oneshot.base import garbage, interrupts
from oneshot.bench.rows import NotRun, Request, chosen


def measure(name: str, request: Request) -> dict[str, object]:
    """Measure the row `name`: the fields of `Measured` and the commit measured, or {"not_run": why}."""
    import torch

    from oneshot.base.environment import commit, cores

    garbage.search_less()  # as the command line and Ray's workers do
    torch.set_num_threads(cores())
    module, function = chosen([name])[0].measure.split(":")
    try:
        made = commit()
        return asdict(getattr(importlib.import_module(f"oneshot.bench.{module}"), function)(request)) | {"commit": made}
    except NotRun as why:
        return {"not_run": str(why)}


if __name__ == "__main__":
    interrupts.heed()  # so that a signal, too, ends what the row has started
    try:
        Path(sys.argv[3]).write_text(json.dumps(measure(sys.argv[1], Request(**json.loads(sys.argv[2])))))
    finally:
        interrupts.heed_no_more()  # Ray shuts down while Python exits
