"""`harness new paper` and `harness schema`: a folder that is valid at once, and schemas of its files' models."""

import json

import jsonschema
import pytest
from typer.testing import CliRunner

from harness.base.errors import HarnessError
from harness.base.paths import checkout
from harness.base.yaml_text import read_yaml
from harness.cli import app as cli
from harness.paper import load_spec
from harness.paper.new import TEMPLATE, new_paper
from harness.paper.schema import FOLDER, MODELS, schemas
from harness.plan.runs import stages
from harness.plan.settings import check_settings

FILES = sorted(path for path in (checkout() / "papers").glob("*/*.yaml") if path.name in MODELS)
SCALES = sorted((checkout() / "papers").glob("*/scales/*.yaml"))


def schema_of(path):
    """The name of the schema of a paper's file."""
    return "scale.json" if path.parent.name == "scales" else path.name.replace(".yaml", ".json")


def test_a_new_paper_is_valid_at_both_scales_and_its_claim_can_be_judged_at_mini(tmp_path):
    folder = new_paper(tmp_path, "my-paper")
    for scale in ("smoke", "mini"):
        spec = load_spec(tmp_path, "my-paper", scale)
        check_settings(spec)
        assert spec.paper.title == "My paper"
        assert stages(spec)
    (claim,) = spec.claims
    assert set(claim.scales) == {"mini"}
    for path in [*folder.glob("*.yaml"), *folder.glob("scales/*.yaml")]:
        jsonschema.validate(read_yaml(path), json.loads(schemas()[schema_of(path)]))


def test_a_paper_is_never_overwritten_and_a_bad_name_is_refused(tmp_path):
    new_paper(tmp_path, "mine")
    with pytest.raises(HarnessError, match="mine: exists already; give another name"):
        new_paper(tmp_path, "mine")
    with pytest.raises(HarnessError, match=r"'\.\./mine': a name is lower-case letters"):
        new_paper(tmp_path, "../mine")


def test_the_command_says_what_to_do_next(tmp_path, monkeypatch):
    (tmp_path / "papers").mkdir()
    monkeypatch.setenv("HARNESS_ROOT", str(tmp_path))
    shown = CliRunner().invoke(cli.app, ["new", "paper", "third"])
    assert shown.exit_code == 0, shown.output
    assert "harness reproduce --paper third --scale smoke" in shown.stdout
    assert (tmp_path / "papers" / "third" / "claims.yaml").is_file()


def test_committed_schemas_are_those_of_the_models():
    assert {path.name: path.read_text(encoding="utf-8") for path in (checkout() / FOLDER).iterdir()} == schemas()


@pytest.mark.parametrize("path", [*FILES, *SCALES], ids=lambda path: str(path.relative_to(checkout())))
def test_every_file_names_its_schema_and_keeps_to_it(path):
    schema = checkout() / FOLDER / schema_of(path)
    named = path.read_text(encoding="utf-8").splitlines()[0].partition("$schema=")[2]
    assert (path.parent / named).resolve() == schema
    jsonschema.validate(read_yaml(path), json.loads(schema.read_text(encoding="utf-8")))


def test_a_schema_refuses_a_misspelt_field():
    content = read_yaml(checkout() / "papers" / "stabilizing-lth" / "scales" / "smoke.yaml")
    content["experiments"]["lenet"]["levles_per_job"] = content["experiments"]["lenet"].pop("levels_per_job")
    with pytest.raises(jsonschema.ValidationError, match="levles_per_job"):
        jsonschema.validate(content, json.loads(schemas()["scale.json"]))


def test_templates_name_their_schemas():
    for template in TEMPLATE.rglob("*.j2"):
        assert template.read_text(encoding="utf-8").startswith("# yaml-language-server: $schema=../")
