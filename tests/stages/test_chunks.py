"""How many replicates and levels a job takes changes no bit of what comes out, so a run may be spread as one likes."""

import pandas as pd

from harness.base.files import read_json
from harness.plan.runs import stages
from harness.workflow.run_stage import run_stage
from tests.tiny import tiny_context


def checksums(context):
    return {run: record["sha256"] for run, record in read_json(context.folders.networks).items()}


def test_results_do_not_depend_on_the_size_of_a_chunk(finished, tmp_path):
    apart = tiny_context(tmp_path, replicates_per_job=1, levels_per_job=1)
    names = [stage.name for stage in stages(apart.spec)]
    assert len(names) > len(stages(finished.spec))
    for name in [*names, "collect"]:
        run_stage(apart.spec, apart.folders, name, 1)
    assert checksums(apart) == checksums(finished)
    for file in ("table", "all_curves"):
        one, other = (pd.read_parquet(getattr(context.folders, file)) for context in (apart, finished))
        pd.testing.assert_frame_equal(*(frame.drop(columns="seconds", errors="ignore") for frame in (one, other)))
