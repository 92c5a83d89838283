"""The Workflow Run RO-Crate: that everything it names is there, and what the profile's validator says."""

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from harness.base.files import read_json, write_json
from harness.base.paths import checkout
from harness.report.card import read_card

PROFILE = "https://w3id.org/ro/wfrun/workflow/0.5"


def entities(tiny_run):
    graph = read_json(tiny_run.folders.crate)["@graph"]
    found = {entity["@id"]: entity for entity in graph}
    assert len(found) == len(graph)
    return found


def references(value):
    """Every @id that an entity points to."""
    if isinstance(value, list):
        return [name for one in value for name in references(one)]
    return [value["@id"]] if isinstance(value, dict) and set(value) == {"@id"} else []


def ids(value) -> set[str]:
    return set(references(value))


def test_every_file_is_there_with_its_checksum_and_nothing_is_left_out(tiny_run):
    found = entities(tiny_run)
    files = {name: one for name, one in found.items() if "File" in one["@type"]}
    assert set(files) == {*read_card(tiny_run.folders)["files"], "card.json"}
    for name, one in files.items():
        content = (tiny_run.base / name).read_bytes()
        assert (one["sha256"], one["contentSize"]) == (hashlib.sha256(content).hexdigest(), str(len(content)))
        assert one["encodingFormat"]
    assert ids(found["./"]["hasPart"]) == set(files)


def test_every_reference_leads_to_an_entity(tiny_run):
    found = entities(tiny_run)
    outside = {"https://w3id.org/ro/crate/1.1", "http://schema.org/CompletedActionStatus"}
    for name, one in found.items():
        led = {place for key, value in one.items() if key != "@id" for place in references(value)}
        missing = {place for place in led - outside if place not in found}
        assert not {place for place in missing if not place.startswith("https://")}, name


def test_the_run_is_an_action_of_the_workflow(tiny_run):
    found, card = entities(tiny_run), read_card(tiny_run.folders)
    workflow = found[found["./"]["mainEntity"]["@id"]]
    assert workflow["@id"] == "report/workflow/Snakefile"
    assert (tiny_run.base / workflow["@id"]).read_bytes() == (checkout() / "Snakefile").read_bytes()
    run = found["#run"]
    assert run["instrument"]["@id"] == workflow["@id"]
    assert (run["startTime"], run["endTime"]) == (card["started"], card["finished"])
    assert {"claims.json", "tickets/lenet/r0.safetensors", "report/index.html"} <= ids(run["result"])
    assert not {name for name in ids(run["result"]) if name.startswith("report/workflow/")}
    specs = {name for name in ids(run["object"]) if name.startswith("report/workflow/papers/stabilizing-lth/")}
    assert {name.removeprefix("report/workflow/papers/stabilizing-lth/") for name in specs} == set(card["spec"])
    values = {found[name]["name"]: found[name]["value"] for name in ids(run["object"]) - specs}
    assert values["scale"] == "tiny"
    assert values["checksum of data set digits"] == card["data"]["digits"]


def test_every_stage_is_an_action_with_what_it_read_and_wrote(tiny_run):
    found = entities(tiny_run)
    records = {record["stage"]: record for record in read_json(tiny_run.folders.provenance)["stages"]}
    actions = ids(found["./"]["mentions"]) - {"#run"}
    assert actions == {f"#stage/{name}" for name in records}
    packing = found["#stage/lenet/c0/tickets"]
    packs = {f"tickets/lenet/r{replicate}.safetensors" for replicate in range(2)}
    assert ids(packing["result"]) == {"stages/lenet/c0/tickets.json", *packs}
    assert "stages/lenet/c0/dense.json" in ids(packing["object"])
    pairs = ids(found["#stage/lenet/c0/k5-stability"]["result"])
    assert {"stages/lenet/c0/k5-stability.parquet", "stages/lenet/c0/k5-stability.curves.parquet"} < pairs


