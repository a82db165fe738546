"""A real Docker Engine for tests: the one that DOCKER_HOST names, else the machine's own.

Containers of the tests' own are started by testcontainers. Its reaper, which is an image to pull, is on only where
TESTCONTAINERS_RYUK_DISABLED says so: whatever tests start they remove.
"""

from __future__ import annotations

import functools
import io
import os
import tarfile
from collections.abc import Mapping

import docker
import docker.errors
from docker.utils import kwargs_from_env
from testcontainers.core.container import DockerContainer

from tests.lanes import missing, require_service

os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")

PATIENCE = 300
"""Seconds that a request of a container may take, as `wait` does while it runs."""
PYTHON_IMAGE = os.environ.get("AIR_TEST_PYTHON_IMAGE", "python:3.12-slim")
"""An ordinary image, with Python."""
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


def socket_path() -> str:
    """Return the path of the engine's unix socket. Raises OSError if it has none."""
    scheme, _, path = (os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock").partition("://")
    if scheme != "unix":
        msg = f"the engine has no unix socket here: DOCKER_HOST is {scheme}://{path}"
        raise OSError(msg)
    return path


@functools.cache
def require_python_image() -> str:
    """Make sure that the engine has an ordinary image, which is pulled if need be; return its name."""
    client = require_engine()
    try:
        if not client.images(PYTHON_IMAGE):
            client.pull(PYTHON_IMAGE)
    except docker.errors.APIError as error:
        missing(f"no image {PYTHON_IMAGE}; name one that the engine has with AIR_TEST_PYTHON_IMAGE: {error}")
    finally:
        client.close()
    return PYTHON_IMAGE


def container(
    image: str,
    *command: str,
    volumes: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
    **options: object,
) -> DockerContainer:
    """Return a container to start, without a network unless `network` names one.

    Args:
        image: what it is made of.
        command: the words of its command.
        volumes: folders and volumes by their path inside; `:ro` after the path makes it read-only.
        env: of its processes.
        options: others of the SDK's `containers.create`.
    """
    made = DockerContainer(image, docker_client_kw={"timeout": PATIENCE})
    made.with_command(list(command)).with_envs(**(env or {})).with_kwargs(**{"network": "none", **options})
    for inside, source in (volumes or {}).items():
        path, _, mode = inside.partition(":")
        made.with_volume_mapping(source, path, mode or "rw")
    return made


def output(made: DockerContainer, *, fails: bool = False) -> str:
    """Run a container to its end and return what it printed; where it `fails`, what it complained about."""
    with made:
        code = made.wait()
        printed, complaint = (text.decode().strip() for text in made.get_logs())
    assert (code != 0) == fails, f"{made.image}: {code}\n{printed}\n{complaint}"
    return complaint if fails else printed


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
