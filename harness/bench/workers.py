"""Processes that hold pieces of work ready and do so many steps of one when told; several can start together."""

import contextlib
import multiprocessing
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from harness.errors import HarnessError

SILENT_SECONDS = 600.0  # after which a worker is given up
LONGEST_ERROR = 300  # characters


class Job(Protocol):
    """Work that can be done for so many steps at a time."""

    def run(self, steps: int) -> dict[str, float]:
        """What the steps took: "seconds" in all, and any parts of it."""
        ...


Make = Callable[[], Job]


def _serve(pipe: Any) -> None:
    """A worker's life: make jobs and run them as told. Ends with the process that started it."""
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
    """Workers that were started beforehand; a run is over when the last of them is."""

    def __init__(self, size: int):
        context = multiprocessing.get_context("spawn")
        self.workers = []
        self.sizes: dict[str, int] = {}
        for _ in range(size):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs,))
            process.start()
            theirs.close()  # so that the worker's end shows here
            self.workers.append((process, ours))

    def make(self, name: str, jobs: Sequence[Make]) -> None:
        """Have each job made by a worker of its own. Raises HarnessError, as `run` does, when one fails."""
        self.sizes[name] = len(jobs)
        self._do(name, jobs)

    def run(self, name: str, steps: int) -> dict[str, float]:
        """Let all workers of a name take `steps` steps at once. Every part is that of the slowest."""
        answers = self._do(name, [steps] * self.sizes[name])
        return {part: max(answer[part] for answer in answers) for part in answers[0]}

    def _do(self, name: str, orders: Sequence[Any]) -> list[dict[str, float]]:
        busy = list(zip(self.workers, orders, strict=False))
        try:
            for (_, pipe), order in busy:
                pipe.send((name, order))
            answers: list[Any] = [pipe.recv() if pipe.poll(SILENT_SECONDS) else "no answer" for (_, pipe), _ in busy]
        except (EOFError, ConnectionError):
            answers = ["a process ended; is there enough memory?"]
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
    """A crew without processes: the jobs one after another, right here. For tests."""

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