def test_the_copy_of_the_workflow_can_be_read_as_a_checkout(tiny_run):
    """The same places below report/workflow/ as in a checkout, nothing of an earlier run among them."""
    folder = tiny_run.folders.report / "workflow"
    assert yaml.safe_load((folder / "papers/stabilizing-lth/paper.yaml").read_text())["id"] == "stabilizing-lth"
    text = (folder / "Snakefile").read_text()
    included = {line.split('"')[1] for line in text.splitlines() if line.startswith("include:")}
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*.smk")}
    assert included == there


def test_who_ran_it_is_named_if_they_say_so(copy, monkeypatch):
    assert "agent" not in entities(copy)["#run"]
    monkeypatch.setenv("HARNESS_AGENT", "Ada Example")
    copy.stage("card")
    found = entities(copy)
    assert found[found["#run"]["agent"]["@id"]] == {"@id": "#agent", "@type": "Person", "name": "Ada Example"}


def test_stale_copies_go(copy):
    stale = copy.folders.report / "workflow" / "harness" / "workflow" / "old.smk"
    stale.write_text("x")
    copy.stage("card")
    assert not stale.exists()


def test_images_of_containers_are_named(copy):
    records = sorted((copy.base / "stages").rglob("*.json"))
    image = "sha256:" + "c" * 64
    write_json(records[0], {**read_json(records[0]), "image": image})
    copy.stage("collect")
    copy.stage("card")
    found = entities(copy)
    (named,) = [one for one in found.values() if one["@type"] == "ContainerImage"]
    assert (named["name"], named["sha256"]) == (image, "c" * 64)
    users = {name for name, one in found.items() if ids(one.get("containerImage")) == {named["@id"]}}
    assert users == {"#run", f"#stage/{read_json(records[0])['stage']}"}


def context() -> str:
    """RO-Crate 1.1's JSON-LD context, from the later one that comes with rocrate: Bioschemas' terms had moved."""
    import rocrate

    later = (Path(rocrate.__file__).parent / "data" / "ro-crate.jsonld").read_text()
    return later.replace("bioschemas.org/terms/", "bioschemas.org/")


@pytest.mark.slow
def test_the_profiles_validator_finds_nothing_required_missing(tiny_run, tmp_path, monkeypatch):
    """Offline: the profiles come with the validator, the context from `context`."""
    pytest.importorskip("rocrate_validator", reason="roc-validator is not installed: it wants an older rich")
    import requests
    from rocrate_validator import services
    from rocrate_validator.models import ValidationSettings
    from rocrate_validator.utils.http import HttpRequester

    def get(url, **_):
        assert url == "https://w3id.org/ro/crate/1.1/context"
        response = requests.Response()
        response.status_code, response.url, response._content = 200, url, context().encode()
        response.headers["Content-Type"] = "application/ld+json"
        return response

    def issues(folder):
        settings = ValidationSettings(
            rocrate_uri=str(folder),
            profile_identifier="workflow-run-crate-0.5",
            requirement_severity="REQUIRED",
            offline=True,
            cache_path=tmp_path / "cache",
        )
        monkeypatch.setattr(HttpRequester(), "session", SimpleNamespace(get=get, cache=None))
        result = services.validate(settings)
        assert len(result.executed_checks) > 50
        return {issue.message for issue in result.get_issues()}

    assert issues(tiny_run.base) == set()
    # and it does look: a run without the tool that was run, an output that is not there
    copy = tiny_run.copy(tmp_path / "tiny")
    found = json.loads(copy.folders.crate.read_text())
    for entity in found["@graph"]:
        if entity["@id"] == "#run":
            del entity["instrument"]
    copy.folders.crate.write_text(json.dumps(found))
    assert any("instrument" in message for message in issues(copy.base))


def test_the_profile_is_named(tiny_run):
    found = entities(tiny_run)
    assert PROFILE in ids(found["./"]["conformsTo"])
    assert found[PROFILE]["version"] == "0.5"
