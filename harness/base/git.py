"""Git, asked about one repository and about no other that lies around it or that the environment names."""

import os
import subprocess
from pathlib import Path

#: a tracked file of this project, and where its code and papers lie
CODE = ("harness/__init__.py", ("Snakefile", "harness", "papers"))


def git(root: Path, *arguments: str) -> bytes | None:
    """Output of a git command in the repository whose top folder is `root`.

    None where git is missing, fails or takes more than a minute, and where `root` is not the top of its repository.
    A hook's GIT_DIR and the like are ignored.
    """
    top = _run(root, "rev-parse", "--show-toplevel")
    if top is None or Path(os.fsdecode(top).removesuffix("\n")).resolve() != root.resolve():
        return None
    return _run(root, *arguments)


def revision(root: Path, entry: str, folders: tuple[str, ...]) -> tuple[str, bool] | None:
    """The commit of a checkout, and whether its tracked files are unchanged and `folders` have no untracked files.

    None without one: also where the file `entry` is not tracked, since then the code is not that repository's.
    """
    commit = git(root, "rev-parse", "--verify", "HEAD")
    if commit is None:
        return None
    tracked = _run(root, "ls-files", "--error-unmatch", "--", entry)
    changed = _run(root, "status", "--porcelain", "--untracked-files=no")
    untracked = _run(root, "ls-files", "--others", "--exclude-standard", "--", *folders)
    if tracked is None or changed is None or untracked is None:
        return None
    return commit.decode().strip(), not changed and not untracked


def _run(root: Path, *arguments: str) -> bytes | None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(root), *arguments]
    try:
        return subprocess.run(command, capture_output=True, timeout=60, check=True, env=environment).stdout
    except (OSError, subprocess.SubprocessError):
        return None
