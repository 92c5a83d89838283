"""The code that a stage reaches but its digest omits, and the modules that no stage reaches, each with the reason.

A stage's digest covers all other code that the stage can reach, see `harness.results.code`.
"""

from collections.abc import Iterable

ALL = ("prepare", "dense", "stability", "tickets", "collect", "claims", "report", "card")
COMPUTING = ("prepare", "dense", "stability", "tickets")
NETWORKS = ("dense", "stability", "tickets")
#: only read files; of a branch they use its label and its source
READING = ("prepare", "collect", "claims", "report", "card")
#: tables, and what makes an entry of one: the digest of a run or a data set names its own entry, so that a new entry
#: changes no other's digest
REGISTRIES = (
    *("harness.lottery.branches", "harness.lottery.criteria", "harness.networks.architectures", "harness.data.sets"),
    "harness.data.pictures:own_pictures",
)
#: "module" or "module:definition" -> the kinds of stage whose digest leaves it out, and why it can change none of
#: their numbers, verdicts or pages. All training code counts as the kind "dense".
EXEMPT: dict[str, tuple[tuple[str, ...], str]] = {
    "harness.base.errors": (ALL, "an error ends a stage; it writes nothing"),
    "harness.base.registry": (ALL, "imports a registry's modules, all of which the registry's own package reaches"),
    "harness.base.git": (ALL, "the revision of the code, recorded beside results"),
    "harness.base.variables": (ALL, "reads the environment; records name the device, the kernels and the image"),
    "harness.base.processes": (COMPUTING, "starts processes that compute; what they compute is the stage's own code"),
    "harness.plan.cut": (COMPUTING, "how work is cut among processes; a replicate has the same bits in any cut"),
    "harness.base.paths": (ALL, "paths of files, not their content"),
    "harness.results.folders": (ALL, "paths of files, not their content"),
    "harness.plan.kinds": (ALL, "names of stages and files; what a stage computes is its own entry"),
    "harness.results.code": (ALL, "how code is digested: a change changes the digests by itself"),
    "harness.results.reach": (ALL, "how code is digested: a change changes the digests by itself"),
    "harness.results.syntax": (ALL, "how code is digested: a change changes the digests by itself"),
    "harness.results.exemptions": (ALL, "what digests omit: a change changes the digests by itself"),
    "harness.results.context:Context": (READING, "for training and comparing; these stages only read files"),
    "harness.base.files": (COMPUTING, "writes bytes as they are, and checksums hold them"),
    "harness.results.keys": (COMPUTING, "decides what is computed again, not how"),
    "harness.results.heartbeats": (COMPUTING, "progress for the live view; no stage reads it"),
    "harness.results.environment": (COMPUTING, "recorded beside results; collect reads it, and its digest covers it"),
    "harness.results.selection": (COMPUTING, "selects runs; each has its own key"),
    "harness.paper.claims": (COMPUTING, "predictions; nothing that computes reads them"),
    "harness.paper.claim_checks": (COMPUTING, "predictions; nothing that computes reads them"),
    "harness.paper.load": (
        ("prepare", "dense", "stability"),  # a pack of tickets holds the recipe as `dump` writes it
        "reads the settings; the keys have the values read",
    ),
    "harness.data": (NETWORKS, "makes and loads data sets; the digest of their content is an input"),
    "harness.training.loop": (("prepare",), "sets how many threads convert a data set"),
    "harness.plan.runs": (("prepare",), "lists the networks; no data set depends on them"),
    **dict.fromkeys(
        ("harness.lottery.masks", "harness.lottery.criteria.snip", "harness.networks", "harness.training.state"),
        (READING, "branches compute with it; these stages use only a branch's label and source"),
    ),
    **dict.fromkeys(
        ("harness.lottery.invariants", "harness.stages.invariants"),
        (("dense",), "compare tensors, and end a stage or change nothing; a network's record names what held"),
    ),
    **dict.fromkeys(REGISTRIES, (COMPUTING, "a table; a run's or data set's digest covers its own entry")),
}
#: package or module -> why no stage reaches it
UNREACHED: dict[str, str] = {
    "harness.base.devices": "gives a job a GPU of its own; records name its kind",
    "harness.base.cores": "how many cores a command takes; results do not depend on it",
    "harness": "the version, and `load_ticket` for use outside this project",
    "harness.bench": "measures speed; no stage runs it",
    "harness.check": "compares finished results with a baseline",
    "harness.cli": "commands: options and calls",
    "harness.compare": "compares two finished runs on a page of its own",
    "harness.estimate": "estimates of time, before a run",
    "harness.publish": "copies finished results into git, and writes a page about them",
    "harness.share": "copies finished results, and exports tickets",
    "harness.verify": "checks finished results",
    "harness.workflow": "schedules stages, and runs each by its entry in the table of kinds",
    "harness.plan.needs": "reduces the scale to a selection; the digests cover the reduced scale",
    "harness.plan.settings": "checks settings; it changes none",
    "harness.base.yaml_text": "reads papers/: keys have the settings as read, the report's digest has the files",
    "harness.paper.params": "the default run of the commands",
    "harness.paper.published_tables": "reads published numbers; the digests of claims and report cover them",
    "harness.paper.resources": "what jobs request from a machine or a queue",
    "harness.results.energy": "measures a run's energy for the workflow's clock",
    "harness.results.fit": "decides by digests and checksums which earlier results are kept",
    "harness.results.stored": "finds stored networks: a run is taken by its key and its inputs",
    "harness.results.open": "finds a run's scale and folders",
}


def exempt(kind: str) -> dict[str, str]:
    """The code that the digest of a kind of stage omits, with the reasons."""
    return {name: reason for name, (kinds, reason) in EXEMPT.items() if kind in kinds}


def unreached(modules: Iterable[str]) -> dict[str, str]:
    """The modules that no stage is expected to reach, with the reasons."""
    return {
        module: reason
        for module in modules
        for name, reason in UNREACHED.items()
        if module == name or (name != "harness" and module.startswith(f"{name}."))
    }
