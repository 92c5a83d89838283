"""`harness publish`: makes a finished run the reference of its paper and scale, and writes docs/reproduction.md."""

import io
import shutil
import tempfile
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from harness.base.errors import HarnessError
from harness.base.files import write_atomically
from harness.base.paths import REFERENCE, references, results_folder
from harness.base.words import clean, natural_key
from harness.claims.document import read_claims
from harness.paper.claims import LEFT_OUT
from harness.publish.reference import FILES, altered, open_reference
from harness.publish.reproduction import write_page
from harness.report.summary import one_line
from harness.results.context import Work
from harness.results.folders import Folders
from harness.results.selection import read_selection
from harness.stages.judging import claims_stage
from harness.verify.shared_run import SharedRun, open_run
from harness.verify.verify import CHECKS, verify


def publish(root: Path, folders: Folders, paper: str, scale: str, console: Console) -> None:
    """Verify a finished run, copy its small files to reference/<paper>/<scale>/, judge them with the code of today and
    write the page.

    Raises HarnessError for a run that is not finished, was altered, or that uncommitted or other code made.
    """
    _refuse(_finished(folders, paper, scale))
    target = results_folder(root / REFERENCE, paper, scale)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".publish-", dir=root / REFERENCE) as staging:
        staged = results_folder(Path(staging), paper, scale)
        for name in FILES:
            if (folders.base / name).is_file():
                write_atomically(staged / name, partial(shutil.copyfile, folders.base / name))
        _judge(open_reference(root, paper, scale, Path(staging)), console)
        shutil.rmtree(target, ignore_errors=True)
        staged.rename(target)
    claims = read_claims(target / "claims.json")
    left_out = sorted((claim.id for claim in claims if claim.reason == LEFT_OUT), key=natural_key)
    _say(console, f"{target.relative_to(root)}: {one_line(claims)}")
    if left_out:
        _say(console, f"Not selected, and so left 'not tested': {', '.join(left_out)}")
    _write(root, console)


def publish_again(root: Path, console: Console) -> None:
    """Judge all references again with the code of today, and write the page.

    Raises HarnessError for a reference that was altered.
    """
    for paper, scale in references(root):
        reference = open_reference(root, paper, scale)
        for line in altered(reference):
            raise HarnessError(f"{line}. Restore it from git")
        _judge(reference, console)
    _write(root, console)


def _judge(reference: SharedRun, console: Console) -> None:
    """Judge a reference in its place. Says which verdicts are no longer those that it came with."""
    before = _verdicts(reference)
    claims_stage(Work(reference.spec, reference.folders, "claims"))
    after = _verdicts(reference)
    for name in sorted({*before, *after}, key=natural_key):
        if before.get(name) != after.get(name):
            was, now = (verdicts.get(name, "not there") for verdicts in (before, after))
            _say(console, f"{reference.spec.paper.id} at {reference.spec.scale_name}: {name}: {was} before, now {now}")


def _verdicts(reference: SharedRun) -> dict[str, str]:
    """Each claim's verdict and size in words, by metrics.json: its form has changed less than that of claims.json."""
    claims = reference.read_object("metrics.json").get("claims")
    if not isinstance(claims, dict) or not all(isinstance(claim, dict) for claim in claims.values()):
        raise HarnessError(f"{reference.folders.metrics}: claims: holds no verdicts. Restore it")
    return {
        name: str(claim.get("verdict")) + (f", size {claim['size']}" if "size" in claim else "")
        for name, claim in claims.items()
    }


def _write(root: Path, console: Console) -> None:
    path = write_page(root).relative_to(root)
    _say(console, f"Page: {path}. Commit it with {REFERENCE}/")


def _say(console: Console, line: str) -> None:
    console.print(escape(clean(line)), soft_wrap=True)


def _finished(folders: Folders, paper: str, scale: str) -> SharedRun:
    """The run, if it is finished. Raises HarnessError otherwise."""
    selection = read_selection(folders)
    if not folders.card.is_file() or (selection is not None and not selection.get("finished")):
        raise HarnessError(f"{folders.base}: holds no finished run. `harness reproduce` finishes it")
    return open_run(folders, paper, scale)


def _refuse(run: SharedRun) -> None:
    """Raise HarnessError for a run of uncommitted code, and for one that `harness verify` does not pass."""
    base, records = run.folders.base, run.provenance["stages"]
    unclean = [record["stage"] for record in records if record["tree_clean"] is not True]
    if run.card["code"]["tree_clean"] is not True or unclean:
        what = f"stage {unclean[0]}" if unclean else "the card"
        raise HarnessError(f"{base}: {what}: code that git has no commit of made it. Commit the code and run it again")
    findings = verify(run, 0, 0, Console(file=io.StringIO()))
    if findings.differences:
        first, *more = findings.differences
        others = f" and {len(more)} more differences" if more else ""
        raise HarnessError(f"{base}: was altered: {first:.300}{others}. `harness verify` shows all")
    judged = {name for name, _, parts in CHECKS if parts == ("claims",)}  # judged again below, by this code
    if incomparable := [name for name in findings.incomparable if name not in judged]:
        what, there = ", ".join(incomparable), run.card["code"]["revision"][:10]
        raise HarnessError(f"{base}: other code made {what}. Check out {there} to verify it, or run it again here")
