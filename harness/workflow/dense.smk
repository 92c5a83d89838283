# Dense training with a snapshot at every rewind iteration, and further data orders from those snapshots.
rule dense:
    input:
        lambda wildcards: RULES.parents(f"{wildcards.experiment}/c{wildcards.chunk}/dense"),
    output:
        f"{BASE}/stages/{{experiment}}/c{{chunk}}/dense.json",
    params:
        name="{experiment}/c{chunk}/dense",
        digest=lambda wildcards: RULES.stage_digest(f"{wildcards.experiment}/c{wildcards.chunk}/dense"),
        run=RUN,
    log:
        f"{BASE}/logs/{{experiment}}/c{{chunk}}/dense.log",
    priority: 3  # the longest chains first, so that no core is idle at the end
    threads: ASKS.threads("dense")
    resources:
        mem_mb=ASKS.memory("dense"),
        runtime=ASKS.minutes("dense"),
        gpu=ASKS.gpu("dense"),
        gpu_manufacturer=ASKS.maker("dense"),
    group:
        ASKS.group("dense")
    shell:
        STAGE


rule orders:
    input:
        lambda wildcards: RULES.parents(f"{wildcards.experiment}/c{wildcards.chunk}/orders"),
    output:
        f"{BASE}/stages/{{experiment}}/c{{chunk}}/orders.json",
    params:
        name="{experiment}/c{chunk}/orders",
        digest=lambda wildcards: RULES.stage_digest(f"{wildcards.experiment}/c{wildcards.chunk}/orders"),
        run=RUN,
    log:
        f"{BASE}/logs/{{experiment}}/c{{chunk}}/orders.log",
    threads: ASKS.threads("orders")
    resources:
        mem_mb=ASKS.memory("orders"),
        runtime=ASKS.minutes("orders"),
        gpu=ASKS.gpu("orders"),
        gpu_manufacturer=ASKS.maker("orders"),
    group:
        ASKS.group("orders")
    shell:
        STAGE
