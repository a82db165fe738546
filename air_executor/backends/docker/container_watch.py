"""Keeps what is known of a state directory's containers up to date: by the engine's events, and by lists.

Events come within a millisecond, but a stream of them can break, or fall silent without breaking. So there are lists:
at the start, regularly, and whenever something was missed. Whoever asks is answered from memory. Called by `backend`.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from air_executor.backends.container.inside import BIN
from air_executor.backends.container.platform_text import brief, instant
from air_executor.backends.container.workers import Workers
from air_executor.backends.docker.containers import Container, ContainerCache, ContainerTermination, Phase
from air_executor.backends.docker.engine import Engine, MissingError, RefusedError
from air_executor.errors import BackendUnavailableError

log = logging.getLogger(__name__)

RELIST_SECONDS = 30.0
"""Between two lists of all containers, which show what events may have missed."""
FIRST_LIST_SECONDS = 5.0
"""How long the manager may be held up by the first list; afterwards it comes when it comes."""
LONGEST_BACKOFF = 5.0
"""Seconds between two tries of a request that fails."""
_CANNOT_EXECUTE = (2, 126, 127)
"""What a shell that cannot run its script, and an init that finds no shell, end with."""


class ContainerWatch:
    """The containers with one label, watched from the first `check` on until `close`.

    Args:
        engine: the Docker engine.
        label: what its containers have, as `name=value`.
        workers: look at containers that have ended.
        wake: called from other threads when something has changed.
    """

    def __init__(self, engine: Engine, label: str, workers: Workers, wake: Callable[[], None]) -> None:
        self._engine = engine
        self._label = label
        self._workers = workers
        self._wake = wake
        self.lock = threading.Lock()
        self.containers = ContainerCache()
        """To be used under `lock`."""
        self.last_contact = time.monotonic()
        """When the last list came."""
        self.closed = threading.Event()
        self._problem: str | None = "the Docker engine has not answered yet"
        self._listed = threading.Event()
        """The first list has come, or has failed."""
        self._relist_now = threading.Event()
        self._threads: list[threading.Thread] = []

    def check(self) -> None:
        """Start to watch, and wait for the first list.

        Raises:
            BackendUnavailableError: the engine does not answer.
        """
        if not self._threads:
            for target in (self._watch, self._list_regularly):
                thread = threading.Thread(target=target, name=f"docker{target.__name__}", daemon=True)
                self._threads.append(thread)
                thread.start()
        self._listed.wait(FIRST_LIST_SECONDS)
        if self._problem is not None:
            raise BackendUnavailableError(self._problem)

    def fail(self, why: str) -> None:
        """Note that the engine cannot answer, until a list comes."""
        if self.closed.is_set():
            return
        with self.lock:
            self._problem = why
        self._relist_now.set()
        self._wake()

    def relist(self) -> None:
        """Ask for a list now: something may have been missed."""
        self._relist_now.set()

    def close(self) -> None:
        """Watch no longer."""
        self.closed.set()
        self._relist_now.set()

    def join(self) -> None:
        """Wait a moment for the threads, whose requests end with the engine's connection."""
        for thread in self._threads:
            thread.join(timeout=2)

    def look_at(self, one: Container) -> None:
        """Find out how a container ended, if it has."""
        try:
            state = self._engine.inspect(one.id)["State"]
        except MissingError:
            with self.lock:
                self.containers.drop(one.id)
            self._wake()
            return
        except RefusedError as error:
            log.warning("container %s cannot be inspected: %s", one.name, error)
            state = {"Status": "exited"}
        except BackendUnavailableError as error:
            self.fail(str(error))  # the list that ends the failure brings us here again
            return
        if state.get("Status") in {"running", "paused", "restarting"}:
            return
        ending = self._judge(one, state)
        with self.lock:
            if state.get("Status") != "created":
                self.containers.advance(one.id, Phase.ENDED)
            if not one.starting:
                one.ending = one.ending or ending
        self._wake()

    def _judge(self, one: Container, state: Mapping[str, Any]) -> ContainerTermination:
        code = state.get("ExitCode")
        ending = ContainerTermination(exit_code=code, finished_at=instant(state.get("FinishedAt")))
        words = brief(state.get("Error") or "")
        ending.message = f"container {one.name} ended with {code}" + (f": {words}" if words else "")
        if state.get("OOMKilled"):
            ending.reason = "oom"
            ending.message += "; the kernel killed a process of it for want of memory"
        elif code in _CANNOT_EXECUTE:
            with contextlib.suppress(RefusedError, BackendUnavailableError):
                said = self._engine.last_words(one.id)
                if "exec sh failed" in said:  # the words of the engine's own init
                    ending.reason, ending.permanent = "start-failed", True
                    ending.message = (
                        "the image has no shell `sh`, which the runner needs, or none in the PATH that image or task "
                        f"set ({brief(said)})"
                    )
                elif said.startswith("sh: ") and f"{BIN}/air-runner" in said:
                    ending.message += f": {brief(said)}"
        return ending

    def _watch(self) -> None:
        """Follow the engine's events; whenever the stream breaks, list anew."""
        backoff = 0.1
        while not self.closed.is_set():
            try:
                with self._engine.events(self._label) as events:
                    self._relist_now.set()
                    for event in events:
                        backoff = 0.1
                        self._take(event)
            except (BackendUnavailableError, RefusedError) as error:
                if not self.closed.is_set():  # whether the engine answers at all, the list will show
                    log.info("no events from the engine for now: %s", error)
            except Exception:
                log.exception("the stream of events failed in a way that is not foreseen")
            self._relist_now.set()
            self.closed.wait(backoff)
            backoff = min(LONGEST_BACKOFF, backoff * 2)

    def _take(self, event: Mapping[str, Any]) -> None:
        actor = event.get("Actor") or {}
        container, action = str(actor.get("ID")), str(event.get("Action"))
        attributes = actor.get("Attributes") or {}
        if action == "destroy":
            with self.lock:
                self.containers.drop(container)
        elif action == "start":
            with self.lock:
                self.containers.advance(container, Phase.RUNNING)
            return
        elif action == "die":
            with self.lock:
                one = self.containers.advance(container, Phase.ENDED)
                if one is not None and attributes.get("exitCode") == "0":
                    at = float(event.get("timeNano") or 0) / 1e9 or None
                    one.ending = one.ending or ContainerTermination(exit_code=0, finished_at=at)
            if one is not None and one.ending is None:
                self._workers.submit(self.look_at, one)
                return
        else:
            return
        self._wake()

    def _list_regularly(self) -> None:
        """List all containers at the start, regularly, and whenever something was missed; retry while it fails."""
        backoff = 0.25
        while not self.closed.is_set():
            if self._list():
                backoff = 0.25
                self._relist_now.wait(RELIST_SECONDS)
            else:
                self.closed.wait(backoff)
                backoff = min(LONGEST_BACKOFF, backoff * 2)
            self._relist_now.clear()

    def _list(self) -> bool:
        with self.lock:
            self.containers.list_begins()
        try:
            listed = self._engine.list(self._label)
        except (BackendUnavailableError, RefusedError) as error:
            with self.lock:
                self.containers.list_failed()
            words = f"the Docker engine cannot list its containers: {error}"
            self.fail(words if isinstance(error, RefusedError) else str(error))
            self._listed.set()
            return False
        with self.lock:
            ended = self.containers.list_came(listed)
            missed = self.containers.missed
            recovered, self._problem = self._problem is not None, None
        self.last_contact = time.monotonic()
        self._listed.set()
        for one in ended:
            self._workers.submit(self.look_at, one)
        if missed:  # a connection can be dead without anybody noticing; another one costs little
            self._engine.break_events()
        if recovered and not self.closed.is_set():
            log.info("the Docker engine answers")
        self._wake()
        return True
