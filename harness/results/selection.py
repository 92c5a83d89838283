"""The selection of a run: the claims that `harness reproduce --claims` or `--budget` chose, kept with its results.

While the file exists, every command and every rule of the workflow uses only the part of the scale that these claims
need. `harness reproduce` without these options removes it and runs the whole scale.
"""

from typing import Any

from harness.base.errors import HarnessError
from harness.base.files import read_json, write_json
from harness.paper import Spec
from harness.results.folders import Folders


def read_selection(folders: Folders) -> dict[str, Any] | None:
    """The recorded selection: claims, budget as text ("" without one), whether it has every replicate of the scale, and
    whether its run has finished.

    None without a selection. Raises HarnessError for a broken file.
    """
    if not folders.selection.exists():
        return None
    selection = read_json(folders.selection)
    claims = selection.get("claims") if isinstance(selection, dict) else None
    if not isinstance(claims, list) or not all(isinstance(name, str) for name in claims):
        raise HarnessError(f"{folders.selection}: has no list of claims. Delete it and run `harness reproduce` again.")
    return dict(selection)


def write_selection(
    folders: Folders,
    claims: list[str] | None,
    budget: str = "",
    every_replicate: bool = False,
    finished: bool = False,
) -> None:
    """Record a selection; None removes the recorded one."""
    if claims is None:
        folders.selection.unlink(missing_ok=True)
    else:
        selection = {"claims": claims, "budget": budget, "every_replicate": every_replicate, "finished": finished}
        write_json(folders.selection, selection)


def as_selected(spec: Spec, claims: list[str] | None, every_replicate: bool = False) -> Spec:
    """The part of the scale that these claims need, in the fewest replicates or in all; the whole scale for None."""
    if claims is None:
        return spec
    from harness.plan.needs import selected

    return selected(spec, claims, every_replicate)


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
    return as_selected(spec, selection["claims"], selection.get("every_replicate") is True)
