"""The project's environment variables: a wrong one is one line that says its name, its value and its form."""

import re

import pytest

from harness.base.errors import HarnessError
from harness.base.paths import checkout, elsewhere
from harness.base.variables import Variables, variable, variables
from harness.results.code import PACKAGE


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("HARNESS_KEEP_STATE_SECONDS", value) for value in ("abc", "-1", "nan", "inf", "1 minute")),
        *(("HARNESS_PARENT", value) for value in ("abc@host", "12", "12@", "99999999999@host")),
        *(("HARNESS_DEVICE", value) for value in ("gpu", "cuda:x", "cpu:1", "cuda\n")),
        *(("HARNESS_IMAGE", value) for value in ("latest", "sha256:xyz")),
    ],
)
def test_a_wrong_value_is_one_line(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    form = Variables.model_fields[name.removeprefix("HARNESS_").lower()].description
    with pytest.raises(HarnessError, match=f"^{re.escape(f'{name}={value}: give {form}')}, or unset it$"):
        variables()


def test_an_empty_value_is_none(monkeypatch):
    for field in Variables.model_fields:
        monkeypatch.setenv(variable(field), "")
    assert variables() == Variables()
    assert variables().keep_state_seconds == 120


def test_only_one_module_reads_them():
    reads = re.compile(r"""environ(?:\.get\(|\[)\s*f?["']HARNESS_""")
    written = "run's own process, for its jobs"
    assert not [path for path in PACKAGE.rglob("*.py") if reads.search(path.read_text(encoding="utf-8"))], written


def test_a_root_that_is_no_checkout_is_refused_and_outside_of_any_the_own_one_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("HARNESS_ROOT", str(tmp_path))
    with pytest.raises(HarnessError, match=f"^HARNESS_ROOT={tmp_path}: holds no folder papers/"):
        checkout()
    monkeypatch.setenv("HARNESS_ROOT", "")
    assert elsewhere() is None
    monkeypatch.chdir(tmp_path)
    assert elsewhere() == checkout() == PACKAGE.parent
    (tmp_path / "papers" / "mine").mkdir(parents=True)
    assert checkout() == PACKAGE.parent, "a folder of that name without papers"
    (tmp_path / "papers" / "mine" / "paper.yaml").touch()
    assert elsewhere() is None
    assert checkout() == tmp_path
