"""Every block of the documentation is what the program of today takes; `tests/end_to_end/test_docs.py` runs them."""

import ast
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
import yaml

from harness.base.paths import checkout
from harness.base.variables import PREFIX, Variables
from harness.cli.app import app
from harness.paper import load_spec
from harness.results.code import PACKAGE
from tests.docs.commands import check, check_harness, command_of, commands
from tests.docs.pages import DOCS, REPRODUCTION, Block, blocks, blocks_of, pages, without_blocks, write

LANGUAGES = {"bash", "python", "yaml", "text", "{include}", "{toctree}"}
SNIPPET = re.compile(r"`([^`\n]+)`")
REPOSITORY = re.compile(r"(?:harness|papers|benchmarks|tests|envs|docs|\.ci|\.github)/[\w./-]+")
#: of Snakemake, DVC and SLURM
OPTIONS = {"--config", "--configfile", "--unlock", "--rerun-incomplete", "--help"}
COMMAND = re.compile(r"harness [a-z]+( [a-z-][^`]*)?")


def test_there_are_blocks_of_each_kind_and_none_of_another():
    found = {block.language for page in pages() for block in blocks_of(page)}
    assert found == LANGUAGES
    assert all(block.language in ("bash", "python") for block in blocks(*LANGUAGES) if block.skipped)


@pytest.mark.parametrize("block", blocks("bash"), ids=lambda block: block.where)
def test_the_commands_are_those_of_today(block):
    for words in commands(block.text):
        check(words)


@pytest.mark.parametrize(
    "line",
    [
        "snakemake --no-such-option",
        "harness reproduse",
        "harness plan --scale minni",
        "harness plan --scael mini",
        "harness plan --cores no",
        "harness reproduce --claims C1,C99",
        "harness reproduce --profile slrum",
        "HARNESS_DEVISE=cpu harness plan",
        "make reprodcue",
        "make reproduce SCLAE=smoke",
        "pip install -e '.[slrum]'",
        "python benchmarks/no_such.py",
        "envs/run.sh image results reproduce --scael smoke",
        "envs/no-such.sh",
        "frobnicate",
    ],
)
def test_a_planted_mistake_is_found(line):
    (words,) = commands(line)
    with pytest.raises(Exception, match=r".") as caught:
        check(words)
    assert not isinstance(caught.value, KeyError | IndexError | TypeError | AttributeError)


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block.where)
def test_python_is_python(block):
    ast.parse(block.text)


def yaml_pages() -> list[Path]:
    return [page for page in pages() if any(block.language == "yaml" for block in blocks_of(page))]


@pytest.mark.parametrize("page", yaml_pages(), ids=lambda page: page.stem)
def test_yaml_is_what_the_models_take(page, tmp_path):
    shutil.copytree(checkout() / "papers", tmp_path / "papers")
    changed = [block for block in blocks_of(page) if block.language == "yaml"]
    for block in changed:
        assert block.file, f"{block.where}: its first line names no file"
        write(block, tmp_path)
    assert {run for block in changed for run in _loaded(block, tmp_path)}


def _loaded(block: Block, root: Path) -> Iterator[tuple[str, str]]:
    """Load what a block is about; give the paper and the scale."""
    path = root / block.file[0]
    if ".github" in path.parts:
        tool = [str(Path(sys.executable).parent / "check-jsonschema"), "--builtin-schema", "vendor.github-workflows"]
        subprocess.run([*tool, str(path)], check=True)
        for job in yaml.safe_load(path.read_text())["jobs"].values():
            for line in (step["run"] for step in job["steps"] if "run" in step):
                for words in commands(line):
                    check(words)
        yield path.parts[-2], path.name
        return
    paper = path.relative_to(root / "papers").parts[0]
    scales = [path.stem] if path.parent.name == "scales" else []
    if path.name == "claims.yaml":
        scales = [name for claim in yaml.safe_load(block.text) for name in claim.get("scales", ())]
    for scale in scales:
        load_spec(root, paper, scale)
        yield paper, scale


def snippets() -> Iterator[tuple[str, str]]:
    """What stands in the running text as code, with its page."""
    for page in pages():
        if page != REPRODUCTION:
            yield from ((page.name, text) for text in SNIPPET.findall(without_blocks(page)))


def test_options_variables_and_files_in_the_text_exist():
    root = typer.main.get_command(app)
    groups = root.commands.values()
    every = [root, *(command for group in groups for command in getattr(group, "commands", {"": group}).values())]
    options = OPTIONS | {name for command in every for parameter in command.params for name in parameter.opts}
    variables = {f"{PREFIX}{field.upper()}" for field in Variables.model_fields}
    written = {block.file[0] for block in blocks("yaml", "python") if block.file}
    for page, text in snippets():
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", text):
            assert option in options, f"{page}: `{text}`"
        for name in re.findall(r"HARNESS_[A-Z_]+", text):
            assert name in variables, f"{page}: `{text}`"
        if REPOSITORY.fullmatch(text):
            assert (checkout() / text).exists() or text in written, f"{page}: `{text}`"
        if COMMAND.fullmatch(text) and "..." not in text:
            words = next(commands(text))[1:]
            (check_harness if any(word.startswith("-") for word in words) else command_of)(words)


def test_the_dev_container_has_the_images_python_and_lets_make_set_up_the_environment():
    container = json.loads((checkout() / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    check(container["postCreateCommand"].split())
    base = re.search(r"^ARG BASE=(\S+)-slim-bookworm$", (checkout() / "Dockerfile").read_text(), re.MULTILINE)
    assert base is not None
    assert container["image"] == f"{base[1]}-bookworm"  # the larger image has make and git


def test_the_readme_leads_to_pages_that_exist():
    text = (checkout() / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text)
    inside = [link for link in links if "://" not in link]
    assert len(inside) > 15
    assert not [link for link in inside if not (checkout() / link).exists()]


def test_the_messages_of_troubleshooting_are_those_of_the_code():
    page = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    messages = re.findall(r"^`(.+)`$", page, re.MULTILINE)
    assert len(messages) > 20
    sources = [path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")]
    texts = "\n".join(text for source in sources for text in _strings(source))
    texts += (checkout() / "Makefile").read_text(encoding="utf-8")
    assert not [message for message in messages if message not in texts]


def _strings(source: str) -> Iterator[str]:
    """The strings of a module; of those with values in them, what stands around the values."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)


def test_a_block_that_is_not_run_says_why():
    for block in blocks("bash"):
        assert block.skipped or not re.search(r"slurm|kubernetes|podman|--scale paper --budget", block.text), (
            block.where
        )


def test_a_block_is_read_as_it_stands(tmp_path):
    page = DOCS / "tutorial.md"
    first = next(blocks_of(page))
    assert first == Block("docs/tutorial.md", first.line, "bash", "make reproduce SCALE=smoke\n", first.skipped)
    assert page.read_text().splitlines()[first.line - 1] == "```bash"
    assert first.skipped == "installs an environment; CI does"
    assert json.dumps(first.text)
