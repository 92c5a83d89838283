"""JSON Schemas of the files of a paper, from their models: editors complete and check YAML files that name theirs."""

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

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
    for file, model in MODELS.items():
        schema = {"$schema": DRAFT, "title": f"{file} of a paper", **TypeAdapter(model).json_schema()}
        texts[file.replace(".yaml", ".json")] = json.dumps(schema, indent=1, ensure_ascii=False) + "\n"
    return texts
