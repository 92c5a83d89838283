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
    data: str = Field("", description="a folder of data sets")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda|cuda:[0-9]+)$", description="auto, cpu, cuda or cuda:N")
    kernels: str = Field("", description="a build of the kernels, or torch for none")
    keep_state_seconds: float = Field(
        120.0, ge=0, allow_inf_nan=False, description="seconds between checkpoints of a training, 0 or more"
    )
    graph: bool = Field(False, description="1 to train on a GPU by recorded graphs, 0 not to")
    profile: str = Field("", description="a profile in envs/profiles/, or a folder with a config.yaml")
    gpus: str = Field("", description="different ids of GPUs, such as 0,1,2,3")
    gpu_locks: str = Field("", description="a folder that all jobs of a machine see")
    container: str = Field("", description="docker://NAME@sha256:DIGEST, or the path of an image file")
    image: str = Field("", pattern=r"^sha256:[0-9a-f]+$", description="sha256:DIGEST of the image around this process")
    require_image: str = Field("", description="sha256:DIGEST")
    revision: str = Field("", pattern=r"^\S+$", description="a git commit, with -changed after it for other files")
    agent: str = Field("", description="who runs this")
    parent: str = Field("", pattern=r"^[0-9]{1,9}@.", description="PROCESS@HOST; the workflow sets it")


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
