"""What a run costs besides training: the start of a job, the workflow engine's own start, making the data sets."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from harness import data
from harness.bench import settings
from harness.bench.measure import Record, judged
from harness.errors import HarnessError
from harness.files import read_json
from harness.plan import stages
from harness.spec import Spec
from harness.workflow.context import Folders

# what a training stage does before it trains: arguments are the paper, the scale and the records of its data sets
_JOB = """
import json, sys, time
times = [time.perf_counter()]
from pathlib import Path
import harness.workflow.train
from harness.bench.engine import kernels
from harness.cli import _spec
from harness.data import load
from harness.digest import cached_code_digest
from harness.workflow.stages import made_with
kernels()
times.append(time.perf_counter())
_spec(*sys.argv[1:3]), cached_code_digest("training"), made_with()
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
    """Records of the fixed costs of a scale; shares of its wall clock where `folders` holds a finished run."""
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch) as temporary:
        fresh = Folders(Path(temporary).resolve() / spec.scale_name)
        names = sorted({setting.data for setting in spec.scale.experiments.values()})
        making = time.perf_counter()
        for name in names:
            data.prepare(name, fresh.data(name))
        making = time.perf_counter() - making
        job = [sys.executable, "-c", _JOB, spec.paper.id, spec.scale_name, *(str(fresh.data(name)) for name in names)]
        engine = [sys.executable, "-m", "snakemake", "--snakefile", str(root.resolve() / "Snakefile"), "--dry-run"]
        engine += ["--quiet", "--cores", str(cores), "--config", f"paper={spec.paper.id}", f"scale={spec.scale_name}"]
        engine += [f"results={temporary}"]
        jobs: list[dict[str, float]] = []
        starts: list[float] = []
        for _ in range(rounds):
            seconds, out = _timed(job, root)
            parts = json.loads(out.splitlines()[-1])
            parts["python"] = seconds - sum(parts.values())
            jobs.append(parts | {"seconds": seconds})
            starts.append(_timed(engine, root)[0])
    one = {"group": "fixed", "setting": f"scale {spec.scale_name}"}
    start = {part: median(job[part] for job in jobs) for part in jobs[0]}
    records: list[Record] = [
        {**one, "what": "start of a job", **start},
        {**one, "what": "start of the workflow engine", "seconds": median(starts)},
        {**one, "what": "making the data sets, once", "seconds": making},
    ]
    finished = folders.provenance.exists()
    run = _run(read_json(folders.provenance)) if finished else {"jobs": len(stages(spec)) + len(names)}
    run["jobs"] += WHOLE_STAGES
    fixed = (start["seconds"] * run["jobs"] + making) / cores + median(starts)
    total = {**one, "what": "fixed costs of a run", "jobs": run["jobs"], "seconds": fixed}
    share = fixed / run["wall_clock_seconds"] if finished else None
    records.append(judged({**total, "share_of_run": share}, (settings.FIXED_COSTS,)))
    if finished:
        records.append(judged({**one, "what": "a finished run", **run}, (settings.WALL_CLOCK,)))
    return records


def _timed(command: list[str], root: Path) -> tuple[float, str]:
    began = time.perf_counter()
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise HarnessError(f"bench, fixed costs: {' '.join(last) or 'a command failed without a word'}")
    return seconds, done.stdout


def _run(provenance: dict[str, Any]) -> Record:
    """Where the cores' time of a finished run went, as shares of its wall clock times its cores."""
    found = provenance["stages"]
    cores = provenance["hardware"]["cores"]
    wall = provenance["wall_clock_seconds"]

    def busy(*kinds: str, key: str = "seconds") -> float:
        return sum(stage[key] * stage["threads"] for stage in found if not kinds or stage["kind"] in kinds)

    training = busy(key="training_seconds")
    comparing = busy("stability")
    preparing = busy("prepare")
    # between levels: evaluating, storing, pruning; outside: starts of jobs, the workflow engine, idle cores
    spent = (training, comparing, busy() - training - comparing - preparing, preparing, wall * cores - busy())
    shares = {f"share_{name}": seconds / (wall * cores) for name, seconds in zip(RUN_PARTS, spent, strict=True)}
    return {"jobs": len(found), "wall_clock_seconds": wall, "seconds": wall, "cores": cores, **shares}
