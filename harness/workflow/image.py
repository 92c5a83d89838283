"""Container images: which one a stage runs in, by its digest, and whether it is the one that a run demands."""

import os
import re
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.digest import PACKAGE
from harness.errors import HarnessError
from harness.files import file_sha256

IMAGE = "HARNESS_IMAGE"  # environment: digest of the image around this process; an image can't know its own
CONTAINER = "HARNESS_CONTAINER"  # environment: the image for the workflow's rules, if its config names none
BIND = "APPTAINER_BIND"  # environment: apptainer's own, further folders that a container sees
REQUIRED = "HARNESS_REQUIRE_IMAGE"  # environment: the digest that a run demands
MARKER = PACKAGE.parent / ".image"  # made by the builds of images
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def digest_of(image: str) -> str:
    """The digest that names an image's bytes: from "docker://name@sha256:...", or of an image file.

    Raises HarnessError for a name without digest, which may mean another image tomorrow.
    """
    found = DIGEST.search(image)
    if found:
        return found[0]
    path = Path(image.removeprefix("file://"))
    if path.is_file():
        return f"sha256:{file_sha256(path)}"
    raise HarnessError(
        f"image {image!r}: names no digest and is no file. Give docker://name@sha256:... "
        "(the last line of envs/build.sh), or the path of an image file"
    )


def around() -> str:
    """The digest of the image that this process runs in, as it was told; "" outside of the project's images."""
    return os.environ.get(IMAGE, "") if MARKER.exists() else ""


def check_required(found: str) -> None:
    """Refuse to run in another image than the one demanded. Raises HarnessError."""
    wanted = os.environ.get(REQUIRED, "")
    if not wanted:
        return
    if not DIGEST.search(wanted):
        raise HarnessError(f"{REQUIRED}={wanted}: not a digest; give sha256:... with 64 hex digits")
    if digest_of(wanted) != found:
        raise HarnessError(f"{REQUIRED}={wanted}: this run is in {found or 'no image'}. Start it in the image demanded")


def enter(config: Mapping[str, Any], methods: Iterable[Any], results: str) -> str | None:
    """The image for the workflow's rules, or None where no containers are asked for. Tells the stages its digest.

    `methods` are the software deployment methods that the workflow engine was started with. A container sees the folder
    in which it is started, and the folders of results and data where they lie elsewhere. Raises HarnessError for
    containers without an image, for one without digest, and for one that is not what the run demands.
    """
    if "apptainer" not in {str(method) for method in methods}:
        check_required(around())
        return None
    image = str(config.get("image") or os.environ.get(CONTAINER, ""))
    if not image:
        raise HarnessError(f"containers are asked for, but no image: give --config image=... or {CONTAINER}=...")
    os.environ[IMAGE] = digest_of(image)  # apptainer hands the environment on
    check_required(os.environ[IMAGE])
    seen = [results, os.environ.get("HARNESS_DATA", ""), *os.environ.get(BIND, "").split(",")]
    places = dict.fromkeys(str(Path(one)) for one in seen if Path(one).is_absolute())
    os.environ[BIND] = ",".join(places)
    return image


def delivery(base: str, volume: str) -> str:
    """What follows a stage in a rule's command: with a volume, its outputs are copied to where the engine wants them.

    `base` is the run's folder in the names of the rules' outputs. "" without a volume: stages write there themselves.
    """
    if not volume:
        return ""
    kept = f"{volume}/{base.partition('/')[2]}"
    return f' && for made in {{output:q}}; do cp "{kept}/${{{{made##*{base}/}}}}" "$made"; done'


def place() -> str:
    """Where a process number means one process: the host's name and, on Linux, the namespace of process numbers."""
    try:
        return f"{socket.gethostname()}/{os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115  no file of that name
    except OSError:
        return socket.gethostname()
