"""`harness claims`: all verdicts, some in full, and JSON for other programs."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from harness.base.errors import HarnessError
from harness.claims.document import read_claims
from harness.cli import app as cli
from tests.compare.test_compare import write_run


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    write_run(folder / "stabilizing-lth" / "mini")
    return folder


def claims(results, *arguments):
    command = ["claims", *arguments, "--paper", "stabilizing-lth", "--scale", "mini", "--results", str(results)]
    return CliRunner().invoke(cli.app, command)


def test_json_is_the_file(results):
    written = json.loads((results / "stabilizing-lth" / "mini" / "claims.json").read_text())
    whole = claims(results, "--json")
    assert whole.exit_code == 0, whole.output
    assert {claim["id"]: claim for claim in json.loads(whole.stdout)} == {claim["id"]: claim for claim in written}
    (only,) = json.loads(claims(results, "C2", "--json").stdout)
    assert only == next(claim for claim in written if claim["id"] == "C2")


def test_a_claim_in_full_has_its_words_reason_and_parts(results):
    claim = next(c for c in read_claims(results / "stabilizing-lth" / "mini" / "claims.json") if c.judged)
    text = " ".join(claims(results, claim.id).stdout.split())
    assert " ".join(claim.title.split()) in text
    assert " ".join(claim.reason.split()) in text
    assert all(part.name in text for part in claim.parts)


def test_an_unknown_claim_or_scale_is_named(results):
    with pytest.raises(HarnessError, match="'C99': no claim of this run; choose from C1, C2"):
        raise claims(results, "C99").exception
    missing = CliRunner().invoke(cli.app, ["claims", "--scale", "huge", "--results", str(results)])
    with pytest.raises(HarnessError, match="huge"):
        raise missing.exception


def test_verdicts_are_shown_without_pytorch_or_scipy(results):
    code = (
        "import sys; from harness.cli.app import app; app(sys.argv[1:], standalone_mode=False); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'scipy', 'pandas', 'matplotlib')))"
    )
    command = [sys.executable, "-c", code, "claims", "--scale", "mini", "--results", str(results)]
    assert subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode == 0
