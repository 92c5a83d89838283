"""Whether a run represents its recipe: measures of the dense networks against the bands that the scale names.

A band is no region of a claim. Outside of one, the experiment's networks are not the paper's, or not those that the
scale was made for, and no claim that reads them is tested.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from harness.claims.table import Table
from harness.paper.claims import Cell
from harness.paper.models import Band, Gauge


class Measure(NamedTuple):
    """A measure of an experiment's dense networks: its name and unit in sentences, its column and rows of the table."""

    name: str
    unit: str
    column: str
    rows: Mapping[str, str | int]


MEASURES: dict[Gauge, Measure] = {
    "test_accuracy": Measure("test accuracy", "%", "test_accuracy", {}),
    "train_loss": Measure("final training loss", "", "train_loss", {}),
    "data_order_distance": Measure(
        "distance between data orders", "", "distance", {"comparison": "data_order", "k": 0}
    ),
}
COLUMNS = {measure.column for measure in MEASURES.values()}
Bands = Mapping[str, Mapping[Gauge, Band]]  # by experiment


class Calibrated(NamedTuple):
    """A measure's mean over the replicates of an experiment, None if it has none, and the band it should lie in."""

    measure: Measure
    value: float | None
    band: Band | None

    @property
    def fits(self) -> bool:
        """Whether there is a value, in the band."""
        return self.value is not None and self.band is not None and self.band[0] <= self.value <= self.band[1]


def calibrated(table: Table, experiment: str, measure: Gauge, band: Band | None = None) -> Calibrated:
    """A measure of an experiment's dense networks in a table. Raises ValueError for a band whose bounds are swapped."""
    if band and not band[0] <= band[1]:
        raise ValueError(f"calibration of {experiment}: {list(band)} is not a band; give [lowest, highest]")
    of = MEASURES[measure]
    cell = Cell(experiment=experiment, branch="dense", **of.rows)  # type: ignore[arg-type]
    values = list(table.cell(cell, of.column).values.values())
    return Calibrated(of, float(np.mean(values)) if values else None, band)


def misfits(table: Table, bands: Bands) -> dict[str, str]:
    """The reason for each experiment that has a measure outside its band, or none to hold against it."""
    reasons = {name: "; ".join(_misfits(table, name, own)) for name, own in bands.items()}
    return {name: reason for name, reason in reasons.items() if reason}


def _misfits(table: Table, experiment: str, bands: Mapping[Gauge, Band]) -> Iterator[str]:
    for name, band in bands.items():
        measure, value, _ = found = calibrated(table, experiment, name, band)
        told = f"its calibration band {told_band(band, measure.unit)}"
        if value is None:
            yield f"{experiment}'s dense networks have no {measure.name} to hold against {told}"
        elif not found.fits:
            mean = f"a {measure.name} of {value:.4g}{measure.unit}"
            yield f"{experiment}'s dense networks have {mean} on average, outside {told}"


def told_band(band: Band, unit: str) -> str:
    """A band in words."""
    return f"{band[0]:g} to {band[1]:g}{unit}"
