"""The stages that judge: the claims' verdicts, the report page, and the results card."""

from typing import Any

import pandas as pd

from harness.base.errors import HarnessError
from harness.base.files import read_json, write_json
from harness.claims.document import ClaimVerdict, Power, read_claims, write_claims
from harness.claims.judge import judge, replicates_of
from harness.claims.looks import Look, appended, look, read_looks, sentence, with_looks, write_looks
from harness.claims.metrics import metrics
from harness.claims.power import power
from harness.claims.table import TestSet
from harness.data import source_of
from harness.paper import Spec, frozen
from harness.paper.claims import LEVEL_OF_LOOK, ScaleClaim
from harness.paper.load import dump
from harness.report.card import read_card, write_card
from harness.report.crate import copy_workflow, write_crate
from harness.results.code import PACKAGE
from harness.results.context import Work
from harness.results.environment import code_revision
from harness.results.folders import Folders
from harness.results.keys import identity
from harness.results.tables import read_curves, read_table


def claims_stage(work: Work) -> None:
    """Judge the claims on the table. Write claims.json, and metrics.json for tools that compare numbers."""
    spec, folders = work.spec, work.folders
    table = read_table(folders.table)
    claims = judged(spec, table)
    revision = code_revision(PACKAGE.parent)[0]
    looks = appended(looks_of(folders), look(claims, replicates_of(table), bool(spec.looks), revision))
    write_looks(folders.looks, looks)
    claims = with_looks(claims, spec.claims, spec.scale_name, looks)
    write_json(folders.metrics, metrics(claims))
    write_claims(folders.claims, claims)


def looks_of(folders: Folders) -> list[Look]:
    """The looks at a run so far. Where looks.json is lost or broken, the card still has them. Raises HarnessError."""
    try:
        if folders.looks.is_file() or not folders.card.is_file():
            return read_looks(folders.looks) if folders.looks.is_file() else []
    except HarnessError:
        if not folders.card.is_file():
            raise
    return [Look.model_validate(one) for one in read_card(folders)["looks"]]


def judged(spec: Spec, table: pd.DataFrame) -> list[ClaimVerdict]:
    """The verdicts on a table of a run."""
    settings = spec.scale.experiments
    bands = {name: setting.bands for name, setting in settings.items() if setting.bands}
    sources = {name: source_of(setting.data, spec.scale.data) for name, setting in settings.items()}
    test_sets = {name: TestSet(source.test_samples, source.classes) for name, source in sources.items()}
    papers = spec.published if spec.scale.papers_own else None
    verdicts = judge(spec.claims, spec.scale_name, table, bands, spec.whole_replicates, test_sets, papers, spec.looks)
    return [
        verdict.model_copy(update={"power": _power(spec, claim.scales[spec.scale_name], verdict)})
        if spec.scale_name in claim.scales
        else verdict
        for verdict, claim in zip(verdicts, spec.claims, strict=True)
    ]


def _power(spec: Spec, entry: ScaleClaim, verdict: ClaimVerdict) -> Power:
    """The power of a claim with the replicates of the run, or with those of the planned look that judged it."""
    replicates = {name: setting.replicates for name, setting in spec.scale.experiments.items()}
    if not spec.looks:
        return power(entry, replicates, spec.published)
    if verdict.judged:
        replicates = dict.fromkeys(replicates, verdict.replicates)
    return power(entry, replicates, spec.published, confidence=LEVEL_OF_LOOK)


def report_stage(work: Work) -> None:
    """Build the page."""
    spec, folders = work.spec, work.folders
    from harness.report import build_report

    build_report(
        dump(spec.paper),
        scale_content(spec),
        read_claims(folders.claims),
        read_table(folders.table),
        read_curves(folders.all_curves),
        published(spec),
        {**read_json(folders.provenance), "identity": identity(spec), "looks": sentence(looks_of(folders))},
        folders.report,
    )


def card_stage(work: Work) -> None:
    """The last stage: write the card, and its content as a Workflow Run RO-Crate."""
    copy_workflow(work.spec, work.folders)
    write_card(work.spec, work.folders)
    write_crate(read_card(work.folders), work.folders)


def published(spec: Spec) -> pd.DataFrame:
    """The paper's published curves, of all figures; an empty table if the paper has none."""
    files = sorted((spec.folder / "published").glob("*.csv"))
    return pd.concat([pd.read_csv(file) for file in files], ignore_index=True) if files else pd.DataFrame()


def scale_content(spec: Spec) -> dict[str, Any]:
    """The scale as the page shows it."""
    experiments = {}
    for name, setting in spec.scale.experiments.items():
        levels = max((sweep.levels for sweep in setting.sweeps), default=0)
        experiments[name] = {
            "title": spec.experiments[name].title,
            "question": spec.experiments[name].question,
            "data": setting.data,
            "network": setting.network,
            "recipe": dump(spec.recipe(name)),
            "rewind": sorted(setting.rewind_grid()),
            "densities": [setting.pruning.density(level) for level in range(levels + 1)],
            "replicates": setting.replicates,
            "calibration": {measure: list(band) for measure, band in setting.bands.items()},
        }
    return {
        "name": spec.scale_name,
        "description": spec.scale.description,
        "chosen": spec.scale.chosen,
        "judges_claims": spec.scale.judges_claims,
        "frozen": frozen.dates(spec.scale_name, spec.frozen),
        "moves": frozen.moves(spec.claims, spec.scale_name, spec.frozen),
        "experiments": experiments,
    }
