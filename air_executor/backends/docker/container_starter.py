"""Starts created containers in the background, exactly once each, whatever the engine answers.

Called by the backend, run by its worker threads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from air_executor.backends.container.platform_text import brief
from air_executor.backends.container.refusals import MissingError, RefusedError
from air_executor.backends.container.termination import Termination
from air_executor.backends.container.workers import Workers
from air_executor.backends.docker.container_cache import Container, Phase
from air_executor.backends.docker.container_watch import MAX_BACKOFF, ContainerWatch
from air_executor.backends.docker.engine import Engine
from air_executor.errors import BackendUnavailableError
from air_executor.model import state as s


class ContainerStarter:
    """Starts containers; `network` is the one to create if a container needs it."""

    def __init__(self, engine: Engine, watch: ContainerWatch, workers: Workers, network: str) -> None:
        self._engine = engine
        self._watch = watch
        self._workers = workers
        self._network = network
        self._has_network = False

    def submit(self, one: Container, body: Mapping[str, Any] | None = None) -> None:
        """Start a container soon; `body` is its description if it was created just now."""
        with self._watch.lock:
            one = self._watch.cache.add(one)
            one.starting = one.phase is Phase.CREATED
        network = None if body is None else str(body["HostConfig"]["NetworkMode"])
        self._workers.submit(self.start, one, network)

    def start(
        self, one: Container, network: str | None, cause: Callable[[], Termination | None] = lambda: None
    ) -> None:
        """Start a container; retry while the engine does not answer, since an unanswered request may have arrived.

        `cause` is asked, when the engine refuses, for what that only follows from.
        """
        backoff = 0.25
        repaired = unanswered = False
        while True:
            try:
                if unanswered and self._has_started(one):
                    return
                if network == self._network and not self._has_network:
                    self._engine.ensure_network(self._network)
                    self._has_network = True
                self._engine.start(one.id)
            except BackendUnavailableError as error:
                unanswered = True
                self._watch.fail(str(error))
                if self._watch.closed.wait(backoff):
                    return  # the next manager finds a container that was never started
                backoff = min(MAX_BACKOFF, backoff * 2)
            except MissingError as error:
                if "network" in str(error) and not repaired:
                    self._has_network, repaired = False, True
                    continue
                self._give_up(one, error, cause())
                return
            except RefusedError as error:
                self._give_up(one, error, cause())
                return
            else:
                with self._watch.lock:
                    self._watch.cache.advance(one.id, Phase.RUNNING)
                return

    def _has_started(self, one: Container) -> bool:
        """Tell whether an unanswered request has arrived: a container that has ended since would run once more."""
        if self._engine.inspect(one.id)["State"].get("Status") == "created":
            return False
        with self._watch.lock:
            self._watch.cache.advance(one.id, Phase.RUNNING)
        self._watch.inspect(one)
        return True

    def _give_up(self, one: Container, error: RefusedError, cause: Termination | None) -> None:
        message = f"the engine could not start container {one.name}: {brief(error)}"
        reason = s.START_FAILED
        if one.service is not None and error.permanent:  # such as a program that its image does not have
            reason, message = s.ERROR, f"service {one.service} could not be started: {brief(error)}"
        with self._watch.lock:
            one.starting = False
            one.termination = cause or Termination(reason=reason, message=message, permanent=error.permanent)
        self._watch.wake()
