"""The results card as a Workflow Run RO-Crate (https://w3id.org/ro/wfrun/workflow/0.5): ro-crate-metadata.json.

The crate's main entity is the workflow: report/workflow/ has copies of the Snakefile, the rule files and the paper's
files, laid out as in a checkout. Every stage is an action with its inputs and outputs. The environment variable
HARNESS_AGENT names the person who ran it; without it nobody is named.
"""

import datetime
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.base.errors import HarnessError
from harness.base.files import file_sha256, read_json, write_atomically, write_json
from harness.base.paths import checkout
from harness.base.variables import variables
from harness.paper import Spec
from harness.results.folders import Folders
from harness.results.keys import spec_files, workflow_files

if TYPE_CHECKING:
    from rocrate.rocrate import ROCrate

WORKFLOW = "report/workflow"
LICENSE = "https://spdx.org/licenses/Apache-2.0"
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
# terms of the workflow run vocabulary; written out, so that reading the crate fetches nothing
TERMS = {
    name: f"https://w3id.org/ro/terms/workflow-run#{name}" for name in ("sha256", "containerImage", "ContainerImage")
}
KINDS = {
    ".html": "text/html",
    ".md": "text/markdown",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".parquet": "application/vnd.apache.parquet",
    ".safetensors": "application/octet-stream",
    ".yaml": "application/yaml",
    ".csv": "text/csv",
    ".smk": "text/x-python",
    "": "text/x-python",
}
# the workflow's outputs by parameter name
OUTPUTS = {
    "page": "report/index.html",
    "claims": "claims.json",
    "table": "table.parquet",
    "curves": "curves.parquet",
    "networks": "networks.json",
    "provenance": "provenance.json",
    "card": "card.json",
}
Entity = dict[str, Any]


def copy_workflow(spec: Spec, folders: Folders) -> None:
    """Copy the Snakefile, its rule files and the paper's files to a folder beside the page."""
    target = folders.report / "workflow"
    shutil.rmtree(target, ignore_errors=True)
    paper = Path("papers") / spec.paper.id
    files = workflow_files(checkout()) | {(paper / name).as_posix(): spec.folder / name for name in spec_files(spec)}
    for name, path in files.items():
        write_atomically(target / name, partial(shutil.copyfile, path))


def write_crate(card: dict[str, Any], folders: Folders) -> None:
    """Write ro-crate-metadata.json of a run that has a card and a copy of the workflow.

    Raises HarnessError if the card lacks an output of the run.
    """
    for name in OUTPUTS.values():
        if not (folders.base / name).is_file():
            raise HarnessError(f"{folders.base / name}: missing, or a directory. Run `harness reproduce` again.")
    write_json(folders.crate, crate(card, folders, variables().agent).metadata.generate())


def crate(card: dict[str, Any], folders: Folders, agent: str) -> "ROCrate":
    """The crate of a run's shared files; `agent` is who ran it, "" for nobody."""
    from rocrate.rocrate import ROCrate

    crate = ROCrate(version="1.1")
    crate.metadata.extra_terms |= TERMS
    root = crate.root_dataset
    verdicts = ", ".join(f"{number} {verdict}" for verdict, number in card["verdicts"].items())
    root["name"] = f"{card['title']}: scale {card['scale']}"
    root["description"] = f"Reproduction of the paper at the {card['scale']} scale. Its claims: {verdicts}."
    root["datePublished"] = card["finished"]
    root["license"] = _add(
        crate, LICENSE, "CreativeWork", name="Apache License 2.0", description="The project's licence."
    )
    root["conformsTo"] = [
        _add(crate, uri, "CreativeWork", name=name, version=version) for uri, (name, version) in PROFILES.items()
    ]
    files = {**card["files"], "card.json": {"sha256": file_sha256(folders.card), "bytes": folders.card.stat().st_size}}
    parts = {name: _file(crate, name, entry) for name, entry in files.items() if name != f"{WORKFLOW}/Snakefile"}
    workflow = _workflow(crate, card, parts)
    harness = _add(
        crate, "#harness", "SoftwareApplication", name="lth-harness", softwareVersion=card["harness_version"]
    )
    records = {record["stage"]: record for record in read_json(folders.provenance)["stages"]}
    images = {name: _image(crate, name) for name in card["images"] if name}
    run = _run(crate, card, workflow, parts, list(images.values()))
    if agent:
        run["agent"] = root["author"] = _add(crate, "#agent", "Person", name=agent)
    root["mentions"] = [run, *(_stage(crate, record, harness, parts, images) for record in records.values())]
    return crate


def _add(crate: "ROCrate", identifier: str, kind: str, **properties: Any) -> Any:
    from rocrate.model.contextentity import ContextEntity

    return crate.add(ContextEntity(crate, identifier, properties={"@type": kind, **properties}))


def _file(crate: "ROCrate", name: str, entry: dict[str, Any]) -> Any:
    properties = {"name": name, "sha256": entry["sha256"], "contentSize": str(entry["bytes"])}
    kind = KINDS.get(Path(name).suffix, "application/octet-stream")
    return crate.add_file(dest_path=name, properties={**properties, "encodingFormat": kind})


