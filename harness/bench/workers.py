"""Processes that keep jobs ready and run a number of steps of one on demand, several processes at once."""

import contextlib
import multiprocessing
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from harness.base.errors import HarnessError

SILENT_SECONDS = 600.0  # a worker that does not answer for so long has failed
LONGEST_ERROR = 300  # characters


class Job(Protocol):
    """Work that runs for a number of steps at a time."""

    def run(self, steps: int) -> dict[str, float]:
        """Run and return the time taken: "seconds" in all, and any parts of it."""
        ...


Make = Callable[[], Job]


def _serve(pipe: Any) -> None:
    """A worker's loop: create jobs and run them as ordered. It ends with the process that started it."""
    jobs: dict[str, Job] = {}
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        while True:
            name, order = pipe.recv()
            try:
                if isinstance(order, int):
                    pipe.send(jobs[name].run(order))
                else:
                    jobs[name] = order()
                    pipe.send({})
            except Exception as error:
                pipe.send(f"{type(error).__name__}: {error}")


class Crew:
    """Workers that are already started. A run ends when the last of them has finished."""

    def __init__(self, size: int):
        context = multiprocessing.get_context("spawn")
        self.workers = []
        self.sizes: dict[str, int] = {}
        for _ in range(size):
            pipe, workers_pipe = context.Pipe()
            process = context.Process(target=_serve, args=(workers_pipe,))
            process.start()
            workers_pipe.close()  # so that the end of the worker closes the pipe
            self.workers.append((process, pipe))

    def make(self, name: str, jobs: Sequence[Make]) -> None:
        """Create each job in a worker of its own. Raises HarnessError, as `run` does, when one fails."""
        self.sizes[name] = len(jobs)
        self._do(name, jobs)

    def run(self, name: str, steps: int) -> dict[str, float]:
        """Run `steps` steps of all jobs of a name at once. Each part's time is that of the slowest worker."""
        answers = self._do(name, [steps] * self.sizes[name])
        return {part: max(answer[part] for answer in answers) for part in answers[0]}

    def _do(self, name: str, orders: Sequence[Any]) -> list[dict[str, float]]:
        busy = list(zip(self.workers, orders, strict=False))
        try:
            for (_, pipe), order in busy:
                pipe.send((name, order))
            answers: list[Any] = [pipe.recv() if pipe.poll(SILENT_SECONDS) else "no answer" for (_, pipe), _ in busy]
        except (EOFError, ConnectionError):
            answers = ["a process ended, perhaps for lack of memory"]
        for answer in answers:
            if not isinstance(answer, dict):
                raise HarnessError(f"bench, {name}: {' '.join(answer.split())[:LONGEST_ERROR]}")
        return [dict(answer) for answer in answers]

    def close(self) -> None:
        """End the workers."""
        for _, pipe in self.workers:
            pipe.close()
        for process, _ in self.workers:
            process.join(10)
            if process.is_alive():
                process.kill()
                process.join()


class Inline:
    """A crew without processes, for tests: it runs the jobs one after another in this process."""

    def __init__(self, size: int):
        self.jobs: dict[str, list[Job]] = {}

    def make(self, name: str, jobs: Sequence[Make]) -> None:
        """As `Crew.make`."""
        self.jobs[name] = [make() for make in jobs]

    def run(self, name: str, steps: int) -> dict[str, float]:
        """As `Crew.run`."""
        answers = [job.run(steps) for job in self.jobs[name]]
        return {part: max(answer[part] for answer in answers) for part in answers[0]}

    def close(self) -> None:
        """Nothing to end."""
