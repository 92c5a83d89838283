# Random baselines and further data orders, at the levels that the scale names.
rule branches:
    input:
        lambda wildcards: RULES.parents(f"{wildcards.experiment}/c{wildcards.chunk}/k{wildcards.k}-L{wildcards.level}-branches"),
    output:
        f"{BASE}/stages/{{experiment}}/c{{chunk}}/k{{k}}-L{{level}}-branches.json",
    params:
        name="{experiment}/c{chunk}/k{k}-L{level}-branches",
        digest=lambda wildcards: RULES.stage_digest(f"{wildcards.experiment}/c{wildcards.chunk}/k{wildcards.k}-L{wildcards.level}-branches"),
        run=RUN,
    log:
        f"{BASE}/logs/{{experiment}}/c{{chunk}}/k{{k}}-L{{level}}-branches.log",
    threads: ASKS.threads("branches")
    resources:
        mem_mb=ASKS.memory("branches"),
        runtime=ASKS.minutes("branches"),
        gpu=ASKS.gpu("branches"),
        gpu_manufacturer=ASKS.maker("branches"),
    group:
        ASKS.group("branches")
    shell:
        STAGE