def _workflow(crate: "ROCrate", card: dict[str, Any], parts: dict[str, Any]) -> Any:
    """The Snakefile as main entity, with its parameters."""
    from rocrate.model.computationalworkflow import ComputationalWorkflow

    entry = card["files"][f"{WORKFLOW}/Snakefile"]
    workflow = crate.add_workflow(
        dest_path=f"{WORKFLOW}/Snakefile",
        main=True,
        lang="snakemake",
        cls=ComputationalWorkflow,
        properties={
            "name": "lth-harness: one paper at one scale, from its data sets to a verdict on each claim",
            "version": card["code"]["revision"] or card["harness_version"],
            "license": {"@id": LICENSE},
            "conformsTo": {"@id": "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"},
            "encodingFormat": KINDS[""],
            "sha256": entry["sha256"],
            "contentSize": str(entry["bytes"]),
        },
    )
    workflow["hasPart"] = [part for name, part in parts.items() if name.startswith(f"{WORKFLOW}/harness/")]
    workflow["input"] = [
        _parameter(crate, "paper", "Text", _value(crate, "paper", card["paper"])),
        _parameter(crate, "scale", "Text", _value(crate, "scale", card["scale"])),
        *(
            _parameter(crate, f"data set {name}", "Text", _value(crate, f"checksum of data set {name}", checksum))
            for name, checksum in card["data"].items()
        ),
    ]
    workflow["output"] = [_parameter(crate, name, "File", parts[file]) for name, file in OUTPUTS.items()]
    return workflow


def _value(crate: "ROCrate", name: str, value: str | None) -> Any:
    return _add(crate, f"#value/{name.replace(' ', '-')}", "PropertyValue", name=name, value=value or "not pinned")


def _parameter(crate: "ROCrate", name: str, kind: str, example: Any) -> Any:
    """A formal parameter with its value in this run."""
    parameter = crate.add_formal_parameter(name, kind, identifier=f"#parameter/{name.replace(' ', '-')}")
    parameter["workExample"] = example
    example["exampleOfWork"] = parameter
    return parameter


def _run(crate: "ROCrate", card: dict[str, Any], workflow: Any, parts: dict[str, Any], images: list[Any]) -> Any:
    """The run as an action of the workflow: it read parameters and the paper's files and wrote the rest."""
    read = [part for name, part in parts.items() if name.startswith(f"{WORKFLOW}/papers/")]
    wrote = [part for name, part in parts.items() if not name.startswith(f"{WORKFLOW}/")]
    values = [parameter["workExample"] for parameter in workflow["input"]]
    return crate.add_action(
        workflow,
        "#run",
        object=[*values, *read],
        result=wrote,
        properties={
            "name": f"Run of {card['paper']} at the {card['scale']} scale",
            "description": _description(card),
            "startTime": card["started"],
            "endTime": card["finished"],
            "actionStatus": "http://schema.org/CompletedActionStatus",
            **({"containerImage": _unlisted(images)} if images else {}),
        },
    )


def _description(card: dict[str, Any]) -> str:
    """Time, energy and machines in a sentence."""
    machines = " and ".join(f"{machine.get('cpu')}, GPU {machine.get('gpu') or 'none'}" for machine in card["hardware"])
    joules = card["energy_joules"]
    energy = "not told by the machine" if joules is None else f"{joules:.0f} J of the whole machine"
    effort = f"{card['network_core_seconds']:.0f} s of training"
    if card["cpu_seconds"] is not None:
        effort = f"{card['cpu_seconds']:.0f} s of CPU time"
    return (
        f"{card['networks']} networks in {card['wall_clock_seconds']:.0f} s of wall clock, "
        f"{effort}, added up over jobs; energy: {energy}. On {machines}."
    )


def _stage(
    crate: "ROCrate", record: dict[str, Any], harness: Any, parts: dict[str, Any], images: dict[str, Any]
) -> Any:
    """A stage as an action: its inputs are its parents' records, its outputs its record and its shared files."""
    name, image = record["stage"], record.get("image", "")
    folder = f"stages/{name}".rpartition("/")[0]
    wrote = [f"stages/{name}.json", *record["outputs"], *(f"{folder}/{output}" for output in record["outputs"])]
    read = [f"stages/{parent}.json" for parent in record.get("inputs", {})]
    return crate.add_action(
        harness,
        f"#stage/{name}",
        object=_unlisted([parts[file] for file in read if file in parts]),
        result=_unlisted([parts[file] for file in wrote if file in parts]),
        properties={
            "name": f"harness stage {name}",
            "description": f"{record['steps']} steps of training, {record['seconds']:.1f} s in all",
            "startTime": _iso(record["started"]),
            "endTime": _iso(record["finished"]),
            "actionStatus": "http://schema.org/CompletedActionStatus",
            **({"containerImage": images[image]} if image in images else {}),
        },
    )


def _unlisted(entities: list[Any]) -> Any:
    """A list of entities in RO-Crate's form: a single entity is not a list."""
    return entities[0] if len(entities) == 1 else entities


def _image(crate: "ROCrate", name: str) -> Any:
    sha256 = name.rpartition(":")[2]
    return _add(crate, f"#image/{sha256[:16]}", "ContainerImage", name=name, sha256=sha256)


def _iso(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")
