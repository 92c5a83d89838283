"""JSON Schemas of the files of a paper, from their models: editors complete and check YAML files that name theirs."""

import ast
import inspect
import json
import textwrap
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import BaseModel, RootModel, TypeAdapter

from harness.paper.claims import Claim
from harness.paper.models import Experiment, Paper, Scale
from harness.paper.resources import Resources

FOLDER = Path("papers") / "schemas"
DRAFT = "https://json-schema.org/draft/2020-12/schema"
#: file of a paper, scale.yaml for every scale -> its models
MODELS: dict[str, Any] = {
    "paper.yaml": Paper,
    "experiments.yaml": dict[str, Experiment],
    "claims.yaml": list[Claim],
    "scale.yaml": Scale,
    "resources.yaml": dict[str, Resources],
}


def schemas() -> dict[str, str]:
    """The text of papers/schemas/*.json, by file name."""
    texts = {}
    for file, kind in MODELS.items():
        schema = {"$schema": DRAFT, "title": f"{file} of a paper", **TypeAdapter(kind).json_schema()}
        for model in models(kind):
            place = schema["$defs"].get(model.__name__, schema)
            for field, text in descriptions(model).items():
                place["properties"][field]["description"] = text
        texts[file.replace(".yaml", ".json")] = json.dumps(schema, indent=1, ensure_ascii=False) + "\n"
    return texts


def models(kind: Any) -> tuple[type[BaseModel], ...]:
    """The models in a type, each before those in its fields."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        inner = [field.annotation for field in kind.model_fields.values()]
        return tuple(dict.fromkeys([kind, *(model for part in inner for model in models(part))]))
    return tuple(dict.fromkeys(model for part in getattr(kind, "__args__", ()) for model in models(part)))


def descriptions(model: type[BaseModel]) -> dict[str, str]:
    """What a model's fields are: the docstring below each, on one line; those of the models that it extends too."""
    texts: dict[str, str] = {}
    if issubclass(model, RootModel):  # its content is no field
        return texts
    for part in reversed(model.__mro__):
        if part is BaseModel or not issubclass(part, BaseModel):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(part))).body[0]
        statements = body.body if isinstance(body, ast.ClassDef) else []
        for field, text in pairwise(statements):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                texts[ast.unparse(field.target)] = " ".join(str(text.value.value).split())
    return texts
