"""Builds the backend from the settings: which engine, how paths map, and which user tasks run as."""

from __future__ import annotations

import contextlib
import logging
from typing import Any

from air_executor.backends.base import KeepServiceLog, MakeToken, Requested
from air_executor.backends.container import transport
from air_executor.backends.container.inside import DEFAULT_IMAGE, task_user
from air_executor.backends.container.refusals import MissingError, RefusedError
from air_executor.backends.docker import path_mapping
from air_executor.backends.docker.carriers import Carriers
from air_executor.backends.docker.container_spec import EngineConfig
from air_executor.backends.docker.docker_backend import DockerBackend
from air_executor.backends.docker.engine import Engine
from air_executor.backends.docker.engine_support import refuse_mapping
from air_executor.backends.docker.path_mapping import VOLUME_SUBPATH, PathMapping, own_container
from air_executor.errors import BackendUnavailableError, BadInputError, UnsupportedBackendError
from air_executor.settings import Settings

log = logging.getLogger(__name__)

LONGEST_WAIT = 10.0
"""Seconds after which a silent engine counts as down where people wait for the answer."""


def make_backend(
    settings: Settings,
    version: str,
    keep_log: KeepServiceLog,
    requested: Requested | None = None,
    make_token: MakeToken | None = None,
) -> DockerBackend:
    """Return the backend for the state directory of these settings. An engine that does not answer may do so later.

    `keep_log` keeps the logs of services; `requested` is called after each request to the engine; `make_token` makes
    the tokens of runs whose files come over HTTP.

    Raises:
        BadInputError: runners cannot see the state directory.
        UnsupportedBackendError: the engine cannot be used.
        BackendUnavailableError: we are in a container, and the engine does not answer.
    """
    try:
        reach(settings)
    except UnsupportedBackendError:
        raise
    except (BackendUnavailableError, RefusedError) as error:
        log.debug("whether the engine can be used is not known yet: %s", error)
    engine = Engine(settings.docker.timeout)
    if requested is not None:
        engine.requested = requested
    config, carriers = make_engine_config(settings, engine, version), None
    if settings.docker.carries_runs and make_token is not None:
        carriers = Carriers(config, make_token, transport.authorities(settings.docker))
    return DockerBackend(engine, config, keep_log, carriers)


def reach(settings: Settings) -> None:
    """Make sure that there is an engine, and that it can be used.

    Raises:
        UnsupportedBackendError: it cannot.
        BackendUnavailableError: it does not answer.
        RefusedError: it, or a proxy in front of it, does not say.
    """
    engine = Engine(min(settings.docker.timeout, LONGEST_WAIT))
    try:
        info = engine.info()
        if own_container() is None and not settings.docker.carries_runs:
            refuse_mapping(info)
    finally:
        engine.close()


def make_engine_config(settings: Settings, engine: Engine, version: str) -> EngineConfig:
    """Return what all containers have in common; raises as `make_backend`."""
    transport.check(settings, settings.docker)
    if settings.docker.carries_runs:
        return _engine_config(settings, PathMapping(), f"{settings.docker.transport_url}{settings.state_dir}", version)

    def inspect(container: str) -> dict[str, Any] | None:
        with contextlib.suppress(MissingError):
            return engine.inspect(container)
        return None

    mapping = path_mapping.detect(inspect, own_container())
    if mapping.locate(settings.state_dir)[0] == "volume" and engine.api_version < VOLUME_SUBPATH:
        msg = (
            f"the state directory {settings.state_dir} is on a volume, and this engine can mount only whole volumes; "
            "use a folder of the host, or Docker Engine 26 or newer"
        )
        raise BadInputError(msg)
    return _engine_config(settings, mapping, mapping.describe(settings.state_dir), version)


def _engine_config(settings: Settings, mapping: PathMapping, location: str, version: str) -> EngineConfig:
    return EngineConfig(
        state_dir=settings.state_dir,
        location=location,
        prefix=settings.name_prefix,
        version=version,
        image=settings.runner_image or DEFAULT_IMAGE,
        user=task_user(settings.state_dir, settings.docker.user),
        path_mapping=mapping,
        settings=settings.docker,
    )
