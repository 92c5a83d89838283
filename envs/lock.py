"""Write envs/lock-*.txt: names, exact versions and SHA-256 hashes of every package in an image.

pip resolves pyproject.toml's dependencies and reports what it would install, with hashes. It installs nothing.
Run with the image's Python version, on Linux: `python envs/lock.py`, or for one lock `python envs/lock.py cpu`.
`--like` prefers the package versions of the environment that runs this.
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
# a pod stores its files in S3; the executor itself runs where jobs are submitted
IN_PODS = [package for package in STORAGE if "storage" in package or package.startswith(("boto", "packaging"))]
CPU_TORCH = "torch==2.13.0"  # the CPU build that pip finds, and the one that torchvision's is published for
UNCONSTRAINED = ("torch", "setuptools", "pip", "lth-")  # a build of PyTorch decides these itself
LOCKS: dict[str, list[str]] = {
    "build": PROJECT["build-system"]["requires"] + ["wheel"],
    "cpu": [package for package in DEPENDENCIES if not package.startswith("torch")] + [CPU_TORCH, *IN_PODS],
    "cuda": DEPENDENCIES + IN_PODS,
}


def installed_versions() -> list[str]:
    """The versions of this environment as constraints, except for those that differ between CPU and CUDA."""
    packages = {(package.metadata["Name"], package.version) for package in importlib.metadata.distributions()}
    return [f"{name}=={version}" for name, version in sorted(packages) if not name.startswith(UNCONSTRAINED)]


def resolve(requirements: list[str], constraints: list[str]) -> list[tuple[str, str, str]]:
    """Name, version and SHA-256 of each file that pip would install into an empty environment."""
    with tempfile.TemporaryDirectory() as folder:
        limits = Path(folder, "constraints.txt")
        limits.write_text("\n".join(constraints) + "\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
        command += ["--constraint", str(limits), "--report", f"{folder}/report.json", *requirements]
        subprocess.run(command, check=True)
        report = json.loads(Path(folder, "report.json").read_text(encoding="utf-8"))
    packages = []
    for entry in report["install"]:
        metadata, checksum = entry["metadata"], entry["download_info"]["archive_info"]["hashes"]["sha256"]
        packages.append((metadata["name"].lower(), metadata["version"], checksum))
    return sorted(packages)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("locks", nargs="*", choices=[*LOCKS, []], help="the locks to write; all by default")
    parser.add_argument("--like", action="store_true", help="prefer this environment's versions")
    options = parser.parse_args()
    constraints = installed_versions() if options.like else []
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    for name in options.locks or LOCKS:
        packages = resolve(LOCKS[name], [] if name == "build" else constraints)
        head = f"# Made by envs/lock.py for Python {python} on Linux x86-64; change pyproject.toml and run it again.\n"
        lines = [f"{package}=={version} --hash=sha256:{checksum}" for package, version, checksum in packages]
        (ROOT / "envs" / f"lock-{name}.txt").write_text(head + "\n".join(lines) + "\n", encoding="utf-8")
        print(f"envs/lock-{name}.txt: {len(packages)} packages")


if __name__ == "__main__":
    main()
