"""Commands killed at seeded moments: each is given again and ends as if nothing had happened, and nothing is left."""

import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.base.files import file_sha256
from harness.data.archives import file_md5
from tests.end_to_end.conftest import Checkout, contents, make_checkout
from tests.end_to_end.shared import Shared, clone, repository
from tests.kills import Kill, kills, strike
from tests.share.s3_server import Server


@pytest.fixture(scope="module")
def finished_smoke(tmp_path_factory) -> Checkout:
    """A finished run at the smoke scale."""
    made = make_checkout(tmp_path_factory.mktemp("smoke") / "checkout", "smoke")
    status, out, err = made.reproduce()
    assert status == 0, out + err
    return made


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(("undisturbed", "number"), [("finished_checkout", 6), ("finished_smoke", 30)])
def test_a_storm_of_kills_changes_no_bit_and_leaves_nothing(request, tmp_path, undisturbed, number):
    """Each kill: a seeded moment, one of four targets, one of three signals. A run that ends before is begun again."""
    expected: Checkout = request.getfixturevalue(undisturbed)
    made, temporary = make_checkout(tmp_path / "checkout", expected.scale), tmp_path / "temporary"
    temporary.mkdir()
    draw = random.Random(number)
    plan = kills(number, draw, "run", "group", "snakemake", "stage")
    variables = {"HARNESS_KEEP_STATE_SECONDS": "0", "TMPDIR": str(temporary)}
    while plan:
        process = made.start("reproduce", "--scale", made.scale, "--cores", "2", **variables)
        struck, out, err = strike(process, made.root, plan[-1], draw.uniform(3, 25))
        if struck:
            plan.pop()
        else:
            assert process.returncode == 0, out + err
        if process.returncode == 0:
            assert made.contents() == expected.contents()
            shutil.rmtree(made.results)
    status, out, err = made.reproduce(**variables)
    assert status == 0, out + err
    assert made.contents() == expected.contents()
    assert made.remains(temporary) == []


def moments(kill_list: list[Kill], seconds: float, draw: random.Random) -> Iterator[tuple[Kill, float]]:
    """Each kill with its moment: random, and spread over a command that takes so many seconds."""
    for place, kill in enumerate(kill_list):
        yield kill, seconds * (place + draw.random()) / len(kill_list)


def timed(action: Callable[[], object]) -> float:
    started = time.monotonic()
    action()
    return time.monotonic() - started


def forget(*paths: Path) -> None:
    """Remove files and folders that may be there."""
    for path in paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


class Remotes:
    """Remotes of one kind, each a folder of its own on this machine or on an S3 server."""

    def __init__(self, kind: str, made: Shared, server: Server, root: Path):
        self.kind, self.made, self.server, self.root = kind, made, server, root

    def add(self, name: str) -> str:
        """Add an empty remote. Returns its name."""
        place = str(self.root / name) if self.kind == "folder" else f"s3://{self.server.bucket}/{name}"
        self.made.dvc("remote", "add", name, place)
        if self.kind == "s3":
            self.made.dvc("remote", "modify", name, "endpointurl", self.server.url)
        return name

    def objects(self, name: str) -> dict[str, bytes]:
        """What lies on a remote."""
        if self.kind == "s3":
            return self.server.objects(name)
        root = self.root / name
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def droppings(shared: Shared) -> list[str]:
    """What a killed command may not leave in a repository: half-written files, and stray ones that git would take."""
    status = shared.git("status", "--porcelain", "--untracked-files=all").splitlines()
    untracked = [line for line in status if line.startswith("??") and line != "?? dvc.lock"]
    half = [path for path in shared.root.rglob("*") if path.suffix in (".part", ".tmp")]
    cache = [path for path in (shared.root / ".dvc" / "cache").rglob("*") if path.is_file() and not whole(path)]
    return [*untracked, *map(str, half), *map(str, cache)]


def whole(path: Path) -> bool:
    """Whether a file in DVC's cache has the checksum that it is named after."""
    return file_md5(path) == f"{path.parent.name}{path.name}".removesuffix(".dir")


