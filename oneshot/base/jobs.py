"""The settings of a job: a TOML file in `tune_jobs/` plus `--set section.key=value`, checked when read.

For an unknown key, the error names the nearest known one.
"""

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from oneshot.base.errors import UserError, flaw, nearest
from oneshot.base.settings import Settings


def jobs_folder() -> Path:
    """The folder of the jobs that come with the program. It lies beside the package, in the repository and where a Ray
    job works."""
    return Path(__file__).resolve().parents[2] / "tune_jobs"


def job_file(job: str) -> Path:
    """The TOML file of a job, given by name (`quick`) or by path. Raises UserError if there is none."""
    path = Path(job)
    try:
        path.name.encode()
    except UnicodeEncodeError:
        raise UserError(f"the job '{job}' has a name that is not UTF-8, and records contain it: name another") from None
    if path.suffix == ".toml" or path.is_dir():
        return path
    for folder in (Path("tune_jobs"), jobs_folder()):
        if (folder / f"{job}.toml").is_file():
            return folder / f"{job}.toml"
    known = sorted(path.stem for path in jobs_folder().glob("*.toml"))
    raise UserError(f"no job '{job}' in tune_jobs/: {nearest(job, known)}")


def read(path: Path, changes: Iterable[str] = ()) -> Settings:
    """The settings of a TOML file, changed by `section.key=value` texts. Raises UserError naming file, key, value."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; a job is a TOML file or one of tune_jobs/") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder; a job is a TOML file") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    return changed(parse_toml(content, str(path)), changes)


def changed(settings: Settings, changes: Iterable[str]) -> Settings:
    """Settings changed by `section.key=value` texts, as --set takes them. Raises UserError naming key and value."""
    return override(settings, dict(_change(text) for text in changes), source="--set")


def parse_toml(content: bytes, source: str) -> Settings:
    """Settings of a TOML text. Raises UserError naming `source`, and the key and the value or the line."""
    try:
        tree = tomllib.loads(content.decode())
    except UnicodeDecodeError:
        raise UserError(f"{source} is not UTF-8 text; a job is a TOML file") from None
    except (ValueError, RecursionError) as error:  # also from a number of thousands of digits or thousands of brackets
        raise UserError(f"{source} is not TOML: {error}") from None
    return parse(tree, source)


def parse(tree: Mapping[str, Any], source: str) -> Settings:
    """Settings of a tree of sections. Raises UserError naming `source`, the key and the value."""
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        raise UserError(f"{source}: {_sentence(error)}") from None


def override(settings: Settings, changes: Mapping[str, Any], *, source: str) -> Settings:
    """Settings with dotted keys (`train.lr`) changed. Raises UserError naming `source` for an unknown key or a value
    that does not fit."""
    tree = settings.model_dump()
    for key, value in changes.items():
        *sections, last = key.split(".")
        place = tree
        for depth, section in enumerate(sections):
            if section not in place and depth < 2:
                raise UserError(f"{source}: '{key}' names no setting; {nearest(section, place)}")
            if not isinstance(place.get(section), dict):
                whole = ".".join(sections[: min(depth + 1, 2)])
                raise UserError(f"{source}: '{key}' names no setting; give {whole} as a whole, as in a job's file")
            place = place[section]
        if not sections:
            raise UserError(f"{source}: '{key}' names no setting; write section.key, as in train.lr")
        place[last] = value
    return parse(tree, source)


def with_point(settings: Settings, point: Mapping[str, Any], *, source: str = "the search") -> Settings:
    """The settings with a point of the search in place. Raises UserError naming `source` if it does not fit."""
    changes = {key if "." in key else f"train.{key}": value for key, value in point.items()}
    return override(settings, changes, source=source)


def _change(text: str) -> tuple[str, Any]:
    """`train.lr=0.01` as a key and a TOML value. A bare word is taken as a string. So is any unquoted text if the
    setting takes nothing else: a data set may be called 2024-05-01."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set {text}: write section.key=value, as in train.lr=0.01")
    if not text.isprintable():
        raise UserError(f"--set {text!r}: is more than one line of text; write section.key=value, as in train.lr=0.01")
    key, value = key.strip(), value.strip()
    try:
        found = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value
    except (ValueError, RecursionError) as error:
        raise UserError(f"--set {key}: {error}; write a smaller value") from None
    return key, found if isinstance(found, str) or not _is_text(key) else value


def _is_text(key: str) -> bool:
    """Whether the setting takes any text and nothing else."""
    section, _, name = key.partition(".")
    fields = _model([section]).model_fields if section in Settings.model_fields else {}
    return name in fields and fields[name].annotation is str


def _sentence(error: ValidationError) -> str:
    """The first flaw, with the nearest known key for an unknown one."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "extra_forbidden":
        known = _model(first["loc"][:-1]).model_fields
        return f"'{'.'.join(map(str, first['loc']))}' names no setting; {nearest(str(first['loc'][-1]), known)}"
    return flaw(error)


def _model(sections: Iterable[str | int]) -> type[BaseModel]:
    """The model of a section, given by its path. A number in the path stands for an item of a list of models."""
    kind: Any = Settings
    for section in sections:
        kind = get_args(kind)[0] if isinstance(section, int) else kind.model_fields[section].annotation
    return kind
