# Prune, rewind to snapshot k, retrain: a span of levels of one k. The scale says how many levels a job does.
rule levels:
    input:
        lambda wildcards: RULES.parents(f"{wildcards.experiment}/c{wildcards.chunk}/k{wildcards.k}-L{wildcards.first}-{wildcards.last}"),
    output:
        f"{BASE}/stages/{{experiment}}/c{{chunk}}/k{{k}}-L{{first}}-{{last}}.json",
    params:
        name="{experiment}/c{chunk}/k{k}-L{first}-{last}",
        digest=lambda wildcards: RULES.stage_digest(
            f"{wildcards.experiment}/c{wildcards.chunk}/k{wildcards.k}-L{wildcards.first}-{wildcards.last}"
        ),
        run=RUN,
    log:
        f"{BASE}/logs/{{experiment}}/c{{chunk}}/k{{k}}-L{{first}}-{{last}}.log",
    priority: 2  # the longest chains first, so that no core is idle at the end
    threads: ASKS.threads("levels")
    resources:
        mem_mb=ASKS.memory("levels"),
        runtime=ASKS.minutes("levels"),
        gpu=ASKS.gpu("levels"),
        gpu_manufacturer=ASKS.maker("levels"),
    group:
        ASKS.group("levels")
    shell:
        STAGE
