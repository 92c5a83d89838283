"""Compiles the CPU kernels as part of the build; everything else about the package is in pyproject.toml."""

import runpy
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

kernels = runpy.run_path("harness/kernels/build.py")


class Kernels(build_ext):
    """Shared libraries beside `harness/kernels/*.py`: in the checkout for an editable install, else in the wheel."""

    def run(self) -> None:
        """Compile; without a compiler for this machine the package computes with torch alone, and says so."""
        folder = (
            Path("harness/kernels") if self.editable_mode or self.inplace else Path(self.build_lib, "harness/kernels")
        )
        try:
            kernels["compile_all"](folder)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"the CPU kernels could not be compiled ({error}): training will use torch alone", file=sys.stderr)

    def get_outputs(self) -> list[str]:
        return []

    def get_output_mapping(self) -> dict[str, str]:
        return {}


setup(ext_modules=[Extension("harness.kernels.library", [])], cmdclass={"build_ext": Kernels})
