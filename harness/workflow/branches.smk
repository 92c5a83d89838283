# Random baselines and further data orders, at the levels that the scale names.
rule branches:
    input:
        lambda wildcards: RULES.parents(f"{wildcards.experiment}/c{wildcards.chunk}/k{wildcards.k}-L{wildcards.level}-branches"),
    output:
        f"{BASE}/stages/{{experiment}}/c{{chunk}}/k{{k}}-L{{level}}-branches.json",
    params:
        name="{experiment}/c{chunk}/k{k}-L{level}-branches",
        digest=lambda wildcards: RULES.stage_digest(f"{wildcards.experiment}/c{wildcards.chunk}/k{wildcards.k}-L{wildcards.level}-branches"),
        run=RULES.arguments,
    log:
        f"{BASE}/logs/{{experiment}}/c{{chunk}}/k{{k}}-L{{level}}-branches.log",
    threads: 1
    resources:
        mem_mb=2000,
    shell:
        "harness stage {params.name} {params.run} --threads {threads} > {log:q} 2>&1"
