"""The results card against the files of a run, counted and hashed here another way."""

import hashlib
import os
import re

import pytest

from harness.base.errors import HarnessError
from harness.base.files import read_json, write_json
from harness.base.paths import checkout
from harness.report import run_details
from harness.report.card import Card, read_card, shared_files
from harness.results import keys
from harness.results.environment import code_revision, environment, made_with
from harness.results.folders import Folders
from harness.results.keys import stage_digest
from harness.results.selection import write_selection
from harness.workflow.rules import Rules
from tests.report.test_page import build


def everything(base):
    """Names and contents of all files of a run that are not its own business."""
    found = {}
    for folder, _, names in os.walk(base):
        for name in names:
            place = os.path.relpath(os.path.join(folder, name), base)  # noqa: PTH118  another way than the card's
            if place.split("/")[0] not in ("runs", "data", "state", "progress", "logs", "clock.json"):
                found[place] = open(os.path.join(folder, name), "rb").read()  # noqa: PTH118, PTH123, SIM115
    return found


def test_the_card_has_every_shared_file_with_its_checksum_and_size(tiny_run):
    card, files = read_card(tiny_run.folders), everything(tiny_run.base)
    names = set(files) - {"card.json", "ro-crate-metadata.json"}
    assert set(card["files"]) == names
    for name in names:
        expected = {"sha256": hashlib.sha256(files[name]).hexdigest(), "bytes": len(files[name])}
        assert card["files"][name] == expected
    assert [path.relative_to(tiny_run.base).as_posix() for path in shared_files(tiny_run.base)] == sorted(files)
    kinds = ("report/index.html", "networks.json", "tickets/lenet/r1.safetensors", "prepare/digits.json")
    assert set(kinds) <= names


def test_the_card_says_what_the_records_say(tiny_run):
    card, records = read_card(tiny_run.folders), read_json(tiny_run.folders.provenance)["stages"]
    assert (card["paper"], card["scale"], card["card"]) == ("stabilizing-lth", "tiny", 1)
    assert card["code"]["revision"] == code_revision(checkout())[0]
    assert set(card["code"]["digests"]) == set(keys.CODE_PARTS)
    assert card["parts"] == {
        part: stage_digest(tiny_run.context.spec, tiny_run.folders, part) for part in ("collect", "claims", "report")
    }
    assert card["hardware"] == [records[0]["hardware"]]
    assert card["images"] == [""]
    assert card["networks"] == 2 * (1 + 2 + 2 * (2 + 1 + 1 + 1))
    assert sum(card["verdicts"].values()) == card["verdicts"]["not tested"] == 34
    assert card["network_core_seconds"] == pytest.approx(sum(record.get("network_seconds", 0) for record in records))
    claims = tiny_run.context.spec.folder / "claims.yaml"
    assert card["spec"]["claims.yaml"] == hashlib.sha256(claims.read_bytes()).hexdigest()
    assert {"paper.yaml", "experiments.yaml", "published/fig3.csv"} < set(card["spec"])
    assert list(card["data"]) == ["digits"]


def test_networks_json_has_every_network_with_what_its_record_says(tiny_run):
    found, store = read_json(tiny_run.folders.networks), tiny_run.context.store
    paths = {
        path.relative_to(store.folder).as_posix().removesuffix(".json"): path for path in store.folder.rglob("*.json")
    }
    assert set(found) == set(paths)
    for name, path in paths.items():
        record = read_json(path)
        if name.endswith(".snapshots"):
            record = {key: record[key] for key in ("key", "sha256", "parts")}
        assert found[name] == record


def test_a_run_taken_from_another_scale_says_whose_it_is(copy):
    run = "lenet/r0/k5/L1-imp-o0"
    store = copy.context.store
    store.write(run, {**store.read(run), "trained_as": "results/mini/runs/x.safetensors"}, store.load(run))
    copy.stage("collect")
    assert read_json(copy.folders.networks)[run]["trained_as"] == "results/mini/runs/x.safetensors"


def test_the_selection_in_the_card_is_the_one_that_a_finished_run_leaves(copy, monkeypatch):
    monkeypatch.setattr("harness.report.card.identity", lambda _: {"code": {}, "spec": {}, "data": {}})
    write_selection(copy.folders, ["C1"], "2h", True)
    copy.stage("card")
    write_selection(copy.folders, ["C1"], "2h", True, finished=True)  # what `harness reproduce` writes at its end
    content = copy.folders.selection.read_bytes()
    assert read_card(copy.folders)["files"]["stages/selection.json"]["sha256"] == hashlib.sha256(content).hexdigest()


