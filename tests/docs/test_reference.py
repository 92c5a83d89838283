"""The generated reference has everything that there is, and each has words of its own."""

from functools import cache
from typing import get_args

import pytest
import typer

from docs import generated
from harness.base.variables import Variables, variable
from harness.claims.document import ClaimVerdict
from harness.cli.app import app
from harness.lottery.branches import BRANCHES
from harness.lottery.criteria import CRITERIA
from harness.paper import claim_checks, columns
from harness.paper.claims import STATISTICS, Statistic
from harness.paper.models import Model
from harness.paper.schema import descriptions, models
from tests.docs.pages import DOCS

COMMANDS = [*generated.public_commands(typer.main.get_command(app))]
KINDS = (*generated.FILES.values(), ClaimVerdict)
MODELS = sorted({model for kind in KINDS for model in models(kind)}, key=str)


@cache
def part(name: str) -> str:
    return generated.PARTS[name]()


def test_the_pages_ask_for_every_part_once():
    text = "\n".join(path.read_text(encoding="utf-8") for path in DOCS.rglob("*.md"))
    assert {name: text.count(f"<!-- generated: {name} -->") for name in generated.PARTS} == dict.fromkeys(
        generated.PARTS, 1
    )


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=[name for name, _ in COMMANDS])
def test_every_option_has_a_help_and_is_in_the_reference(name, command):
    section = part("commands").split(f"## {name}\n")[1].split("\n## ")[0]
    assert command.help
    for parameter in command.params:
        assert parameter.help, parameter.name
        shown = parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.metavar or parameter.name.upper()
        assert f"`{shown}" in section


@pytest.mark.parametrize(("name", "known"), [("branches", BRANCHES), ("criteria", CRITERIA)])
def test_every_branch_and_criterion_is_told_in_a_sentence_of_its_own(name, known):
    entries = {entry.split("`")[1]: entry for entry in part(name).split("\n\n")}
    assert list(entries) == list(known)
    texts = [entry.split("\n: ")[1] for entry in entries.values()]
    assert len(set(texts)) == len(texts)
    assert all(len(text) > 20 and text.strip().endswith(".") for text in texts)
    assert "masks change in training" in part("branches").split("`rigl`")[1].split("\n")[0]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_field_has_a_description_and_is_in_the_reference(model):
    assert model.__doc__
    text = part("yaml_files") + "\n" + part("verdicts")
    section = text.split(f"# {model.__name__}\n")[1].split("\n##")[0]
    if "root" in model.model_fields:
        return
    described = descriptions(model)
    for field in model.model_fields:
        assert described.get(field), field
        assert f"\n`{field}`" in section


def test_a_field_without_a_description_is_noticed():
    class Planted(Model):
        told: int
        """Said, on
        two lines."""
        untold: int = 0

    assert descriptions(Planted) == {"told": "Said, on two lines."}


def test_a_field_of_a_model_that_another_extends_is_described():
    term = next(model for model in MODELS if model.__name__ == "Term")
    assert descriptions(term).keys() == term.model_fields.keys()


def test_every_variable_says_what_it_does_and_its_form():
    described, text = descriptions(Variables), part("environment")
    for field, info in Variables.model_fields.items():
        assert described.get(field), field
        assert info.description, field
        assert f"`{variable(field)}`" in text


def test_every_column_has_a_meaning_and_a_measure_a_unit():
    assert columns.MEANING.keys() == {*columns.TABLE_COLUMNS, *columns.CURVE_COLUMNS} == columns.COLUMN_TYPES.keys()
    assert all(text for _, text in columns.MEANING.values())
    for measure in (*columns.NETWORK_MEASURES, *columns.PAIR_MEASURES, *columns.STRUCTURE):
        unit = columns.MEANING[measure][0]
        assert unit, measure
        assert ("%" in unit or "percentage" in unit) == (measure in columns.PERCENT_MEASURES), measure


def test_every_statistic_is_told_with_the_fields_that_it_takes():
    assert STATISTICS.keys() == {*get_args(Statistic)} == claim_checks._NEEDS.keys()
    text = "\n" + part("statistics")
    assert all(f"\n`{name}`" in text for name in STATISTICS)


def test_angle_brackets_are_text_and_not_html():
    assert generated._plain("RESULTS/<paper>, `<scale>`") == "RESULTS/&lt;paper>, `<scale>`"
    assert "<paper>" not in part("commands")
