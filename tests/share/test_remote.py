"""What a remote answers, and what comes from it: every failure one line, nothing believed that is not checked."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from harness.base.errors import HarnessError
from harness.base.files import read_json, write_json
from harness.paper.params import Default, default_run
from harness.results.folders import Folders
from harness.results.store import PULLED
from harness.share import remote

CARD = {
    "card": 1,
    "paper": "stabilizing-lth",
    "scale": "tiny",
    "title": "a run",
    "harness_version": "0",
    "code": {"revision": "", "tree_clean": None, "digests": {}},
    "parts": {},
    "spec": {},
    "frozen": [],
    "moves": [],
    "looks": [],
    "data": {},
    "packages": {},
    "hardware": [],
    "images": [],
    "started": "",
    "finished": "",
    "wall_clock_seconds": 0.0,
    "network_core_seconds": 0.0,
    "energy_joules": None,
    "verdicts": {},
    "networks": 0,
    "files": {},
}
FOLDERS = Folders(Path("results/tiny"))


def test_params_name_the_run(tmp_path):
    path = tmp_path / "params.yaml"
    run = {"paper": "stabilizing-lth", "scale": "mini", "folder": "results/stabilizing-lth/mini"}
    path.write_text(yaml.safe_dump({"run": run}))
    assert default_run(tmp_path) == Default(**run)
    for change, message in (
        ({"folder": "../elsewhere"}, r"run.folder: '../elsewhere': set it to results/stabilizing-lth/mini"),
        ({"scale": 3}, r"params\.yaml: run\.scale: .*string"),
        ({"cores": "2"}, r"params\.yaml: .*cores"),
    ):
        path.write_text(yaml.safe_dump({"run": run | change}))
        with pytest.raises(HarnessError, match=message):
            default_run(tmp_path)


class Fetched:
    """A DVC repository whose cache holds what DVC would have fetched, and a dvc.lock that names it."""

    def __init__(self, root: Path):
        self.root, self.cache = root, root / "cache" / "files" / "md5"
        self.outs: list[dict[str, str]] = []
        (root / ".dvc").mkdir()
        (root / ".dvc" / "config").write_text("[core]\n    no_scm = true\n[cache]\n    dir = ../cache\n")

    def keep(self, content: bytes, suffix: str = "") -> str:
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest() + suffix
        path = self.cache / md5[:2] / md5[2:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return md5

    def file(self, name: str, content: bytes) -> str:
        md5 = self.keep(content)
        self.out(f"results/tiny/{name}", md5)
        return md5

    def out(self, path: str, md5: str) -> None:
        self.outs.append({"path": path, "hash": "md5", "md5": md5})

    def folder(self, name: str, files: dict[str, bytes]) -> None:
        listed = [{"md5": self.keep(content), "relpath": path} for path, content in files.items()]
        self.out(f"results/tiny/{name}", self.keep(json.dumps(listed).encode(), ".dir"))

    def lock(self) -> None:
        outs = {name: self.outs if name == "report" else [] for name in remote.STAGES}
        stages = {name: {"cmd": "true", "outs": [out["path"] for out in outs[name]]} for name in outs}
        (self.root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
        stages = {name: {"cmd": "true", "outs": outs[name]} for name in outs}
        (self.root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))


@pytest.fixture
def fetched(tmp_path, monkeypatch) -> Fetched:
    """A checkout into which DVC fetches what a test put there; what it would put into place is noted."""
    fetched = Fetched(tmp_path)
    fetched.file("card.json", json.dumps(CARD).encode())
    fetched.placed = []

    def fake(root, verb, *arguments, **_):
        if verb == "checkout":
            fetched.placed.append(arguments)
        return ""

    monkeypatch.setattr(remote, "dvc", fake)
    return fetched


def refusal(tiny_run: Fetched) -> str:
    tiny_run.lock()
    with pytest.raises(HarnessError) as caught:
        remote.pull(tiny_run.root, FOLDERS)
    assert not tiny_run.placed
    assert not list((tiny_run.root / "results").glob("*"))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_passes_is_put_into_place(fetched):
    fetched.folder("report", {"index.html": b"<p>", "figures/a.svg": b"<svg/>"})
    fetched.lock()
    remote.pull(fetched.root, FOLDERS)
    assert fetched.placed == [remote.STAGES]
    assert not list((fetched.root / "results").glob("*"))


@pytest.mark.parametrize("name", ["../../../.profile", "/etc/passwd", "a/../../../x", "", ".", "a\\b", "x\n"])
def test_a_name_that_climbs_out_is_refused_before_anything_is_written(fetched, name):
    fetched.folder("report", {name: b"x"})
    assert "not a name of a file in this folder" in refusal(fetched)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a.html", "a.html"], "'results/tiny/report/a.html': there twice"),
        (["a", "a/b"], "'results/tiny/report/a/b': a name in 'results/tiny/report/a', which is a file too"),
        (["a/b/c/d", "a/b"], "'results/tiny/report/a/b/c/d': a name in 'results/tiny/report/a/b', which is a file"),
        (["x" * 300], "xxx...: a name of over 255 bytes"),
        (["ä" * 200], "ää...: a name of over 255 bytes"),
    ],
)
def test_lists_whose_names_cant_all_be_files_are_refused(fetched, names, words):
    md5s = [fetched.keep(str(place).encode()) for place in range(len(names))]
    listed = [{"md5": md5, "relpath": name} for md5, name in zip(md5s, names, strict=True)]
    fetched.out("results/tiny/report", fetched.keep(json.dumps(listed).encode(), ".dir"))
    assert words in refusal(fetched)
    assert [(fetched.cache / md5[:2] / md5[2:]).read_text() for md5 in md5s] == [str(n) for n in range(len(names))]


@pytest.mark.parametrize("link", ["results", "results/stabilizing-lth", "results/stabilizing-lth/tiny"])
def test_results_behind_a_link_are_refused_before_dvc_is_asked(copy, tmp_path, monkeypatch, link):
    monkeypatch.setattr(remote, "dvc", None)
    root = tmp_path / "checkout"
    place = root / link
    place.parent.mkdir(parents=True)
    (tmp_path / "disk").mkdir()
    place.symlink_to(tmp_path / "disk")
    folders = Folders(Path("results/stabilizing-lth/tiny"))
    message = rf"{link}: is a symbolic link to .*disk, and DVC tracks nothing behind one\. Put a folder in its place"
    with pytest.raises(HarnessError, match=message):
        remote.push(root, copy.context.spec, folders)
    with pytest.raises(HarnessError, match=message):
        remote.pull(root, folders)


def test_files_that_no_run_has_are_not_pushed(copy, monkeypatch):
    monkeypatch.setattr(remote, "check_finished", lambda *_: None)
    ran = []
    monkeypatch.setattr(remote, "dvc", lambda _, *command, **__: ran.append(command) or "")
    for name in ("notes.txt", "logs/x.log", "report/.a.svg.7.part", "report/.DS_Store"):  # DVC tracks none of these
        (copy.base / name).parent.mkdir(exist_ok=True)
        (copy.base / name).write_text("")
    remote.push(copy.base, None, copy.folders)
    assert [command[0] for command in ran] == ["commit", "push"]
    for name in ("report/.hidden", "stages/lenet/notes.txt", "tickets/x/y", "tickets/z"):
        (copy.base / name).parent.mkdir(exist_ok=True)
        (copy.base / name).write_text("")
    with pytest.raises(HarnessError) as caught:
        remote.push(copy.base, None, copy.folders)
    assert str(caught.value) == (
        f"{copy.base}: 'report/.hidden', 'stages/lenet/notes.txt', 'tickets/x/y' and 1 more: no file of a run. "
        "Move them away, then push again"
    )
    assert len(ran) == 2


def test_files_that_no_run_has_are_refused(fetched):
    fetched.folder("stages", {"lenet/run.sh": b"x"})
    assert "stages/lenet/run.sh': no file of a run" in refusal(fetched)


def test_what_the_remote_altered_or_lost_is_refused_and_fetched_again_next_time(fetched):
    md5 = fetched.file("claims.json", b"[]")
    path = fetched.cache / md5[:2] / md5[2:]
    path.write_bytes(b"[1]")
    assert "claims.json: altered on the remote" in refusal(fetched)
    assert not path.exists()
    line = refusal(fetched)
    assert "claims.json: not on the remote, or the remote can't be reached: remote (default). Check" in line


def test_a_file_that_dvc_believes_is_looked_into(fetched):
    """What DVC has fetched is read-only, and its own check ends there."""
    md5 = fetched.file("claims.json", b"[]")
    path = fetched.cache / md5[:2] / md5[2:]
    path.write_bytes(b"[1]")
    path.chmod(0o444)
    assert "claims.json: altered on the remote" in refusal(fetched)


def test_a_list_that_was_altered_is_not_read(fetched):
    fetched.folder("report", {"index.html": b"<p>"})
    md5 = fetched.outs[-1]["md5"]
    (fetched.cache / md5[:2] / md5[2:]).write_text("[" * 10**6)
    assert "results/tiny/report: altered on the remote" in refusal(fetched)


def test_a_link_in_the_cache_is_not_followed(fetched):
    md5 = fetched.file("claims.json", b"[]")
    path = fetched.cache / md5[:2] / md5[2:]
    path.rename(fetched.root / "elsewhere")
    path.symlink_to(fetched.root / "elsewhere")
    assert "claims.json: not on the remote" in refusal(fetched)


def test_a_run_without_a_card_is_refused(fetched):
    fetched.outs.clear()
    fetched.file("claims.json", b"[]")
    assert "results/tiny/card.json: missing in what was pulled" in refusal(fetched)


def test_files_of_one_content_are_told_apart(fetched):
    """They are one file in DVC's cache."""
    fetched.file("report/a.html", b"{")
    fetched.file("claims.json", b"{")
    assert refusal(fetched).startswith("results/tiny/claims.json: not valid JSON")


