# One stage of the data flow a rule file. `snakemake --cores 2` does the same run as `harness reproduce`.
# Other scales and papers: --config scale=smoke paper=stabilizing-lth
import os
import socket
import sys

from snakemake.utils import min_version

min_version("9.20")

# rules call the `harness` that is installed beside this snakemake, activated environment or not
os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
# a stage ends when this process is gone, so that kill -9 leaves no orphan that goes on writing
os.environ["HARNESS_PARENT"] = f"{os.getpid()}@{socket.gethostname()}"

from harness.workflow.rules import Rules

RULES = Rules(
    paper=str(config.get("paper", "stabilizing-lth")),
    scale=str(config.get("scale", "mini")),
    results=str(config.get("results", "results")),
)
BASE = RULES.base


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
        RULES.targets(),
    default_target: True


include: "harness/workflow/prepare.smk"
include: "harness/workflow/dense.smk"
include: "harness/workflow/levels.smk"
include: "harness/workflow/branches.smk"
include: "harness/workflow/stability.smk"
include: "harness/workflow/judge.smk"
