"""DVC's command, run with a list of arguments; its failures in one line that names the remote and the fix."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from harness.base.errors import HarnessError

INSTALL = "For S3: `pip install 'lth-harness[s3]'`, or `pip install -e '.[s3]'` in a checkout"
CREDENTIALS = (
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or `dvc remote modify --local NAME access_key_id ...` and "
    "secret_access_key, to a key that may read (to push: write) there"
)
REACH = "Check `dvc remote list`, its endpointurl and the network"

# what DVC says (the first that matches counts), what it means, what to do
FAILURES: tuple[tuple[str, str, str], ...] = (
    (
        r"no remote (?:provided|specified)|No remote",
        "no remote is configured",
        "Name a folder or a bucket: `dvc remote add -d NAME /a/folder` or `dvc remote add -d NAME s3://bucket/path`",
    ),
    (
        r"remote '(?P<what>[^']*)' doesn't exist",
        "there is no remote of this name",
        "`dvc remote list` shows those there are; `dvc remote add NAME URL` adds one",
    ),
    (r"missing dependenc|No module named", "the plug-in for this kind of remote is missing", INSTALL),
    (
        r"InvalidAccessKeyId|SignatureDoesNotMatch|InvalidToken|ExpiredToken|Unable to locate credentials"
        r"|NoCredentials|credentials",
        "the credentials are missing or wrong",
        CREDENTIALS,
    ),
    (r"AccessDenied|Access Denied|Forbidden|\b403\b", "access is denied to these credentials", CREDENTIALS),
    (
        r"NoSuchBucket|bucket does not exist",
        "there is no such bucket",
        "Create it, or correct the address with `dvc remote modify NAME url s3://bucket/path`",
    ),
    (
        r"Could not connect|Cannot connect|Connection refused|Name or service not known|Temporary failure in name"
        r"|timed? ?out|No route to host|Network is unreachable",
        "it can't be reached",
        REACH,
    ),
    (
        r"Permission denied|Read-only file system",
        "its folder can't be written",
        "Give another one, or the right to write",
    ),
    (r"No space left", "its disk is full", "Make room"),
    (r"No such file or directory", "its folder can't be made or read", REACH),
)
BROKE_OFF = "the transfer broke off"
AGAIN = "Nothing is lost: the same command goes on with what is missing"
ADDRESS = re.compile(r"""(?<=[a-z0-9]://)[^\s'"<>]+""", re.I)
# what stands before the host; a slash in a password ought to be quoted and may not be: all up to the last @; not a port
USER = re.compile(r"[^/?#]*@|[^/?#:@]*:(?!\d+(?:[/?#]|$)).*@", re.DOTALL)
NO_GIT = re.compile(
    r"not tracked by any supported SCM|not a git repository|you are not inside of a DVC repository", re.I
)


def dvc(root: Path, *arguments: str, remote: str = "") -> str:
    """Run `dvc ...` in the checkout. Returns what it prints.

    `remote` is that of a transfer, "" for the default one. Raises HarnessError, one line, when DVC fails.
    """
    command = [sys.executable, "-m", "dvc", *arguments, *(["--remote", remote] if remote else [])]
    # the S3 client's own five attempts come on top of those of the layer above it: minutes for a server that is gone
    environment = {"AWS_MAX_ATTEMPTS": "2", **os.environ, "DVC_NO_ANALYTICS": "1", "COLUMNS": "1000"}
    done = subprocess.run(
        command, cwd=root, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return without_secrets(done.stdout)
    raise HarnessError(explain(root, arguments[0], remote, done.stderr))


def explain(root: Path, verb: str, remote: str, error: str) -> str:
    """One line for a failed DVC command: the remote, what went wrong, what to do; no password of an address."""
    if NO_GIT.search(error):
        return f"{root}: DVC needs a git repository here. Clone the project with git, or run `git init`"
    lines = [line.removeprefix("ERROR: ") for line in error.splitlines() if line.startswith("ERROR: ")]
    lines = [without_secrets(line.removeprefix("unexpected error - ").partition("\\n")[0]) for line in lines]
    text = " ".join(lines) or without_secrets(error.partition("Having any troubles")[0].strip()) or "no message"
    if verb not in ("push", "fetch"):
        return f"dvc {verb} failed: {_short(text)}"
    cause, fix = next(((one, fix) for what, one, fix in FAILURES if re.search(what, text)), (BROKE_OFF, AGAIN))
    failed = re.search(r"(\d+) files? failed to (?:up|down)load", text)
    if failed:
        cause = f"{BROKE_OFF}, {failed[1]} files are missing{'' if cause == BROKE_OFF else f' ({cause})'}"
        fix = AGAIN if fix == AGAIN else f"{fix}. {AGAIN}"
    return f"{described(root, remote)}: {cause}: {_short(lines[0] if lines else text)}. {fix}"


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 240 else f"{text[:237]}..."


def without_secrets(text: str) -> str:
    """Text whose addresses have no user, password, query or fragment any more."""
    return ADDRESS.sub(lambda found: _bare(found[0]), text)


def _bare(rest: str) -> str:
    """An address without its scheme, user, password, query and fragment."""
    return re.split(r"[?#]", USER.sub("", rest, count=1) if USER.match(rest) else rest)[0]


def described(root: Path, remote: str) -> str:
    """A remote's name and address as far as DVC's settings tell them: remote far (s3://bucket/dvc)."""
    name, known = _settings(root, remote)
    shown = []
    for field in ("url", "endpointurl"):
        scheme, mark, rest = str(known.get(field) or "").partition("://")
        shown += [f"{scheme}{mark}{_bare(rest)}"] if scheme else []
    place = " at ".join(shown)
    return f"remote {without_secrets(name) or '(default)'}{f' ({place})' if place else ''}"


def check_there(root: Path, remote: str) -> None:
    """Raise HarnessError for a remote that is a folder and is not there: DVC takes it for one that holds nothing."""
    name, known = _settings(root, remote)
    url = str(known.get("url") or "").removeprefix("file://")
    if url and "://" not in url and not Path(url).is_dir():
        raise HarnessError(
            f"{described(root, remote)}: its folder is not there: mount it, or correct its place with "
            f"`dvc remote modify {name} url /a/folder`"
        )


def _settings(root: Path, remote: str) -> tuple[str, dict[str, Any]]:
    """A remote's name, "" if there is no default, and what DVC's settings say of it."""
    from dvc.config import Config
    from dvc.exceptions import DvcException

    try:
        settings = Config(str(root / ".dvc"), validate=False)
    except (DvcException, OSError):
        return remote, {}
    name = remote or str(settings.get("core", {}).get("remote", ""))
    return name, settings.get("remote", {}).get(name, {})
