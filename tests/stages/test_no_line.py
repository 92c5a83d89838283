"""A scale without the line between two networks: distances and angles alone, and no curve."""

import pandas as pd
import pytest
from pydantic import ValidationError

from harness.paper.models import Line
from harness.plan.runs import pairs, stages
from harness.workflow.run_stage import run_stage
from tests.tiny import tiny_context, tiny_spec


def test_without_points_no_pair_has_a_line():
    for points, some in ((0, False), (3, True)):
        spec = tiny_spec(line={"points": points})
        groups = [group for one in stages(spec) if one.kind == "stability" for group in pairs(spec, one)]
        found = [pair for group in groups for pair in group]
        assert found
        assert any(pair.interpolated for pair in found) == some


def test_a_line_has_a_middle_or_is_none():
    for points in (1, 2):
        with pytest.raises(ValidationError, match=f"points: {points} leave the line no middle; give 3 or more, or 0"):
            Line(points=points)


def test_pairs_have_distance_and_angle_and_no_instability(tmp_path):
    sweeps = [{"k": [0], "levels": 1, "at": {1: {"imp": 2}}}]
    context = tiny_context(tmp_path, line={"points": 0}, dense_orders=[], sweeps=sweeps, change={"steps": 6})
    for stage in stages(context.spec):
        run_stage(context.spec, context.folders, stage.name, 1)
    run_stage(context.spec, context.folders, "collect", 1)
    table = pd.read_parquet(context.folders.table)
    rows = table[table["row"] == "pair"]
    assert sorted(rows["comparison"]) == ["data_order"] * 2 + ["pruning"] * 2
    assert (rows["distance"] > 0).all()
    assert (rows["angle"] > 0).all()
    assert rows.filter(like="instability").isna().all(axis=None)
    assert pd.read_parquet(context.folders.all_curves).empty
