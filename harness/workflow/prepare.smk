rule prepare:
    output:
        f"{BASE}/stages/prepare/{{data}}.json",
    params:
        name="prepare/{data}",
        digest=lambda wildcards: RULES.data_digest(wildcards.data),
        run=RULES.arguments,
    log:
        f"{BASE}/logs/prepare/{{data}}.log",
    threads: lambda wildcards: workflow.cores if wildcards.data == "imagenet" else 1
    resources:
        mem_mb=2500,
    shell:
        "harness stage {params.name} {params.run} --threads {threads} > {log:q} 2>&1"
