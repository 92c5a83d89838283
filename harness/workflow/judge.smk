# One tidy table, a verdict per claim, the page.
rule collect:
    input:
        RULES.stage_records(),
    output:
        f"{BASE}/table.parquet",
        f"{BASE}/curves.parquet",
        f"{BASE}/provenance.json",
    params:
        digest=RULES.part_digest("collect"),
        run=RULES.arguments,
    log:
        f"{BASE}/logs/collect.log",
    threads: 1
    resources:
        mem_mb=1000,
    shell:
        "harness stage collect {params.run} > {log:q} 2>&1"


rule claims:
    input:
        f"{BASE}/table.parquet",
    output:
        f"{BASE}/claims.json",
    params:
        digest=RULES.part_digest("claims"),
        run=RULES.arguments,
    log:
        f"{BASE}/logs/claims.log",
    threads: 1
    resources:
        mem_mb=1000,
    shell:
        "harness stage claims {params.run} > {log:q} 2>&1"


rule report:
    input:
        f"{BASE}/table.parquet",
        f"{BASE}/curves.parquet",
        f"{BASE}/provenance.json",
        f"{BASE}/claims.json",
    output:
        f"{BASE}/report/index.html",
        f"{BASE}/report/report.md",
    params:
        digest=RULES.part_digest("report"),
        run=RULES.arguments,
    log:
        f"{BASE}/logs/report.log",
    threads: 1
    resources:
        mem_mb=1000,
    shell:
        "harness stage report {params.run} > {log:q} 2>&1"
