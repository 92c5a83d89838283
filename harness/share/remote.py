"""Finished runs on a remote: `harness push` and `harness pull` of the run that params.yaml names, through DVC.

dvc.lock, which git keeps, says by checksum what belongs to a revision. What comes from a remote is believed as far as
these checksums go, and its names and forms are checked in DVC's cache, before any of it lies in the results.
DVCFileSystem can't do that: of a checkout it reads what lies there instead of what dvc.lock names, it checks no
checksum, and of a name that a list holds twice it shows the last entry alone.
"""

import json
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from harness.base.errors import HarnessError
from harness.base.files import file_sha256, read_json, write_text
from harness.base.untrusted import check_name, check_safetensors, entries, read_checked_json
from harness.paper import Spec
from harness.plan.kinds import WHOLE
from harness.report.card import check_card, read_card
from harness.results.fit import at_hand, fitting, graph
from harness.results.folders import NAME, PART, PRIVATE, SHARED, Folders, check_files, named_as
from harness.results.store import PULLED, SNAPSHOTS, Store
from harness.share.dvc import check_there, described, dvc, explain

if TYPE_CHECKING:
    from dvc_data.hashfile.db import HashFileDB

STAGES = ("data", "experiments", "report")  # of dvc.yaml
NETWORKS = "networks.dvc"  # names the folder of all weights, where somebody pushed it
RUNS = re.compile(rf"runs/{NAME}/r\d+/k\d+/L\d+-[a-z_]+-o\d+(?:\.snapshots)?\.(?:json|safetensors)")
MD5 = re.compile(r"[0-9a-f]{32}(?:\.dir)?")
LONGEST = 255  # bytes of a name in a list; a file system takes no more in one part of it


def push(root: Path, spec: Spec, folders: Folders, remote: str = "", networks: bool = False) -> str:
    """Record the run in dvc.lock and upload it; with `networks` all weights too. Returns what DVC says.

    Raises HarnessError for a run that is not finished, that other code or settings made, that was altered, or among
    whose files others lie, and for whatever goes wrong on the way to the remote.
    """
    check_no_link(root, folders)
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


def check_no_link(root: Path, folders: Folders) -> None:
    """Raise HarnessError if the run's folder lies behind a symbolic link in the checkout: DVC tracks nothing there."""
    base = root / folders.base
    for folder in (base, *base.parents):
        if folder == root:
            return
        if folder.is_symlink():
            raise HarnessError(
                f"{folder}: is a symbolic link to {folder.resolve()}, and DVC tracks nothing behind one. Put a folder "
                "in its place: remove the link, then move or bind-mount the folder there"
            )


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
    lacking = [name for name in (*graph(spec, folders), *WHOLE) if name not in fit]
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
        shown = ", ".join(repr(name)[:200] for name in strays[:3])
        more = f" and {len(strays) - 3} more" if len(strays) > 3 else ""
        raise HarnessError(f"{folders.base}: {shown}{more}: no file of a run. Move them away, then push again")


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
    check_no_link(root, folders)
    files = _fetch(root, folders, remote, STAGES)
    check_files(folders.base, files)
    if "card.json" not in files:
        raise HarnessError(f"{folders.card}: missing in what was pulled. The run has to be pushed again")
    check_card(read_checked_json(files["card.json"]), folders.card)
    changed = _checkout(root, folders, STAGES, force)
    if networks:
        if not (root / NETWORKS).exists():
            raise HarnessError(f"{root / NETWORKS}: missing: this revision has no networks. Pull without --networks")
        known = read_checked_json(folders.networks)
        for name, path in _fetch(root, folders, remote, (NETWORKS,)).items():
            with named_as(path, folders.base / name):
                _check_network(folders, name, path, known)
        for record in (root / folders.runs).rglob("*.json"):
            if not record.with_suffix(".safetensors").exists() and read_json(record).get(PULLED):
                record.unlink()  # stood in for what comes now
        changed += _checkout(root, folders, (NETWORKS,), force)
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


def _fetch(root: Path, folders: Folders, remote: str, targets: tuple[str, ...]) -> dict[str, Path]:
    """Let DVC fetch what stages or a .dvc file name. Returns the file in DVC's cache for each name in the run's folder.

    Raises HarnessError for a content that is not what dvc.lock names, and for names that lead elsewhere, stand there
    twice, are too long, or are those of a file and of a folder.
    """
    cache, outputs = _outputs(root, folders, targets)
    check_there(root, remote)
    dvc(root, "fetch", *targets, remote=remote)
    place = described(root, remote)
    md5s: dict[str, str] = {}
    for path, md5 in chain(*(_entries(cache, place, *output) for output in outputs)):
        if path in md5s:
            raise HarnessError(f"{path!r:.200}: there twice in what was pulled. Don't use these results")
        md5s[path] = md5
    for path in md5s:
        above = next((str(parent) for parent in PurePosixPath(path).parents if str(parent) in md5s), "")
        if above:
            what = f"a name in {above!r:.200}, which is a file too"
            raise HarnessError(f"{path!r:.200}: {what} in what was pulled. Don't use these results")
    checked = {root / path: _checked(cache, place, path, md5) for path, md5 in md5s.items()}
    return {path.relative_to(root / folders.base).as_posix(): file for path, file in checked.items()}


