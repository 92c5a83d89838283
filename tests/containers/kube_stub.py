"""A stand-in for the Kubernetes API on loopback: takes Secrets and Jobs, and runs each Job's container with podman.

    kube_stub.py PORT FOLDER

It knows what the workflow engine's executor asks of an API and no more: it schedules nothing and counts no resources.
Each manifest is kept as FOLDER/<job>.json and each log as FOLDER/<job>.log; a claim is the folder FOLDER/claims/<name>.
Pods have no privileges, a read-only root and the user of their image; they see the loopback, where S3 listens.
As a cluster does, it refuses a GPU without a limit, and the log of a container before the last one, since pods do not
start again. A pod whose number stands in the file FOLDER/evict is killed when it has run for a while.
"""

import base64
import json
import re
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PORT, FOLDER = int(sys.argv[1]), Path(sys.argv[2]).absolute()
SEALED = ("--network", "host", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "all")
SLOTS = threading.Semaphore(2)  # pods at once, as many as CI has cores
secrets: dict[str, dict[str, str]] = {}
jobs: dict[str, int | None] = {}  # exit status, None while it runs
EVICTED_AFTER = 8  # seconds: the engine has started in the pod by then


def run(name: str, spec: dict[str, Any]) -> None:
    """Run a Job's one container to its end."""
    pod = spec["template"]["spec"]
    container = pod["containers"][0]
    command = ["podman", "run", "--rm", *SEALED, "--security-opt", "no-new-privileges", "--entrypoint", ""]
    for one in container.get("env") or []:
        reference = (one.get("valueFrom") or {}).get("secretKeyRef")
        value = one.get("value", "")
        if reference:
            value = base64.b64decode(secrets[reference["name"]][reference["key"]]).decode()
        command += ["--env", f"{one['name']}={value}"]
    claims = {volume["name"]: volume.get("persistentVolumeClaim") for volume in pod["volumes"]}
    with SLOTS, tempfile.TemporaryDirectory() as empty, (FOLDER / f"{name}.log").open("wb") as log:
        Path(empty).chmod(0o777)
        for mount in container["volumeMounts"]:
            claim = claims[mount["name"]]
            source = FOLDER / "claims" / claim["claimName"] if claim else Path(empty)
            command += ["--volume", f"{source}:{mount['mountPath']}"]
        command += ["--name", name, "--workdir", container["workingDir"], container["image"]]
        command += [*container["command"], *container["args"]]
        evicted = (FOLDER / "evict").read_text().split() if (FOLDER / "evict").exists() else []
        if str(len(jobs)) in evicted:
            threading.Timer(EVICTED_AFTER, subprocess.run, [["podman", "kill", name]]).start()
        jobs[name] = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode


def unlimited(container: dict[str, Any]) -> bool:
    """Whether a container asks for GPUs without a limit."""
    asked = {kind: container["resources"].get(kind) or {} for kind in ("requests", "limits")}
    return asked["requests"].get("nvidia.com/gpu") != asked["limits"].get("nvidia.com/gpu")


class Api(BaseHTTPRequestHandler):
    """The few paths that are asked for."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, content: Any, status: int = 200) -> None:
        data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(content, str) else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def body(self) -> dict[str, Any]:
        return json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")

    def do_POST(self) -> None:
        sent = self.body()
        name = sent["metadata"]["name"]
        if self.path.endswith("/secrets"):
            secrets[name] = sent.get("data") or {}
        elif any(unlimited(one) for one in sent["spec"]["template"]["spec"]["containers"]):
            message = "nvidia.com/gpu: Limit must be set for non overcommitable resources"
            self.answer({"kind": "Status", "code": 422, "message": message}, 422)
            return
        else:
            (FOLDER / f"{name}.json").write_text(json.dumps(sent, indent=1))
            jobs[name] = None
            threading.Thread(target=run, args=(name, sent["spec"]), daemon=True).start()
        self.answer(sent, 201)

    def do_GET(self) -> None:
        if found := re.search(r"/jobs/([^/?]+)/status", self.path):
            status = jobs.get(found[1])
            told = {"active": 1} if status is None else {"succeeded": 1} if status == 0 else {"failed": 1}
            self.answer({"kind": "Job", "metadata": {"name": found[1]}, "status": told})
        elif "previous=true" in self.path.lower():
            message = "previous terminated container not found"
            self.answer({"kind": "Status", "code": 400, "message": message}, 400)
        elif found := re.search(r"/pods/([^/?]+)-pod/log", self.path):
            self.answer((FOLDER / f"{found[1]}.log").read_text(errors="replace"))
        elif found := re.search(r"job-name(?:%3D|=)([^&]+)", self.path):
            status = jobs.get(found[1])
            state = {"running": {}} if status is None else {"terminated": {"exitCode": status}}
            facts = {"name": "snakemake", "image": "", "imageID": "", "ready": True, "restartCount": 0, "state": state}
            pod = {"metadata": {"name": f"{found[1]}-pod"}, "status": {"containerStatuses": [facts]}}
            self.answer({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": [pod]})
        else:
            self.answer({"kind": "Status", "code": 404}, 404)

    def do_DELETE(self) -> None:
        self.body()
        self.answer({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})


def main() -> None:
    server = {"name": "stub", "cluster": {"server": f"http://127.0.0.1:{PORT}"}}
    context = {"name": "stub", "context": {"cluster": "stub", "user": "stub"}}
    facts = {"apiVersion": "v1", "kind": "Config", "current-context": "stub", "clusters": [server]}
    facts |= {"users": [{"name": "stub", "user": {}}], "contexts": [context]}
    (FOLDER / "kubeconfig").write_text(json.dumps(facts))
    ThreadingHTTPServer(("127.0.0.1", PORT), Api).serve_forever()


main()
