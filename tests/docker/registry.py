"""An image registry on the engine's loopback, which an engine believes without TLS: slow, broken or guarded on command.

It is a container, started by testcontainers: `registry_program.py` in an ordinary image with Python. Its folder holds
the image, and the files by which a test switches it.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import json
import os
import re
import tarfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

from tests.docker.registry_program import MANIFEST
from tests.engine import container, require_engine, require_image, require_python_image

_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_PORT = re.compile(r"^port (\d+)$", re.MULTILINE)


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

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for name in ("blobs", "held", "failures"):
            (folder / name).mkdir(parents=True)
        self.publish("1")
        program = Path(__file__).with_name("registry_program.py")
        self._container: DockerContainer = container(
            require_python_image(),
            *("python", "-u", "/registry.py", "/served"),
            volumes={"/registry.py:ro": str(program), "/served": str(folder)},
            network="host",  # the engine's loopback, wherever the engine is
            user=f"{os.getuid()}:{os.getgid()}",
        ).waiting_for(LogMessageWaitStrategy(_PORT).with_poll_interval(0.05))

    def start(self) -> None:
        """Start serving."""
        self._container.start()
        found = _PORT.search(self._log())
        assert found is not None
        self.image = f"127.0.0.1:{found[1]}/air-test-{uuid.uuid4().hex[:8]}:1"

    def close(self) -> None:
        """Stop serving; what is held back is never sent."""
        self._container.stop()

    def _log(self) -> str:
        printed, complaint = self._container.get_logs()
        assert not complaint, complaint.decode()
        return printed.decode()

    @property
    def manifests(self) -> int:
        """Times that a manifest was given out."""
        return len(re.findall(r'^"GET \S+/manifests/\S+ HTTP/1.1" 200', self._log(), re.MULTILINE))

    @property
    def failures(self) -> int:
        """So many requests more are answered with 503."""
        return len(os.listdir(self._folder / "failures"))

    def fail(self, requests: int) -> None:
        """Answer so many requests with 503."""
        for number in range(requests):
            (self._folder / "failures" / str(number)).touch()

    def guard(self, password: str) -> None:
        """Let nobody in but the user `me`."""
        (self._folder / "password").write_text(password)

    def hold(self) -> None:
        """Send no layer until `release`."""
        (self._folder / "held" / self._layer).touch()

    def release(self) -> None:
        """Send layers."""
        (self._folder / "held" / self._layer).unlink()

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
        for data, _ in parts:
            (self._folder / "blobs" / _digest(data)).write_bytes(data)
        shown = [{"mediaType": kind, "size": len(data), "digest": _digest(data)} for data, kind in parts]
        self._layer = _digest(layer)
        self.serve({"schemaVersion": 2, "mediaType": MANIFEST, "config": shown[0], "layers": shown[1:]})

    def serve(self, manifest: object) -> None:
        """Give this out as the image's manifest from now on."""
        new = self._folder / "new"
        new.write_text(json.dumps(manifest))
        new.rename(self._folder / "manifest")

    def unpublish(self) -> None:
        """Have no image."""
        (self._folder / "manifest").unlink()


@contextmanager
def serving(folder: Path) -> Iterator[Registry]:
    """Return a registry that is gone afterwards."""
    made = Registry(folder)
    try:
        made.start()
        yield made
    finally:
        made.close()
