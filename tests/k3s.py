"""A Kubernetes cluster of the tests' own: k3s in one container, for a machine that has a Docker Engine and no cluster.

`tests/conftest.py` calls `provide` in the process that starts the tests, before there are workers. What decides:
`--lanes` names the lane `kubernetes` (or `all`), KUBECONFIG is not set, and the engine has k3s or can pull it. The
environment tells workers and the processes that they start: KUBECONFIG names the cluster, AIR_TEST_K3S the container,
AIR_TEST_NO_K3S why there is none.

The cluster's node must see the tests' folders at their own paths: the container has the folder for temporary files. It
reaches no image of the engine: `load` brings one in.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import docker.errors
from docker.utils import kwargs_from_env
from testcontainers.community.k3s import K3SContainer
from testcontainers.core.config import ConnectionMode, testcontainers_config
from testcontainers.core.container import DockerContainer

from tests.engine import PATIENCE

IMAGE = "rancher/k3s:v1.33.3-k3s1"
"""A version that also runs where the kernel has cgroups of version 1 only."""
HELM_IMAGE = "alpine/helm:3.18.4"
CONTAINER = "AIR_TEST_K3S"
"""Variable with the container's id, where the cluster is ours."""
REFUSED = "AIR_TEST_NO_K3S"
"""Variable with the reason, where we cannot have one."""


def is_ours() -> bool:
    """Return whether the cluster is one that `provide` has started."""
    return CONTAINER in os.environ


def provide(undo: Callable[[Callable[[], None]], None]) -> None:
    """Start a cluster if there is none, and set the variables that name it.

    Args:
        undo: gets what is to be called at the end.
    """
    if os.environ.get("KUBECONFIG"):
        return
    try:
        cluster = _start()
    except (docker.errors.DockerException, OSError) as error:
        os.environ[REFUSED] = str(error)
        return
    undo(cluster.stop)
    folder = tempfile.mkdtemp(prefix="air-k3s-")
    undo(functools.partial(shutil.rmtree, folder))
    os.environ["KUBECONFIG"] = write_config(cluster.config_yaml(), folder)
    os.environ[CONTAINER] = cluster.get_container_id()


def _start() -> K3SContainer:
    """Start k3s and wait until it answers.

    Raises:
        DockerException: there is no engine, or it cannot pull k3s.
        TimeoutError: it did not start.
    """
    testcontainers_config.connection_mode_override = ConnectionMode.docker_host  # its node is this machine
    cluster = K3SContainer(IMAGE, docker_client_kw={"timeout": PATIENCE})
    share(cluster)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # its own use of testcontainers
            cluster.start()
    except BaseException:
        cluster.stop()
        raise
    return cluster


def share(container: DockerContainer) -> None:
    """Let a container see the folder for temporary files, at its own path."""
    folder = tempfile.gettempdir()
    container.with_volume_mapping(folder, folder, "rw")


def write_config(text: str, folder: str) -> str:
    """Write a kubeconfig that only we can read; return its path."""
    path = Path(folder, "kubeconfig")
    path.touch(0o600)
    path.write_text(text, encoding="utf-8")
    return str(path)


@functools.cache
def load(image: str) -> str:
    """Bring an image of the engine into our cluster; return its name."""
    with _client() as client, tempfile.NamedTemporaryFile(prefix="air-k3s-", suffix=".tar") as file:
        for part in client.get_image(image):
            file.write(part)
        file.flush()
        run(os.environ[CONTAINER], "ctr", "images", "import", file.name)
    return image


def run(container: str, *command: str) -> None:
    """Run a command in a container. Raises OSError if it fails."""
    with _client() as client:
        made = client.exec_create(container, list(command))["Id"]
        said = client.exec_start(made)
        code = client.exec_inspect(made)["ExitCode"]
    if code != 0:
        msg = f"{shlex.join(command)}: exit code {code}: {said.decode(errors='replace')}"
        raise OSError(msg)


def program(name: str, folder: str) -> str | None:
    """Return the path of `helm` or `kubectl`: the machine's, else a script that runs one beside our cluster."""
    if found := shutil.which(name):
        return found
    if not is_ours():
        return None
    path = Path(folder, name)
    path.write_text(script(name), encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def script(name: str) -> str:
    """Return a shell script that stands in for `helm` or `kubectl`."""
    if name == "kubectl":  # k3s has it
        return f'#!/bin/sh\nexec docker exec -i "${CONTAINER}" kubectl "$@"\n'
    chart, shared = Path(__file__).parents[1], tempfile.gettempdir()
    mounts = shlex.join(["-v", f"{chart}:{chart}:ro", "-v", f"{shared}:{shared}"])
    return f'#!/bin/sh\nexec docker run --rm --network host -e KUBECONFIG {mounts} {HELM_IMAGE} "$@"\n'


@contextlib.contextmanager
def _client() -> Iterator[docker.APIClient]:
    client = docker.APIClient(version="auto", timeout=PATIENCE, **kwargs_from_env())
    try:
        yield client
    finally:
        client.close()
