"""The code that a card names, taken out of this checkout's git, to hold the card's digests and copies against it."""

import atexit
import io
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from harness.digest import PACKAGE, code_digest
from harness.files import file_sha256
from harness.paths import checkout
from harness.share.given import Given
from harness.workflow.environment import code_revision
from harness.workflow.identity import CODE_PARTS, workflow_files

WORKFLOW = "report/workflow"
_COMMIT = re.compile(r"[0-9a-f]{40}")


def committed(card: dict[str, Any]) -> Path | None:
    """A folder with Snakefile and package as a card's revision has them; None if git here lacks it, or it was changed.

    The folder is there until this process ends.
    """
    clean = card["code"]["tree_clean"] is True
    return _taken_out(card["code"]["revision"]) if clean else None


@cache
def _taken_out(revision: str) -> Path | None:
    if not _COMMIT.fullmatch(revision):
        return None
    command = ["git", "-C", str(PACKAGE.parent), "archive", revision, "Snakefile", PACKAGE.name]
    try:
        archive = subprocess.run(command, capture_output=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    folder = Path(tempfile.mkdtemp(prefix="harness-revision-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    return folder


def code_fault(given: Given) -> str:
    """Why the card's digests of the code can't be held against its revision, or "".

    Digests are comparable where they are computed alike, which takes the same way of it and the same Python.
    """
    folder = committed(given.card)
    if folder is None:
        return "git here does not have its revision, or it had changes"
    own, theirs = PACKAGE / "digest.py", folder / PACKAGE.name / "digest.py"
    if not theirs.is_file() or file_sha256(own) != file_sha256(theirs):
        return "its revision computes digests in another way"
    then, now = (str(made.get("python", "")).split(".")[:2] for made in (given.card["packages"], _packages()))
    return "" if then == now else "another version of Python"


def _packages() -> dict[str, str]:
    from harness.workflow.environment import environment

    return dict(environment()["packages"])


def code(given: Given) -> Iterator[str]:
    """The card's digests of the code against its revision in git, where `code_fault` finds nothing."""
    digests, revision = given.card["code"]["digests"], given.card["code"]["revision"]
    if set(digests) != set(CODE_PARTS):
        yield f"card.json: code: digests: are of {', '.join(sorted(digests))!s:.100}, not {', '.join(CODE_PARTS)}"
    folder = committed(given.card)
    if folder is None or code_fault(given):
        return
    for part in CODE_PARTS:
        if digests.get(part) != code_digest(part, folder / PACKAGE.name):
            yield f"card.json: code: digests: that of {part} is not that of revision {revision:.10}"


def known_workflow(given: Given) -> dict[str, Path]:
    """The Snakefile and rule files of the card's code by their names in a checkout; {} where they can't be had."""
    folder = committed(given.card)
    if folder is not None:
        rules = sorted((folder / PACKAGE.name / "workflow").glob("*.smk"))
        return {"Snakefile": folder / "Snakefile", **{f"harness/workflow/{path.name}": path for path in rules}}
    same = given.card["code"]["revision"] == code_revision(PACKAGE)[0]
    found = workflow_files(checkout()) if same and given.same_code(*CODE_PARTS) else {}
    return found if all(path.is_file() for path in found.values()) else {}


def workflow(given: Given) -> Iterator[str]:
    """The copies of the Snakefile and the rules beside the page against those of the card's code."""
    known = known_workflow(given)
    if not known:
        return
    there = {name for name in given.card["files"] if name.startswith((f"{WORKFLOW}/harness/", f"{WORKFLOW}/Snakefile"))}
    for name in sorted({f"{WORKFLOW}/{name}" for name in known} | there):
        path, own = known.get(name.removeprefix(f"{WORKFLOW}/")), given.folders.base / name
        if path is None:
            yield f"{name}: is no file of the workflow"
        elif not own.is_file() or file_sha256(own) != file_sha256(path):
            yield f"{name}: is not the one of the code that the card names"
