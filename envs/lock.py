"""Writes envs/lock-*.txt: names, exact versions and SHA-256 hashes of everything that an image holds.

pip resolves pyproject.toml's dependencies and reports what it would install and each file's hash; nothing is installed.
Run with the Python version of the image, on Linux: `python envs/lock.py`, or for one lock `python envs/lock.py cpu`.
`--like` takes the versions of the environment that runs this, where it has the package.
"""

import argparse
import importlib.metadata
import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DEPENDENCIES: list[str] = PROJECT["project"]["dependencies"]
STORAGE: list[str] = PROJECT["project"]["optional-dependencies"].get("kubernetes", [])
# a pod keeps its files in S3; the executor itself runs where jobs are submitted
IN_PODS = [one for one in STORAGE if "storage" in one or one.startswith(("boto", "packaging"))]
CPU_TORCH = "torch==2.13.0"  # the CPU build that pip finds; torchvision for it is published only beside it
LEFT_OPEN = ("torch", "setuptools", "pip", "lth-")  # what a build of PyTorch settles for itself
LOCKS: dict[str, list[str]] = {
    "build": PROJECT["build-system"]["requires"] + ["wheel"],
    "cpu": [one for one in DEPENDENCIES if not one.startswith("torch")] + [CPU_TORCH, *IN_PODS],
    "cuda": DEPENDENCIES + IN_PODS,
}


def like_here() -> list[str]:
    """The versions of this environment as constraints, without what decides between CPU and CUDA."""
    own = {(one.metadata["Name"], one.version) for one in importlib.metadata.distributions()}
    return [f"{name}=={version}" for name, version in sorted(own) if not name.startswith(LEFT_OPEN)]


def resolve(requirements: list[str], constraints: list[str]) -> list[tuple[str, str, str]]:
    """Name, version and SHA-256 of each file that pip would install into an empty environment."""
    with tempfile.TemporaryDirectory() as folder:
        limits = Path(folder, "constraints.txt")
        limits.write_text("\n".join(constraints) + "\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
        command += ["--constraint", str(limits), "--report", f"{folder}/report.json", *requirements]
        subprocess.run(command, check=True)
        report = json.loads(Path(folder, "report.json").read_text(encoding="utf-8"))
    found = []
    for one in report["install"]:
        about = one["metadata"]
        found.append(
            (about["name"].lower(), about["version"], one["download_info"]["archive_info"]["hashes"]["sha256"])
        )
    return sorted(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("locks", nargs="*", choices=[*LOCKS, []], help="which; all if none is given")
    parser.add_argument("--like", action="store_true", help="with this environment's versions")
    options = parser.parse_args()
    constraints = like_here() if options.like else []
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    for name in options.locks or LOCKS:
        found = resolve(LOCKS[name], [] if name == "build" else constraints)
        head = f"# Made by envs/lock.py for Python {python} on Linux x86-64; change pyproject.toml and run it again.\n"
        lines = [f"{package}=={version} --hash=sha256:{checksum}" for package, version, checksum in found]
        (ROOT / "envs" / f"lock-{name}.txt").write_text(head + "\n".join(lines) + "\n", encoding="utf-8")
        print(f"envs/lock-{name}.txt: {len(found)} packages")


if __name__ == "__main__":
    main()