def _outputs(root: Path, folders: Folders, targets: tuple[str, ...]) -> tuple["HashFileDB", list[tuple[str, str]]]:
    """DVC's cache, and place and checksum of each output. Raises HarnessError for none, or one outside of the run."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc_data.hashfile.db import HashFileDB

    outputs = []
    try:
        with Repo(str(root)) as repo:
            # not LocalHashFileDB, which believes a read-only file without a look into it
            cache = HashFileDB(repo.cache.local.fs, repo.cache.local.path)
            for target in targets:
                file, stage = (target, None) if target == NETWORKS else ("dvc.yaml", target)
                outputs += repo.stage.load_one(str(root / file), stage).outs
    except (DvcException, OSError) as error:
        raise HarnessError(explain(root, "status", "", str(error))) from None
    lock = root / (NETWORKS if targets == (NETWORKS,) else "dvc.lock")
    for out in outputs:
        if out.hash_name != "md5" or not MD5.fullmatch(str(out.hash_info.value)):
            raise HarnessError(
                f"{lock}: names no results of this revision. Check out one whose run was pushed (`git log dvc.lock`)"
            )
        if not Path(out.fs_path).is_relative_to(root / folders.base):
            raise HarnessError(f"{lock}: {out.def_path!r:.200}: not in {folders.base}, where params.yaml puts this run")
    return cache, [(Path(out.fs_path).relative_to(root).as_posix(), out.hash_info.value) for out in outputs]


def _entries(cache: "HashFileDB", remote: str, path: str, md5: str) -> Iterator[tuple[str, str]]:
    """Place and checksum of the files of an output, of a folder by its list."""
    if not md5.endswith(".dir"):
        yield path, md5
        return
    file = _checked(cache, remote, path, md5)
    with named_as(file, Path(path)):
        content = read_checked_json(file)
    for entry in content if isinstance(content, list) else [None]:
        name, name_md5 = (entry.get("relpath"), entry.get("md5")) if isinstance(entry, dict) else (None, None)
        check_name(Path(path), name)
        if len(str(name).encode()) > LONGEST:
            raise HarnessError(f"{path}: {name!r:.80}...: a name of over {LONGEST} bytes. Don't use these results")
        if not isinstance(name_md5, str) or not MD5.fullmatch(name_md5) or name_md5.endswith(".dir"):
            raise HarnessError(f"{path}/{name!s:.200}: no checksum in what was pulled. Don't use these results")
        yield f"{path}/{name}", name_md5


def _checked(cache: "HashFileDB", remote: str, path: str, md5: str) -> Path:
    """The file in DVC's cache. Raises HarnessError if it is missing or has another content, and then removes it."""
    from dvc_objects.errors import ObjectFormatError

    file = Path(cache.oid_to_path(md5))
    if not file.is_file() or file.is_symlink():
        raise HarnessError(
            f"{path}: not on the remote, or the remote can't be reached: {remote}. "
            "Check the connection; if that is right, it has to be pushed again"
        )
    try:
        cache.check(md5)
    except ObjectFormatError:
        raise HarnessError(
            f"{path}: altered on the remote: not what dvc.lock names. It has to be pushed again"
        ) from None
    return file


def _check_network(folders: Folders, name: str, file: Path, known: Any) -> None:
    """Raise HarnessError for a file that is not as networks.json, whose content is `known`, says."""
    if not RUNS.fullmatch(name):
        raise HarnessError(f"{folders.base}: {name!r:.200}: no file of a run is called that. Don't use these networks")
    run, _, kind = name.removeprefix("runs/").rpartition(".")
    entry = known.get(run) if isinstance(known, dict) else None
    wrong = ""
    if not isinstance(entry, dict):
        wrong = "no network of this run"
    elif kind == "json":
        record = read_checked_json(file)
        parts = ("key", "sha256", "parts") if run.endswith(SNAPSHOTS) else tuple(entry)
        if not isinstance(record, dict) or any(record.get(part) != entry[part] for part in parts):
            wrong = "its record is not the one in networks.json"
    elif file_sha256(file) != entry["sha256"]:
        wrong = "its checksum is not the one in networks.json"
    else:
        check_safetensors(file)
    if wrong:
        raise HarnessError(f"{file}: {wrong}. Don't use these networks")
