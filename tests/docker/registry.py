"""An image registry on loopback, which an engine believes without TLS: slow, broken or guarded on command."""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import io
import json
import os
import re
import tarfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.engine import require_engine, require_image

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@functools.cache
def _saved() -> bytes:
    """Return the only layer of our test image."""
    client = require_engine()
    with tarfile.open(fileobj=io.BytesIO(b"".join(client.get_image(require_image())))) as saved:
        manifest = json.load(saved.extractfile("manifest.json"))  # type: ignore[arg-type]
        layer = saved.extractfile(manifest[0]["Layers"][0])
        assert layer is not None
        data = layer.read()
    client.close()
    return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data


def _tree() -> bytes:
    """Return a layer that no engine has: ours, and something new."""
    buffer = io.BytesIO(_saved())
    with tarfile.open(fileobj=buffer, mode="a") as tar:
        new = tarfile.TarInfo("new")
        new.size = 64
        tar.addfile(new, io.BytesIO(os.urandom(64)))
    return buffer.getvalue()


class Registry:
    """Serves one small image, other in each of its versions, under any name."""

    def __init__(self) -> None:
        self.password: str | None = None
        """Of the user `me`; None lets everybody in."""
        self.broken = 0
        """So many requests more are answered with 503."""
        self.gate = threading.Event()
        """Layers are sent while this is set."""
        self.gate.set()
        self.manifests = 0
        """Times that a manifest was given out."""
        self.blobs: dict[str, bytes] = {}
        self.publish("1")
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.image = f"127.0.0.1:{self._server.server_port}/air-test-{uuid.uuid4().hex[:8]}:1"

    def publish(self, version: str) -> None:
        """Have the image say this in its environment from now on."""
        tree = _tree()
        layer = gzip.compress(tree, 1)
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Env": ["PATH=/bin", f"VERSION={version}", "PYTHONPATH=/opt"]},
                "rootfs": {"type": "layers", "diff_ids": [_digest(tree)]},
            }
        ).encode()
        parts = [(config, _CONFIG), (layer, _LAYER)]
        shown = [{"mediaType": kind, "size": len(data), "digest": _digest(data)} for data, kind in parts]
        manifest = {"schemaVersion": 2, "mediaType": _MANIFEST, "config": shown[0], "layers": shown[1:]}
        self.manifest = json.dumps(manifest).encode()
        self.blobs |= {_digest(data): data for data, _ in parts}
        self.layer = _digest(layer)

    def close(self) -> None:
        """Stop serving; what is held back is never sent."""
        self.layer = "no more"
        self.gate.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, registry: Registry) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.registry = registry


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        registry = self.server.registry
        blob = registry.blobs.get(self.path.rpartition("/")[2])
        if registry.broken > 0:
            registry.broken -= 1
            self._answer(503, b"{}")
        elif not self._may():
            self._answer(401, b"{}", **{"WWW-Authenticate": 'Basic realm="test"'})
        elif self.path == "/v2/":
            self._answer(200, b"{}")
        elif re.search(r"/manifests/[^/]+$", self.path):
            registry.manifests += self.command == "GET"
            manifest = registry.manifest
            self._answer(200, manifest, kind=_MANIFEST, **{"Docker-Content-Digest": _digest(manifest)})
        elif blob is not None:
            if self.path.endswith(registry.layer) and not registry.gate.is_set():
                registry.gate.wait()
                if registry.layer not in self.path:
                    self.close_connection = True
                    return
            self._answer(200, blob, kind="application/octet-stream")
        else:
            self._answer(404, b"{}")

    def _may(self) -> bool:
        password = self.server.registry.password
        token = base64.b64encode(f"me:{password}".encode()).decode()
        return password is None or self.headers.get("Authorization") == f"Basic {token}"

    def _answer(self, status: int, body: bytes, kind: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:  # noqa: ANN401 - as the base class has it
        """Say nothing."""


@contextmanager
def serving() -> Iterator[Registry]:
    """Return a registry that is gone afterwards."""
    made = Registry()
    try:
        yield made
    finally:
        made.close()
