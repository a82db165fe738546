"""A real Docker Engine for tests: the one that DOCKER_HOST names, else the machine's own."""

from __future__ import annotations

import functools
import io
import os
import tarfile

import docker
import docker.errors
from docker.utils import kwargs_from_env

from tests.lanes import missing, require_service

BUSYBOX = "air-executor-test-busybox:2"
"""A shell and little else, as small images have it."""
NO_SHELL = "air-executor-test-no-shell"
"""A program, and no shell."""
_APPLETS = (
    "sh cat date dd echo env false fold grep head id kill ls mkdir mount mv nc ps rm setsid sleep stat touch tr true"
    " wc wget yes"
)


def require_engine() -> docker.APIClient:
    """Return a client of the engine; without one the test is skipped, and in CI fails."""
    require_service("a Docker Engine")
    try:
        client = docker.APIClient(version="auto", timeout=60, **kwargs_from_env())
        client.ping()
    except docker.errors.DockerException as error:
        missing(f"no Docker Engine answers: {error}")
    return client


@functools.cache
def require_image(name: str = BUSYBOX) -> str:
    """Make sure that the engine has one of our test images, made of this machine's static busybox; return its name."""
    client = require_engine()
    try:
        client.inspect_image(name)
    except docker.errors.ImageNotFound:
        busybox = next((path for path in ("/bin/busybox", "/usr/bin/busybox") if os.path.exists(path)), None)
        if busybox is None:
            missing("busybox is not installed; on Debian: apt-get install busybox-static")
        applets = _APPLETS.split() if name == BUSYBOX else []
        client.import_image_from_data(_tree(busybox, applets), repository=name, changes=["ENV PATH=/bin"])
    return name


def _tree(busybox: str, applets: list[str]) -> bytes:
    """Return a tar file of a tree with busybox at /bin, its applets beside it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(os.path.realpath(busybox), "bin/busybox")
        for applet in applets:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    return buffer.getvalue()
