"""The parts of the reference that code knows, as Markdown: commands, YAML fields, statistics, columns, variables.

The words come from where the fact lives: help texts, docstrings, and the docstring below a model's field.
"""

import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import typer
from pydantic import BaseModel, TypeAdapter
from pydantic_core import PydanticUndefined
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from harness.base.variables import Variables, variable
from harness.claims.document import ClaimVerdict
from harness.cli.app import app
from harness.lottery import branches as branch_files
from harness.lottery import criteria as criterion_files
from harness.lottery.branches import BRANCHES
from harness.lottery.criteria import CRITERIA
from harness.paper import claim_checks, columns
from harness.paper.claims import STATISTICS
from harness.paper.frozen import Frozen
from harness.paper.params import Params
from harness.paper.schema import MODELS, descriptions, models

SCALE = "scales/<scale>.yaml"
#: each YAML file, and what it holds
FILES: dict[str, Any] = {
    **{f"papers/<paper>/{SCALE if name == 'scale.yaml' else name}": kind for name, kind in MODELS.items()},
    "papers/<paper>/frozen.yaml": Frozen,
    "params.yaml": Params,
}


def commands() -> str:
    """Every command that is not hidden, as its own `--help` tells it."""
    root = typer.main.get_command(app)
    return "\n".join(_command(name, command) for name, command in public_commands(root))


def public_commands(group: Any, prefix: str = "harness") -> Iterator[tuple[str, TyperCommand]]:
    """The commands of a group and of the groups in it, with their full names."""
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from public_commands(command, f"{prefix} {name}")
        elif not command.hidden:
            yield f"{prefix} {name}", command


def _command(name: str, command: TyperCommand) -> str:
    arguments = [p.metavar or (p.name or "").upper() for p in command.params if isinstance(p, TyperArgument)]
    options = any(isinstance(p, TyperOption) for p in command.params)
    usage = " ".join([name, *(["[OPTIONS]"] if options else []), *arguments])
    parameters = "\n".join(_parameter(parameter) for parameter in command.params)
    return f"## {name}\n\n```text\n{usage}\n```\n\n{_plain(command.help or '')}\n\n{parameters}"


def _parameter(parameter: Any) -> str:
    name = parameter.name.upper()
    if isinstance(parameter, TyperArgument):
        return _entry(parameter.metavar or name, "required" if parameter.required else "", parameter.help)
    facts = ["required"] if parameter.required else []
    if isinstance(parameter.show_default, str):
        facts.append(f"default: {parameter.show_default}")
    elif parameter.name == "cores":
        facts.append("default: all cores that this process may use")
    elif not parameter.is_flag and parameter.default not in (None, ""):
        facts.append(f"default: {parameter.default}")
    if parameter.envvar:
        facts.append(f"environment variable: {parameter.envvar}")
    value = "" if parameter.is_flag else f" {parameter.metavar or name}"
    return _entry(f"{', '.join(parameter.opts)}{value}", "; ".join(facts), parameter.help)


def _entry(name: str, facts: str, text: str | None) -> str:
    """A term with its facts and its description, as an entry of a definition list."""
    return f"`{name}`{f' *{_plain(facts)}*' if facts else ''}\n: {_plain(text or '')}\n"


def _plain(text: str) -> str:
    """Text in which `<name>` is no HTML."""
    return "".join(
        part if at % 2 else part.replace("<", "&lt;") for at, part in enumerate(re.split(r"(`[^`]*`)", text))
    )


def yaml_files() -> str:
    """Every field of every YAML file, by file and model."""
    told: set[str] = set()
    return "\n".join(_file(path, kind, told) for path, kind in FILES.items())


def _file(path: str, kind: Any, told: set[str]) -> str:
    whole = models(kind)[0] is kind  # else it is a list or a mapping of models
    lines = [f"## `{path}`\n", *([] if whole else [f"{_capital(_kind(TypeAdapter(kind).json_schema()))}.\n"])]
    for model in models(kind):
        if model.__name__ not in told:
            told.add(model.__name__)
            lines.append(_model(model))
    return "\n".join(lines)


def _model(model: type[BaseModel], heading: str = "###") -> str:
    text = f"{heading} {model.__name__}\n\n{_plain(inspect.getdoc(model) or '')}\n"
    schema = TypeAdapter(model).json_schema()
    if "properties" not in schema:  # its content is the mapping itself
        return f"{text}\n{_capital(_kind(schema))}.\n"
    described = descriptions(model)
    for name, field in model.model_fields.items():
        facts = [_kind(schema["properties"][name])]
        if field.is_required():
            facts.append("required")
        elif isinstance(field.default, BaseModel):
            facts.append("default: its defaults")
        elif field.default not in (PydanticUndefined, None, "", (), {}, []):
            facts.append(f"default: {str(field.default).lower()}")
        text += f"\n{_entry(name, '; '.join(facts), described.get(name))}"
    return text


