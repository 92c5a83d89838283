"""Compiles the kernels when the package is installed: one shared library for each kind of CPU of this architecture.

The compiler is the one in the `ziglang` package (Clang), a build requirement: a machine without a compiler gets the
same kernels as any other. Run as `python build.py FOLDER`; imports nothing of the harness, which isn't installed yet.
"""

import platform
import subprocess
import sys
from pathlib import Path

SOURCES = sorted(Path(__file__).parent.glob("*.c"))
# machine -> library for each kind of CPU, by the names that `harness.kernels` knows
TARGETS: dict[str, dict[str, list[str]]] = {
    "x86_64": {"avx512": ["-march=x86_64_v4"], "avx2": ["-march=x86_64_v3"]},
    "amd64": {"avx512": ["-march=x86_64_v4"], "avx2": ["-march=x86_64_v3"]},
    "aarch64": {"neon": []},
    "arm64": {"neon": []},
}
FLAGS = ["-O3", "-std=c11", "-Wall", "-Wextra", "-shared", "-fPIC", "-fno-math-errno", "-fvisibility=hidden"]


def library(name: str) -> str:
    """File name of the library for a kind of CPU."""
    return f"kernels-{name}.so"


def compile_all(folder: Path) -> list[Path]:
    """Compile for this machine's architecture into `folder`; raises CalledProcessError when the compiler fails."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for name, target in TARGETS.get(platform.machine().lower(), {}).items():
        made.append(folder / library(name))
        command = [
            sys.executable,
            "-m",
            "ziglang",
            "cc",
            *FLAGS,
            *target,
            *map(str, SOURCES),
            "-lm",
            "-o",
            str(made[-1]),
        ]
        subprocess.run(command, check=True)
    return made


if __name__ == "__main__":
    compile_all(Path(sys.argv[1]))
