"""Stops and deletes containers in the background: TERM, after the grace KILL, then the removal that frees the name.

Called by the backend each cycle until the container is gone, run by its worker threads.
"""

from __future__ import annotations

import logging
import time

from air_executor.backends.base import KILL_MARGIN, KeepServiceLog
from air_executor.backends.container.refusals import ConflictError, MissingError, RefusedError
from air_executor.backends.container.transport import STOP_MARGIN
from air_executor.backends.container.workers import Workers
from air_executor.backends.docker.carrier_spec import CARRIER
from air_executor.backends.docker.container_cache import Container, Phase
from air_executor.backends.docker.container_watch import MAX_BACKOFF, ContainerWatch
from air_executor.backends.docker.engine import Engine
from air_executor.errors import BackendUnavailableError

log = logging.getLogger(__name__)


class ContainerRemover:
    """Takes containers to their end step by step, one request at a time."""

    def __init__(
        self, engine: Engine, watch: ContainerWatch, workers: Workers, keep_log: KeepServiceLog, *, carries: bool
    ) -> None:
        """`carries`: each run has a volume of its own."""
        self._engine = engine
        self._carries = carries
        self._keep_log = keep_log
        self._watch = watch
        self._workers = workers

    def submit(self, one: Container) -> None:
        """Take the next step soon, unless one is in flight or has to wait. Called under the lock."""
        now = time.monotonic()
        if one.busy or now < one.retry_at:
            return
        if one.stop_requested_at is None:
            one.stop_requested_at = now
        carries = one.service == CARRIER
        late = now - one.stop_requested_at > one.grace + KILL_MARGIN + (STOP_MARGIN if carries else 0)
        kill = late or (one.service is not None and not carries)  # what a service would write, nobody keeps
        signal = "KILL" if kill else "TERM"
        if one.status.alive and one.last_signal == signal:
            return
        one.busy = True
        self._workers.submit(self._step, one, signal)

    def _step(self, one: Container, signal: str) -> None:
        """Send a signal while the container is alive; delete it afterwards."""
        try:
            if one.status.alive and not one.starting:
                self._signal(one, signal)
            else:
                self._delete(one)
        except BackendUnavailableError as error:
            self._watch.fail(str(error))
        except RefusedError as error:
            log.warning("container %s cannot be removed: %s", one.name, error)
            one.backoff = min(MAX_BACKOFF, one.backoff * 2 or 0.5)
            one.retry_at = time.monotonic() + one.backoff
            self._watch.relist()
        finally:
            one.busy = False
        self._watch.wake()

    def _signal(self, one: Container, signal: str) -> None:
        try:
            self._engine.kill(one.id, signal)
        except MissingError:
            with self._watch.lock:
                self._watch.cache.drop(one.id)
        except ConflictError as error:
            if "paused" in str(error).lower():
                self._engine.unpause(one.id)
            else:  # it does not run: it has just ended, or is not started yet
                self._watch.inspect(one)
            return
        one.last_signal = signal

    def _delete(self, one: Container) -> None:
        self._keep_log_of(one)
        try:
            self._engine.delete(one.id)
        except MissingError:
            pass
        except ConflictError as error:
            if "in progress" not in str(error):  # it runs: a start that was given up has come through after all
                with self._watch.lock:
                    self._watch.cache.advance(one.id, Phase.RUNNING)
                self._watch.relist()
            return
        with self._watch.lock:
            self._watch.cache.drop(one.id)
        if self._carries and one.service is None:
            self._engine.delete_volume(f"{one.name}.{one.run}")

    def _keep_log_of(self, one: Container) -> None:
        """Keep what a service printed; a log that cannot be read must not keep its container."""
        if one.service in {None, CARRIER}:
            return
        try:
            text = self._engine.log(one.id)
        except RefusedError as error:
            log.info("container %s: its log is lost: %s", one.name, error)
            return
        if text:
            self._keep_log(one.slot, one.run, one.task, one.service, text)
