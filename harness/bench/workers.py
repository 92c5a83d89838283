"""Processes that keep jobs ready and run a number of steps of one on demand, several processes at once."""

from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from typing import Any, Protocol

from harness.base.errors import HarnessError
from harness.base.processes import crew

SILENT_SECONDS = 600.0  # a worker that does not answer for so long has failed
LONGEST_ERROR = 300  # characters


class Job(Protocol):
    """Work that runs for a number of steps at a time."""

    def run(self, steps: int) -> dict[str, float]:
        """Run and return the time taken: "seconds" in all, and any parts of it."""
        ...


Make = Callable[[], Job]


class Workers:
    """Workers that are already started, each a crew of one so that a job stays where it is.

    A run ends when the last of them has finished.
    """

    def __init__(self, size: int):
        self.started = ExitStack()
        self.workers = [self.started.enter_context(crew(1, dict)) for _ in range(size)]
        self.sizes: dict[str, int] = {}

    def make(self, name: str, jobs: Sequence[Make]) -> None:
        """Create each job in a worker of its own. Raises HarnessError, as `run` does, when one fails."""
        self.sizes[name] = len(jobs)
        self._do(name, _make, jobs)

    def run(self, name: str, steps: int) -> dict[str, float]:
        """Run `steps` steps of all jobs of a name at once. Each part's time is that of the slowest worker."""
        answers = self._do(name, _run, [steps] * self.sizes[name])
        return {part: max(answer[part] for answer in answers) for part in answers[0]}

    def _do(self, name: str, task: Callable[..., Any], orders: Sequence[Any]) -> list[Any]:
        try:
            answers = [worker.start(task, name, order) for worker, order in zip(self.workers, orders, strict=False)]
            return [answer.result(SILENT_SECONDS) for answer in answers]
        except (BrokenProcessPool, TimeoutError) as error:
            self.workers[0].stop()  # every worker of this process: the others may go on for long
            ended = isinstance(error, BrokenProcessPool)
            reason = "a process ended, perhaps for lack of memory" if ended else "no answer"
        except Exception as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:LONGEST_ERROR]}"
        raise HarnessError(f"bench, {name}: {reason}")

    def close(self) -> None:
        """End the workers."""
        self.started.close()


def _make(jobs: dict[str, Job], name: str, make: Make) -> None:
    jobs[name] = make()


def _run(jobs: dict[str, Job], name: str, steps: int) -> dict[str, float]:
    return jobs[name].run(steps)


class Inline:
    """Workers without processes, for tests: they run the jobs one after another in this process."""

    def __init__(self, size: int):
        self.jobs: dict[str, list[Job]] = {}

    def make(self, name: str, jobs: Sequence[Make]) -> None:
        """As `Workers.make`."""
        self.jobs[name] = [make() for make in jobs]

    def run(self, name: str, steps: int) -> dict[str, float]:
        """As `Workers.run`."""
        answers = [job.run(steps) for job in self.jobs[name]]
        return {part: max(answer[part] for answer in answers) for part in answers[0]}

    def close(self) -> None:
        """Nothing to end."""
