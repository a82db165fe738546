"""The images of this repository and its compose file, used as somebody does who has just cloned it."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock
from testcontainers.compose import DockerCompose
from testcontainers.core.container import DockerContainer

from air_executor.client import Client
from air_executor.core.submission import parse_job
from air_executor.store.presence import read_record
from tests.conftest import wait_for
from tests.engine import PYTHON_IMAGE, container, output, require_python_image
from tests.lanes import missing

PATIENCE = 120.0
"""Seconds; two cores may be busy building."""
TREE = next(folder for folder in Path(__file__).parents if (folder / "air_executor/task.py").is_file())
"""The repository: tests themselves may run in a copy that lacks the package."""
PARTS = (
    "air_executor",
    "runner_image",
    ".dockerignore",
    "LICENSE",
    "README.md",
    "docker-compose.yaml",
    "examples",
    "hatch_build.py",
    "pyproject.toml",
)
"""What the images are made of, the compose file, and the jobs of the readme."""
NOBODY = (65532, 65532)
HARDENED: Mapping[str, object] = {
    "read_only": True,
    "cap_drop": ["ALL"],
    "cap_add": ["CHOWN", "SETUID", "SETGID"],
    "security_opt": ["no-new-privileges"],
}
"""As the compose file starts the manager's image."""


def docker(*words: str, env: Mapping[str, str] | None = None, fails: bool = False) -> str:
    """Call the docker client and return what it printed; where it `fails`, what it complained about."""
    done = subprocess.run(
        ["docker", *words], env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False
    )
    assert (done.returncode != 0) == fails, f"docker {words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return (done.stderr if fails else done.stdout).strip()


@functools.cache
def require_client() -> None:
    """Make sure that there are an engine, the docker client with compose, and the base image."""
    require_python_image()
    try:
        subprocess.run(["docker", "compose", "version"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        missing("the docker client with its compose plugin is not installed")


def build(target: str, tag: str, *, buildkit: bool = True) -> None:
    """Build one of the images."""
    where = ["--file", f"{TREE}/runner_image/Dockerfile", "--target", target, "--tag", tag]
    arguments = ["--build-arg", f"PYTHON_IMAGE={PYTHON_IMAGE}"]
    docker("build", "--quiet", *where, *arguments, str(TREE), env={"DOCKER_BUILDKIT": "1" if buildkit else "0"})


@functools.cache
def image(target: str) -> str:
    """Return the name of an image, built from this tree; one build at a time, for the second costs nothing."""
    require_client()
    tag = f"air-executor-test-{target}"
    with FileLock(f"{tempfile.gettempdir()}/air-executor-test-images.lock"):
        build(target, tag)
    return tag


def as_root(folder: Path, *words: str) -> str:
    """Run a program as root of a container with a folder at its path: tests themselves need not be root."""
    return output(container(PYTHON_IMAGE, *words, volumes={str(folder): str(folder)}))


def hardened(target: str, *words: str, **options: Any) -> DockerContainer:  # noqa: ANN401 - as for `container`
    """Return a container of one of the images with as few rights as the compose file gives it."""
    made = container(image(target), *words, **{**HARDENED, **options})
    return made.with_tmpfs_mount("/tmp", "mode=1777")  # noqa: S108 - the container's own


class Clone:
    """A fresh copy of the tree with a compose project, a network and container names of its own."""

    def __init__(self, folder: Path) -> None:
        name = f"airtest{uuid.uuid4().hex[:8]}"
        self.folder = folder
        self.name = name
        self.prefix = name[-8:]
        self.client = Client(folder / ".air-executor")
        self.project = DockerCompose(folder, wait=False)
        folder.mkdir()
        for part in PARTS:
            copy: Any = shutil.copytree if (TREE / part).is_dir() else shutil.copy2
            copy(TREE / part, folder / part)
        settings = {
            "COMPOSE_PROJECT_NAME": name,
            "PYTHON_IMAGE": PYTHON_IMAGE,
            "AIR_NAME_PREFIX": f"t{self.prefix}",
            "AIR_DOCKER_NETWORK": name,
            "AIR_POLL_INTERVAL": "200ms",
            "AIR_HTTP_PORT": "0",
        }
        (folder / ".env").write_text("".join(f"{key}={value}\n" for key, value in settings.items()))

    @property
    def owner(self) -> tuple[int, int]:
        """Whose files the manager's are to be."""
        found = self.folder.stat()
        return (found.st_uid, found.st_gid) if found.st_uid else NOBODY

    def compose(self, *words: str, fails: bool = False) -> str:
        """Call `docker compose` in the folder, also in ways that testcontainers has no name for."""
        command = [*self.project.docker_compose_command(), *words]
        done = subprocess.run(
            command, cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        assert (done.returncode != 0) == fails, (
            f"docker compose {words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done.stdout if not fails else done.stderr

    def up(self) -> None:
        """Start everything and wait until the manager works."""
        before = self.record().get("epoch", 0)
        self.project.start()
        wait_for(lambda: self.record().get("epoch", 0) > before, PATIENCE, "the manager to start")

    def down(self) -> None:
        """Stop and remove what `up` has made; runners and images stay."""
        self.compose("down")

    def manager(self) -> str:
        """Return the id of the manager's container."""
        return str(self.project.get_container("manager").ID)

    def record(self) -> dict[str, Any]:
        """Return `manager.json`."""
        return read_record(self.client.layout)

    def air(self, *words: str) -> str:
        """Call the host's own `air-executor` in the folder."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("AIR_")}
        done = subprocess.run(
            [sys.executable, "-m", "air_executor", *words],
            cwd=self.folder,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    def cli(self, *words: str) -> str:
        """Call `air-executor` in a container."""
        return self.compose("run", "--rm", "--no-TTY", "cli", *words)

    def submit(self, job: Mapping[str, Any]) -> None:
        """Submit a job from here."""
        self.client.submit(parse_job(job))

    def await_end(self, job: str) -> str:
        """Wait until a job has ended and return its phase."""
        return self.client.wait(job, PATIENCE).phase

    def runners(self) -> list[str]:
        """Return the names of the containers that tasks run in."""
        return docker("ps", "--all", "--filter", f"name=^t{self.prefix}-", "--format", "{{.Names}}").split()

    def owners(self) -> set[tuple[int, int]]:
        """Return whose the files of the state directory are."""
        found = [self.folder / ".air-executor", *(self.folder / ".air-executor").rglob("*")]
        return {(path.lstat().st_uid, path.lstat().st_gid) for path in found}

    def clear(self) -> None:
        """Leave nothing behind: containers, network, volumes, images, and files that are not ours to delete."""
        self.compose("--profile", "*", "down", "--volumes", "--timeout", "5")
        docker("rmi", f"air-executor-runner:{self.name}", f"air-executor-manager:{self.name}")
        if runners := self.runners():
            docker("rm", "--force", "--volumes", *runners)
        if docker("network", "ls", "--quiet", "--filter", f"name=^{self.name}$"):
            docker("network", "rm", self.name)
        as_root(self.folder.parent, "rm", "-rf", str(self.folder))
