"""Downloads from a server on this machine that breaks off, serves something else, or is not there."""

import contextlib
import dataclasses
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from harness import data
from harness.base.errors import HarnessError
from harness.data import archives
from harness.data.archives import data_folder, fetch
from harness.data.sets import mnist
from harness.data.source import published as published_source
from tests.data.formats import write_mnist


class Server(ThreadingHTTPServer):
    """Serves files by name; the first `broken` requests of each end half-way."""

    def __init__(self, files, broken=0):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.broken, self.asked = files, dict.fromkeys(files, broken), []
        self.lock = threading.Lock()
        self.address = f"http://127.0.0.1:{self.server_port}/files/"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        name, server = self.path.rpartition("/")[2], self.server
        server.asked.append(name)
        content = server.files[name]
        with server.lock:  # before the answer: the next request can come while this one ends
            server.broken[name], breaks = server.broken[name] - 1, server.broken[name] > 0
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if breaks:
            content = content[: len(content) // 2]
        with contextlib.suppress(OSError):  # torchvision asks twice, and reads the second answer only
            self.wfile.write(content)

    def log_message(self, *_):
        """Quiet."""


@pytest.fixture
def serve():
    """Start servers; all are stopped at the end."""
    servers = []

    def start(*arguments):
        servers.append(Server(*arguments))
        threading.Thread(target=servers[-1].serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def small(tmp_path):
    """A small MNIST, and its files by name."""
    published, _, _ = write_mnist(tmp_path / "server")
    files = {
        archive.path.rpartition("/")[2]: (tmp_path / "server" / archive.path).read_bytes()
        for archive in published.archives
    }
    return published, files


def at(published, *addresses):
    """The same files at these addresses."""
    changed = [
        dataclasses.replace(one, urls=tuple(address + one.path.rpartition("/")[2] for address in addresses))
        for one in published.archives
    ]
    return dataclasses.replace(published, archives=tuple(changed))


def test_a_download_that_breaks_off_is_tried_again(folder, small, serve, tmp_path, use, capfd):
    published, files = small
    server = serve(files, 3)  # a try asks twice and reads the second answer: the first try of each file fails
    use("mnist", published_source(at(published, server.address), mnist.arrays))
    data.prepare("mnist", tmp_path / "mnist.json")
    assert len(data.load(tmp_path / "mnist.json").y["train"]) == 48
    shown = capfd.readouterr().err
    assert shown.count("data set mnist: downloading") == 8
    assert shown.count("failed: ") == 4
    assert "100%" in shown  # the progress of torchvision's download
    assert sorted(path.name for path in (folder / "MNIST/raw").iterdir()) == sorted(files)

    server.asked.clear()
    data.prepare("mnist", tmp_path / "mnist.json")
    assert server.asked == []  # what is there and whole is not downloaded again


def test_the_next_address_is_tried(folder, small, serve, tmp_path):
    published, files = small
    fetch(at(published, closed_port(serve), serve(files).address))
    assert {path.name: path.read_bytes() for path in (folder / "MNIST/raw").iterdir()} == files


def closed_port(serve):
    server = serve({})
    server.shutdown()
    server.server_close()
    return server.address


def test_without_a_network_the_message_says_how_to_do_it_by_hand(folder, small, serve):
    published, _ = small
    address = closed_port(serve)
    with pytest.raises(HarnessError) as caught:
        fetch(at(published, address))
    message = str(caught.value)
    assert "\n" not in message
    assert "data set mnist: train-images-idx3-ubyte.gz can't be downloaded" in message
    assert "refused" in message
    names = ", ".join(mnist.FILES)
    assert f"By hand: put {names} from {address} into {folder / 'MNIST/raw'}" in message
    assert "HARNESS_DATA" in message
    assert not list(folder.rglob("*.gz*"))


def test_where_torchvision_is_not_installed_one_line_says_so(folder, small, serve, monkeypatch):
    monkeypatch.setattr(archives, "find_spec", lambda name: None)
    with pytest.raises(
        HarnessError, match=r"can't be downloaded: torchvision, .* is not installed here\. By hand: put"
    ):
        fetch(at(small[0], closed_port(serve)))


def test_another_file_than_published_is_not_kept(folder, small, serve):
    published, files = small
    served = serve(dict.fromkeys(files, b"something else"))
    with pytest.raises(HarnessError, match="the downloaded file is not the published one"):
        fetch(at(published, served.address))
    assert not [path for path in folder.rglob("*") if path.is_file()]
    assert len(served.asked) == 2 * 3


def test_a_damaged_file_is_replaced_but_only_by_a_whole_one(folder, small, serve):
    published, files = small
    path = folder / published.archives[0].path
    path.parent.mkdir(parents=True)
    path.write_bytes(b"damaged")
    with pytest.raises(HarnessError, match=r"\(there is .*images-idx3-ubyte\.gz: damaged: MD5 [0-9a-f]{32} is not"):
        fetch(at(published, closed_port(serve)))
    assert path.read_bytes() == b"damaged"
    fetch(at(published, serve(files).address))
    assert path.read_bytes() == files[path.name]


def test_a_folder_that_can_not_be_written_is_the_users_to_mend(folder, small, serve):
    published, files = small
    folder.write_text("a file where the folder should be")
    with pytest.raises(HarnessError, match=r"data can't be read \(Not a directory\)"):
        fetch(at(published, serve(files).address))


def test_the_real_sets_name_their_upstream_files_and_no_other_place(folder, monkeypatch):
    monkeypatch.setattr(archives, "_download", lambda *_: "no network")
    for name, expected in (
        ("mnist", "train-labels-idx1-ubyte.gz, t10k-images"),
        ("cifar10", "cifar-10-python.tar.gz from https://www.cs.toronto.edu/~kriz/ into"),
    ):
        with pytest.raises(HarnessError, match=r"can't be downloaded: no network\. By hand: put") as caught:
            data.SOURCES[name].make()
        assert expected in str(caught.value)


def test_the_data_folder_lies_beside_results_unless_named(monkeypatch, tmp_path):
    monkeypatch.setenv("HARNESS_ROOT", str(tmp_path))
    (tmp_path / "papers").mkdir()
    for value, expected in ((None, "data"), ("", "data"), ("else/where", "else/where"), ("/abs", "/abs")):
        monkeypatch.setenv("HARNESS_DATA", value) if value is not None else monkeypatch.delenv("HARNESS_DATA", False)
        assert data_folder() == tmp_path.resolve() / expected
