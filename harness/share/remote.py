"""Finished runs on a remote: `harness push` and `harness pull` of the run that params.yaml names, through DVC.

dvc.lock, which git keeps, says by checksum what belongs to a revision. What comes from a remote is believed as far as
these checksums go, and its names and forms are checked before any of it lies in the results.
"""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import HarnessError
from harness.files import file_sha256, read_json, write_text
from harness.paths import results_folder
from harness.share.adopt import fitting
from harness.share.cached import MD5, Cache, Kept, checked, files, second_name
from harness.share.card import read_card
from harness.share.dvc_command import check_there, described, dvc
from harness.share.untrusted import (
    NAME,
    PART,
    PRIVATE,
    SHARED,
    check_folder,
    check_name,
    check_safetensors,
    entries,
    read_checked_json,
)
from harness.spec import Spec
from harness.spec.load import describe, read_yaml
from harness.training.store import SNAPSHOTS, Store
from harness.workflow.context import Folders
from harness.workflow.mend import at_hand, graph
from harness.workflow.reuse import PULLED
from harness.workflow.rules import WRITTEN

STAGES = ("data", "experiments", "report")  # of dvc.yaml
NETWORKS = "networks.dvc"  # names the folder of all weights, where somebody pushed it
RUNS = re.compile(rf"{NAME}/r\d+/k\d+/L\d+-[a-z_]+-o\d+(?:\.snapshots)?\.(?:json|safetensors)")


class Tracked(BaseModel):
    """The run that params.yaml names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    paper: str
    scale: str
    folder: str


def tracked(root: Path) -> Tracked:
    """The run that dvc.yaml versions. Raises HarnessError for a params.yaml that names none."""
    path = root / "params.yaml"
    content = read_yaml(path)
    try:
        found = Tracked.model_validate(content.get("run") if isinstance(content, dict) else None)
    except ValidationError as error:
        raise HarnessError(f"{path}: run: {describe(error, Tracked)}") from None
    expected = results_folder(Path("results"), found.paper, found.scale).as_posix()
    if found.folder != expected:
        raise HarnessError(f"{path}: run.folder: {found.folder!r}: give {expected}, where this run's results lie")
    return found


def push(root: Path, spec: Spec, folders: Folders, remote: str = "", networks: bool = False) -> str:
    """Record the run in dvc.lock and upload it; with `networks` all weights too. Returns what DVC says.

    Raises HarnessError for a run that is not finished, that other code or settings made, that was altered, or among
    whose files others lie, and for whatever goes wrong on the way to the remote.
    """
    check_finished(spec, folders)
    _check_strays(folders)
    folders.tickets.mkdir(exist_ok=True)
    dvc(root, "commit", "--force", *STAGES)
    targets = [*STAGES]
    if networks:
        _check_networks(folders)
        if not (root / NETWORKS).exists():
            write_text(root / NETWORKS, json.dumps({"outs": [{"path": (folders.base / "runs").as_posix()}]}) + "\n")
        dvc(root, "commit", "--force", NETWORKS)
        targets.append(NETWORKS)
    return dvc(root, "push", *targets, remote=remote).strip()


def check_finished(spec: Spec, folders: Folders) -> None:
    """Raise HarnessError unless a run is finished, with this code and these settings, and as its card says."""
    if not folders.card.exists():
        raise HarnessError(f"{folders.base}: holds no finished run. Run `harness reproduce` first")
    card = read_card(folders)
    for name, one in card["files"].items():
        file = check_name(folders.base, name)
        if not file.is_file() or file_sha256(file) != one["sha256"]:
            raise HarnessError(
                f"{file}: not what card.json says. Run `harness reproduce` (`harness verify` tells more)"
            )
    fit = fitting(spec, folders, card)
    lacking = [name for name in (*graph(spec, folders), *WRITTEN) if name not in fit]
    if lacking:
        raise HarnessError(
            f"{folders.base}: {lacking[0]} was made with other code or settings. Run `harness reproduce` first"
        )


def _check_strays(folders: Folders) -> None:
    """Raise HarnessError for files in the folders of the run that are not the run's: every pull would refuse them."""
    strays = []
    for folder in sorted(path for path in folders.base.iterdir() if path.is_dir()):
        if not PRIVATE.fullmatch(f"{folder.name}/"):
            names = (f"{folder.name}/{name}" for name, path in entries(folder) if not PART.fullmatch(path.name))
            strays += [name for name in names if not SHARED.fullmatch(name)]
    if strays:
        listed = ", ".join(repr(name)[:200] for name in strays[:3])
        more = f" and {len(strays) - 3} more" if len(strays) > 3 else ""
        raise HarnessError(f"{folders.base}: {listed}{more}: no file of a run. Move them away, then push again")


def _check_networks(folders: Folders) -> None:
    """Raise HarnessError unless runs/ holds the networks of this run, all of them and no others."""
    store, known = Store(folders.runs), read_json(folders.networks)
    lacking = [run for run in known if not store.tensors_path(run).exists() or not at_hand(folders, run)]
    lacking += [run for run, one in known.items() if run not in lacking and store.read(run)["sha256"] != one["sha256"]]
    if lacking:
        raise HarnessError(
            f"{folders.runs}: {len(lacking)} networks of this run are not here ({lacking[0]} ...). "
            "Push without --networks, or from where they were trained"
        )
    there = {path.relative_to(folders.runs).with_suffix("").as_posix() for path in folders.runs.rglob("*.*")}
    strays = sorted(there - set(known))
    if strays:
        raise HarnessError(
            f"{folders.runs}: {len(strays)} networks are of no run with these settings ({strays[0]} ...). "
            "Move them away, then push again"
        )


