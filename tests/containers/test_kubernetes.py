"""The workflow as pods: against a stand-in for the API that runs each with podman, and a real S3 server, on loopback.

LeNet at k = 0, from the data set to the compared pairs: what pods read of each other and how they hand on outputs.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pandas as pd
import pytest
import yaml

from harness.base.files import read_json
from tests.containers.conftest import HERE, RUN, SCALE, Finished, attempt, copy_checkout

pytestmark = pytest.mark.containers
BUCKET = "lth"
TARGET = f"results/{RUN}/stages/lenet/c0/k0-stability.json"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_for_port(port: int) -> None:
    for _ in range(300):
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(f"nothing listens on port {port}")


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(scope="module")
def cluster(engine, tmp_path_factory) -> Iterator[Path]:
    folder, port = tmp_path_factory.mktemp("cluster"), free_port()
    volume = folder / "claims" / "results"
    volume.mkdir(parents=True)
    os.chown(volume, 1000, 1000)
    server = subprocess.Popen([sys.executable, HERE / "kube_stub.py", str(port), str(folder)])
    try:
        wait_for_port(port)
        yield folder
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(scope="module")
def manifests(image, s3, cluster, tmp_path_factory) -> list[dict[str, Any]]:
    """The pods' manifests of the workflow up to TARGET, started as the guide says, and again after an eviction."""
    folder = copy_checkout(tmp_path_factory.mktemp("kubernetes") / "checkout")
    resources = folder / "papers" / "stabilizing-lth" / "resources.yaml"
    facts = yaml.safe_load(resources.read_text())
    facts[SCALE]["experiments"] = {"digits": {"prepare": {"gpu": 1, "memory_mb": 700, "threads": 2}}}
    resources.write_text(yaml.safe_dump(facts))
    keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}
    storage = boto3.client("s3", endpoint_url=s3, aws_access_key_id="testing", aws_secret_access_key="testing")
    storage.create_bucket(Bucket=BUCKET)
    command = [sys.executable, "-m", "snakemake", TARGET, "--workflow-profile", "envs/profiles/kubernetes"]
    command += ["--container-image", image, "--default-storage-prefix", f"s3://{BUCKET}/run"]
    command += ["--storage-s3-endpoint-url", s3, "--seconds-between-status-checks", "2", "--envvars", "HARNESS_IMAGE"]
    command += ["--config", f"scale={SCALE}", "volume=/results"]
    variables = {"KUBECONFIG": str(cluster / "kubeconfig"), "HARNESS_IMAGE": image.partition("@")[2], **keys}
    variables |= {"SNAKEMAKE_STORAGE_S3_ACCESS_KEY": "testing", "SNAKEMAKE_STORAGE_S3_SECRET_KEY": "testing"}
    variables |= {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    (cluster / "evict").write_text("3")  # the last one, in which all of k = 0 goes
    result = attempt(*command, cwd=folder, **variables)
    assert result.returncode != 0
    assert len(list(cluster.glob("snakejob-*.json"))) >= 3, result.stderr[-3000:]  # it went well up to that pod
    (cluster / "evict").unlink()
    result = attempt(*command, cwd=folder, **variables)  # what that guide says to do
    logs = "\n".join(path.read_text()[-1500:] for path in sorted(cluster.glob("*.log"))[:3])
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-6000:] + logs
    return [json.loads(path.read_text()) for path in sorted(cluster.glob("snakejob-*.json"))]


def test_pods_give_the_plain_runs_numbers(manifests, cluster, plain, image):
    finished = Finished(cluster / "claims" / "results" / RUN)
    found, expected = finished.networks(), plain.networks()
    assert len(found) > 10
    assert found == {name: expected[name] for name in found}
    for name in ("k0-stability.parquet", "k0-stability.curves.parquet"):
        a, b = (pd.read_parquet(one.base / "stages" / "lenet" / "c0" / name) for one in (finished, plain))
        pd.testing.assert_frame_equal(a, b, check_exact=True)
    records = [read_json(path) for path in (finished.base / "stages").rglob("*.json")]
    assert {record["image"] for record in records} == {image.partition("@")[2]}


def test_what_rules_made_is_in_s3(manifests, cluster, s3):
    storage = boto3.client("s3", endpoint_url=s3, aws_access_key_id="testing", aws_secret_access_key="testing")
    base = cluster / "claims" / "results" / RUN
    for name in ("prepare/digits.json", "stages/lenet/c0/dense.json", "stages/lenet/c0/k0-stability.parquet"):
        stored = storage.get_object(Bucket=BUCKET, Key=f"run/results/{RUN}/{name}")["Body"].read()
        assert stored == (base / name).read_bytes()


def test_pods_ask_for_what_the_resources_say(manifests, image, cluster):
    containers = {}
    for manifest in manifests:
        spec = manifest["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        assert container["image"] == image
        assert {"name": "results", "persistentVolumeClaim": {"claimName": "results"}} in spec["volumes"]
        assert manifest["spec"]["backoffLimit"] == 0  # the workflow engine tries again, not the cluster
        containers[manifest["metadata"]["name"]] = (container, spec)
    asked = [one for one in containers.values() if "--allowed-rules prepare" in one[0]["args"][1]]
    ((container, spec),) = asked
    requests = container["resources"]["requests"]
    assert requests["nvidia.com/gpu"] == container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert requests["cpu"] == "1900m"  # 95%, for what a cluster keeps for itself
    assert requests["memory"].startswith("7")
    assert [one["key"] for one in spec["tolerations"]] == ["nvidia.com/gpu"]
    others = [one for one in containers.values() if one not in asked]
    assert all("nvidia.com/gpu" not in one[0]["resources"]["requests"] for one in others)
    # short jobs of one rewind iteration went as one pod
    stages = len(list((cluster / "claims" / "results" / RUN / "stages").rglob("*.json")))
    assert len(manifests) < stages


def test_no_pod_asked_a_registry_for_packages(manifests, cluster):
    logs = [path.read_text() for path in cluster.glob("snakejob-*.log")]
    assert logs
    assert not [log for log in logs if "http://" in log.replace("http://127.0.0.1", "") or "https://" in log]
