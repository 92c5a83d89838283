rule prepare:
    output:
        f"{BASE}/prepare/{{data}}.json",
    params:
        name="prepare/{data}",
        digest=lambda wildcards: RULES.data_digest(wildcards.data),
        run=RUN,
    log:
        f"{BASE}/logs/prepare/{{data}}.log",
    threads: ASKS.threads("prepare")
    resources:
        mem_mb=ASKS.memory("prepare"),
        runtime=ASKS.minutes("prepare"),
        gpu=ASKS.gpu("prepare"),
        gpu_manufacturer=ASKS.maker("prepare"),
    shell:
        STAGE
