# Dense training with a snapshot at every rewind iteration, and further data orders from those snapshots.
rule dense:
    input:
        lambda wildcards: RULES.parents(f"{wildcards.experiment}/c{wildcards.chunk}/dense"),
    output:
        f"{BASE}/stages/{{experiment}}/c{{chunk}}/dense.json",
    params:
        name="{experiment}/c{chunk}/dense",
        digest=lambda wildcards: RULES.stage_digest(f"{wildcards.experiment}/c{wildcards.chunk}/dense"),
        run=RULES.arguments,
    log:
        f"{BASE}/logs/{{experiment}}/c{{chunk}}/dense.log",
    priority: 3  # the longest chains first, so that no core is idle at the end
    threads: 1
    resources:
        mem_mb=2000,
    shell:
        "harness stage {params.name} {params.run} --threads {threads} > {log:q} 2>&1"


rule orders:
    input:
        lambda wildcards: RULES.parents(f"{wildcards.experiment}/c{wildcards.chunk}/orders"),
    output:
        f"{BASE}/stages/{{experiment}}/c{{chunk}}/orders.json",
    params:
        name="{experiment}/c{chunk}/orders",
        digest=lambda wildcards: RULES.stage_digest(f"{wildcards.experiment}/c{wildcards.chunk}/orders"),
        run=RULES.arguments,
    log:
        f"{BASE}/logs/{{experiment}}/c{{chunk}}/orders.log",
    threads: 1
    resources:
        mem_mb=2000,
    shell:
        "harness stage {params.name} {params.run} --threads {threads} > {log:q} 2>&1"