def test_forms_are_checked(fetched):
    fetched.folder("tickets", {"lenet/r0.safetensors": (2**40).to_bytes(8, "little") + b"{}"})
    assert "results/tiny/tickets/lenet/r0.safetensors: not a safetensors file: its header claims" in refusal(fetched)


def test_a_card_that_is_none_is_refused(tmp_path, fetched):
    fetched.outs.clear()
    fetched.file("card.json", b"{}")
    assert "results/tiny/card.json: " in refusal(fetched)


def test_places_outside_the_run_and_revisions_without_results(fetched):
    fetched.out("harness/cli.py", "0" * 32)
    assert "dvc.lock: 'harness/cli.py': not in results/tiny" in refusal(fetched)
    (fetched.root / "dvc.lock").unlink()
    with pytest.raises(HarnessError, match="names no results of this revision"):
        remote.pull(fetched.root, FOLDERS)


def test_networks_are_held_against_networks_json(fetched, monkeypatch):
    """A weight file with another checksum, a stray name, a record that says otherwise: none is put into place."""
    monkeypatch.chdir(fetched.root)
    tensors = (2).to_bytes(8, "little") + b"{}"
    run = "lenet/r0/k0/L0-dense-o0"
    record = {"id": run, "key": "k", "sha256": hashlib.sha256(tensors).hexdigest(), "parts": {}, "steps": 3}
    write_json(FOLDERS.networks, {run: record})
    fetched.lock()
    good = {f"{run}.safetensors": tensors, f"{run}.json": json.dumps(record).encode()}
    for change, message in (
        ({f"{run}.safetensors": tensors + b" "}, "its checksum is not the one in networks.json"),
        ({f"{run}.json": json.dumps({**record, "steps": 4}).encode()}, "its record is not the one in networks.json"),
        ({"lenet/r0/k0/L0-dense-o1.json": b"{}"}, "no network of this run"),
        ({"lenet/hook.py": b"x"}, "no file of a run is called that"),
    ):
        listed = [{"md5": fetched.keep(content), "relpath": name} for name, content in (good | change).items()]
        out = {"path": "results/tiny/runs", "hash": "md5", "md5": fetched.keep(json.dumps(listed).encode(), ".dir")}
        (fetched.root / "networks.dvc").write_text(yaml.safe_dump({"outs": [out]}))
        fetched.placed.clear()
        with pytest.raises(HarnessError, match=message):
            remote.pull(fetched.root, FOLDERS, networks=True)
        assert ("networks.dvc",) not in fetched.placed
    listed = [{"md5": fetched.keep(content), "relpath": name} for name, content in good.items()]
    out = {"path": "results/tiny/runs", "hash": "md5", "md5": fetched.keep(json.dumps(listed).encode(), ".dir")}
    (fetched.root / "networks.dvc").write_text(yaml.safe_dump({"outs": [out]}))
    stand_in = FOLDERS.runs / f"{run}.json"
    write_json(stand_in, {**record, PULLED: True})
    remote.pull(fetched.root, FOLDERS, networks=True)
    assert fetched.placed[-1] == ("networks.dvc",)
    assert not stand_in.exists()


