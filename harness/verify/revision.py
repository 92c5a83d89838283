"""The code that a card names, taken out of this checkout's git, to hold the card's digests and copies against it."""

import atexit
import io
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from harness.base.files import file_sha256
from harness.base.git import git
from harness.base.paths import checkout
from harness.report.crate import WORKFLOW
from harness.results.code import PACKAGE
from harness.results.environment import code_revision, environment
from harness.results.keys import CODE_PARTS, part_code, workflow_files
from harness.verify.shared_run import SharedRun

#: files of the package that say how code is digested
DIGESTING = (*(f"results/{name}.py" for name in ("code", "reach", "syntax", "exemptions", "keys")), "plan/kinds.py")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def committed(shared: SharedRun) -> Path | None:
    """A folder with Snakefile and package as the card's revision has them, until this process ends.

    None if git here lacks the revision, or it was changed.
    """
    code = shared.card["code"]
    return _taken_out(code["revision"]) if code["tree_clean"] is True and _COMMIT.fullmatch(code["revision"]) else None


@cache
def _taken_out(revision: str) -> Path | None:
    archive = git(PACKAGE.parent, "archive", revision, "Snakefile", PACKAGE.name)
    if archive is None:
        return None
    folder = Path(tempfile.mkdtemp(prefix="harness-revision-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    return folder


def code_fault(shared: SharedRun) -> str:
    """Why the card's digests of the code can't be held against its revision, or "".

    Digests are comparable where they are computed alike, which takes the same way of it and the same Python.
    """
    folder = committed(shared)
    if folder is None:
        return "git here does not have its revision, or it had changes"
    for name in DIGESTING:
        own, theirs = PACKAGE / name, folder / PACKAGE.name / name
        if not theirs.is_file() or file_sha256(own) != file_sha256(theirs):
            return "its revision computes digests in another way"
    packages = shared.card["packages"], environment()["packages"]
    then, now = (str(versions.get("python")).split(".")[:2] for versions in packages)
    return "" if then == now else "another version of Python"


def code(shared: SharedRun) -> Iterator[str]:
    """The card's digests of the code against its revision in git, where `code_fault` finds nothing."""
    digests, revision = shared.card["code"]["digests"], shared.card["code"]["revision"]
    if set(digests) != set(CODE_PARTS):
        yield f"card.json: code: digests: are of {', '.join(sorted(digests))!s:.100}, not {', '.join(CODE_PARTS)}"
    folder = committed(shared)
    if folder is None or code_fault(shared):
        return
    for part in CODE_PARTS:
        if digests.get(part) != part_code(part, folder / PACKAGE.name):
            yield f"card.json: code: digests: that of {part} is not that of revision {revision:.10}"


def copies(shared: SharedRun) -> Iterator[str]:
    """The copies of spec and workflow beside the page: those that the card names."""
    card = {name: entry["sha256"] for name, entry in shared.card["files"].items()}
    for name, checksum in shared.card["spec"].items():
        place = f"{WORKFLOW}/papers/{shared.spec.paper.id}/{name}"
        if card.get(place) != checksum:
            yield f"{place}: is not the spec that the card names"
    known = {f"{WORKFLOW}/{name}": file_sha256(path) for name, path in workflow(shared).items()}
    own = {name for name in card if name.startswith((f"{WORKFLOW}/harness/", f"{WORKFLOW}/Snakefile"))}
    for name in sorted(known.keys() | own if known else ()):
        if name not in known:
            yield f"{name}: is no file of the workflow"
        elif card.get(name) != known[name]:
            yield f"{name}: is not the one of the code that the card names"


def workflow(shared: SharedRun) -> dict[str, Path]:
    """The Snakefile and rule files of the card's code by their names in a checkout; {} where they can't be had."""
    folder = committed(shared)
    if folder is not None:
        rules = (folder / PACKAGE.name / "workflow").glob("*.smk")
        return {path.relative_to(folder).as_posix(): path for path in (folder / "Snakefile", *rules)}
    same = shared.card["code"]["revision"] == code_revision(PACKAGE.parent)[0]
    files = workflow_files(checkout()) if same and shared.same_code(*CODE_PARTS) else {}
    return files if all(path.is_file() for path in files.values()) else {}
