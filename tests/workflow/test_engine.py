"""What reaches the workflow engine: names as they are, an environment it can work in; what its log says in the end."""

import getpass
import os
from pathlib import Path

import pytest
from snakemake.cli import parse_config
from snakemake.common.configfile import load_configfile

from harness.base.errors import HarnessError
from harness.base.files import write_text
from harness.results.folders import Folders
from harness.workflow import engine
from harness.workflow.engine import engine_command, engine_environment, engine_folder, failures
from harness.workflow.rules import Rules, text_of

NAMES = [
    *(
        "1.10",
        "007",
        "1e3",
        "1_000",
        "2026_11_27",
        "1:30",
        "yes",
        "null",
        "~",
        "run #3",
        " both ",
        "a: b",
        "[x]",
        "a,b",
    ),
    *("it's", 'a"b', "$HOME", "`id`", "a;b", "a=b", "!!int 3", "&a *a", "ü", "a,b", "/absolute/1.10"),
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_reaches_the_engine_as_it_is(tmp_path, name):
    command = engine_command(tmp_path, Rules("stabilizing-lth", "smoke", name))
    config = load_configfile(str(tmp_path / command[command.index("--configfile") + 1]))
    assert text_of(config, "results") == name
    assert not any(name in word for word in command if name not in str(tmp_path) and len(name) > 2)


@pytest.mark.parametrize("name", ["a{b}c", "{}", "<x>", "-x", "a\nb", "a\x1bb", "caf\udce9"])
def test_a_name_that_the_engine_would_read_as_something_else_is_refused(name):
    with pytest.raises(HarnessError, match=r"^--results '.*': the workflow engine can't carry [^\n]*$"):
        Rules("stabilizing-lth", "smoke", name)


@pytest.mark.parametrize("entry", ["results=1.10", "results=2026_11_27", "scale=1e1", "results="])
def test_plain_snakemake_refuses_what_its_command_line_read_as_no_text(entry):
    name = entry.partition("=")[0]
    with pytest.raises(HarnessError, match=f"^--config {name}: was read as "):
        text_of(parse_config([entry]), name)
    assert text_of(parse_config(["results=./1.10"]), "results") == "./1.10"


def test_a_user_without_home_and_name_gets_caches_and_a_login_name(tmp_path, monkeypatch):
    def unknown(*_):
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(getpass, "getuser", unknown)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    environment = engine_environment(tmp_path, tmp_path)
    assert Path(environment["HOME"]).is_relative_to(tmp_path)
    assert environment["LOGNAME"] == f"uid-{os.getuid()}"

    monkeypatch.setattr(engine, "_can_write", lambda path: not path.is_relative_to("/nope"))
    monkeypatch.setenv("HOME", "/nope")
    assert engine_environment(tmp_path, tmp_path)["XDG_CACHE_HOME"] == str(tmp_path / ".snakemake" / "cache")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "XDG_CACHE_HOME" not in engine_environment(tmp_path, tmp_path)


def test_a_read_only_checkout_leaves_the_engine_to_the_results(tmp_path, monkeypatch):
    root, base = tmp_path / "checkout", tmp_path / "results" / "stabilizing-lth" / "smoke"
    root.mkdir()
    assert engine_folder(root, base) == root
    monkeypatch.setattr(engine, "_can_write", lambda path: not path.is_relative_to(root))
    assert engine_folder(root, base) == tmp_path / "results"
    rules = Rules("stabilizing-lth", "smoke", str(tmp_path / "results"))
    engine_command(root, rules)
    assert (tmp_path / "results" / ".snakemake" / "harness.json").is_file()
    assert engine_environment(root, engine_folder(root, base))["HARNESS_ROOT"] == str(root)
    assert not list(root.iterdir())


def test_a_log_without_a_known_reason_gives_its_last_line(tmp_path):
    folders = Folders(tmp_path)
    log = folders.logs / "workflow.log"
    write_text(
        log, "Using profile x\nError: profile directory given (x), but no config.yaml found.\n\nComplete log(s): y\n"
    )
    assert failures(folders, 0) == ["Error: profile directory given (x), but no config.yaml found."]
    write_text(folders.logs / "a.log", "error: the reason\n")
    assert failures(folders, 0) == ["the reason"]
    assert failures(folders, log.stat().st_mtime + 10) == []


@pytest.mark.parametrize(
    ("line", "status", "reason"),
    [
        ("returned non-zero exit status 137.", 1, "stage lenet/c0/dense was ended by SIGKILL, as the system does when"),
        ("returned non-zero exit status 143.", 1, "stage lenet/c0/dense was ended by SIGTERM"),
        ("returned non-zero exit status 255.", 1, "stage lenet/c0/dense was ended by signal 127"),
        ("    resources: mem=2 GB", -9, "the workflow engine was ended by SIGKILL, as the system does when memory"),
        ("    resources: mem=2 GB", -15, "the workflow engine was ended by SIGTERM"),
    ],
)
def test_a_process_that_was_killed_is_named_with_the_signal(tmp_path, line, status, reason):
    """No log has a line about it: a stage's is empty, and the engine's ends in the middle."""
    folders = Folders(tmp_path)
    write_text(folders.logs / "lenet" / "c0" / "dense.log", "")
    command = f"Command 'set -euo pipefail;  harness stage lenet/c0/dense --paper x > dense.log 2>&1' {line}"
    write_text(folders.logs / "workflow.log", f"{command}\nWorkflowError:\nAt least one job did not complete.\n")
    (told,) = failures(folders, 0, status)
    assert told.startswith(reason)


INCOMPLETE = "WorkflowError:\nAt least one job did not complete successfully.\n"
KILLED = "Command 'set -e; harness stage lenet/c0/dense --paper x' returned non-zero exit status 143."


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (f"Terminating processes on user request, this might take some time.\n{KILLED}\n{INCOMPLETE}", 1),
        (f"Will exit after finishing currently running jobs (scheduler).\n{INCOMPLETE}", 1),
        ('Traceback (most recent call last):\n  File "x.py", line 1, in <module>\nKeyboardInterrupt\n', -2),
        ("Cancelling snakemake on user request.\n", 1),
    ],
)
def test_an_engine_that_was_interrupted_is_one_sentence(tmp_path, text, status):
    """Not its own last line, nor the ends of the jobs that it stopped; what a stage says by itself is told too."""
    folders = Folders(tmp_path)
    write_text(folders.logs / "workflow.log", f"Building DAG of jobs...\n{text}")
    sentence = "the workflow engine was interrupted; finished work is kept: run again to resume"
    assert failures(folders, 0, status) == [sentence]
    write_text(folders.logs / "lenet" / "c0" / "dense.log", "error: the disk is full\n")
    assert set(failures(folders, 0, status)) == {sentence, "the disk is full"}
