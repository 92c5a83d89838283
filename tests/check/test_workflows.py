"""The workflow files are linted as they lie here, without a network; the linters find what is planted."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / ".github" / "workflows"
FILES = sorted(FOLDER.glob("*.yml"))
PROGRAMS = Path(sys.executable).parent


def lint(program: str, *arguments: object) -> tuple[int, str]:
    command = [str(PROGRAMS / program), *map(str, arguments)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    return finished.returncode, finished.stdout + finished.stderr


def schema(*files: Path) -> tuple[int, str]:
    return lint("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *files)


def security(*files: Path) -> tuple[int, str]:
    return lint("zizmor", "--offline", "--no-progress", "--no-config", "--persona=pedantic", *files)


def test_the_workflows_fit_githubs_schema():
    assert len(FILES) == 3
    status, output = schema(*FILES)
    assert status == 0, output


def test_the_workflows_have_no_known_weakness():
    status, output = security(*FILES)
    assert status == 0, output


def planted(folder: Path, old: str, new: str, name: str = "check.yml") -> Path:
    text = (FOLDER / name).read_text()
    assert old in text
    path = folder / ".github" / "workflows" / name
    path.parent.mkdir(parents=True)
    path.write_text(text.replace(old, new))
    return path


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ("run: make .venv/.ready", 'run: echo "${{ github.event.pull_request.title }}"', "template-injection"),
        ("@de0fac2e4500dabe0009e67214ff5f5447ce83dd", "@main", "unpinned-uses"),
        ("permissions:\n  contents: read", "permissions: write-all", "excessive-permissions"),
        ("  pull_request:", "  pull_request_target:", "dangerous-triggers"),
    ],
)
def test_a_planted_weakness_is_found(tmp_path, old, new, finding):
    status, output = security(planted(tmp_path, old, new))
    assert status != 0
    assert finding in output


def test_a_planted_mistake_is_found(tmp_path):
    status, output = schema(planted(tmp_path, "timeout-minutes: 90", "timeout-mintues: 90"))
    assert status != 0
    assert "timeout-mintues" in output


def test_every_job_has_a_time_limit_and_every_workflow_a_queue():
    for path in FILES:
        content = yaml.safe_load(path.read_text())
        assert content["permissions"] == {"contents": "read"}, path
        assert content["concurrency"]["group"], path
        assert all("timeout-minutes" in job for job in content["jobs"].values()), path


def test_code_of_a_pull_request_never_reaches_the_self_hosted_machine():
    for path in FILES:
        content = yaml.safe_load(path.read_text())
        triggers = content[True]  # YAML 1.1 reads the key `on` as true
        self_hosted = any("self-hosted" in str(job["runs-on"]) for job in content["jobs"].values())
        assert not (self_hosted and set(triggers) - {"schedule", "workflow_dispatch"}), path
