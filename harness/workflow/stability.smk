# Distances, angles and the straight line between networks of one replicate.
rule stability:
    input:
        lambda wildcards: RULES.parents(f"{wildcards.experiment}/c{wildcards.chunk}/{wildcards.what}-stability"),
    output:
        f"{BASE}/stages/{{experiment}}/c{{chunk}}/{{what}}-stability.json",
        f"{BASE}/stages/{{experiment}}/c{{chunk}}/{{what}}-stability.parquet",
        f"{BASE}/stages/{{experiment}}/c{{chunk}}/{{what}}-stability.curves.parquet",
    params:
        name="{experiment}/c{chunk}/{what}-stability",
        digest=lambda wildcards: RULES.stage_digest(f"{wildcards.experiment}/c{wildcards.chunk}/{wildcards.what}-stability"),
        run=RUN,
    log:
        f"{BASE}/logs/{{experiment}}/c{{chunk}}/{{what}}-stability.log",
    threads: ASKS.threads("stability")
    resources:
        mem_mb=ASKS.memory("stability"),
        runtime=ASKS.minutes("stability"),
        gpu=ASKS.gpu("stability"),
        gpu_manufacturer=ASKS.maker("stability"),
    group:
        ASKS.group("stability")
    shell:
        STAGE
