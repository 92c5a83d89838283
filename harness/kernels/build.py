"""Compiles the kernels when the package is installed: one shared library for each kind of CPU of this architecture.

The compiler is the one in the `ziglang` package (Clang), a build requirement, so a machine without a compiler gets
the same kernels. Run as `python build.py FOLDER`. It imports nothing of the harness, which is not installed yet.
"""

import hashlib
import platform
import re
import subprocess
import sys
from itertools import groupby
from pathlib import Path

FOLDER = Path(__file__).parent
SOURCES = sorted(FOLDER.glob("*.c"))
# machine -> library for each kind of CPU, by the names that `harness.kernels` knows
TARGETS: dict[str, dict[str, list[str]]] = {
    "x86_64": {"avx512": ["-march=x86_64_v4"], "avx2": ["-march=x86_64_v3"]},
    "amd64": {"avx512": ["-march=x86_64_v4"], "avx2": ["-march=x86_64_v3"]},
    "aarch64": {"neon": []},
    "arm64": {"neon": []},
}
FLAGS = ["-O3", "-std=c11", "-Wall", "-Wextra", "-shared", "-fPIC", "-fno-math-errno", "-fvisibility=hidden", "-lm"]


def library(name: str) -> str:
    """File name of the library for a kind of CPU."""
    return f"kernels-{name}.so"


def c_code(text: str) -> str:
    """C without comments and layout: lines are joined, except those of the preprocessor."""
    literal = r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
    code = re.sub(
        rf"({literal})|(?:/\*.*?\*/|//[^\n]*|[ \t])+",
        lambda match: match[1] or " ",
        text.replace("\\\n", " "),
        flags=re.DOTALL,
    )
    lines = filter(None, (line.strip(" ") for line in code.split("\n")))
    runs = groupby(lines, key=lambda line: line.startswith("#"))
    return "\n".join(("\n" if directives else " ").join(run) for directives, run in runs)


def source_digest() -> str:
    """SHA-256 (64 hex digits) of the code and the commands that the libraries are compiled from."""
    code = sorted(c_code(path.read_text(encoding="utf-8")) for path in FOLDER.glob("*.[ch]"))
    commands = {machine: {name: _command(flags) for name, flags in kinds.items()} for machine, kinds in TARGETS.items()}
    return hashlib.sha256(repr([code, commands]).encode()).hexdigest()


def _command(target: list[str]) -> list[str]:
    """The compile command for a kind of CPU, without file names."""
    return ["cc", *FLAGS, *target]


def compile_all(folder: Path) -> list[Path]:
    """Compile for this machine's architecture into `folder`; raises CalledProcessError when the compiler fails."""
    folder.mkdir(parents=True, exist_ok=True)
    libraries = []
    for name, target in TARGETS.get(platform.machine().lower(), {}).items():
        libraries.append(folder / library(name))
        files = [f'-DSOURCE_DIGEST="{source_digest()}"', *map(str, SOURCES), "-o", str(libraries[-1])]
        subprocess.run([sys.executable, "-m", "ziglang", *_command(target), *files], check=True)
    return libraries


if __name__ == "__main__":
    compile_all(Path(sys.argv[1]))
