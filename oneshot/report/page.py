"""The page: one self-contained file, light and dark, for desktop, phone and print."""

import time
from collections.abc import Mapping
from importlib import resources
from shlex import quote
from typing import Any

from oneshot.report import answers, seen, studies, verified
from oneshot.report.canvas import DARK, LIGHT, Canvas
from oneshot.report.html import Figures, esc, pairs, section
from oneshot.report.reading import Run
from oneshot.run.cards import START
from oneshot.run.opened import EXPERIMENT
from oneshot.screen.words import times

_MIX = {"wash": ("#f4f6f8", "#1d232a")}  # a background a little off the paper


def page(run: Run) -> tuple[str, dict[str, Canvas]]:
    """The page as HTML text, and its figures by name, which are to be written as files."""
    figures = Figures()
    sections = [
        answers.standing(run, figures),
        studies.searched(run, figures),
        studies.trained(run, figures),
        answers.by_alphabet(run, figures),
        verified.verification(run, figures),
        seen.trials(run, figures),
        seen.errors(run, figures),
        seen.confused(run, figures),
        seen.maps(run, figures),
    ]
    job = str((run.study or {}).get("job") or run.name)
    when = time.strftime("%Y-%m-%d %H:%M %Z", time.localtime(run.read))
    eyebrow = f"oneshot report · {esc(job)} · {esc(run.dataset)} · split {esc(run.settings.data.split)} · {when}"
    head = f'<p class="eyebrow">{eyebrow}</p>{answers.headline(run)}{answers.state(run)}'
    # Dark ink on light paper is inverted in the dark theme; a photo, and light on dark, stay as they are.
    inked = ' class="inked"' if (run.outcomes or {}).get("polarity", "dark") == "dark" else ""
    head, *sections = (text.replace(" %", "\u00a0%") for text in (head, *filter(None, sections)))
    sections.append(_reproduce(run))
    body = "\n".join(sections)
    text = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<title>{esc(job)}: oneshot report</title><style>{_style()}</style></head>\n<body{inked}>\n"
        f"<header>{head}</header>\n{_contents(sections)}\n<main>{body}</main>\n"
        f"<footer><p>Made by oneshot from the records in <code>{esc(run.where)}</code>, {when}. Nothing here was typed"
        f" by hand.</p></footer>\n<script>{_asset('page.js')}</script>\n</body></html>\n"
    )
    return text, figures.files


def _style() -> str:
    def colors(theme: Mapping[str, str], at: int) -> str:
        named = {**theme, **{name: both[at] for name, both in _MIX.items()}}
        return "".join(f"--{name}:{value};" for name, value in named.items())

    light, dark = colors(LIGHT, 0), colors(DARK, 1)
    return (
        f":root{{color-scheme:light dark;{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"
        + _asset("page.css")
    )


def _asset(name: str) -> str:
    return resources.files("oneshot.report").joinpath(name).read_text("utf-8")


def _contents(sections: list[str]) -> str:
    links = []
    for text in sections:
        _, _, rest = text.partition('<h2 id="')
        name, _, rest = rest.partition('">')
        links.append(f'<li><a href="#{name}">{rest.partition("<")[0]}</a></li>')
    return f'<nav aria-label="Contents"><ul>{"".join(links)}</ul></nav>'


def _reproduce(run: Run) -> str:
    """Settings and environment: all that is needed to repeat the run."""
    where: Mapping[str, Any] = run.environment or {}
    judged: Mapping[str, Any] = (run.result or {}).get("environment") or where
    hardware, seeds = _plain(where.get("hardware")), _plain(judged.get("seeds"))
    commit, unknown = where.get("commit"), "unknown" if run.over else "recorded when the run is over"
    verb = "tune" if run.study else "train"
    last = str(commit).rpartition(", ")[2]  # an interrupted run may have gone on under another commit
    lines = [f"git checkout {quote(last.removesuffix('+changes'))}"] if commit else []
    # A job's file must lie on a disk; the settings of a run on an object store are saved to a file there first.
    file = quote(f"{run.where}/{EXPERIMENT}") if "://" not in run.where else "again.toml"
    start = run.settings.train.start
    place, mark, query = run.where.partition("?")
    copy = f"{place}/{START}{mark}{query}"  # another network may lie by then where it was copied from
    again = f" --set {quote(f'train.start={copy}')}" if start else ""
    lines.append(
        f"python -m oneshot.{verb} {file} --run runs/again{again}" + "  # the settings below" * (file == "again.toml")
    )
    entries: list[tuple[str, object]] = [
        ("run", run.where),
        ("data set", f"{run.dataset}, split {run.settings.data.split}"),
        ("commit", commit or unknown),
        ("seeds", ", ".join(f"{name} {value}" for name, value in _seeds(run, seeds).items())),
        ("hardware", _hardware(hardware) or unknown),
        ("device", _device(run, hardware) or unknown),
        ("versions", ", ".join(f"{name} {value}" for name, value in _plain(where.get("versions")).items()) or unknown),
        (f"{run.words.test} scored", times(run.touched)),
    ]
    if start:
        entries.append(("started from", f"{start}, copied to {copy}"))
    if apart := [f"{name} {value}" for name, value, trained in (
        ("commit", judged.get("commit") or "unknown", commit or "unknown"),
        ("hardware", _hardware(_plain(judged.get("hardware"))), _hardware(hardware)),
    ) if value != trained]:  # fmt: skip
        entries.append(("judged with", "; ".join(apart)))
    if run.result and run.result.get("sha256"):
        entries.append(("network, sha256", run.result["sha256"]))
    changed = "" if "+changes" not in str(commit) else "<p>Files differed from that commit when it ran.</p>"
    inside = (
        f"<pre>{esc(chr(10).join(lines))}</pre>{changed}<p>On CPU the same settings on the same machine give the same"
        f" bits; early stopping depends on which trial reports first.</p>{pairs(entries)}"
        "<details><summary>All settings, as they were resolved</summary>"
        f"<pre>{esc(run.experiment.strip())}</pre></details>"
    )
    return section("reproduce", "To reproduce it", inside)


def _plain(value: object) -> Mapping[str, Any]:
    """The value if it is a mapping, else an empty one: others may have written it."""
    return value if isinstance(value, dict) else {}


def _device(run: Run, hardware: Mapping[str, Any]) -> str:
    """The device that the network was trained on; hardware names GPUs only if they were used."""
    if told := (run.study or {}).get("device") or (run.environment or {}).get("device"):
        return str(told)
    return ("cuda" if hardware.get("gpus") else "cpu") if hardware else ""


def _seeds(run: Run, recorded: Mapping[str, Any]) -> dict[str, Any]:
    settings = run.settings
    return {"train": settings.train.seed, "search": settings.search.seed, "evaluate": settings.evaluate.seed} | recorded


def _hardware(hardware: Mapping[str, Any]) -> str:
    if not hardware:
        return ""
    memory = f", {hardware['memory_gib']} GiB" if hardware.get("memory_gib") else ""
    gpus = f", {', '.join(map(str, hardware['gpus']))}" if hardware.get("gpus") else ", no GPU"
    return f"{hardware.get('cores')} cores, {hardware.get('cpu')}{memory}{gpus}"
