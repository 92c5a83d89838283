"""What DVC says when it fails, as one line without passwords."""

import pytest

from harness.base.errors import HarnessError
from harness.share.dvc import check_there, explain

# as DVC 3.67 with dvc-s3 3.3 says it
REFUSED = (
    "ERROR: unexpected error - Forbidden: An error occurred (403) when calling the HeadObject operation: Forbidden"
)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (REFUSED, "access is denied to these credentials"),
        ("ERROR: unexpected error - Unable to locate credentials", "the credentials are missing or wrong"),
        (
            "ERROR: unexpected error - An error occurred (InvalidAccessKeyId) when",
            "the credentials are missing or wrong",
        ),
        ('ERROR: unexpected error - Could not connect to the endpoint URL: "http://x:9/"', "it can't be reached"),
        ("ERROR: failed to push - config file error: no remote specified in /x. Create", "no remote is configured"),
        ("ERROR: failed to push - config file error: remote 'far' doesn't exist", "there is no remote of this name"),
        ("ERROR: unexpected error - The specified bucket does not exist: NoSuchBucket", "there is no such bucket"),
        (
            "ERROR: unexpected error - URL 's3://b/d' is supported but requires these missing dependencies: ['s3fs'].",
            "the plug-in for this kind of remote is missing",
        ),
        (
            "ERROR: failed to transfer 'f6' - Connection was closed\nERROR: failed to push - 4 files failed to upload",
            "the transfer broke off, 4 files are missing",
        ),
        ("Traceback: something new", "the transfer broke off"),
    ],
)
def test_what_dvc_says_becomes_one_line_with_the_remote_and_the_fix(tmp_path, said, told):
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text(
        "[core]\n    remote = far\n['remote \"far\"']\n    url = s3://bench/dvc\n"
    )
    line = explain(tmp_path, "push", "", f"{said}\n\nHaving any troubles? Hit us up\n")
    assert line.startswith(f"remote far (s3://bench/dvc): {told}")
    assert "\n" not in line
    assert "Having any troubles" not in line
    assert len(line) < 600


SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (f"http://me:{SECRET}@host:9000", "http://host:9000"),
        (f"https://{SECRET}@host/path?token={SECRET}#x", "https://host/path"),
        (f"http://me:a/{SECRET}@host/path", "http://host/path"),
        (f"http://me:a@{SECRET}@host/path", "http://host/path"),
        (f"webdavs://me:a?{SECRET}@host", "webdavs://host"),
        ("http://host:9000/path@2", "http://host:9000/path@2"),
        ("s3://bucket/path", "s3://bucket/path"),
    ],
)
def test_no_password_of_an_address_is_shown(tmp_path, address, shown):
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text(
        f"[core]\n    remote = far\n['remote \"far\"']\n    url = {address}\n    endpointurl = {address}\n"
    )
    said = f"ERROR: unexpected error - Could not connect to '{address}' at {address} now {'.' * 400} {address}"
    line = explain(tmp_path, "push", "", said)
    assert SECRET not in line
    assert (
        f"remote far ({shown} at {shown}): it can't be reached: Could not connect to '{shown}' at {shown} now" in line
    )
    for said in (f"ERROR: config of {address} is odd", f"Traceback: {address}"):
        assert SECRET not in explain(tmp_path, "commit", "", said)
    assert SECRET not in explain(tmp_path, "fetch", address, "ERROR: no such remote")


def test_a_folder_that_is_not_there_is_said_before_anything_is_fetched(tmp_path):
    """A relative place is beside the file that names it, as in DVC."""
    (tmp_path / ".dvc").mkdir()
    for url in ("../store", str(tmp_path / "store"), f"file://{tmp_path}/store"):
        (tmp_path / ".dvc" / "config").write_text(f"['remote \"near\"']\n    url = {url}\n")
        with pytest.raises(HarnessError, match=r"remote near \(.*store\): its folder is not there: mount it, or"):
            check_there(tmp_path, "near")
        (tmp_path / "store").mkdir()
        check_there(tmp_path, "near")
        (tmp_path / "store").rmdir()
    for config in ("", "['remote \"near\"']\n    url = s3://bucket/store\n"):
        (tmp_path / ".dvc" / "config").write_text(config)
        check_there(tmp_path, "near")
