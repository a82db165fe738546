"""Starts the services of a run, waits until they can be used, and then has the runner started.

A thread for each run with services, because it waits for programs of users; it makes whatever a death of the manager
leaves half done only under the labels of its run, so that the next manager removes it. Called by the backend.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

from air_executor.backends.base import LaunchService
from air_executor.backends.container.platform_text import brief
from air_executor.backends.container.refusals import ConflictError, MissingError, RefusedError
from air_executor.backends.container.termination import Termination
from air_executor.backends.docker.carrier_spec import CARRIER
from air_executor.backends.docker.container_cache import Container, Phase, from_inspection
from air_executor.backends.docker.container_spec import IMAGE, INSTANCE
from air_executor.backends.docker.container_starter import ContainerStarter
from air_executor.backends.docker.container_watch import MAX_BACKOFF, ContainerWatch
from air_executor.backends.docker.engine import Engine
from air_executor.backends.docker.mount_conflicts import MountSet
from air_executor.backends.docker.service_spec import ServiceContainer
from air_executor.errors import BackendUnavailableError
from air_executor.model import state as s
from air_executor.model.times import format_duration

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 1.0
"""Seconds between two calls of a `ready` command: half as many again each time."""
LOOK_EVERY = 0.05
"""Seconds between two looks whether one has ended."""
KNOWN_WITHIN = 2.0
"""Seconds in which the engine knows that a container has ended."""


class ServiceStarter:
    """Starts services; `starter` starts single containers, `forget` is told of images that the engine has not."""

    def __init__(
        self, engine: Engine, watch: ContainerWatch, starter: ContainerStarter, forget: Callable[[str], None]
    ) -> None:
        self._engine = engine
        self._watch = watch
        self._starter = starter
        self._forget = forget

    def submit(self, runner: Container, services: Sequence[ServiceContainer]) -> None:
        """Start the services of a runner that was created, then the runner itself."""
        with self._watch.lock:
            runner = self._watch.cache.add(runner)
            runner.starting = runner.phase is Phase.CREATED
            runner.waits_for = "waiting for its services to start"
        name = f"services-{runner.name}"
        threading.Thread(target=self._run, args=(runner, services), name=name, daemon=True).start()

    def _run(self, runner: Container, services: Sequence[ServiceContainer]) -> None:
        try:
            started = self._bring_up(runner, services)
            if started is not None:
                self._starter.start(runner, None, partial(self._end_of_one, started))
        except Exception:
            log.exception("container %s: unexpected failure of the start of its services", runner.name)
            self._give_up(runner, "unexpected failure of the start of its services")
        finally:
            runner.waits_for = None
            self._engine.release()
            self._watch.wake()

    def _bring_up(self, runner: Container, services: Sequence[ServiceContainer]) -> list[Container] | None:
        """Start the services and wait until all are ready; None if the runner is not to be started."""
        started: list[Container] = []
        for one in services:
            if (found := self._create(runner, one)) is None:
                return None
            self._starter.start(found, one.body["HostConfig"]["NetworkMode"])
            started.append(found)
        for found, one in zip(started, services, strict=True):
            if one.service.ready is not None and not self._await_ready(runner, found, one.service):
                return None
        for found in started:
            self._watch.inspect(found)  # the runner cannot join the network of one that has just ended
        return started if self._goes_on(runner) and all(map(self._runs, started)) else None

    def _end_of_one(self, services: Sequence[Container]) -> Termination | None:
        """Return how the first of some services ended; None: all of them seem to run on."""
        until = time.monotonic() + KNOWN_WITHIN
        while time.monotonic() < until and not self._watch.closed.wait(LOOK_EVERY):
            for one in services:
                self._watch.inspect(one)
                if one.termination is not None:
                    return one.termination
        return None

    def _goes_on(self, runner: Container) -> bool:
        """Tell whether the runner is still to be started."""
        return runner.stop_requested_at is None and not self._watch.closed.is_set()

    def _runs(self, one: Container) -> bool:
        return one.termination is None and one.phase is not Phase.ENDED

    def _create(self, runner: Container, one: ServiceContainer) -> Container | None:
        """Create the container of a service; None if there will be none."""
        backoff = 0.25
        while self._goes_on(runner):
            try:
                if (found := self._created(runner, one)) is not None:
                    return found
            except BackendUnavailableError as error:
                self._watch.fail(str(error))
                self._watch.closed.wait(backoff)
                backoff = min(MAX_BACKOFF, backoff * 2)
            except RefusedError as error:
                if isinstance(error, MissingError):
                    self._forget(one.service.image)
                message = f"the engine could not create container {one.name}: {brief(error)}"
                self._give_up(runner, message, permanent=error.permanent)
                return None
        return None

    def _give_up(self, runner: Container, message: str, *, permanent: bool = False) -> None:
        with self._watch.lock:
            runner.starting = False
            runner.termination = Termination(reason=s.START_FAILED, message=message, permanent=permanent)

    def _created(self, runner: Container, one: ServiceContainer) -> Container | None:
        """Create the container of a service; None if its name was taken by what an earlier run has left."""
        try:
            made = self._engine.create(one.name, one.body)
        except ConflictError:
            found = self._take_over(runner, one)
            if found is None:
                return None
        else:
            image = one.body["Labels"].get(IMAGE)
            found = Container(made, one.name, runner.slot, runner.run, 0.0, Phase.CREATED, MountSet(), image)
            found.task, found.service = runner.task, one.service.name
        with self._watch.lock:
            found = self._watch.cache.add(found)
            found.starting = found.phase is Phase.CREATED
        return found

    def _take_over(self, runner: Container, one: ServiceContainer) -> Container | None:
        """Return the container that has a service's name if it is this run's; remove it if it is an earlier one's.

        Raises:
            RefusedError: it is not ours.
        """
        try:
            described = self._engine.inspect(one.name)
            found = from_inspection(described)
            theirs = (described["Config"].get("Labels") or {}).get(INSTANCE)
            if found is None or theirs != one.body["Labels"][INSTANCE]:
                msg = "the name is taken by a container that is not of this state directory"
                raise RefusedError(msg, 400)
            if found.run == runner.run:
                return found  # our own request, whose answer was lost
            self._engine.delete(found.id, force=True)
            with self._watch.lock:
                self._watch.cache.drop(found.id, by_us=True)
        except (MissingError, ConflictError):  # it is being removed
            self._watch.closed.wait(FIRST_PAUSE)
        return None

    def _await_ready(self, runner: Container, one: Container, service: LaunchService) -> bool:
        """Call the `ready` command of a service until it succeeds; False if it will not."""
        limit = format_duration(service.ready_timeout)
        waits = f"waiting for service {service.name} to be ready (at most {limit})"
        runner.waits_for = "its run's files are being fetched" if service.name == CARRIER else waits
        self._watch.wake()
        until, pause = time.monotonic() + service.ready_timeout, FIRST_PAUSE
        while self._goes_on(runner) and self._runs(one):
            refusal = None
            try:
                if self._is_ready(one, service, until):
                    return True
            except BackendUnavailableError as error:
                self._watch.fail(str(error))
            except RefusedError as error:  # there is no such program, or the container has just ended
                refusal = f": {brief(error)}"
            if time.monotonic() >= until:
                words = refusal or self._watch.last_words(one)
                message = f"service {service.name} was not ready within {limit}{words}"
                with self._watch.lock:
                    one.termination = one.termination or Termination(reason=s.ERROR, message=message)
                break
            self._watch.closed.wait(pause)
            pause = min(LONGEST_PAUSE, pause * 1.5)
        return False

    def _is_ready(self, one: Container, service: LaunchService, until: float) -> bool:
        program = self._engine.begin(one.id, service.ready or ())
        while (code := self._engine.exit_code(program)) is None:
            if time.monotonic() >= until or self._watch.closed.wait(LOOK_EVERY):
                return False
        return code == 0
