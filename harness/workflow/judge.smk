# One tidy table, a verdict per claim, the page, the card of what was made. Their files: harness/plan/kinds.py.
rule collect:
    input:
        RULES.stage_records(),
    output:
        RULES.files("collect"),
    params:
        name="collect",
        digest=RULES.digest("collect"),
        run=RUN,
    log:
        f"{BASE}/logs/collect.log",
    threads: JOBS["collect"].threads
    resources:
        mem_mb=JOBS["collect"].memory,
        runtime=JOBS["collect"].minutes,
        gpu=JOBS["collect"].gpu,
        gpu_manufacturer=JOBS["collect"].gpu_manufacturer,
    group:
        JOBS["collect"].group
    shell:
        STAGE


use rule collect as claims with:
    input:
        RULES.files("collect")[0],
    output:
        RULES.files("claims"),
    params:
        name="claims",
        digest=RULES.digest("claims"),
        run=RUN,
    log:
        f"{BASE}/logs/claims.log",
    threads: JOBS["claims"].threads
    resources:
        mem_mb=JOBS["claims"].memory,
        runtime=JOBS["claims"].minutes,
        gpu=JOBS["claims"].gpu,
        gpu_manufacturer=JOBS["claims"].gpu_manufacturer,
    group:
        JOBS["claims"].group


use rule collect as report with:
    input:
        RULES.files("collect"),
        RULES.files("claims")[0],
    output:
        RULES.files("report"),
    params:
        name="report",
        digest=RULES.digest("report"),
        run=RUN,
    log:
        f"{BASE}/logs/report.log",
    threads: JOBS["report"].threads
    resources:
        mem_mb=JOBS["report"].memory,
        runtime=JOBS["report"].minutes,
        gpu=JOBS["report"].gpu,
        gpu_manufacturer=JOBS["report"].gpu_manufacturer,
    group:
        JOBS["report"].group


use rule collect as card with:
    input:
        RULES.stage_records(),
        RULES.files("collect"),
        RULES.files("claims"),
        RULES.files("report"),
    output:
        RULES.files("card"),
    params:
        name="card",
        digest=RULES.digest("card"),
        run=RUN,
    log:
        f"{BASE}/logs/card.log",
    threads: JOBS["card"].threads
    resources:
        mem_mb=JOBS["card"].memory,
        runtime=JOBS["card"].minutes,
        gpu=JOBS["card"].gpu,
        gpu_manufacturer=JOBS["card"].gpu_manufacturer,
    group:
        JOBS["card"].group
