# `snakemake --cores 2` does the same run as `harness reproduce`; params.yaml names the paper and the scale.
# Other scales and papers: --config scale=smoke paper=linear-mode-connectivity
# In containers: --software-deployment-method apptainer --config image=docker://NAME@sha256:DIGEST
import os
import sys

from snakemake.utils import min_version

min_version("9.20")

# rules call the `harness` that is installed beside this snakemake, activated environment or not
os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])

from harness.base.paths import checkout
from harness.paper.params import default_run
from harness.plan.kinds import KINDS
from harness.results.environment import place
from harness.workflow.image import delivery, enter
from harness.workflow.jobs import PLANNED, jobs
from harness.workflow.rules import Rules, processes_of, text_of

# a stage ends when this process is gone, so that kill -9 leaves no orphan that goes on writing
os.environ["HARNESS_PARENT"] = f"{os.getpid()}@{place()}"

if not {"paper", "scale"} <= config.keys():
    config = {**default_run(checkout()).model_dump(include={"paper", "scale"}), **config}
NAMES = text_of(config, "paper"), text_of(config, "scale"), text_of(config, "results", "results")
RULES = Rules(*NAMES, processes_of(config))
JOBS = jobs(RULES)
JOB = JOBS[PLANNED]
BASE = RULES.base
# where jobs keep the results when it is no folder of this machine: a volume that all pods of a cluster see
VOLUME = text_of(config, "volume")
RUN = (RULES if not VOLUME else Rules(RULES.paper, RULES.scale, VOLUME)).arguments
# a stage refuses if code or settings where it runs, in an image or on a node, are not those of this digest
STAGE = "harness stage {params.name} {params.run} --digest {params.digest} --threads {threads} > {log:q} 2>&1"
STAGE += delivery(BASE, VOLUME)


# with --software-deployment-method apptainer, every rule in a container of its own
container: enter(config, workflow.deployment_settings.deployment_method, RULES.results)


localrules:
    all,


rule all:
    input:
        RULES.targets(text_of(config, "until", "report")),
    default_target: True


include: "harness/workflow/train.smk"
include: "harness/workflow/judge.smk"