def one_line(error: str) -> bool:
    return error.startswith("error: ") and error.count("\n") == 1


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(("kind", "number"), [("folder", 5), ("s3", 5)])
def test_a_storm_of_kills_of_a_push(finished_checkout, s3, tmp_path, kind, number):
    """Whatever a killed push left on the remote: a pull works or says what is missing, a push makes it whole."""
    made, draw = repository(tmp_path / "ours" / "checkout", finished_checkout, s3), random.Random(number)
    remotes = Remotes(kind, made, s3, tmp_path / "remotes")
    files, lock = made.shared_files(), made.root / "dvc.lock"
    calm = remotes.add("calm")
    seconds = timed(lambda: made.harness("push", "--remote", calm))
    expected, locked = remotes.objects(calm), lock.read_bytes()
    assert len(expected) > 10
    made.commit("a run")
    for place, (kill, moment) in enumerate(moments(kills(number, draw, "group", "dvc"), seconds, draw)):
        name = remotes.add(f"storm{place}")
        forget(lock, made.root / ".dvc" / "cache", made.root / ".dvc" / "tmp")
        struck, out, err = strike(made.start("push", "--remote", name), made.root, kill, moment)
        assert struck or not err, out + err
        reader = pulled(made, s3, tmp_path / f"reader{place}" / "checkout", name)
        assert reader is None or reader.shared_files() == files
        made.harness("push", "--remote", name)
        assert remotes.objects(name) == expected
        assert lock.read_bytes() == locked
        assert made.shared_files() == files
        assert droppings(made) == []


def pulled(made: Shared, server: Server, root: Path, remote: str) -> Shared | None:
    """A clone of a repository as it lies there, with the run pulled; None if that is refused in one line."""
    made.commit("what a killed push left")
    reader = clone(made, server, root)
    process = reader.start("pull", "--remote", remote)
    _, err = process.communicate(timeout=300)
    if process.returncode == 0:
        return reader
    assert process.returncode == 1
    assert one_line(err), err
    assert not reader.results.is_dir() or not (reader.results / "card.json").exists()
    return None


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(("kind", "number"), [("folder", 5), ("s3", 5)])
def test_a_storm_of_kills_of_a_pull(finished_checkout, s3, tmp_path, kind, number):
    """A pull that was killed and is given again ends as one that was left alone."""
    made, draw = repository(tmp_path / "ours" / "checkout", finished_checkout, s3), random.Random(number)
    name = Remotes(kind, made, s3, tmp_path / "remotes").add("calm")
    made.harness("push", "--remote", name)
    made.commit("a run")
    files = made.shared_files()
    reader = clone(made, s3, tmp_path / "theirs" / "checkout")
    seconds = timed(lambda: reader.harness("pull", "--remote", name))
    for kill, moment in moments(kills(number, draw, "group", "run", "dvc"), seconds, draw):
        forget(reader.results, *(reader.root / folder for folder in (".dvc/cache", ".dvc/tmp", ".snakemake")))
        struck, out, err = strike(reader.start("pull", "--remote", name), reader.root, kill, moment)
        assert struck or not err, out + err
        assert "stages fit this code and these settings" in reader.harness("pull", "--remote", name)
        assert reader.shared_files() == files
        assert droppings(reader) == []
        assert reader.checkout.remains() == []
    reader.assert_nothing_to_do()


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(("trains", "number"), [(False, 5), (True, 5)])
def test_a_storm_of_kills_of_a_check(finished_checkout, tmp_path, trains, number):
    """A check that was killed and is given again tells what one that was left alone tells; the run stays as it is."""
    made, draw = make_checkout(tmp_path / "checkout"), random.Random(number)
    if not trains:
        shutil.copytree(finished_checkout.results, made.results)
    run = {path: (file_sha256(path), path.stat().st_mtime_ns) for path in files_of(made.results)}
    options, folder = ("--scale", "tiny", "--cores", "2"), made.root / "results" / ".check"
    status, out, err = made.run("check", *options, "--write-baseline")
    assert status == 0, out + err
    forget(folder)
    command = ("check", *options, "--summary", "out/check.md", "--badge", "out/check.json")
    seconds = timed(lambda: made.run(*command))
    told = {path.name: path.read_text() for path in files_of(made.root / "out")}
    assert len(told) == 2
    for kill, moment in moments(kills(number, draw, "run", "group", "snakemake", "stage"), seconds, draw):
        forget(folder, made.root / "out")
        struck, out, err = strike(made.start(*command), made.root, kill, moment)
        assert struck or not err, out + err
        status, out, err = made.run(*command)
        assert status == 0, out + err
        assert {path.name: path.read_text() for path in files_of(made.root / "out")} == told
        assert contents(folder / made.results.relative_to(made.root / "results")) == finished_checkout.contents()
        assert made.remains(folder / "state") == []
    assert {path: (file_sha256(path), path.stat().st_mtime_ns) for path in files_of(made.results)} == run


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
