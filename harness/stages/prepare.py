"""The prepare stage: a data set, fetched or generated, checked, and stored as arrays."""

from typing import Any

from harness import data
from harness.base.files import file_sha256
from harness.plan.kinds import data_set_of
from harness.results.context import Work
from harness.training.loop import use_threads


def prepare_stage(work: Work) -> dict[str, Any]:
    """Prepare a data set. Returns fields of the stage's record; `content` is the digest of what training sees."""
    use_threads(work.threads)  # the conversion of pictures uses them
    name = data_set_of(work.name)
    record = work.folders.data(name)
    data.prepare(name, record, work.spec.scale.data)
    outputs = {"data": file_sha256(record), "content": data.content(record)}
    return {"training_seconds": 0.0, "steps": 0, "inputs": {}, "outputs": outputs}
