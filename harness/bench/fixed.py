"""The cost of a run besides training: starting a job, starting the workflow engine, preparing the data sets."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from harness import data
from harness.base.errors import HarnessError
from harness.base.files import read_json
from harness.base.paths import project_file
from harness.bench import settings
from harness.bench.measure import Record, with_goals
from harness.paper import Spec
from harness.plan.runs import stages
from harness.results.folders import Folders

# the start of a training stage, before it trains; arguments: the paper, the scale, the records of its data sets
_JOB = """
import json, sys, time
times = [time.perf_counter()]
from pathlib import Path
import harness.stages.train
from harness import kernels
from harness.cli.options import scale_of
from harness.data import load
from harness.results.environment import made_with
from harness.results.keys import kind_code
kernels.available()
times.append(time.perf_counter())
scale_of(*sys.argv[1:3]), kind_code("dense"), made_with()
times.append(time.perf_counter())
for record in sys.argv[3:]:
    load(Path(record))
    times.append(time.perf_counter())
steps = [after - before for before, after in zip(times, times[1:])]
print(json.dumps({"imports": steps[0], "settings": steps[1], "data": max(steps[2:])}))
"""
JOB_PARTS = ("python", "imports", "settings", "data")
RUN_PARTS = ("training", "comparing", "between", "making_data", "outside")
WHOLE_STAGES = 4  # collect, claims, report, card


def fixed_costs(spec: Spec, root: Path, folders: Folders, scratch: Path, rounds: int, cores: int) -> list[Record]:
    """Records of the fixed costs of a scale, also as shares of its wall clock if `folders` holds a finished run."""
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch) as temporary:
        fresh = Folders(Path(temporary).resolve() / spec.scale_name)
        names = sorted({setting.data for setting in spec.scale.experiments.values()})
        started = time.perf_counter()
        for name in names:
            data.prepare(name, fresh.data(name), spec.scale.data)
        preparing = time.perf_counter() - started
        job = [sys.executable, "-c", _JOB, spec.paper.id, spec.scale_name, *(str(fresh.data(name)) for name in names)]
        snakefile = project_file(root.resolve(), "Snakefile")
        engine = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile), "--dry-run"]
        engine += ["--quiet", "--cores", str(cores), "--config", f"paper={spec.paper.id}", f"scale={spec.scale_name}"]
        engine += [f"results={temporary}"]
        jobs: list[dict[str, float]] = []
        starts: list[float] = []
        for _ in range(rounds):
            seconds, output = _timed(job, root)
            parts = json.loads(output.splitlines()[-1])
            parts["python"] = seconds - sum(parts.values())
            jobs.append(parts | {"seconds": seconds})
            starts.append(_timed(engine, root)[0])
    common = {"group": "fixed", "setting": f"scale {spec.scale_name}"}
    start = {part: median(job[part] for job in jobs) for part in jobs[0]}
    records: list[Record] = [
        {**common, "what": "start of a job", **start},
        {**common, "what": "start of the workflow engine", "seconds": median(starts)},
        {**common, "what": "making the data sets, once", "seconds": preparing},
    ]
    finished = folders.provenance.exists()
    run = _run(read_json(folders.provenance)) if finished else {"jobs": len(stages(spec)) + len(names)}
    run["jobs"] += WHOLE_STAGES
    fixed = (start["seconds"] * run["jobs"] + preparing) / cores + median(starts)
    total = {**common, "what": "fixed costs of a run", "jobs": run["jobs"], "seconds": fixed}
    share = fixed / run["wall_clock_seconds"] if finished else None
    records.append(with_goals({**total, "share_of_run": share}, (settings.FIXED_COSTS,)))
    if finished:
        records.append(with_goals({**common, "what": "a finished run", **run}, (settings.WALL_CLOCK,)))
    return records


def _timed(command: list[str], root: Path) -> tuple[float, str]:
    """Seconds that a command took, and its output."""
    started = time.perf_counter()
    finished = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if finished.returncode:
        last = (finished.stderr.strip() or finished.stdout.strip()).splitlines()[-1:]
        raise HarnessError(f"bench, fixed costs: {' '.join(last) or 'a command failed without output'}")
    return seconds, finished.stdout


def _run(provenance: dict[str, Any]) -> Record:
    """How a finished run used its cores, as shares of its wall clock times its cores."""
    records = provenance["stages"]
    cores = provenance["hardware"]["cores"]
    wall = provenance["wall_clock_seconds"]

    def busy(*kinds: str, key: str = "seconds") -> float:
        return sum(record[key] * record["threads"] for record in records if not kinds or record["kind"] in kinds)

    training = busy(key="training_seconds")
    comparing = busy("stability")
    preparing = busy("prepare")
    # "between" levels: evaluating, storing, pruning; "outside": starting jobs, the workflow engine, idle cores
    spent = (training, comparing, busy() - training - comparing - preparing, preparing, wall * cores - busy())
    shares = {f"share_{name}": seconds / (wall * cores) for name, seconds in zip(RUN_PARTS, spent, strict=True)}
    return {"jobs": len(records), "wall_clock_seconds": wall, "seconds": wall, "cores": cores, **shares}
