"""The selection of a run: the claims that `harness reproduce --claims` or `--budget` chose, kept with its results.

While the file is there, every command and every rule of the workflow sees the smaller scale that these claims need.
`harness reproduce` without the options removes it and goes on to the whole.
"""

from typing import Any

from harness.errors import HarnessError
from harness.files import read_json, write_json
from harness.spec import Spec
from harness.workflow.context import Folders


def read_selection(folders: Folders) -> dict[str, Any] | None:
    """The recorded selection: claims, budget as it was given ("" without one), whether it has every replicate of the
    scale, and whether it has been run to its end.

    None where there is none. Raises HarnessError for a broken file.
    """
    if not folders.selection.exists():
        return None
    found = read_json(folders.selection)
    claims = found.get("claims") if isinstance(found, dict) else None
    if not isinstance(claims, list) or not all(isinstance(name, str) for name in claims):
        raise HarnessError(f"{folders.selection}: names no claims. Delete it and run `harness reproduce` again.")
    return dict(found)


def write_selection(
    folders: Folders,
    claims: list[str] | None,
    budget: str = "",
    every_replicate: bool = False,
    finished: bool = False,
) -> None:
    """Record a selection, or with None that there is none."""
    if claims is None:
        folders.selection.unlink(missing_ok=True)
    else:
        facts = {"claims": claims, "budget": budget, "every_replicate": every_replicate, "finished": finished}
        write_json(folders.selection, facts)


def as_selected(spec: Spec, claims: list[str] | None, every_replicate: bool = False) -> Spec:
    """What of the scale these claims need, in as few replicates as they ask for or in all; the whole for None."""
    if claims is None:
        return spec
    from harness.budget import selected

    return selected(spec, claims, every_replicate)


def as_recorded(spec: Spec, folders: Folders) -> Spec:
    """The scale, or what of it the recorded selection needs. Raises HarnessError if that names unknown claims."""
    found = read_selection(folders)
    if found is None:
        return spec
    from harness.budget import judged

    unknown = [name for name in found["claims"] if name not in judged(spec)]
    if unknown:
        raise HarnessError(
            f"{folders.selection}: {', '.join(unknown)}: scale {spec.scale_name} judges no such claim. "
            "Run `harness reproduce` with --claims, --budget or neither."
        )
    return as_selected(spec, found["claims"], found.get("every_replicate") is True)
