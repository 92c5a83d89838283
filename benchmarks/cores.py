"""What bounds a finished run's wall clock on more cores: its work, its longest chain of jobs, or how jobs start.

`python -m benchmarks.cores PAPER SCALE RESULTS` simulates the run's schedule from the records of its stages, as
`harness plan --cores N` does, and again with starts that take no time.
"""

import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from harness.base.paths import checkout
from harness.base.words import duration
from harness.estimate import schedule
from harness.estimate.schedule import Jobs
from harness.paper import load_spec
from harness.results.folders import Folders

CORES = (2, 8, 16, 32)


def main(paper: str, scale: str, results: str) -> None:
    """Print the table. Raises HarnessError for a paper or scale that is not there."""
    spec, folders = load_spec(checkout(), paper, scale), Folders(Path(results) / paper / scale)

    def jobs(cores: int) -> Jobs:
        return schedule.jobs_of(spec, folders, {}, {}, cores)

    table = Table("cores", "a start", "wall clock", "× one core", "work / cores", "longest chain")
    for start in (schedule.START_SECONDS, 0.0):
        schedule.START_SECONDS = start
        whole = jobs(1).wall_clock(jobs(1).narrow, 1)
        for cores in CORES:
            shared = jobs(cores)
            seconds = shared.wall_clock(shared.widths(cores), cores)
            times = (seconds, whole / cores, shared.longest_chain(cores))
            wall, work, chain = (duration(value) for value in times)
            table.add_row(f"{cores}", f"{start:g} s", wall, f"{whole / seconds:.1f}", work, chain)
    Console().print(table)


if __name__ == "__main__":
    main(*sys.argv[1:])