def test_the_card_is_made_again_for_the_same_claims_under_another_budget(tmp_path):
    digests = []
    for budget in ("", "2h", "3h", "2h"):
        write_selection(Folders(tmp_path / "stabilizing-lth" / "mini"), ["C1"], budget, finished=budget == "3h")
        rules = Rules("stabilizing-lth", "mini", str(tmp_path))
        digests.append([rules.digest(part) for part in ("card", "report", "collect")])
    assert len({card for card, *_ in digests}) == 3
    assert len({tuple(rest) for _, *rest in digests}) == 1
    assert digests[1] == digests[3]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda card: card.pop("files"), r"files: this field is missing"),
        (lambda card: card.update(more=1), r"more: unknown field"),
        (lambda card: card.update(card=2), r"card: "),
        (lambda card: card.update(networks="12"), r"networks: "),
        (lambda card: card.update(networks=-1), r"networks: "),
        (lambda card: card.update(energy_joules=-3.0), r"energy_joules: "),
        (lambda card: card["verdicts"].update(proved=1), r"verdicts\.proved.*no verdict"),
        (lambda card: card["files"]["claims.json"].update(sha256="x"), r"files\.claims\.json\.sha256: "),
        (lambda card: card["files"]["claims.json"].update(bytes=1.5), r"files\.claims\.json\.bytes: "),
        (lambda card: card["files"].update({"../x": {}}), r"files\.\.\./x.*no file that a run shares"),
        (lambda card: card["code"].update(tree_clean="yes"), r"code\.tree_clean: "),
    ],
)
def test_a_card_that_says_anything_odd_is_refused_in_one_line(copy, change, words):
    card = read_json(copy.folders.card)
    change(card)
    write_json(copy.folders.card, card)
    with pytest.raises(HarnessError) as caught:
        read_card(copy.folders)
    assert re.search(rf"card\.json: {words}", str(caught.value))
    assert "\n" not in str(caught.value)


def test_a_missing_card_is_one_line(tmp_path, tiny_run):
    copy = tiny_run.copy(tmp_path / "tiny")
    copy.folders.card.unlink()
    with pytest.raises(HarnessError, match=r"card\.json: missing\. Pull it again, or make it"):
        read_card(copy.folders)


def test_the_card_is_made_again_when_what_it_names_changes(tiny_run, tmp_path, monkeypatch):
    spec = tiny_run.context.spec
    before = {part: stage_digest(spec, tiny_run.folders, part) for part in ("collect", "claims", "report", "card")}
    keys._whole_digest.cache_clear()
    facts = {"code": {"data": "other"}, "spec": {}, "data": {}}
    monkeypatch.setattr("harness.results.keys.identity", lambda _: facts)
    after = {part: stage_digest(spec, tiny_run.folders, part) for part in before}
    keys._whole_digest.cache_clear()
    assert {part for part in before if before[part] != after[part]} == {"report", "card"}


def test_the_image_of_a_container_stands_in_every_record(monkeypatch, tmp_path):
    monkeypatch.setenv("HARNESS_IMAGE", "sha256:12ab")
    assert environment()["image"] == made_with()["image"] == ""  # this is no container
    monkeypatch.setattr("harness.results.environment.MARKER", tmp_path)
    assert environment()["image"] == made_with()["image"] == "sha256:12ab"


def test_without_git_the_revision_is_the_one_that_the_image_was_built_from(monkeypatch, tmp_path):
    assert code_revision(tmp_path) == ("", None)
    monkeypatch.setenv("HARNESS_REVISION", "12ab")
    assert code_revision(tmp_path) == ("12ab", True)
    monkeypatch.setenv("HARNESS_REVISION", "12ab-changed")
    assert code_revision(tmp_path) == ("12ab", False)


def test_different_images_are_listed_and_said_on_the_page(copy):
    records = sorted((copy.base / "stages").rglob("*.json"))
    for path, image in zip(
        records[:3], ("sha256:" + "a" * 64, "sha256:" + "a" * 64, "sha256:" + "b" * 64), strict=True
    ):
        write_json(path, {**read_json(path), "image": image})
    copy.stage("collect")
    copy.stage("card")
    assert read_card(copy.folders)["images"] == ["", "sha256:" + "a" * 64, "sha256:" + "b" * 64]
    found = run_details.container_images(read_json(copy.folders.provenance))
    left = len(records) - 3 + 1  # and that of the data set
    assert found == [f"none ({left} jobs)", f"sha256:{'a' * 64} (2 jobs)", f"sha256:{'b' * 64} (1 job)"]
    assert run_details.container_images({"stages": [{"image": ""}, {"image": ""}, {}]}) == ["none"]
    assert run_details.container_images({"stages": [{}]}) == []


@pytest.mark.slow
def test_the_page_shows_what_the_card_holds(tmp_path, tiny_run):
    facts = read_json(tiny_run.folders.provenance)
    card = read_card(tiny_run.folders)
    facts |= {"identity": {"code": card["code"]["digests"], "spec": card["spec"], "data": card["data"]}}
    facts |= {"energy_joules": 5.4e6}
    facts["stages"][0]["image"] = "sha256:12ab"
    page, markdown = build(tmp_path, claims=[], provenance=facts)
    for text in (page, markdown.replace("\\", "")):
        assert "The stages of this run used different container images" in text
        assert "sha256:12ab (1 job)" in text
        assert "1.5 kWh" in text
        for checksum in (card["code"]["digests"]["training"], card["spec"]["claims.yaml"], card["data"]["digits"]):
            assert checksum[:12] in text
    facts["stages"][0]["image"] = ""
    page, _ = build(tmp_path, claims=[], provenance={**facts, "energy_joules": None})
    assert "different container images" not in page
    assert "Energy" not in page


def test_the_models_fields_are_the_cards(tiny_run):
    assert set(read_json(tiny_run.folders.card)) == set(Card.model_fields)
