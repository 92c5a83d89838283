"""Container images: which image a stage runs in, by digest, and whether it is the image that the run requires."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.base.errors import HarnessError
from harness.base.files import file_sha256
from harness.base.variables import variable, variables
from harness.results.environment import IMAGE, around

CONTAINER = variable("container")  # the image for the workflow's rules, if its config names none
BIND = "APPTAINER_BIND"  # environment, read by apptainer: further folders to mount in a container
REQUIRED = variable("require_image")  # the digest of the image that a run requires
PLAIN = re.compile(r"[A-Za-z0-9_./-]+")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def digest_of(image: str) -> str:
    """The digest of an image's bytes: from "docker://name@sha256:...", or of an image file.

    Raises HarnessError for a name without a digest, since its image can change.
    """
    match = DIGEST.search(image)
    if match:
        return match[0]
    path = Path(image.removeprefix("file://"))
    if path.is_file():
        return f"sha256:{file_sha256(path)}"
    raise HarnessError(
        f"image {image!r}: has no digest and is not a file. Give docker://name@sha256:... "
        "(the last line of envs/build.sh), or the path of an image file"
    )


def check_required(actual: str) -> None:
    """Raise HarnessError if HARNESS_REQUIRE_IMAGE names another digest than `actual`."""
    wanted = variables().require_image
    if not wanted:
        return
    if not DIGEST.search(wanted):
        raise HarnessError(f"{REQUIRED}={wanted}: not a digest; give sha256:... with 64 hex digits")
    if digest_of(wanted) != actual:
        raise HarnessError(
            f"{REQUIRED}={wanted}: this run is in {actual or 'no image'}. Start it in the required image"
        )


def enter(config: Mapping[str, Any], methods: Iterable[Any], results: str) -> str | None:
    """The image for the workflow's rules, or None without containers. Passes its digest on to the stages.

    `methods` are the software deployment methods that the workflow engine was started with. A container sees its
    working directory, and the folders of results and data if they are elsewhere. Raises HarnessError if containers are
    requested without an image, or the image has no digest or is not the required one.
    """
    if "apptainer" not in {str(method) for method in methods}:
        check_required(around())
        return None
    image = str(config.get("image") or variables().container)
    if not image:
        raise HarnessError(f"containers are requested without an image: give --config image=... or {CONTAINER}=...")
    os.environ[IMAGE] = digest_of(image)  # apptainer passes the environment on
    check_required(os.environ[IMAGE])
    for folder in (results, variables().data):
        if Path(folder).is_absolute() and re.search("[,:]", folder):
            raise HarnessError(f"{folder}: apptainer can't mount a folder with a comma or a colon in its path")
    seen = [results, variables().data, *os.environ.get(BIND, "").split(",")]
    folders = dict.fromkeys(str(Path(folder)) for folder in seen if Path(folder).is_absolute())
    os.environ[BIND] = ",".join(folders)
    return image


def delivery(base: str, volume: str) -> str:
    """The end of a rule's command, which copies a stage's outputs from a volume to where the engine expects them.

    `base` is the run's folder in the paths of the rules' outputs. "" without a volume: stages write there directly.
    """
    if not volume:
        return ""
    for path in (volume, base):
        if not PLAIN.fullmatch(path):  # it becomes part of a shell command, and a pattern there
            raise HarnessError(f"{path!r}: give folders of letters, digits and ./_- only where results are on a volume")
    kept = f"{volume}/{base.partition('/')[2]}"
    return f' && for made in {{output:q}}; do cp "{kept}/${{{{made##*{base}/}}}}" "$made"; done'
