rule prepare:
    output:
        f"{BASE}/stages/prepare/{{data}}.json",
    params:
        name="prepare/{data}",
        digest=lambda wildcards: RULES.data_digest(wildcards.data),
        run=RULES.arguments,
    log:
        f"{BASE}/logs/prepare/{{data}}.log",
    threads: 1
    resources:
        mem_mb=1500,
    shell:
        "harness stage {params.name} {params.run} --threads {threads} > {log:q} 2>&1"
