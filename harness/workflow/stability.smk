# Distances, angles and the straight line between networks of one replicate.
rule stability:
    input:
        lambda wildcards: RULES.parents(f"{wildcards.experiment}/c{wildcards.chunk}/stability"),
    output:
        f"{BASE}/stages/{{experiment}}/c{{chunk}}/stability.json",
        f"{BASE}/stages/{{experiment}}/c{{chunk}}/stability.parquet",
        f"{BASE}/stages/{{experiment}}/c{{chunk}}/stability.curves.parquet",
    params:
        name="{experiment}/c{chunk}/stability",
        digest=lambda wildcards: RULES.stage_digest(f"{wildcards.experiment}/c{wildcards.chunk}/stability"),
        run=RULES.arguments,
    log:
        f"{BASE}/logs/{{experiment}}/c{{chunk}}/stability.log",
    threads: 1
    resources:
        mem_mb=2000,
    shell:
        "harness stage {params.name} {params.run} --threads {threads} > {log:q} 2>&1"
