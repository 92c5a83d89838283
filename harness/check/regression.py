"""`harness check`: run what a change could affect, in a folder of its own, and compare the results with a baseline."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from harness.base.errors import HarnessError
from harness.base.paths import SHIPPED
from harness.check.affected import selection
from harness.check.baseline import baseline_path, read_baseline, write_baseline
from harness.check.decide import Whole, compare, regions
from harness.check.observed import measure
from harness.check.outputs import Check
from harness.check.workspace import check_results, lay_out
from harness.paper import Spec
from harness.paper.frozen import FILE, freeze, write_frozen
from harness.plan.needs import judged
from harness.results.folders import Folders
from harness.results.open import folders_of, load_scale
from harness.results.selection import as_selected
from harness.workflow.locks import only_run
from harness.workflow.reproduce import Request, reproduce


@dataclass(frozen=True)
class Subject:
    """What is checked: a paper at a scale. `results` holds its run, if there is one; the check works below it."""

    root: Path
    paper: str
    scale: str
    results: Path
    cores: int

    @property
    def spec(self) -> Spec:
        """The whole scale."""
        return load_scale(self.root, self.paper, self.scale)

    @property
    def run(self) -> Folders:
        """The folders of the run, which the check only reads."""
        return folders_of(self.root, self.results, self.paper, self.scale)

    @property
    def workspace(self) -> Folders:
        """The folders in which the check works."""
        return folders_of(self.root, check_results(self.results), self.paper, self.scale)


def check(subject: Subject, reference: str, claims: str, console: Console) -> Check:
    """Run what `claims` need, or else what the claims that the baseline supports need, and compare the results.

    `reference` names the baseline, see `harness.check.baseline.read_baseline`. Raises HarnessError.
    """
    spec = subject.spec
    before, where = read_baseline(reference, spec.folder, subject.paper, subject.scale)
    workspace = _laid_out(subject, spec)
    selected = selection(spec, workspace, before, claims)
    _run(subject, selected, console)
    now = measure(as_selected(spec, selected, every_replicate=True), workspace)
    whole = Whole(judged(spec), list(spec.scale.experiments))
    moves = regions(spec.claims, subject.scale, spec.frozen, before.claims)
    report = compare(before, now, whole, partial=selected is not None, moves=moves)
    titles = {claim.id: claim.title for claim in spec.claims}
    return Check(subject.paper, subject.scale, titles, where, before, now, report, papers_own=spec.scale.papers_own)


def make_baseline(subject: Subject, console: Console) -> None:
    """Run the whole scale in the check's folder and write the committed baseline. Raises HarnessError."""
    spec = _own(subject.spec)
    workspace = _laid_out(subject, spec)
    _run(subject, None, console)
    results, path = measure(spec, workspace), baseline_path(spec.folder, subject.scale)
    write_baseline(path, results)
    name = path.relative_to(spec.folder.parent.parent)
    supported = f"{len(results.supported)} of {len(results.claims)} claims supported"
    console.print(f"{name}: {supported}; commit it", soft_wrap=True)
    for experiment, value in results.calibration.items():
        if value.band and not value.fits:
            console.print(
                f"{experiment}: its calibration value is outside its band, so no check guards it", soft_wrap=True
            )


def freeze_regions(subject: Subject, console: Console) -> None:
    """Freeze the regions of the paper's claims at all scales. What is frozen stays as it was."""
    spec = _own(subject.spec)
    frozen, path = freeze(spec.claims, spec.frozen), spec.folder / FILE
    write_frozen(path, frozen)
    count = sum(
        entry != spec.frozen.get(claim, {}).get(scale) for claim in frozen for scale, entry in frozen[claim].items()
    )
    console.print(f"{path.relative_to(spec.folder.parent.parent)}: {count} entries frozen; commit it", soft_wrap=True)


def _own(spec: Spec) -> Spec:
    """The spec. Raises HarnessError if its paper is the installed package's, in whose folder nothing is written."""
    if spec.folder.is_relative_to(SHIPPED):
        raise HarnessError(f"{spec.folder}: is the installed package's; copy it to papers/ here, or use a checkout")
    return spec


def _laid_out(subject: Subject, spec: Spec) -> Folders:
    """The check's folder, filled with the run's valid results."""
    with only_run(subject.root, subject.workspace.base):
        lay_out(spec, subject.run, subject.workspace)
    return subject.workspace


def _run(subject: Subject, selected: list[str] | None, console: Console) -> None:
    """Run the selected claims, or with None the whole scale, in the check's folder."""
    request = Request(
        subject.paper,
        subject.scale,
        check_results(subject.results),
        subject.cores,
        claims=",".join(selected or []),
        # in as many replicates as the baseline: with fewer, a supported claim could come out inconclusive
        every_replicate=bool(selected),
        adopts=True,
    )
    reproduce(subject.root, request, console)
