"""Keeps what is known of a state directory's containers up to date: by the engine's events, and by lists.

Events arrive within a millisecond, but their stream can break, or fall silent without breaking. So containers are also
listed: at the start, regularly, and whenever something was missed. The backend answers from this cache.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
from collections.abc import Callable, Mapping
from typing import Any

from air_executor.backends.container.contact import Contact
from air_executor.backends.container.inside import BIN
from air_executor.backends.container.platform_text import brief, parse_time
from air_executor.backends.container.refusals import MissingError, RefusedError
from air_executor.backends.container.termination import Termination
from air_executor.backends.container.workers import Workers
from air_executor.backends.docker.carrier_spec import CARRIER
from air_executor.backends.docker.container_cache import Container, ContainerCache, Phase
from air_executor.backends.docker.engine import Engine
from air_executor.errors import BackendUnavailableError
from air_executor.model import state as s
from air_executor.runner import native

log = logging.getLogger(__name__)

RELIST_SECONDS = 30.0
"""Between two lists of all containers, which show what events may have missed."""
MAX_BACKOFF = 5.0
"""Longest wait before a failed request is retried."""
_NATIVE = re.compile(rf"^(?:\[FATAL [^]]*\] exec )?{BIN}/(\w+)/{native.NAME}(?: failed|:)")
"""The native runner in the words of an init, or of a shell, that cannot execute it."""
_CANNOT_EXECUTE = (2, 126, 127)
"""Exit codes of a shell that cannot run its script, and of an init that cannot execute the runner or a shell."""


class ContainerWatch:
    """The containers with one label, watched from the first `check` until `close`.

    Args:
        engine: the Docker engine.
        label: the containers' label, as `name=value`.
        lock: guards `cache`.
        workers: inspect containers that have ended.
        wake: called from other threads when something has changed.
    """

    def __init__(
        self, engine: Engine, label: str, lock: threading.Lock, workers: Workers, wake: Callable[[], None]
    ) -> None:
        self._engine = engine
        self._label = label
        self._workers = workers
        self.wake = wake
        self.lock = lock
        self.cache = ContainerCache()
        """To be used under `lock`."""
        self._contact = Contact("the Docker engine", wake)
        self.closed = self._contact.closed
        self._relist_now = threading.Event()
        self._threads: list[threading.Thread] = []

    @property
    def last_contact(self) -> float:
        """When the last list arrived, monotonic seconds: it shows what events have missed."""
        return self._contact.last

    def check(self) -> None:
        """Start to watch; the first time, wait for a list.

        Raises:
            BackendUnavailableError: the engine does not answer.
        """
        if not self._threads:
            for target in (self._watch, self._list_regularly):
                thread = threading.Thread(target=target, name=f"docker{target.__name__}", daemon=True)
                self._threads.append(thread)
                thread.start()
        self._contact.check()

    def fail(self, problem: str) -> None:
        """Note that the engine cannot answer, until a list arrives."""
        self._relist_now.set()
        self._contact.fail(problem)

    def relist(self) -> None:
        """List now: something may have been missed."""
        self._relist_now.set()

    def close(self) -> None:
        """Stop watching."""
        self.closed.set()
        self._relist_now.set()

    def join(self) -> None:
        """Wait a moment for the threads, whose requests end with the engine's connection."""
        for thread in self._threads:
            thread.join(timeout=2)

    def inspect(self, one: Container) -> None:
        """Find out how a container ended, if it has."""
        try:
            found = self._engine.inspect(one.id)
            state, image = found["State"], (found.get("Config") or {}).get("Image")
        except MissingError:
            with self.lock:
                self.cache.drop(one.id)
            self.wake()
            return
        except RefusedError as error:
            log.warning("container %s cannot be inspected: %s", one.name, error)
            state, image = {"Status": "exited"}, None
        except BackendUnavailableError as error:
            self.fail(str(error))  # the next list brings the container here again
            return
        if state.get("Status") in {"running", "paused", "restarting"}:
            return
        termination = self._termination(one, state, image)
        with self.lock:
            if state.get("Status") != "created":
                self.cache.advance(one.id, Phase.ENDED)
            if not one.starting:
                one.termination = one.termination or termination
        self.wake()

    def _termination(self, one: Container, state: Mapping[str, Any], image: str | None) -> Termination:
        if one.service is not None:
            return self._service_end(one, state)
        code, finished_at = state.get("ExitCode"), parse_time(state.get("FinishedAt"))
        error = brief(self._engine.scrub(state.get("Error") or ""))
        message = f"container {one.name} ended with {code}" + (f": {error}" if error else "")
        if state.get("OOMKilled"):
            message += "; the kernel killed one of its processes: out of memory"
            return Termination(code, s.OOM, message, finished_at=finished_at)
        if code in _CANNOT_EXECUTE:
            with contextlib.suppress(RefusedError, BackendUnavailableError):
                tail = self._engine.log_tail(one.id)
                if "exec sh failed" in tail:  # printed by the engine's own init
                    message = (
                        f"image {image} has no shell `sh`, which the runner needs, or none in the PATH that image or"
                        f" task set ({brief(tail)})"
                    )
                    return Termination(code, s.START_FAILED, message, permanent=True, finished_at=finished_at)
                if (machine := self._foreign_machine(tail)) is not None:
                    message = f"image {image} is for {machine}, which the engine's machine cannot execute"
                    return Termination(code, s.START_FAILED, message, permanent=True, finished_at=finished_at)
                if tail.startswith(("sh: ", "[FATAL ")) and f"{BIN}/" in tail:  # the shell or the init
                    message += f": {brief(tail)}"
        return Termination(code, None, message, finished_at=finished_at)

    def _foreign_machine(self, tail: str) -> str | None:
        """Return the machine of the native runner that could not be executed, if that is not the engine's own.

        The init then names a file that it did not find, and a shell takes the program for a script.
        """
        found = _NATIVE.search(tail)
        own = native.MACHINES.get(str(self._engine.version().get("Arch"))) if found else None
        return found[1] if found and found[1] != own else None

    def _service_end(self, one: Container, state: Mapping[str, Any]) -> Termination:
        """Return how a service ended, which is an error of its task unless somebody stopped it."""
        if one.service == CARRIER:
            if state.get("ExitCode") == 0:
                return Termination()
            text = f"the files of its run could not be brought to its container or back{self.last_words(one)}"
            return Termination(reason=s.START_FAILED, message=text)
        stopped = one.signalled and one.stop_requested_at is None
        how = ", stopped by somebody else" if stopped else ", out of memory" if state.get("OOMKilled") else ""
        message = f"service {one.service} ended with exit code {state.get('ExitCode')}{how}{self.last_words(one)}"
        return Termination(reason=s.EVICTED if stopped else s.ERROR, message=message)

    def last_words(self, one: Container) -> str:
        """Return the last line that a container printed, to be appended to a message."""
        with contextlib.suppress(RefusedError, BackendUnavailableError):
            if lines := self._engine.log(one.id, tail=1).decode("utf-8", "replace").split():
                return f": {brief(self._engine.scrub(' '.join(lines)))}"
        return ""

    def _watch(self) -> None:
        """Follow the engine's events; whenever the stream breaks, list again."""
        backoff = 0.1
        while not self.closed.is_set():
            try:
                with self._engine.events(self._label) as events:
                    self._relist_now.set()
                    for event in events:
                        backoff = 0.1
                        self._apply(event)
            except (BackendUnavailableError, RefusedError) as error:
                if not self.closed.is_set():  # whether the engine answers at all, the list will show
                    log.info("no events from the engine for now: %s", error)
            except Exception:
                log.exception("unexpected failure of the event stream")
            self._relist_now.set()
            self.closed.wait(backoff)
            backoff = min(MAX_BACKOFF, backoff * 2)

    def _apply(self, event: Mapping[str, Any]) -> None:
        actor = event.get("Actor") or {}
        container, action = str(actor.get("ID")), str(event.get("Action"))
        attributes = actor.get("Attributes") or {}
        if action == "destroy":
            with self.lock:
                self.cache.drop(container)
        elif action == "start":
            with self.lock:
                self.cache.advance(container, Phase.RUNNING)
            return
        elif action == "kill":
            with self.lock:
                if (one := self.cache.get(container)) is not None:
                    one.signalled = True
            return
        elif action == "die":
            with self.lock:
                one = self.cache.advance(container, Phase.ENDED)
                if one is not None and one.service is None and attributes.get("exitCode") == "0":
                    at = float(event.get("timeNano") or 0) / 1e9 or None
                    one.termination = one.termination or Termination(exit_code=0, finished_at=at)
            if one is not None and one.termination is None:
                self._workers.submit(self.inspect, one)
                return
        else:
            return
        self.wake()

    def _list_regularly(self) -> None:
        """List all containers at the start, regularly, and whenever something was missed; retry while it fails."""
        backoff = 0.25
        while not self.closed.is_set():
            if self._list():
                backoff = 0.25
                self._relist_now.wait(RELIST_SECONDS)
            else:
                self.closed.wait(backoff)
                backoff = min(MAX_BACKOFF, backoff * 2)
            self._relist_now.clear()

    def _list(self) -> bool:
        with self.lock:
            self.cache.begin_list()
        try:
            listed = self._engine.list(self._label)
        except (BackendUnavailableError, RefusedError) as error:
            with self.lock:
                self.cache.abort_list()
            refusal = f"the Docker engine cannot list its containers: {error}"
            self.fail(refusal if isinstance(error, RefusedError) else str(error))
            return False
        with self.lock:
            ended = self.cache.apply_list(listed)
            missed = self.cache.missed
            recovered = self._contact.succeed()
        for one in ended:
            self._workers.submit(self.inspect, one)
        if missed:  # a connection can be dead without an error; another one costs little
            self._engine.break_events()
        if recovered and not self.closed.is_set():
            log.info("the Docker engine answers")
        self.wake()
        return True