def project(root: Path, server, *names: str) -> Path:
    """A git and DVC repository with a made-up run, and remotes: "s3", or one whose server is gone."""
    root.mkdir()
    outs = ["card.json", "claims.json", "report"]
    base = root / "results" / "tiny"
    for name in ("prepare/digits", "stages/lenet/c0/dense"):
        write_json(base / f"{name}.json", {})
    write_json(base / "claims.json", [])
    write_json(base / "card.json", CARD)
    (base / "report").mkdir()
    for number in range(4):
        (base / "report" / f"{number}.html").write_text(str(number))
    stages = {
        name: {"cmd": "true", "outs": [{f"results/tiny/{out}": {"persist": True}} for out in parts]}
        for name, parts in (("data", ["prepare"]), ("experiments", ["stages"]), ("report", outs))
    }
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    (root / ".gitignore").write_text("/results/*\n")
    (root / ".dvc").mkdir()
    (root / ".dvc" / "config").write_text(
        "[core]\n    analytics = false\n    remote = s3\n"
        f"['remote \"s3\"']\n    url = s3://{server.bucket}/dvc\n    endpointurl = {server.url}\n"
    )
    git(root, "init", "--quiet")
    return root


def git(root: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True)


@pytest.fixture
def shared(tmp_path, s3, monkeypatch):
    """The made-up run in its repository, with credentials for the server in the environment."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(remote, "check_finished", lambda *_: None)
    return project(tmp_path / "ours", s3)


def failed(action, *arguments) -> str:
    with pytest.raises(HarnessError) as caught:
        action(*arguments)
    line = str(caught.value)
    assert line.startswith(("remote s3 (s3://bench/dvc at http://127.0.0.1:", "remote s3 (s3://bench/dvc)")), line
    assert "\n" not in line
    return line


def contents(base: Path) -> dict[str, bytes]:
    return {path.relative_to(base).as_posix(): path.read_bytes() for path in base.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_push_and_a_pull_that_fail_lose_nothing_and_a_repeat_works(shared, s3, tmp_path, monkeypatch):
    base = shared / "results" / "tiny"
    folders, before = Folders(base.relative_to(shared)), contents(base)
    monkeypatch.chdir(shared)

    with monkeypatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "WRONG")
        line = failed(remote.push, shared, None, folders)
    assert "access is denied to these credentials" in line
    assert "AWS_ACCESS_KEY_ID" in line
    assert not s3.writes

    s3.most_writes = 4
    assert "the transfer broke off" in failed(remote.push, shared, None, folders)
    assert contents(base) == before
    s3.most_writes = None
    remote.push(shared, None, folders)
    assert len(s3.writes) == len(set(s3.writes)), "what had arrived was sent again"

    git(shared, "add", "-A")
    git(shared, "commit", "--quiet", "-m", "results")
    theirs = tmp_path / "theirs"
    subprocess.run(["git", "clone", "--quiet", str(shared), str(theirs)], check=True)
    monkeypatch.chdir(theirs)
    s3.reads.clear()
    s3.most_reads = 3
    failed(remote.pull, theirs, folders)
    assert not (theirs / "results" / "tiny").exists()
    s3.most_reads = None
    remote.pull(theirs, folders)
    assert contents(theirs / "results" / "tiny") == before

    (theirs / "results" / "tiny" / "claims.json").write_text("[{}]")
    with pytest.raises(HarnessError, match="results that are kept nowhere else"):
        remote.pull(theirs, folders)
    assert read_json(theirs / "results" / "tiny" / "claims.json") == [{}]
    remote.pull(theirs, folders, force=True)
    assert contents(theirs / "results" / "tiny") == before

    s3.end()
    (shared / "results" / "tiny" / "claims.json").write_text("[{}]")
    monkeypatch.chdir(shared)
    assert "it can't be reached" in failed(remote.push, shared, None, folders)
    assert read_json(shared / "results" / "tiny" / "claims.json") == [{}]


@pytest.mark.slow
def test_without_the_plug_in_the_line_says_what_to_install(shared, tmp_path, monkeypatch):
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "s3fs.py").write_text("raise ModuleNotFoundError(\"No module named 's3fs'\")\n")
    monkeypatch.setenv("PYTHONPATH", str(hidden))
    monkeypatch.chdir(shared)
    line = failed(remote.push, shared, None, FOLDERS)
    assert "lth-harness[s3]" in line
    assert sys.executable not in line
