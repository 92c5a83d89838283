"""The selection of a run: the claims that `--claims`, `--budget` or `--until-decided` chose, kept with its results.

While the file exists, every command and every rule of the workflow uses only the part of the scale that these claims
need. `harness reproduce` without these options removes it and runs the whole scale.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from harness.base.errors import HarnessError
from harness.base.files import read_json, write_json
from harness.paper import Spec
from harness.paper.claims import LOOKS
from harness.results.folders import Folders


def read_selection(folders: Folders) -> dict[str, Any] | None:
    """The recorded selection: claims, budget as text ("" without one), whether it has every replicate of the scale, and
    whether its run has finished; of a planned design also `looks`, the replicates of each claim's look, and `spent`,
    the seconds of the budget that its looks took.

    None without a selection. Raises HarnessError for a broken file.
    """
    if not folders.selection.exists():
        return None
    selection = read_json(folders.selection)
    claims = selection.get("claims") if isinstance(selection, dict) else None
    if not isinstance(claims, list) or not all(isinstance(name, str) for name in claims):
        raise HarnessError(f"{folders.selection}: has no list of claims. Delete it and run `harness reproduce` again.")
    looks, spent = selection.get("looks", {}), selection.get("spent", 0.0)
    known = isinstance(looks, dict) and all(type(look) is int and look in LOOKS for look in looks.values())
    if not known or (looks and looks.keys() != set(claims)) or not isinstance(spent, int | float):
        raise HarnessError(
            f"{folders.selection}: looks or spent: not one of {', '.join(map(str, LOOKS))} replicates for each claim, "
            "and seconds. Delete it and run `harness reproduce` again."
        )
    return dict(selection)


def write_selection(
    folders: Folders,
    claims: list[str] | None,
    budget: str = "",
    every_replicate: bool = False,
    finished: bool = False,
    design: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Record a selection, of a planned design with its `looks` and `spent`; None removes the recorded one."""
    if claims is None:
        folders.selection.unlink(missing_ok=True)
    else:
        selection = {"claims": claims, "budget": budget, "every_replicate": every_replicate, "finished": finished}
        write_json(folders.selection, selection | dict(design))


def as_selected(
    spec: Spec,
    claims: list[str] | None,
    every_replicate: bool = False,
    looks: Mapping[str, int] = MappingProxyType({}),
) -> Spec:
    """The part of the scale that these claims need, in the fewest replicates, in those of their looks, or in all; the
    whole scale for None."""
    if claims is None:
        return spec
    from harness.plan.needs import selected

    return selected(spec, claims, every_replicate, looks)


def as_recorded(spec: Spec, folders: Folders) -> Spec:
    """The scale, reduced to the recorded selection if there is one. Raises HarnessError if it names unknown claims."""
    selection = read_selection(folders)
    if selection is None:
        return spec
    from harness.plan.needs import judged

    unknown = [name for name in selection["claims"] if name not in judged(spec)]
    if unknown:
        raise HarnessError(
            f"{folders.selection}: {', '.join(unknown)}: scale {spec.scale_name} judges no such claim. "
            "Run `harness reproduce` with --claims, --budget or neither."
        )
    return as_selected(spec, selection["claims"], selection.get("every_replicate") is True, selection.get("looks", {}))
