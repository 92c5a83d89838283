# What is shared of the trained subnetworks: the masks of all levels and the weights they are rewound to, a file a replicate.
rule tickets:
    input:
        lambda wildcards: RULES.parents(f"{wildcards.experiment}/c{wildcards.chunk}/tickets"),
    output:
        f"{BASE}/stages/{{experiment}}/c{{chunk}}/tickets.json",
    params:
        name="{experiment}/c{chunk}/tickets",
        digest=lambda wildcards: RULES.stage_digest(f"{wildcards.experiment}/c{wildcards.chunk}/tickets"),
        run=RUN,
    log:
        f"{BASE}/logs/{{experiment}}/c{{chunk}}/tickets.log",
    threads: ASKS.threads("tickets")
    resources:
        mem_mb=ASKS.memory("tickets"),
        runtime=ASKS.minutes("tickets"),
        gpu=ASKS.gpu("tickets"),
        gpu_manufacturer=ASKS.maker("tickets"),
    shell:
        STAGE
