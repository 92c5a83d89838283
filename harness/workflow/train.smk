# Data sets, dense training with rewind snapshots, pruning level by level, branches, comparison, tickets. Every rule but
# the first is that of the dense stages for stages of other names. The names and files: harness/plan/kinds.py.
rule prepare:
    output:
        RULES.pattern("prepare"),
    params:
        name="{name}",
        digest=lambda wildcards: RULES.digest(wildcards.name),
        run=RUN,
    log:
        f"{BASE}/logs/{{name}}.log",
    wildcard_constraints:
        name=KINDS["prepare"].pattern,
    threads: JOB.threads
    resources:
        mem_mb=JOB.memory,
        runtime=JOB.minutes,
        gpu=JOB.gpu,
        gpu_manufacturer=JOB.gpu_manufacturer,
    shell:
        STAGE


rule dense:
    input:
        lambda wildcards: RULES.parents(wildcards.name),
    output:
        RULES.pattern("dense"),
    params:
        name="{name}",
        digest=lambda wildcards: RULES.digest(wildcards.name),
        run=RUN,
    log:
        f"{BASE}/logs/{{name}}.log",
    wildcard_constraints:
        name=KINDS["dense"].pattern,
    priority: 3  # the longest chains first, so that no core is idle at the end
    threads: JOB.threads
    resources:
        mem_mb=JOB.memory,
        runtime=JOB.minutes,
        gpu=JOB.gpu,
        gpu_manufacturer=JOB.gpu_manufacturer,
    group:
        JOB.group
    shell:
        STAGE


use rule dense as orders with:
    wildcard_constraints:
        name=KINDS["orders"].pattern,
    priority: 0


use rule dense as levels with:
    wildcard_constraints:
        name=KINDS["levels"].pattern,
    priority: 2


use rule dense as branches with:
    wildcard_constraints:
        name=KINDS["branches"].pattern,
    priority: 0


use rule dense as stability with:
    output:
        RULES.pattern("stability"),
    wildcard_constraints:
        name=KINDS["stability"].pattern,
    priority: 0


use rule dense as tickets with:
    wildcard_constraints:
        name=KINDS["tickets"].pattern,
    priority: 0