def _kind(schema: dict[str, Any], bare: bool = True) -> str:
    """A JSON schema in words; `bare` leaves out that there may be nothing."""
    if "$ref" in schema:
        return _link(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        parts = [part for part in schema["anyOf"] if not (bare and part.get("type") == "null")]
        return " or ".join("null" if part.get("type") == "null" else _kind(part) for part in parts)
    if "enum" in schema:
        return _or([str(value) for value in schema["enum"]])
    kind = schema.get("type")
    if kind == "array":
        if "prefixItems" in schema:
            return f"[{', '.join(_kind(item, bare=False) for item in schema['prefixItems'])}]"
        return f"list of {_kind(schema['items'])}"
    if kind == "object":
        if "properties" in schema:
            return _link(schema["title"])
        inner = schema.get("additionalProperties") or next(iter(schema.get("patternProperties", {}).values()), True)
        return f"mapping of names to {_kind(inner) if isinstance(inner, dict) else 'values'}"
    if kind == "string":
        return f"text of the form `{schema['pattern']}`" if "pattern" in schema else "text"
    return _number(schema) if kind in ("integer", "number") else "true or false"


def _link(model: str) -> str:
    """A link to a model, on whichever page it is."""
    of_paper = model in {known.__name__ for kind in FILES.values() for known in models(kind)}
    return f"[{model}]({'yaml' if of_paper else 'verdicts'}.md#{model.lower()})"


def _number(schema: dict[str, Any]) -> str:
    words = {
        "minimum": "{} or more",
        "exclusiveMinimum": "above {}",
        "maximum": "at most {}",
        "exclusiveMaximum": "below {}",
    }
    bounds = [form.format(f"{schema[bound]:g}") for bound, form in words.items() if bound in schema]
    return ", ".join(["whole number" if schema["type"] == "integer" else "number", *bounds])


def _or(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def verdicts() -> str:
    """Every field of claims.json."""
    told = {model for kind in FILES.values() for model in models(kind)}
    return "\n".join(_model(model, "##") for model in models(ClaimVerdict) if model not in told)


def statistics() -> str:
    """What each statistic is, and the fields that it takes."""
    lines = []
    for name, text in STATISTICS.items():
        needed, allowed = claim_checks._NEEDS[name]
        optional = f"; may take {_and(sorted(allowed))}" if allowed else ""
        lines.append(_entry(name, f"takes {_and(sorted(needed))}{optional}", text))
    return "\n".join(lines)


def _and(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]


def measures() -> str:
    """The columns that a claim may be about, by what has them."""
    groups = (
        ("Of a network", columns.NETWORK_MEASURES),
        ("Of a pair", columns.PAIR_MEASURES),
        ("Of a mask, counted (the statistic `exact`)", columns.STRUCTURE),
    )
    return "\n".join(f"**{title}**\n\n{_columns(names)}" for title, names in groups)


def table_columns() -> str:
    """The columns of table.parquet."""
    return _columns(columns.TABLE_COLUMNS)


def curve_columns() -> str:
    """The columns of curves.parquet."""
    return _columns(columns.CURVE_COLUMNS)


def _columns(names: tuple[str, ...]) -> str:
    kinds = {"text": "text", "whole": "whole number", "real": "number"}
    facts = {
        name: ", ".join(filter(None, (kinds[columns.COLUMN_TYPES[name]], columns.MEANING[name][0]))) for name in names
    }
    return "\n".join(_entry(name, facts[name], columns.MEANING[name][1]) for name in names)


def environment() -> str:
    """The project's environment variables."""
    described = descriptions(Variables)
    defaults = {name: field.default for name, field in Variables.model_fields.items()}
    return "\n".join(
        _entry(
            variable(name),
            f"{field.description}" + (f"; default: {defaults[name]:g}" if type(defaults[name]) is float else ""),
            described.get(name),
        )
        for name, field in Variables.model_fields.items()
    )


def branches() -> str:
    """Every branch, with its name on pages and what must exist before it."""
    text = {"dense": "from the dense run", "level": "level by level"}
    entries = []
    for name, branch in BRANCHES.items():
        facts = [f"“{branch.label}”", text.get(branch.source) or f"after `{branch.of}`"]
        facts += ["masks change in training"] * (branch.changes is not None)
        facts += ["a loss of its own"] * (branch.objective is not None)
        entries.append(_entry(name, "; ".join(facts), _docstring(f"{branch_files.__name__}.{name}")))
    return "\n".join(entries)


def criteria() -> str:
    """Every criterion, and whether it prunes weights or units."""
    return "\n".join(
        _entry(
            name,
            ("units" if criterion.units else "weights") + ("; new values of what is kept" if criterion.refit else ""),
            _docstring(f"{criterion_files.__name__}.{name}"),
        )
        for name, criterion in CRITERIA.items()
    )


def _docstring(module: str) -> str:
    """What a module says of itself, without its own name in front, as one paragraph."""
    text = inspect.getdoc(import_module(module)) or ""
    return _capital(" ".join(text.removeprefix(f"{module.rpartition('.')[2]}: ").split()))


PARTS = {
    "branches": branches,
    "criteria": criteria,
    "commands": commands,
    "yaml_files": yaml_files,
    "verdicts": verdicts,
    "statistics": statistics,
    "measures": measures,
    "table_columns": table_columns,
    "curve_columns": curve_columns,
    "environment": environment,
}
