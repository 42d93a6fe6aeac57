"""tune_jobs/README.md: the jobs that come with the program, and every setting that a job may have."""

import itertools
from collections.abc import Mapping
from pathlib import Path

from oneshot.base.jobs import jobs_folder
from oneshot.base.markdown import table
from oneshot.base.meanings import explained, inline, sections
from oneshot.base.settings import Settings

# Where the jobs that are no rungs of the ladder are meant to run; the ladder names its rungs' machines.
MACHINES = {
    "quick": "2 CPU cores", "own": "2 CPU cores", "koch": "GPUs", "source": "GPUs", "best": "one GPU"
}  # fmt: skip


def jobs_table(machines: Mapping[str, str]) -> str:
    """Markdown: a row for each job, with the comment at the head of its file. `machines`: {job: where it runs}."""
    rows = []
    for path in sorted(jobs_folder().glob("*.toml"), key=lambda path: path.stem):
        rows.append((f"[`{path.stem}`]({path.name})", machines.get(path.stem, ""), _cell(comment(path))))
    return table(("job", "machine", "what it is"), rows)


def comment(job: Path) -> str:
    """The comment at the head of a job's file, as one line."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), job.read_text("utf-8").splitlines())
    return " ".join(line.lstrip("# ") for line in lines)


def settings_tables() -> str:
    """Markdown: a table for each section, with a row for each setting."""
    told, blocks = explained(Settings()), []
    for section, about in sections().items():
        rows = [
            map(_cell, (f"`{each.key}`", f"`{inline(each.default)}`", each.takes, each.meaning))
            for each in told
            if each.key.startswith(f"{section}.")
        ]
        made = table(("setting", "default", "takes", "meaning"), rows)
        blocks.append(f"### [{section}]\n\n{about}\n\n{made}")
    return "\n\n".join(blocks)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
