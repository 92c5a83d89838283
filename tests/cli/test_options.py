"""Hints name the run that a command was given; a results folder is relative to where the user stands."""

import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from harness.base.errors import HarnessError
from harness.base.paths import checkout
from harness.cli import app as cli
from harness.cli import options
from harness.cli.options import RESULTS, Paper, Results, Scale


def parsed(*arguments: str) -> Path | None:
    """The results folder that a command gets."""
    got = []
    app = typer.Typer()

    @app.command()
    def command(paper: Paper = "", scale: Scale = "", results: Results = RESULTS) -> None:
        got.append(results)

    assert CliRunner().invoke(app, arguments).exit_code == 0
    return got[0]


def test_a_hint_is_a_command_that_names_the_same_run():
    parsed("--scale", "smoke", "--results", "my runs")
    text = options.with_run("x: missing. Run `harness reproduce` again, `harness plan --stages` or `harness pull`")
    commands = [shlex.split(part) for part in text.split("`")[1::2]]
    assert commands == [
        ["harness", "reproduce", "--scale", "smoke", "--results", "my runs"],
        ["harness", "plan", "--stages", "--scale", "smoke", "--results", "my runs"],
        ["harness", "pull"],
    ]
    assert options.with_run("`harness check --scale mini`") == "`harness check --scale mini --results 'my runs'`"
    parsed()
    assert options.with_run("Run `harness reproduce`") == "Run `harness reproduce`"


def test_errors_and_output_have_the_hint(monkeypatch, capsys):
    parsed("--paper", "x")

    def app():
        options.console().print("try `harness verify`")
        raise HarnessError("run `harness reproduce`")

    monkeypatch.setattr(cli, "app", app)
    with pytest.raises(SystemExit):
        cli.main()
    shown = capsys.readouterr()
    assert shown.out == "try `harness verify --paper x`\n"
    assert shown.err == "error: run `harness reproduce --paper x`\n"


def test_a_results_folder_is_relative_to_where_the_user_stands(monkeypatch, tmp_path):
    root = checkout().resolve()
    monkeypatch.chdir(root / "docs")
    assert options.results_of(parsed("--results", "../1.10")) == Path("1.10")
    monkeypatch.chdir(root / "docs")
    assert options.results_of(parsed()) == Path("results")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_ROOT", str(root))
    assert options.results_of(parsed("--results", "here")) == (tmp_path / "here").resolve()
