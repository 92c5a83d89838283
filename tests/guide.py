"""docs/extending.md as files, and a copy of the project that holds them."""

import re
import shutil
from pathlib import Path

from harness.base.paths import checkout

GUIDE = checkout() / "docs" / "extending.md"
_BLOCK = re.compile(r"^```(?:python|yaml)\n# (\S+)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def files_of_guide() -> dict[str, str]:
    """The guide's files by their paths in a checkout, as they stand there."""
    return dict(_BLOCK.findall(GUIDE.read_text(encoding="utf-8")))


def extended_copy(folder: Path) -> None:
    """Copy what a run needs of the checkout, with the compiled kernels, and write the guide's files into the copy."""
    source = checkout()
    shutil.copytree(source / "harness", folder / "harness", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(source / "papers", folder / "papers")
    for name in ("Snakefile", "params.yaml"):
        shutil.copy(source / name, folder / name)
    for path, text in files_of_guide().items():
        (folder / path).write_text(text, encoding="utf-8")
