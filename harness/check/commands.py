"""`harness check`: run what a change could affect, and fail when it takes a supported claim away."""

import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.errors import HarnessError
from harness.paths import FIRST_PAPER, checkout, other_results, results_folder

if TYPE_CHECKING:
    from harness.check.outputs import Check


def check(
    baseline: Annotated[
        str, typer.Option(metavar="REF", help="A file, a git revision, or `committed`: the file in the checkout.")
    ] = "committed",
    paper: Annotated[str, typer.Option(help="A folder of papers/.")] = FIRST_PAPER,
    scale: Annotated[str, typer.Option(help="A scale of the paper: smoke, mini or paper.")] = "mini",
    claims: Annotated[str, typer.Option(help="Only what these claims need, such as C6,C7.")] = "",
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write JUnit XML.")] = None,
    summary: Annotated[Path | None, typer.Option(metavar="FILE", help="Write Markdown for a pull request.")] = None,
    badge: Annotated[Path | None, typer.Option(metavar="FILE", help="Write JSON for a shields.io badge.")] = None,
    write_baseline: Annotated[
        bool, typer.Option("--write-baseline", help="Run the whole scale and make the committed baseline from it.")
    ] = False,
    cores: Annotated[int, typer.Option(min=1, help="Processor cores to use.")] = os.cpu_count() or 1,
    results: Annotated[Path, typer.Option(help="Where runs are kept.")] = Path("results"),
) -> None:
    """Run what a change could affect and hold it against a baseline.

    Exit status 0: no regression. 1: a claim that the baseline supports no longer is, a calibration value left its
    band, or, at a scale that judges no claims, the table has other rows. 2: an error, such as a run that failed.
    Other differences are listed. Networks that the change can't affect are taken from the results folder.
    """
    files = {name: path.absolute() for name, path in (("junit", junit), ("summary", summary), ("badge", badge)) if path}
    try:
        if write_baseline:
            if claims or baseline != "committed" or files:
                raise HarnessError("--write-baseline: is of the whole scale and compares nothing: give it alone")
            status = _write_baseline(paper, scale, cores, results)
        else:
            status = _check(baseline, paper, scale, claims, cores, results, files)
    except HarnessError as error:
        status = _failed(str(error), paper, scale, files)
        print(f"error: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        status = 130
    except Exception as error:  # a bug must not look like a regression, whose exit status is 1
        traceback.print_exc()
        status = _failed(f"a bug: {type(error).__name__}: {error}", paper, scale, files)
    raise typer.Exit(status)


def _check(
    reference: str, paper: str, scale: str, claims: str, cores: int, results: Path, files: dict[str, Path]
) -> int:
    from harness.budget import judged
    from harness.check.baseline import read_baseline
    from harness.check.decide import Whole, compare
    from harness.check.measure import measure
    from harness.check.outputs import Check, show
    from harness.check.run import selection
    from harness.workflow.selection import as_selected

    spec, folders = _run(paper, scale, results)
    before, where = read_baseline(reference, spec.folder, paper, scale)
    chosen = selection(spec, folders, before, claims)
    _reproduce(paper, scale, cores, results, chosen)
    now = measure(as_selected(spec, chosen, every_replicate=True), folders)
    whole = Whole(judged(spec), list(spec.scale.experiments))
    report = compare(before, now, whole, partial=chosen is not None)
    found = Check(paper, scale, {claim.id: claim.title for claim in spec.claims}, where, before, now, report)
    _write(found, files)
    show(found, _console())
    return int(report.failed)


def _write_baseline(paper: str, scale: str, cores: int, results: Path) -> int:
    from harness.check.baseline import committed, write_baseline
    from harness.check.measure import measure

    spec, folders = _run(paper, scale, results)
    _reproduce(paper, scale, cores, results, None)
    found, path = measure(spec, folders), committed(spec.folder, scale)
    write_baseline(path, found)
    outside = [name for name, one in found.calibration.items() if one.band and not one.fits]
    console = _console()
    named = path.relative_to(spec.folder.parent.parent)
    console.print(f"{named}: {len(found.supported)} of {len(found.claims)} claims supported; commit it", soft_wrap=True)
    for name in outside:
        console.print(f"{name}: its calibration value lies outside its band: nothing guards it", soft_wrap=True)
    return 0


def _run(paper: str, scale: str, results: Path) -> tuple[Any, Any]:
    """The whole scale, checked, and where its run lies."""
    from harness.spec import load_spec
    from harness.workflow.check import check_settings
    from harness.workflow.context import Folders

    root = checkout().resolve()
    spec = load_spec(root, paper, scale)
    check_settings(spec)
    base = root / results
    return spec, Folders(results_folder(base, paper, scale), other_results(base, root, paper, scale))


def _reproduce(paper: str, scale: str, cores: int, results: Path, claims: list[str] | None) -> None:
    from harness.cli import reproduce

    # in as many replicates as the baseline: with fewer, a supported claim could come out inconclusive
    chosen = ",".join(claims or [])
    options: dict[str, Any] = {"claims": chosen, "every_replicate": bool(chosen)}
    reproduce(paper=paper, scale=scale, cores=cores, results=results, **options)


def _failed(error: str, paper: str, scale: str, files: dict[str, Path]) -> int:
    """Say in every file asked for that there was an error, so that none keeps an earlier check's result."""
    from harness.check.outputs import Check

    try:
        _write(Check(paper, scale, error=error), files)
    except HarnessError as second:
        print(f"error: {second}", file=sys.stderr)
    return 2


def _write(check: "Check", files: dict[str, Path]) -> None:
    from harness.check import outputs
    from harness.files import write_json, write_text

    if "junit" in files:
        write_text(files["junit"], outputs.junit(check))
    if "summary" in files:
        write_text(files["summary"], outputs.summary(check))
    if "badge" in files:
        write_json(files["badge"], outputs.badge(check))


def _console() -> Any:
    from rich.console import Console

    # a log file gets whole lines, whatever width it claims
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=160)
