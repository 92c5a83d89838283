"""Whether the commands of a block are those of today: each is parsed by the program that it names, and runs nothing."""

import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import typer
import yaml
from typer.core import TyperGroup

from harness.base.paths import checkout
from harness.base.variables import PREFIX, Variables
from harness.cli.app import app
from harness.paper.new import TEMPLATE
from tests.docs.pages import blocks

#: programs that this project does not know better than their authors
OTHERS = {"apptainer", "aws", "cat", "echo", "export", "git", "mkdir", "pipx", "podman", "scontrol", "source"}
#: variables of scripts and of Snakemake
VARIABLES = {"CONTAINER_ENGINE", "DATA", "GPUS", "SNAKEMAKE_PROFILE"}
_VARIABLE = re.compile(r"([A-Z_]+)=")


def commands(text: str) -> Iterator[list[str]]:
    """The commands of a block of shell, as words. A quotation may span lines."""
    subprocess.run(["bash", "-n", "-c", text], check=True)
    waiting = ""
    for line in text.replace("\\\n", " ").splitlines():
        waiting += line
        try:
            words = shlex.split(waiting, comments=True)
        except ValueError:  # no closing quotation yet
            waiting += "\n"
            continue
        waiting = ""
        if words:
            yield words
    assert not waiting


def check(words: Sequence[str]) -> None:
    """Refuse a command that the program of today would refuse. Raises AssertionError or the program's own error."""
    while match := _VARIABLE.match(words[0]):
        assert match[1] in VARIABLES or match[1].removeprefix(PREFIX).lower() in Variables.model_fields, match[1]
        words = words[1:]
    program, arguments = words[0].removeprefix(".venv/bin/"), list(words[1:])
    if program == "harness":
        check_harness(arguments)
    elif program == "make":
        check_make(arguments)
    elif program == "snakemake":
        check_snakemake(arguments)
    elif program == "dvc":
        from dvc.cli import parse_args as parse_dvc

        parse_dvc(arguments)
    elif program == "uvx":
        check(arguments[arguments.index("--from") + 2 :])
    elif program.startswith("python"):
        check_python(arguments)
    elif program == "pip":
        for extra in re.findall(r"(?<=[\[,])\w+(?=[\],])", " ".join(arguments)):
            assert extra in _project()["optional-dependencies"], f"{extra}: no extra of pyproject.toml"
    elif "/" in program:
        assert (checkout() / program).stat().st_mode & 0o100, f"{program} can't be run"
        if program == "envs/run.sh":
            check_harness(arguments[2:])
    else:
        assert program in OTHERS, f"{program}: a program that no test knows"


def command_of(arguments: list[str]) -> Any:
    """The command that the first words name; takes them away."""
    command: Any = typer.main.get_command(app)
    while isinstance(command, TyperGroup):
        name = arguments.pop(0)
        assert name in command.commands, f"harness has no command {name}"
        command = command.commands[name]
    return command


def check_harness(arguments: Sequence[str]) -> None:
    """The command exists, takes these options, and they name a paper, a scale, claims and a profile that exist."""
    arguments = list(arguments)
    command = command_of(arguments)
    values = command.make_context("harness", arguments).params
    paper = values.get("paper") or "stabilizing-lth"
    folder = checkout() / "papers" / paper
    if values.get("scale"):
        known = {*_written(), *_shipped(), *_begun()}
        assert f"papers/{paper}/scales/{values['scale']}.yaml" in known, f"{paper} has no scale {values['scale']}"
    if values.get("claims"):
        known = {claim["id"] for claim in yaml.safe_load((folder / "claims.yaml").read_text(encoding="utf-8"))}
        assert {*values["claims"].split(",")} <= known | _written_claims(), values["claims"]
    if values.get("profile"):
        assert (checkout() / "envs" / "profiles" / values["profile"] / "config.yaml").is_file(), values["profile"]


def check_make(arguments: Sequence[str]) -> None:
    """The target exists, and a variable is one of the Makefile's."""
    text = (checkout() / "Makefile").read_text(encoding="utf-8").replace("$(VENV)", ".venv")
    targets = " ".join(re.findall(r"^([\w./ -]+):", text, re.MULTILINE)).split()
    variables = re.findall(r"^(\w+) \?=", text, re.MULTILINE)
    for word in arguments:
        assert word.partition("=")[0] in (variables if "=" in word else targets), word


def check_snakemake(arguments: list[str]) -> None:
    """It takes the options; the profile and the scale exist. A profile is not read: its plug-in may be missing here."""
    from snakemake.cli import parse_args

    if "--workflow-profile" in arguments:
        at = arguments.index("--workflow-profile")
        profile = arguments[at + 1]
        assert (checkout() / profile / "config.yaml").is_file(), profile
        arguments = arguments[:at] + arguments[at + 2 :]
    try:
        parsed = parse_args(arguments)[1]
    except SystemExit:
        raise AssertionError(f"snakemake refuses {arguments}") from None
    for setting in parsed.config or []:
        name, _, value = str(setting).partition("=")
        assert name in ("paper", "scale", "results", "volume"), name
        assert name != "scale" or f"papers/stabilizing-lth/scales/{value}.yaml" in _shipped(), value


def check_python(arguments: Sequence[str]) -> None:
    """The program, or the tests, exist; a line of code is Python."""
    if arguments[:2] == ["-m", "venv"]:
        return
    if arguments[0] == "-c":
        compile(arguments[1], "-c", "exec")
        return
    paths = [word for word in arguments if "/" in word]
    assert paths, arguments
    assert all((checkout() / path).exists() for path in paths), paths


@cache
def _project() -> dict[str, Any]:
    return dict(tomllib.loads((checkout() / "pyproject.toml").read_text(encoding="utf-8"))["project"])


@cache
def _shipped() -> frozenset[str]:
    papers = checkout() / "papers"
    return frozenset(path.relative_to(papers.parent).as_posix() for path in papers.glob("*/scales/*.yaml"))


@cache
def _begun() -> frozenset[str]:
    """The scales of the papers that blocks begin with `harness new paper`."""
    text = "".join(block.text for block in blocks("bash"))
    names = re.findall(r"^harness new paper (\S+)", text, re.MULTILINE)
    scales = [path.name.removesuffix(".j2") for path in TEMPLATE.glob("scales/*.j2")]
    return frozenset(f"papers/{name}/scales/{scale}" for name in names for scale in scales)


@cache
def _written() -> frozenset[str]:
    """The files that blocks write."""
    return frozenset(block.file[0] for block in blocks("yaml", "python") if block.file)


@cache
def _written_claims() -> frozenset[str]:
    """The claims that blocks write."""
    files = [block for block in blocks("yaml") if block.file and Path(block.file[0]).name == "claims.yaml"]
    return frozenset(entry["id"] for block in files for entry in yaml.safe_load(block.text))
