# One stage of the data flow a rule file. `snakemake --cores 2` does the same run as `harness reproduce`.
# Other scales and papers: --config scale=smoke paper=stabilizing-lth
# In containers: --software-deployment-method apptainer --config image=docker://NAME@sha256:DIGEST
import os
import sys

from snakemake.utils import min_version

min_version("9.20")

# rules call the `harness` that is installed beside this snakemake, activated environment or not
os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])

from harness.workflow.asks import Asks
from harness.workflow.image import delivery, enter, place
from harness.workflow.rules import Rules

# a stage ends when this process is gone, so that kill -9 leaves no orphan that goes on writing
os.environ["HARNESS_PARENT"] = f"{os.getpid()}@{place()}"

RULES = Rules(
    paper=str(config.get("paper", "stabilizing-lth")),
    scale=str(config.get("scale", "mini")),
    results=str(config.get("results", "results")),
)
ASKS = Asks(RULES.paper, RULES.scale)
BASE = RULES.base
# where jobs keep the results when it is no folder of this machine: a volume that all pods of a cluster see
VOLUME = str(config.get("volume", ""))
RUN = (RULES if not VOLUME else Rules(RULES.paper, RULES.scale, VOLUME)).arguments
# a stage refuses if code or settings where it runs, in an image or on a node, are not those of this digest
STAGE = "harness stage {params.name} {params.run} --digest {params.digest} --threads {threads} > {log:q} 2>&1"
STAGE += delivery(BASE, VOLUME)


# with --software-deployment-method apptainer, every rule in a container of its own
container: enter(config, workflow.deployment_settings.deployment_method, RULES.results)


wildcard_constraints:
    data=r"[a-z0-9-]+",
    experiment=r"[a-z0-9-]+",
    chunk=r"\d+",
    k=r"\d+",
    level=r"\d+",
    what=r"dense|k\d+",
    first=r"\d+",
    last=r"\d+",


localrules:
    all,


rule all:
    input:
        RULES.targets(str(config.get("until", "report"))),
    default_target: True


include: "harness/workflow/prepare.smk"
include: "harness/workflow/dense.smk"
include: "harness/workflow/levels.smk"
include: "harness/workflow/branches.smk"
include: "harness/workflow/stability.smk"
include: "harness/workflow/tickets.smk"
include: "harness/workflow/judge.smk"
