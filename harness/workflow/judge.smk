# One tidy table, a verdict per claim, the page, the card of what was made.
rule collect:
    input:
        RULES.stage_records(),
    output:
        f"{BASE}/table.parquet",
        f"{BASE}/curves.parquet",
        f"{BASE}/networks.json",
        f"{BASE}/provenance.json",
    params:
        name="collect",
        digest=RULES.part_digest("collect"),
        run=RUN,
    log:
        f"{BASE}/logs/collect.log",
    threads: ASKS.threads("collect")
    resources:
        mem_mb=ASKS.memory("collect"),
        runtime=ASKS.minutes("collect"),
        gpu=ASKS.gpu("collect"),
        gpu_manufacturer=ASKS.maker("collect"),
    group:
        ASKS.group("collect")
    shell:
        STAGE


rule claims:
    input:
        f"{BASE}/table.parquet",
    output:
        f"{BASE}/claims.json",
        f"{BASE}/metrics.json",
    params:
        name="claims",
        digest=RULES.part_digest("claims"),
        run=RUN,
    log:
        f"{BASE}/logs/claims.log",
    threads: ASKS.threads("claims")
    resources:
        mem_mb=ASKS.memory("claims"),
        runtime=ASKS.minutes("claims"),
        gpu=ASKS.gpu("claims"),
        gpu_manufacturer=ASKS.maker("claims"),
    group:
        ASKS.group("claims")
    shell:
        STAGE


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
        name="report",
        digest=RULES.part_digest("report"),
        run=RUN,
    log:
        f"{BASE}/logs/report.log",
    threads: ASKS.threads("report")
    resources:
        mem_mb=ASKS.memory("report"),
        runtime=ASKS.minutes("report"),
        gpu=ASKS.gpu("report"),
        gpu_manufacturer=ASKS.maker("report"),
    group:
        ASKS.group("report")
    shell:
        STAGE


rule card:
    input:
        RULES.stage_records(),
        f"{BASE}/table.parquet",
        f"{BASE}/curves.parquet",
        f"{BASE}/networks.json",
        f"{BASE}/provenance.json",
        f"{BASE}/claims.json",
        f"{BASE}/metrics.json",
        f"{BASE}/report/index.html",
        f"{BASE}/report/report.md",
    output:
        f"{BASE}/card.json",
        f"{BASE}/ro-crate-metadata.json",
    params:
        name="card",
        digest=RULES.part_digest("card"),
        run=RUN,
    log:
        f"{BASE}/logs/card.log",
    threads: ASKS.threads("card")
    resources:
        mem_mb=ASKS.memory("card"),
        runtime=ASKS.minutes("card"),
        gpu=ASKS.gpu("card"),
        gpu_manufacturer=ASKS.maker("card"),
    group:
        ASKS.group("card")
    shell:
        STAGE
