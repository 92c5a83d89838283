"""What a fresh process computes with on a GPU: a recipe's precision, the same in training, comparisons and SNIP."""

import json
import os
import subprocess
import sys

import pytest

from harness.base.paths import checkout

# each stage in a process that has imported everything and computed nothing; prints what it computes with, by function
STAGES = """
import json, os, sys
from pathlib import Path

import torch

from harness.lottery.criteria import snip
from harness.plan.runs import stages
from harness.stages import stability, train
from harness.workflow.run_stage import run_stage
from tests.tiny import SWEEPS, tiny_context


def flags():
    return [torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32]


def spy(module, name):
    function = getattr(module, name)

    def call(*arguments, **options):
        print(json.dumps([name, flags()]), flush=True)
        return function(*arguments, **options)

    setattr(module, name, call)


print(json.dumps(["default", flags()]), flush=True)
for module, name in ((train, "train"), (train, "evaluate"), (stability, "line"), (snip, "sensitivity")):
    spy(module, name)
context = tiny_context(Path(sys.argv[1]), sweeps=SWEEPS, change={"steps": 30, "precision": sys.argv[2]})
for stage in stages(context.spec):
    if not (child := os.fork()):
        run_stage(context.spec, context.folders, stage.name, 1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, stage.name
"""


@pytest.mark.parametrize("precision", ["float32", pytest.param("tf32", marks=pytest.mark.slow)])
def test_a_fresh_process_computes_every_stage_in_the_recipes_precision(tmp_path, precision):
    command = [sys.executable, "-c", STAGES, str(tmp_path), precision]
    env = {**os.environ, "PYTHONPATH": str(checkout())}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    (_, default), *calls = map(json.loads, done.stdout.splitlines())
    assert default == [True, False]  # PyTorch's own: convolutions rounded, matrix products not
    assert {name for name, _ in calls} == {"train", "evaluate", "line", "sensitivity"}
    assert all(flags == [precision == "tf32"] * 2 for _, flags in calls), calls
