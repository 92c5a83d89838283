"""The project's environment variables, HARNESS_*: one typed object that says name, value and form of a wrong one."""

import os
from functools import lru_cache

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.base.errors import HarnessError

PREFIX = "HARNESS_"


class Variables(BaseModel):
    """What HARNESS_* say; an empty variable counts as unset. A field's description is the form of its value."""

    model_config = ConfigDict(frozen=True)

    root: str = Field("", description="a checkout of this project, the folder that holds papers/")
    """The checkout to work in. By default the one around the working directory, else the one that holds the installed
    package; a package from a wheel works in the working directory."""
    data: str = Field("", description="a folder of data sets")
    """Where data sets are looked for and downloaded to. By default `data/` in the checkout."""
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda|cuda:[0-9]+)$", description="auto, cpu, cuda or cuda:N")
    """The device that trains. `auto` takes a GPU if there is one and the scale's rules ask for one."""
    kernels: str = Field("", description="a build of the kernels, or torch for none")
    """The CPU kernels to train with. By default those that fit this CPU; `torch` trains with PyTorch alone, which
    changes the last bits."""
    keep_state_seconds: float = Field(
        120.0, ge=0, allow_inf_nan=False, description="seconds between checkpoints of a training, 0 or more"
    )
    """How often a training writes a checkpoint."""
    graph: bool = Field(False, description="1 to train on a GPU by recorded graphs, 0 not to")
    """On a GPU, record a training step once and replay it. Off by default."""
    profile: str = Field("", description="a profile in envs/profiles/, or a folder with a config.yaml")
    """Where jobs run, as `--profile` of `harness reproduce`."""
    gpus: str = Field("", description="different ids of GPUs, such as 0,1,2,3")
    """The GPUs of this machine, each for one job at a time."""
    gpu_locks: str = Field("", description="a folder that all jobs of a machine see")
    """Where jobs mark the GPU that they hold, if the machine's temporary folder is not shared by all of them."""
    container: str = Field("", description="docker://NAME@sha256:DIGEST, or the path of an image file")
    """The image in which each job runs, with `--profile container`."""
    image: str = Field("", pattern=r"^sha256:[0-9a-f]+$", description="sha256:DIGEST of the image around this process")
    """The image that this process runs in. `envs/run.sh` and the workflow set it; records name it."""
    require_image: str = Field("", description="sha256:DIGEST")
    """The only image that may run a stage: any other is refused."""
    revision: str = Field("", pattern=r"^\S+$", description="a git commit, with -changed after it for other files")
    """The git revision of the code in an image, where there is no git. `envs/build.sh` sets it; the card names it."""
    agent: str = Field("", description="who runs this")
    """Who ran it, for the card and the RO-Crate."""
    parent: str = Field("", pattern=r"^[0-9]{1,9}@.", description="PROCESS@HOST; the workflow sets it")
    """The process with which a job ends. The workflow sets it."""


def variable(field: str) -> str:
    """The environment variable of a field: keep_state_seconds -> HARNESS_KEEP_STATE_SECONDS."""
    return f"{PREFIX}{field.upper()}"


def variables() -> Variables:
    """The environment variables as they are now. Raises HarnessError that names the first wrong one and its form."""
    return _validated(tuple(os.environ.get(variable(field), "") for field in Variables.model_fields))


@lru_cache(maxsize=1)  # asked for again and again; only tests change the environment
def _validated(texts: tuple[str, ...]) -> Variables:
    values = dict(zip(Variables.model_fields, texts, strict=True))
    try:
        return Variables.model_validate({field: value for field, value in values.items() if value})
    except ValidationError as error:
        field = str(error.errors()[0]["loc"][0])
        form = Variables.model_fields[field].description
        raise HarnessError(f"{variable(field)}={values[field]}: give {form}, or unset it") from None