def pull(root: Path, folders: Folders, remote: str = "", networks: bool = False, force: bool = False) -> str:
    """Download the results of the checked-out revision, check them, and put them into place. Returns what changed.

    Nothing is put into place that does not pass: checksums against dvc.lock, names, layout and forms. `force` replaces
    results that lie there and that DVC has not kept. Raises HarnessError otherwise.
    """
    outs = _outs(root, folders)
    with _staged(root, folders, outs, _fetch(root, remote, *STAGES)):
        pass
    changed = _checkout(root, folders, STAGES, force)
    if networks:
        changed += _pull_networks(root, folders, remote, force)
    return changed.strip()


def _checkout(root: Path, folders: Folders, targets: tuple[str, ...], force: bool) -> str:
    try:
        return dvc(root, "checkout", *(["--force"] if force else []), *targets)
    except HarnessError as error:
        if not re.search(r"without (?:a )?confirmation", str(error)):
            raise
        raise HarnessError(
            f"{folders.base}: holds results that are kept nowhere else. `harness push` or `dvc commit` keeps them; "
            "`harness pull --force` replaces them"
        ) from None


def _outs(root: Path, folders: Folders) -> list[Kept]:
    """What dvc.lock says belongs to the run. Raises HarnessError where it names none, or places outside the run."""
    path = root / "dvc.lock"
    content = read_yaml(path) if path.exists() else {}
    try:
        found = [Kept(one["path"], one["md5"]) for name in STAGES for one in content["stages"][name]["outs"]]
    except (KeyError, TypeError):
        raise HarnessError(
            f"{path}: names no results of this revision. Check out one whose run was pushed (`git log dvc.lock`)"
        ) from None
    for one in found:
        place = check_name(root, one.path)
        if not place.is_relative_to(root / folders.base) or not MD5.fullmatch(str(one.md5)):
            raise HarnessError(f"{path}: {one.path!r:.200}: not in {folders.base}, where params.yaml puts this run")
    return found


def _fetch(root: Path, remote: str, *targets: str) -> Cache:
    """Let DVC fetch what is on the remote of these. Returns the cache, in which some of it may be missing."""
    check_there(root, remote)
    dvc(root, "fetch", *targets, remote=remote)
    return Cache(_cache(root), described(root, remote))


def _cache(root: Path) -> Path:
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        return Path(repo.cache.local.path)


@contextmanager
def _staged(root: Path, folders: Folders, outs: list[Kept], cache: Cache) -> Iterator[Path]:
    """The run's files as DVC fetched them, checked, in a folder beside the results that is gone afterwards."""
    base = root / folders.base
    staging = base.with_name(f"{base.name}.pulled")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        for kept in files(cache, outs):
            name = (root / kept.path).relative_to(base).as_posix()
            if not SHARED.fullmatch(name):
                raise HarnessError(f"{folders.base}: {name!r:.200}: no file of a run. Don't use these results")
            second_name(checked(cache, kept), staging / name)
        check_folder(staging)
        read_card(Folders(staging))
        yield staging
    except HarnessError as error:
        raise HarnessError(str(error).replace(str(staging), str(folders.base))) from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _pull_networks(root: Path, folders: Folders, remote: str, force: bool) -> str:
    """All weights of the run, each held against networks.json before it is put into place."""
    path = root / NETWORKS
    content = read_yaml(path) if path.exists() else {}
    try:
        kept = Kept(content["outs"][0]["path"], content["outs"][0]["md5"])
    except (KeyError, TypeError, IndexError):
        raise HarnessError(f"{path}: missing: this revision has no networks. Pull without --networks") from None
    if kept.path != (folders.base / "runs").as_posix() or not MD5.fullmatch(str(kept.md5)):
        raise HarnessError(f"{path}: {kept.path!r:.200}: not the networks of {folders.base}. Pull without --networks")
    cache, known = _fetch(root, remote, NETWORKS), read_checked_json(folders.networks)
    for file in files(cache, [kept]):
        name = file.path.removeprefix(f"{kept.path}/")
        if not RUNS.fullmatch(name):
            raise HarnessError(f"{kept.path}: {name!r:.200}: no file of a run is called that. Don't use these networks")
        _check_network(file.path, name, checked(cache, file), known)
    for record in (root / folders.runs).rglob("*.json"):
        if not record.with_suffix(".safetensors").exists() and read_json(record).get(PULLED):
            record.unlink()  # stood in for what comes now
    return _checkout(root, folders, (NETWORKS,), force)


def _check_network(shown: str, name: str, file: Path, known: Any) -> None:
    run, _, kind = name.rpartition(".")
    entry = known.get(run) if isinstance(known, dict) else None
    if not isinstance(entry, dict):
        raise HarnessError(f"{shown}: no network of this run. Don't use these networks")
    if kind == "json":
        record = read_checked_json(file)
        parts = ("key", "sha256", "parts") if run.endswith(SNAPSHOTS) else tuple(entry)
        if not isinstance(record, dict) or any(record.get(part) != entry[part] for part in parts):
            raise HarnessError(f"{shown}: its record is not the one in networks.json. Don't use these networks")
    elif file_sha256(file) != entry["sha256"]:
        raise HarnessError(f"{shown}: its checksum is not the one in networks.json. Don't use these networks")
    else:
        check_safetensors(file)
