"""What of the build pyproject.toml can't say: the CPU kernels, and in a wheel the papers and the workflow."""

import runpy
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

kernels = runpy.run_path("harness/kernels/build.py")
git = runpy.run_path("harness/base/git.py")
#: what harness/base/paths.py finds in a wheel; rule files lie where the Snakefile includes them
SHIPPED = ("papers", "envs/profiles", "params.yaml", "Snakefile", "harness/workflow/*.smk")


class Package(build_py):
    """In a wheel, harness/shipped/ has what the commands need of a checkout, and the git revision of the code."""

    def run(self) -> None:
        if self.editable_mode:
            super().run()
            return
        package = Path(self.build_lib, "harness")
        shutil.rmtree(package, ignore_errors=True)  # an earlier build may have had other files
        super().run()
        for path in (path for pattern in SHIPPED for path in Path().glob(pattern)):
            target = package / "shipped" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if path.is_dir() else shutil.copy)(path, target)
        revision = git["revision"](Path(), *git["CODE"])
        if revision is not None:
            commit, clean = revision
            (package / "shipped" / "revision").write_text(commit if clean else f"{commit}-changed", encoding="utf-8")


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


class Wheel(bdist_wheel):
    """The kernels are loaded as plain C, so a wheel is for one kind of machine and for every version of Python."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


setup(
    ext_modules=[Extension("harness.kernels.library", [])],
    cmdclass={"build_py": Package, "build_ext": Kernels, "bdist_wheel": Wheel},
)
