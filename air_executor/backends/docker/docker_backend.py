"""Runners as containers of a Docker Engine: the container's name makes a slot unique.

The manager's thread only creates containers, which is quick and exclusive. Worker threads start, stop and remove them,
and a watch keeps what is known of them up to date. Knows nothing of job states or of a run's files.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from air_executor.backends.base import KeepServiceLog, Launch, RunnerStatus
from air_executor.backends.container.container_backend import ContainerBackend, NameHolder
from air_executor.backends.container.inside import change_owner
from air_executor.backends.container.refusals import ConflictError, MissingError, RefusedError
from air_executor.backends.container.secret_scrubber import SecretScrubber
from air_executor.backends.docker import carrier_spec, mount_conflicts
from air_executor.backends.docker.carriers import Carriers
from air_executor.backends.docker.container_cache import Container, ContainerCache, Phase, from_inspection
from air_executor.backends.docker.container_remover import ContainerRemover
from air_executor.backends.docker.container_spec import (
    IMAGE,
    INSTANCE,
    STATE_DIR,
    EngineConfig,
    carry_bytes,
    container_config,
    requested_mounts,
)
from air_executor.backends.docker.container_starter import ContainerStarter
from air_executor.backends.docker.container_watch import ContainerWatch
from air_executor.backends.docker.engine import Engine
from air_executor.backends.docker.images import Images
from air_executor.backends.docker.mount_conflicts import MountSet
from air_executor.backends.docker.service_spec import ServiceContainer, service_containers, shared_network
from air_executor.backends.docker.service_starter import ServiceStarter
from air_executor.errors import BackendUnavailableError, BadInputError, SpawnRejectedError
from air_executor.model.names import Slot

WORKERS = 6
"""Concurrent requests; more do not make the engine faster."""


class DockerBackend(ContainerBackend):
    """The backend `docker`: one container per runner, and one for each service of its task."""

    name = "docker"
    remote = False
    object_kind = "container"

    def __init__(
        self, engine: Engine, config: EngineConfig, keep_log: KeepServiceLog, carriers: Carriers | None = None
    ) -> None:
        """`carriers` bring the files of runs; None: the engine sees the state directory."""
        super().__init__(engine, config, WORKERS)
        self._carriers = carriers
        self._engine = engine
        self._secrets = SecretScrubber()
        engine.scrub = self._secrets.scrub
        self._config = config
        self._images = Images(engine, config.settings.pull, config.settings.pull_deadline, self._wake)
        self._watch = watch = ContainerWatch(engine, config.selector, self._lock, self._workers, self._wake)
        self._cache: ContainerCache = watch.cache
        self._starter = ContainerStarter(engine, watch, self._workers, config.settings.network)
        self._services = ServiceStarter(engine, watch, self._starter, self._images.forget)
        self._remover = ContainerRemover(engine, watch, self._workers, keep_log, carries=carriers is not None)
        if carriers is not None:
            self._workers.submit(self._prune_volumes)
        self._prepared_mounts: list[MountSet] = []
        """Mounts of the starts that `prepare` has allowed since the last `observe`: they are spawned together."""

    def _prune_volumes(self) -> None:
        """Remove the volumes of runs whose containers went while no manager was there, or just before it died."""
        with contextlib.suppress(BackendUnavailableError, RefusedError):
            self._engine.prune_volumes(self._config.selector)

    def prepare(self, options: Mapping[str, Any]) -> str | None:
        """See `Backend.prepare`. Waits for the image, and for runners that could redirect the task's mounts."""
        waits = [why for image in self._images_of(options) if (why := self._images.waits_for(image)) is not None]
        if waits or not options.get("mounts"):
            return waits[0] if waits else None
        if options.get("worktree"):  # its project folder is one that no other task has
            return None
        project = os.path.dirname(self._config.state_dir)
        try:
            mounts = mount_conflicts.requested(requested_mounts(self._config, project, options))
        except (SpawnRejectedError, BadInputError):
            return None  # `spawn` will say why
        with self._lock:
            if (why := self._cache.mount_conflict(mounts)) is not None:
                return why
            for other in self._prepared_mounts:
                if path := other.conflict_with(mounts) or mounts.conflict_with(other):
                    return f"mount {path} waits for a runner that is about to start"
            self._prepared_mounts.append(mounts)
        return None

    def _images_of(self, options: Mapping[str, Any]) -> list[str]:
        """Return the images of a task, its services and its carrier."""
        own = [] if self._carriers is None else [self._config.image_of({})]
        return [self._config.image_of(options), *(str(one["image"]) for one in options.get("services", ())), *own]

    def spawn(self, launch: Launch) -> None:
        """See `Backend.spawn`. The container is created when this returns; it is started in the background."""
        self._watch.check()
        self._ensure_free(launch.slot)
        for image in self._images_of(launch.options):
            if why := self._images.refusal(image):
                raise SpawnRejectedError(why)
        for secrets in (launch.secrets, *(one.secrets for one in launch.services)):
            self._secrets.learn(secrets)
        launch = carry_bytes(launch)
        self._secrets.learn(launch.secrets)
        try:
            services = service_containers(self._config, launch, self._images.facts)
            network = shared_network(self._config, launch) if services else None
            facts = self._images.facts(self._config.image_of(launch.options))
            body = container_config(self._config, launch, facts, network=network)
            if self._carriers is not None:
                carrier_spec.check(launch)
                services = [self._carriers.make(launch, self._images.facts(self._config.image_of({}))), *services]
                body = carrier_spec.with_carrier(self._config, launch, body)
            mounts = mount_conflicts.requested(body["HostConfig"]["Mounts"])
            with self._lock:
                why = self._cache.mount_conflict(mounts)
            # Resolved again, now that no runner can redirect them.
            resolved = list(requested_mounts(self._config, launch.project, launch.options, launch.worktree))
        except BadInputError as error:
            raise SpawnRejectedError(str(error)) from error
        if why is None and any(mount not in body["HostConfig"]["Mounts"] for mount in resolved):
            why = "a path to be mounted has changed just now"
        if why is not None:
            self._fail_start(launch, why)
            return
        if self._carriers is None:
            change_owner(launch, self._config.user)
        self._create(launch, body, mounts, services)

    def observe(self) -> Mapping[Slot, RunnerStatus]:
        """See `Backend.observe`. Answers from the cache; the first call waits for the first list."""
        self._watch.check()
        with self._lock:
            self._prepared_mounts.clear()
            if self._carriers is not None:
                for one in self._carriers.to_tell(self._cache.left_alone(), time.monotonic()):
                    self._workers.submit(self._tell, one)
            return self._failed_starts | self._cache.statuses()

    def _tell(self, carrier: Container) -> None:
        """Tell a carrier that its runner has ended."""
        with contextlib.suppress(BackendUnavailableError, RefusedError):  # it is told again, or has ended
            self._engine.kill(carrier.id, "TERM")

    def remove(self, slot: Slot) -> None:
        """See `Backend.remove`."""
        self._watch.check()
        with self._lock:
            self._failed_starts.pop(slot, None)
            for one in self._cache.to_remove(slot):
                self._remover.submit(one)

    def confirm_gone(self, slot: Slot) -> None:
        """See `Backend.confirm_gone`. An engine that answers can always tell."""

    def _create(
        self, launch: Launch, body: Mapping[str, Any], mounts: MountSet, services: Sequence[ServiceContainer]
    ) -> None:
        name = self._config.name(launch.slot)
        try:
            made = self._engine.create(name, body)
        except ConflictError as error:
            self._resolve_conflict(launch, name, error, partial(self._adopt, launch, mounts, services))
        except MissingError as error:
            self._images.forget(self._config.image_of(launch.options))
            self._fail_start(launch, f"the engine could not create container {name}: {error}")
        except RefusedError as error:
            if error.permanent:
                msg = f"the engine refuses the container: {error}"
                raise SpawnRejectedError(msg) from error
            self._fail_start(launch, f"the engine could not create container {name}: {error}")
        else:
            image = body["Labels"].get(IMAGE)
            one = Container(made, name, launch.slot, launch.run, launch.grace, Phase.CREATED, mounts, image)
            one.task = launch.task
            self._begin(one, services, body)

    def _begin(
        self, one: Container, services: Sequence[ServiceContainer], body: Mapping[str, Any] | None = None
    ) -> None:
        """Have a created runner started; `body` is its description if it was created just now."""
        if services:
            self._services.submit(one, services)
        else:
            self._starter.submit(one, body)

    def _read_holder(self, name: str) -> NameHolder:
        described = self._engine.inspect(name)
        labels = described["Config"].get("Labels") or {}
        ours = from_inspection(described) is not None
        return NameHolder(labels.get(INSTANCE) if ours else None, labels.get(STATE_DIR), described)

    def _adopt(
        self, launch: Launch, mounts: MountSet, services: Sequence[ServiceContainer], described: Mapping[str, Any]
    ) -> bool:
        one = from_inspection(described)
        if one is None:
            return False
        if one.run == launch.run and one.phase is Phase.CREATED and one.mounts.sources == mounts.sources:
            self._begin(one, services)  # our own request, whose answer was lost
            return True
        with self._lock:
            self._cache.add(one)
        return one.run == launch.run
