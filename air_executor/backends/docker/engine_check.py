"""Checks that an engine answers and supports what runners need: for `air-executor doctor`, and `run` before it submits.

Each finding that is not good says what to do. Starts no container; the one that it creates is removed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from air_executor.backends.container.refusals import MissingError, RefusedError
from air_executor.backends.docker import docker_setup
from air_executor.backends.docker.container_spec import EngineConfig
from air_executor.backends.docker.docker_setup import make_engine_config
from air_executor.backends.docker.engine import Engine
from air_executor.backends.docker.engine_support import REMEDY, mapping_of
from air_executor.backends.docker.path_mapping import own_container
from air_executor.core.finding import BAD, FINE, WARN, Finding
from air_executor.errors import BackendUnavailableError, BadInputError, UnsupportedBackendError
from air_executor.model.names import Slot
from air_executor.settings import Settings

DEFAULT_SOCKET = "/var/run/docker.sock"
LOW_SPACE, NO_SPACE = 2 << 30, 256 << 20
GIB = 1 << 30
_START = "start the engine (`sudo systemctl start docker`, or Docker Desktop)"
SLOW_STORAGE = frozenset({"vfs", "devicemapper", "aufs"})
_LIMITS = {
    "MemoryLimit": "memory",
    "SwapLimit": "swap (a task may use as much again as its memory)",
    "PidsLimit": "processes (AIR_DOCKER_PIDS)",
    "CpuCfsQuota": "CPUs",
}


def reach(settings: Settings) -> None:
    """Make sure that the engine answers.

    Raises:
        BackendUnavailableError: it does not, or cannot be used; the message says what to do.
    """
    try:
        with contextlib.suppress(RefusedError):
            docker_setup.reach(settings)
    except UnsupportedBackendError:
        raise
    except BackendUnavailableError as error:
        remedy = _remedy()
        msg = f"{error}" if remedy is None else f"the Docker engine at {_address()} cannot be reached: {remedy}"
        raise BackendUnavailableError(msg) from error


def check(settings: Settings, version: str) -> Iterator[Finding]:
    """Check the engine that these settings use."""
    engine = Engine(min(settings.docker.timeout, docker_setup.LONGEST_WAIT))
    try:
        yield from _check(engine, settings, version)
    except UnsupportedBackendError as error:
        yield Finding("docker", BAD, str(error).removesuffix(f"; {REMEDY}"), REMEDY)
    except (BackendUnavailableError, RefusedError) as error:
        yield Finding("docker", BAD, str(error), _remedy() or "see whether the engine's own log says more")
    finally:
        engine.close()


def _check(engine: Engine, settings: Settings, version: str) -> Iterator[Finding]:
    about, info = engine.version(), engine.info()
    api = ".".join(map(str, engine.api_version))
    yield Finding("docker", FINE, f"engine {about.get('Version')} at {_address()}, API {api}")
    yield _storage(info)
    yield _limits(info)
    yield from _space(info)
    try:
        config = make_engine_config(settings, engine, version)
    except BadInputError as error:
        yield Finding("docker volume", BAD, str(error), "mount the project folder into the manager's container")
        return
    yield _users(info, config)
    if "name=selinux" in (info.get("SecurityOptions") or ()):
        remedy = f"if tasks may not read or write: `chcon -Rt container_file_t {config.state_dir}`"
        yield Finding("docker selinux", WARN, "SELinux decides what containers see of this machine", remedy)
    image = _image(engine, config)
    yield image
    if settings.docker.carries_runs:
        yield Finding("docker volume", FINE, f"files of runs come over {settings.docker.transport_url}")
        return
    yield (
        _volume(engine, config)
        if image.verdict == FINE
        else Finding(
            "docker volume", WARN, "whether the engine sees the state directory is checked once it has the image"
        )
    )


# Where the engine listens


def _address() -> str:
    return os.environ.get("DOCKER_HOST") or f"unix://{DEFAULT_SOCKET}"


def _remedy() -> str | None:
    """Return what to do about an engine that does not answer, if that is known here."""
    address = urlsplit(_address())
    if address.scheme != "unix":
        return None
    path = address.path
    if os.path.exists(path):
        if not os.access(path, os.R_OK | os.W_OK):
            return f"no permission for {path}; {_group(path)}"
        return f"no engine listens on its socket: {_START}"
    context = None if os.environ.get("DOCKER_HOST") else _context()
    if context is not None:
        name, host = context
        return f"there is no {path}, but the `docker` command uses the context {name}: export DOCKER_HOST={host}"
    if own_container() is not None:
        return _in_container(path)
    return f"there is no {path}: {_START}, or set DOCKER_HOST"


def _in_container(path: str) -> str:
    if os.environ.get("COMPOSE_PROJECT_NAME"):  # its service `cli` has no engine, on purpose
        check = "docker compose exec manager air-entrypoint doctor"
        return f"only the manager's container has the engine's socket: `submit` jobs to it, and check it with `{check}`"
    return f"there is no {path} in this container: mount the engine's socket there, or set DOCKER_HOST"


def _group(path: str) -> str:
    number = os.stat(path).st_gid
    name = str(number)
    with contextlib.suppress(ImportError, KeyError):
        import grp  # noqa: PLC0415 - only here, and not on every system

        name = grp.getgrgid(number).gr_name
    if number == 0:
        return "it belongs to root: run as root, or give the socket a group of its own"
    return f"join its group (`sudo usermod -aG {name} $USER`, then log in again; that gives you root's rights)"


def _context() -> tuple[str, str] | None:
    """Return name and address of the context that the `docker` command uses, unless it is the default."""
    folder = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        with open(f"{folder}/config.json", encoding="utf-8") as file:
            name = str(json.load(file)["currentContext"])
        digest = hashlib.sha256(name.encode()).hexdigest()
        with open(f"{folder}/contexts/meta/{digest}/meta.json", encoding="utf-8") as file:
            return name, str(json.load(file)["Endpoints"]["docker"]["Host"])
    return None


# What it supports


def _storage(info: dict[str, Any]) -> Finding:
    driver = str(info.get("Driver"))
    text = f"{driver}, cgroup v{info.get('CgroupVersion', '?')} ({info.get('CgroupDriver')})"
    if driver in SLOW_STORAGE:
        remedy = "use overlay2: this driver is slow to create containers"
        return Finding("docker storage", WARN, text, remedy)
    return Finding("docker storage", FINE, text)


def _limits(info: dict[str, Any]) -> Finding:
    missing = [what for key, what in _LIMITS.items() if not info.get(key)]
    if not missing:
        return Finding("docker limits", FINE, "memory, swap, processes and CPUs of a task are limited")
    remedy = "enable these controllers in the kernel, or delegate them to the engine's cgroup (rootless)"
    return Finding("docker limits", WARN, f"not limited by this kernel: {', '.join(missing)}", remedy)


def _users(info: dict[str, Any], config: EngineConfig) -> Finding:
    uid, gid = config.user
    text = f"tasks run as user {uid}:{gid}"
    if (kind := mapping_of(info)) is not None and not config.settings.carries_runs:
        text += f", and {kind} maps that to a subordinate one, which cannot write the state directory"
        return Finding("docker user", BAD, text, REMEDY)
    return Finding("docker user", FINE, text)


def _space(info: dict[str, Any]) -> Iterator[Finding]:
    root = str(info.get("DockerRootDir") or "")
    if not _address().startswith("unix:") or not os.path.isdir(root):
        return  # on another machine, or behind a virtual one
    try:
        found = os.statvfs(root)
    except OSError:
        return
    free = found.f_bavail * found.f_frsize
    text = f"{free / GIB:.1f} GiB free in {root}"
    if free >= LOW_SPACE:
        yield Finding("docker space", FINE, text)
    else:
        yield Finding("docker space", BAD if free < NO_SPACE else WARN, text, "free space: `docker system prune`")


def _image(engine: Engine, config: EngineConfig) -> Finding:
    image, pull = config.image, config.settings.pull
    try:
        found = engine.image(image)
    except MissingError:
        if pull == "never":
            text = f"the engine has no {image}, and AIR_DOCKER_PULL is never"
            return Finding("docker image", BAD, text, f"`docker pull {image}`, or set AIR_RUNNER_IMAGE")
        text = f"the engine has no {image} yet; the first task without an image of its own waits until it is pulled"
        return Finding("docker image", WARN, text, f"pull it now: `docker pull {image}`")
    return Finding("docker image", FINE, f"{image}, {int(found.get('Size') or 0) / 1e6:.0f} MB")


def _volume(engine: Engine, config: EngineConfig) -> Finding:
    """Mount the state directory into a container, as for runners, and check that a file in it is visible there."""
    name = "docker volume"
    home = config.state_dir
    while not os.path.isdir(home):
        home = os.path.dirname(home)
    token = f".doctor-{secrets.token_hex(6)}"
    probe = os.path.join(home, token)
    container = None
    where = config.path_mapping.describe(home)
    shared = "use an engine of this machine, and a folder that it shares (Docker Desktop: Settings, File sharing)"
    try:
        with open(probe, "xb"):
            pass
        body = {
            "Image": config.image,
            "Cmd": ["true"],
            "HostConfig": {"Mounts": [config.path_mapping.mount(home, "/probe", read_only=True)]},
        }
        container = engine.create(config.name(Slot(token.lstrip("."), 0)), body)
        if engine.has_file(container, f"/probe/{token}"):
            return Finding(name, FINE, f"runners see {where}")
        return Finding(name, BAD, f"the engine's machine has another {where} than this one", shared)
    except OSError as error:
        return Finding(name, WARN, f"cannot be checked: {error}", "fix the permissions of the state directory")
    except (RefusedError, BadInputError) as error:
        if container is not None:  # a proxy in front of the engine may allow runners' requests only
            return Finding(name, FINE, f"runners can mount {where}")
        return Finding(name, BAD, f"runners cannot see {where}: {error}", shared)
    finally:
        if container is not None:
            engine.delete(container)
        with contextlib.suppress(OSError):
            os.unlink(probe)
