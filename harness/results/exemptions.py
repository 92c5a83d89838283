"""The code that a stage reaches but its digest omits, and the modules that no stage reaches, each with the reason.

A stage's digest covers all other code that the stage can reach, see `harness.results.code`.
"""

from collections.abc import Iterable

ALL = ("prepare", "dense", "stability", "tickets", "collect", "claims", "report", "card")
COMPUTING = ("prepare", "dense", "stability", "tickets")
NETWORKS = ("dense", "stability", "tickets")
#: read files alone, and of a branch what it is: its label, and what it is made from
READING = ("prepare", "collect", "claims", "report", "card")
#: tables: the digest of a run or a data set names its own entry, so that a new entry changes no other's digest
REGISTRIES = (
    *("harness.lottery.branches", "harness.lottery.criteria", "harness.networks.architectures", "harness.data.sets"),
)
#: "module" or "module:definition" -> the kinds of stage whose digest leaves it out, and why it can change none of
#: their numbers, verdicts or pages. What trains is the kind "dense".
EXEMPT: dict[str, tuple[tuple[str, ...], str]] = {
    "harness.base.errors": (ALL, "an error ends a stage; it writes nothing"),
    "harness.base.registry": (ALL, "imports a registry's modules, all of which the registry's own package reaches"),
    "harness.base.paths": (ALL, "where files lie, not what is in them"),
    "harness.results.folders": (ALL, "where files lie, not what is in them"),
    "harness.plan.kinds": (ALL, "names of stages and files; what a stage computes is its own entry"),
    "harness.results.code": (ALL, "how code is digested: a change changes the digests by itself"),
    "harness.results.reach": (ALL, "how code is digested: a change changes the digests by itself"),
    "harness.results.syntax": (ALL, "how code is digested: a change changes the digests by itself"),
    "harness.results.exemptions": (ALL, "what digests omit: a change changes the digests by itself"),
    "harness.results.context:Context": (READING, "for training and comparing; these stages only read files"),
    "harness.base.files": (COMPUTING, "writes bytes as they are, and checksums hold them"),
    "harness.results.keys": (COMPUTING, "decides what is computed again, not how"),
    "harness.results.heartbeats": (COMPUTING, "progress for whoever watches; nothing reads it back"),
    "harness.results.environment": (COMPUTING, "recorded beside results; collect reads it, and has it in its digest"),
    "harness.results.selection": (COMPUTING, "chooses which runs there are; each has its own key"),
    "harness.paper.claims": (COMPUTING, "predictions; nothing that computes reads them"),
    "harness.paper.claim_checks": (COMPUTING, "predictions; nothing that computes reads them"),
    "harness.paper.load": (
        ("prepare", "dense", "stability"),  # a pack of tickets holds the recipe as `dump` writes it
        "reads the settings, which are in the keys as they were read",
    ),
    "harness.data": (NETWORKS, "makes and loads data sets: their content as read is an input"),
    "harness.training.loop": (("prepare",), "sets how many threads convert a data set"),
    "harness.plan.runs": (("prepare",), "which networks there are; no data set depends on them"),
    **dict.fromkeys(
        ("harness.lottery.masks", "harness.lottery.criteria.snip", "harness.networks", "harness.training.state"),
        (READING, "what branches compute with; these stages read of a branch only what it is"),
    ),
    **dict.fromkeys(REGISTRIES, (COMPUTING, "a table; what a run or a data set takes of it is in its digest")),
}
#: package or module -> why no stage reaches it
UNREACHED: dict[str, str] = {
    "harness": "the version, and `load_ticket` for those who use a ticket elsewhere",
    "harness.bench": "measures speed; no stage runs it",
    "harness.check": "compares finished results with a baseline",
    "harness.cli": "commands: options and calls",
    "harness.compare": "compares two finished runs on a page of its own",
    "harness.estimate": "estimates of time, before a run",
    "harness.share": "copies finished results, and exports tickets",
    "harness.verify": "checks finished results",
    "harness.workflow": "schedules stages, and runs each by its entry in the table of kinds",
    "harness.plan.needs": "chooses which runs a selection has: the scale that is left is in the digests",
    "harness.plan.settings": "refuses settings; it changes none",
    "harness.base.yaml_text": "reads papers/: the settings as read are in the keys, the files in the report's digest",
    "harness.paper.params": "the default run of the commands",
    "harness.paper.published": "refuses broken tables of published numbers; the files are in the report's digest",
    "harness.paper.resources": "what jobs request from a machine or a queue",
    "harness.results.energy": "joules of a run, read by the clock that the workflow starts",
    "harness.results.fit": "decides by digests and checksums which earlier results stay",
    "harness.results.stored": "finds stored networks: a run is taken by its key and its inputs",
    "harness.results.open": "finds a run's scale and folders",
}


def exempt(kind: str) -> dict[str, str]:
    """What the digest of a kind of stage leaves out, with the reasons."""
    return {name: reason for name, (kinds, reason) in EXEMPT.items() if kind in kinds}


def unreached(modules: Iterable[str]) -> dict[str, str]:
    """The modules that no stage is expected to reach, with the reasons."""
    return {
        module: reason
        for module in modules
        for name, reason in UNREACHED.items()
        if module == name or (name != "harness" and module.startswith(f"{name}."))
    }
