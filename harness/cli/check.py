"""The command `harness check`."""

import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from harness.base.errors import HarnessError, reason
from harness.base.paths import checkout
from harness.base.words import printable
from harness.cli import options
from harness.cli.options import CORES, RESULTS, Claims, Cores, Json, Paper, Results, Scale


def check(
    baseline: Annotated[
        str, typer.Option(metavar="REF", help="A file, a git revision, or `committed` for the file in the checkout.")
    ] = "committed",
    paper: Paper = "",
    scale: Scale = "",
    claims: Claims = "",
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write JUnit XML.")] = None,
    summary: Annotated[Path | None, typer.Option(metavar="FILE", help="Write Markdown for a pull request.")] = None,
    badge: Annotated[Path | None, typer.Option(metavar="FILE", help="Write JSON for a shields.io badge.")] = None,
    json: Json = False,
    write_baseline: Annotated[
        bool, typer.Option("--write-baseline", help="Run the whole scale and write the committed baseline from it.")
    ] = False,
    freeze: Annotated[
        bool, typer.Option("--freeze", help="Only freeze the claims' regions that are not frozen yet, at all scales.")
    ] = False,
    cores: Cores = CORES,
    results: Results = RESULTS,
) -> None:
    """Run what a change could affect and compare the results with a baseline. A finished run is never modified.

    The check works in its own folder, RESULTS/.check. It trains again what the change, or another version of PyTorch
    or NumPy, could affect, and takes everything else from the run.

    Exit status 0: no regression. 1: a claim that the baseline supports is no longer supported, a calibration value
    has left its band, a claim's region is not the frozen one and no erratum says why, or, at a scale that judges no
    claims, the table has other rows. 2: an error, such as a failed
    run. Other differences are only listed.
    """
    files = {name: path.absolute() for name, path in (("junit", junit), ("summary", summary), ("badge", badge)) if path}
    paper_name, scale_name = paper, scale
    try:
        paper_name, scale_name = options.paper_and_scale(paper, scale)
        status = _check(baseline, paper_name, scale_name, claims, json, write_baseline, freeze, cores, results, files)
    except (HarnessError, OSError, MemoryError) as error:
        print(f"error: {printable(options.with_run(reason(error)))}", file=sys.stderr)
        status = _failed(reason(error), paper_name, scale_name, files)
    except KeyboardInterrupt:
        _failed("stopped", paper_name, scale_name, files)
        status = 130
    except Exception as error:  # a bug must not look like a regression, whose exit status is 1
        traceback.print_exc()
        status = _failed(f"a bug: {type(error).__name__}: {error}", paper_name, scale_name, files)
    raise typer.Exit(status)


def _check(
    reference: str,
    paper: str,
    scale: str,
    claims: str,
    json: bool,
    write_baseline: bool,
    freeze: bool,
    cores: int,
    results: Path | None,
    files: dict[str, Path],
) -> int:
    if (write_baseline or freeze) and (claims or reference != "committed" or files or (write_baseline and freeze)):
        option = "--write-baseline" if write_baseline else "--freeze"
        raise HarnessError(f"{option}: compares nothing; omit the other options")
    from harness.check import regression
    from harness.check.outputs import show, write

    subject = regression.Subject(checkout().resolve(), paper, scale, options.results_of(results), cores)
    console = options.console(json)
    if freeze:
        regression.freeze_regions(subject, console)
        return 0
    if write_baseline:
        regression.make_baseline(subject, console)
        return 0
    finished = regression.check(subject, reference, claims, console)
    write(finished, files)
    show(finished, console)
    if json:
        options.print_json(finished.as_json())
    return int(finished.report is None or finished.report.failed)


def _failed(error: str, paper: str, scale: str, files: dict[str, Path]) -> int:
    """Write the error to every requested file, so that none keeps the result of an earlier check."""
    from harness.check.outputs import Check, write

    try:
        write(Check(paper, scale, error=error), files)
    except (HarnessError, OSError) as second:
        print(f"error: {printable(reason(second))}", file=sys.stderr)
    return 2
