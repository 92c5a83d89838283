"""An S3 server on loopback (moto) with faults that a test can plant: refused keys, connections that are cut."""

import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

KEY, SECRET = "testing", "testing-secret"
REFUSED = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>InvalidAccessKeyId</Code>'
    b"<Message>The AWS Access Key Id you provided does not exist in our records.</Message></Error>"
)


@dataclass
class Server:
    """A running server: its address, what was written to it, and the faults planted in it."""

    url: str = ""
    end: Callable[[], None] = lambda: None  # may be called again
    bucket: str = "bench"
    most_writes: int | None = None  # further ones fail
    most_reads: int | None = None
    writes: list[str] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)
    client: Any = None  # of boto3, to look at what lies there

    def objects(self, folder: str) -> dict[str, bytes]:
        """The content of each object below a folder of the bucket, by its name there."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=f"{folder}/")
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        read = {key: self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read() for key in keys}
        return {key.removeprefix(f"{folder}/"): content for key, content in read.items()}

    @property
    def environment(self) -> dict[str, str]:
        """Credentials that it accepts, for a client process on this machine."""
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }

    def wrap(self, application: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
        """The server's application behind these faults."""

        def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
            method, place = environ["REQUEST_METHOD"], environ["PATH_INFO"]
            length = int(environ.get("CONTENT_LENGTH") or 0)
            if f"Credential={KEY}/" not in environ.get("HTTP_AUTHORIZATION", ""):
                environ["wsgi.input"].read(length)
                start("403 Forbidden", [("Content-Type", "application/xml"), ("Content-Length", str(len(REFUSED)))])
                return [] if method == "HEAD" else [REFUSED]
            done, most = (self.reads, self.most_reads) if method == "GET" else (self.writes, self.most_writes)
            if "/files/md5/" in place and method in ("GET", "PUT", "POST"):
                if most is not None and len(done) >= most:
                    environ["wsgi.input"].read(length)
                    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)  # the line goes dead without an answer
                    raise ConnectionAbortedError("planted")
                done.append(place)
            return application(environ, start)

        return answer


def start() -> Server:
    """A server with an empty bucket on a free port."""
    import boto3
    from botocore.config import Config
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Silent(WSGIRequestHandler):
        def log(self, *_: Any, **__: Any) -> None:
            pass

    server = Server()
    application = server.wrap(DomainDispatcherApplication(create_backend_app))
    listening = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Silent)
    server.url = f"http://127.0.0.1:{listening.server_port}"
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    server.client = boto3.client(
        "s3",
        endpoint_url=server.url,
        region_name="us-east-1",
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        config=Config(proxies={}),
    )
    server.client.create_bucket(Bucket=server.bucket)

    def end() -> None:
        if thread.is_alive():
            listening.shutdown()
            listening.server_close()
            thread.join()

    server.end = end
    return server
