"""A finished run in Python: `harness.load("results/<paper>/<scale>")`, for notebooks and scripts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from harness.base.errors import HarnessError
from harness.base.paths import checkout
from harness.base.untrusted import read_checked_json
from harness.claims.document import ClaimVerdict, read_claims
from harness.paper import Spec
from harness.paper.columns import COLUMN_TYPES, NETWORK_MEASURES, PAIR_MEASURES
from harness.paper.load import dump
from harness.report import formats
from harness.report.summary import one_line
from harness.results.folders import Folders
from harness.results.open import load_scale
from harness.results.selection import as_recorded
from harness.results.tables import read_curves, read_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from harness.share.export import Ticket


#: pandas types with real missing values, by the type of a column
TYPES = {"text": "string", "whole": "Int64", "real": "Float64"}
CLAIM_COLUMNS = {
    **dict.fromkeys(("id", "title", "verdict", "size", "unit", "reason"), "text"),
    **dict.fromkeys(("estimate", "low", "high", "level", "region_low", "region_high"), "real"),
    **dict.fromkeys(("replicates", "needed"), "whole"),
}


@dataclass(frozen=True)
class LoadedRun:
    """A finished run. What a row does not have is `pd.NA`.

    Attributes:
        paper, scale: their names.
        networks: a row per trained network.
        pairs: a row per compared pair of networks.
        curves: a row per point of the line between two networks: test or training error in percent at `alpha`.
        claims: a row per claim, by its id; `low` to `high` is the interval that decides, at `level`.
        verdicts: the claims in full, with their parts.
    """

    paper: str
    scale: str
    networks: pd.DataFrame
    pairs: pd.DataFrame
    curves: pd.DataFrame
    claims: pd.DataFrame
    verdicts: list[ClaimVerdict]
    _spec: Spec
    _folders: Folders

    def __repr__(self) -> str:
        counts = f"{len(self.networks)} networks, {len(self.pairs)} pairs, {one_line(self.verdicts)}"
        return f"<run of {self.paper}, scale {self.scale}: {counts}>"

    def figure(self, name: str, experiments: Sequence[str] = ()) -> "Figure":
        """A figure of the page, such as "accuracy_density", of some or all experiments.

        Raises HarnessError for an unknown name or experiment, and if the run has nothing to draw in it.
        """
        from harness.report import style
        from harness.report.figures import Data
        from harness.report.page import FIGURES
        from harness.stages.judging import published, scale_content

        figures = {file.replace("-", "_"): draw for _, file, _, _, draw in FIGURES}
        if name not in figures:
            raise HarnessError(f"figure {name!r:.80}: unknown; choose one of {', '.join(figures)}")
        table, content = read_table(self._folders.table), scale_content(self._spec)["experiments"]
        for experiment in experiments:
            if experiment not in content:
                raise HarnessError(
                    f"experiment {experiment!r:.80}: not in this run; choose one of {', '.join(content)}"
                )
        if experiments:
            table = table[table["experiment"].isin(experiments)]
            content = {experiment: content[experiment] for experiment in experiments}
        data = Data.of(
            table, read_curves(self._folders.all_curves), published(self._spec), content, dump(self._spec.paper)
        )
        with style.look():
            figure: Figure | None = figures[name](data)
        if figure is None:
            raise HarnessError(f"figure {name!r}: this run has nothing to draw in it")
        return figure

    def ticket(self, experiment: str, level: int, k: int = 0, replicate: int = 0, branch: str = "imp") -> "Ticket":
        """A ticket of the run: its masks and rewound weights, named as in a plain PyTorch network.

        Raises HarnessError for one that the run does not have, or whose network has no plain definition.
        """
        from harness.share.export import ticket_of

        return ticket_of(self._spec, self._folders, experiment, replicate, k, level, branch)


def load(folder: str | Path) -> LoadedRun:
    """A finished run from its folder, results/<paper>/<scale>, which may be somebody else's.

    Raises HarnessError if the folder holds none, or a file of it is broken.
    """
    folders = Folders(Path(folder).expanduser().absolute())
    if not folders.provenance.exists():
        raise HarnessError(f"{folder}: no finished run. Give the folder results/<paper>/<scale> of one.")
    provenance = read_checked_json(folders.provenance)
    names = [provenance.get(name) if isinstance(provenance, dict) else None for name in ("paper", "scale")]
    if not all(isinstance(name, str) for name in names):
        raise HarnessError(f"{folders.provenance}: field paper or scale is missing. Pull or run it again.")
    paper, scale = map(str, names)
    spec = as_recorded(load_scale(checkout(), paper, scale), folders)
    table, verdicts = read_table(folders.table), read_claims(folders.claims)
    networks = table[table["row"] == "network"].drop(
        columns=["row", "run_b", "comparison", "data_order_b", *PAIR_MEASURES]
    )
    pairs = table[table["row"] == "pair"].drop(columns=["row", *NETWORK_MEASURES])
    return LoadedRun(
        paper,
        scale,
        _nullable(networks),
        _nullable(pairs),
        _nullable(read_curves(folders.all_curves)),
        claims_frame(verdicts),
        verdicts,
        spec,
        folders,
    )


def _nullable(table: pd.DataFrame) -> pd.DataFrame:
    return table.reset_index(drop=True).astype({name: TYPES[COLUMN_TYPES[name]] for name in table.columns})


def claims_frame(verdicts: Sequence[ClaimVerdict]) -> pd.DataFrame:
    """The claims as a data frame with a row for each, by its id."""
    none = (None, None)
    rows = [
        {
            "id": claim.id,
            "title": claim.title,
            "verdict": claim.verdict,
            "size": claim.size,
            "estimate": claim.estimate,
            "low": (claim.interval or none)[0],
            "high": (claim.interval or none)[1],
            "level": claim.level,
            "unit": formats.unit_of(formats.deciding_part(claim)) if claim.judged else None,
            "region_low": claim.region[0],
            "region_high": claim.region[1],
            "replicates": claim.replicates,
            "needed": claim.needed,
            "fragile": bool(claim.fragile),
            "reason": claim.reason,
        }
        for claim in formats.by_id(verdicts)
    ]
    types = {name: TYPES[kind] for name, kind in CLAIM_COLUMNS.items()}
    return pd.DataFrame(rows).astype(types).set_index("id")
