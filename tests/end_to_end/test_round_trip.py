"""A run that travels: pushed from one checkout, pulled into a fresh clone, where nothing of it is made again."""

import pandas as pd
import pytest
import yaml

from harness.base.files import file_sha256
from tests.end_to_end.shared import Shared, clone, repository


@pytest.fixture(scope="module")
def ours(finished_checkout, s3, tmp_path_factory) -> Shared:
    """A repository whose run was made by `harness reproduce` and pushed: its remote is the S3 server."""
    made = repository(tmp_path_factory.mktemp("ours") / "checkout", finished_checkout, s3)
    assert "files pushed" in made.harness("push")
    made.commit("a run")
    return made


@pytest.fixture(scope="module")
def theirs(ours, s3, tmp_path_factory) -> Shared:
    """A clone into which a reader pulled the run from the S3 server."""
    made = clone(ours, s3, tmp_path_factory.mktemp("theirs") / "checkout")
    out = made.harness("pull")
    assert "stages fit this code and these settings" in out
    assert "runs the others again" not in out
    return made


@pytest.mark.slow
def test_a_reader_pulls_page_tables_and_tickets_and_has_nothing_to_make(theirs, ours):
    assert theirs.shared_files() == ours.shared_files()
    assert "The pipeline works" in (theirs.results / "report" / "index.html").read_text()
    assert len(pd.read_parquet(theirs.results / "table.parquet"))
    assert list((theirs.results / "tickets").rglob("*.safetensors"))
    assert "; 0 to train" in theirs.harness("plan", "--scale", "tiny")
    theirs.assert_nothing_to_do()
    assert not list((theirs.results / "runs").rglob("*.safetensors"))
    assert not (theirs.results / "data").exists()
    theirs.harness("verify", "--scale", "tiny", "--sample", "1")


@pytest.mark.slow
def test_an_older_revisions_results_are_taken_as_they_are(theirs):
    """The claims change, `dvc repro` judges again, and back at the older revision neither is done once more."""
    old = theirs.shared_files()
    claims = theirs.root / "papers/stabilizing-lth/claims.yaml"
    facts = yaml.safe_load(claims.read_text())
    facts[0]["title"] = "Another title"
    claims.write_text(yaml.safe_dump(facts))
    out = theirs.dvc("repro")
    assert "Stage 'experiments' didn't change" in out
    assert "--until report" in out
    new = theirs.shared_files()
    changed = {name for name in old if new[name] != old[name]}
    assert {"claims.json", "report/index.html", "card.json"} <= changed
    assert not any(name.startswith(("stages/", "prepare/", "tickets/")) for name in changed)
    theirs.commit("another title")

    theirs.git("checkout", "--quiet", "HEAD~1")
    theirs.dvc("checkout", "data", "experiments", "report")
    assert theirs.shared_files() == old
    theirs.assert_nothing_to_do()


@pytest.mark.slow
def test_a_folder_holds_the_networks_too_for_who_asks(ours, s3, tmp_path):
    ours.dvc("remote", "add", "folder", str(tmp_path / "folder"))
    ours.harness("push", "--remote", "folder", "--networks")
    ours.commit("with networks")
    reader = clone(ours, s3, tmp_path / "reader")
    reader.harness("pull", "--remote", "folder", "--networks")
    assert reader.shared_files() == ours.shared_files()
    assert reader.checkout.checksums() == ours.checkout.checksums()
    tensors = [path.relative_to(ours.results) for path in (ours.results / "runs").rglob("*.safetensors")]
    assert all(file_sha256(reader.results / path) == file_sha256(ours.results / path) for path in tensors)
