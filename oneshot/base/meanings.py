"""Settings in words: the meaning, the default and the accepted values of each, all read from `settings`.

The source of `settings` is parsed when somebody asks for this, not when a setting is used.
"""

import ast
import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from oneshot.base import kinds, settings


@dataclass(frozen=True)
class Setting:
    """A setting as it is explained to people."""

    key: str  # "train.lr"
    value: Any  # in the settings asked about
    default: Any
    takes: str  # "a number above 0"
    meaning: str

    @property
    def changed(self) -> bool:
        return self.value != self.default


def sections() -> dict[str, str]:
    """What each section of a job is about."""
    said = _said()
    return {name: said[type(default).__name__, ""] for name, default in settings.Settings()}


def explained(chosen: settings.Settings) -> list[Setting]:
    """Every setting, in the order of `settings`, with the value that it has in the settings given."""
    said, schema, told = _said(), settings.Settings.model_json_schema(), []
    for section, defaults in settings.Settings():
        kind = type(defaults).__name__
        for name, default in defaults.model_dump().items():
            takes = _takes(schema["$defs"][kind]["properties"][name], schema["$defs"])
            value = getattr(chosen, section).model_dump()[name]
            told.append(Setting(f"{section}.{name}", value, default, takes, said[kind, name]))
    return told


def inline(value: Any) -> str:
    """A value as a job's file has it, in one line of TOML."""
    if isinstance(value, Mapping):
        pairs = [f"{_bare(key)} = {inline(each)}" for key, each in value.items()]
        return f"{{ {', '.join(pairs)} }}" if pairs else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(inline, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _bare(key: str) -> str:
    return key if re.fullmatch(r"[\w-]+", key, re.ASCII) else json.dumps(key, ensure_ascii=False)


def _said() -> dict[tuple[str, str], str]:
    """{(class, field): the text under the field}; (class, ""): the text under the class."""
    said = {}
    for node in ast.parse(inspect.getsource(settings)).body:
        if not isinstance(node, ast.ClassDef):
            continue
        said[node.name, ""] = ast.get_docstring(node) or ""
        for field, below in zip(node.body, node.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                text = below.value.value if _is_text(below) else ""
                said[node.name, field.target.id] = " ".join(text.split())
    return said


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _takes(schema: Mapping[str, Any], named: Mapping[str, Any]) -> str:
    """What a JSON schema of pydantic's allows, in words. `named`: the schemas that others refer to."""
    if "$ref" in schema:
        return f"a table of {', '.join(named[schema['$ref'].rpartition('/')[2]]['properties'])}"
    if "description" in schema:
        return str(schema["description"])
    if "anyOf" in schema:
        return ", or ".join(_takes(each, named) for each in schema["anyOf"])
    if "enum" in schema:
        return f"{', '.join(schema['enum'][:-1])} or {schema['enum'][-1]}"
    if "const" in schema:
        return str(schema["const"])
    if schema["type"] == "array":
        if schema.get("maxItems") == 2:
            return "two numbers"
        return "a list, each " + _takes(schema["items"], named)
    if schema["type"] == "object":
        keys, each = schema.get("propertyNames"), schema["additionalProperties"]
        of = f", each {_takes(each, named)}" if isinstance(each, Mapping) else ""
        return f"a table of {_takes(keys, named) if keys else 'keys'}{of}"
    return {"boolean": "true or false", "string": "a string"}.get(schema["type"]) or _number(schema)


def _number(schema: Mapping[str, Any]) -> str:
    """A number and its limits, but for the greatest value that all counts share."""
    what = "a whole number" if schema["type"] == "integer" else "a number"
    if (above := schema.get("exclusiveMinimum")) is not None:
        return f"{what} above {above}"
    least, most, below = (schema.get(name) for name in ("minimum", "maximum", "exclusiveMaximum"))
    if below is not None:
        return f"{what} from {least} to below {below}"
    if most is not None and most != kinds.MOST:
        return f"{what} from {least} to {int(most):,}"
    return f"{what}, {least} or more" if least is not None else what
