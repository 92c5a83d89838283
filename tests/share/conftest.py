"""A local S3 server."""

from collections.abc import Iterator

import pytest

from tests.share.s3_server import Server, start


@pytest.fixture
def s3() -> Iterator[Server]:
    """An S3 server on loopback with an empty bucket."""
    server = start()
    yield server
    server.end()
