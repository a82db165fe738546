"""Runners as containers of a Docker Engine: the container's name is what makes a slot unique.

The manager's thread only creates containers, which is quick and exclusive; starting, stopping and removing them is done
by a few threads, and a watcher keeps what is known of them up to date. Knows nothing of jobs' states or of what a run
leaves in its directory.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from air_executor.backends.base import Launch, RunnerStatus
from air_executor.backends.container.inside import hand_over
from air_executor.backends.container.platform_text import brief
from air_executor.backends.container.workers import Workers
from air_executor.backends.docker import container_spec, mount_conflicts
from air_executor.backends.docker.container_spec import MARGIN_SECONDS, EngineConfig, asked_mounts, container_config
from air_executor.backends.docker.container_watch import LONGEST_BACKOFF, ContainerWatch
from air_executor.backends.docker.containers import Container, ContainerTermination, Phase, from_inspection
from air_executor.backends.docker.engine import ConflictError, Engine, MissingError, RefusedError
from air_executor.backends.docker.images import Images
from air_executor.backends.docker.mount_conflicts import MountSet
from air_executor.errors import BackendUnavailableError, BadInputError, DuplicateRunnerError, SpawnRejectedError
from air_executor.model.names import Slot

log = logging.getLogger(__name__)

WORKERS = 6
"""Requests under way at once; the engine does not get faster by more."""
CLOSE_SECONDS = 3.0
"""How long a manager that leaves waits for requests under way: it has 5 s for all that it does then."""


class DockerBackend:
    """The backend `docker`: one container per runner."""

    name = "docker"
    remote = False
    evicts = True

    def __init__(self, engine: Engine, site: EngineConfig) -> None:
        self._engine = engine
        self._site = site
        self._refused: dict[Slot, RunnerStatus] = {}
        """Runs whose container could not be created, until their slot is removed."""
        self._promised: list[MountSet] = []
        """What those mount whose start was agreed to since `observe`: they are spawned together."""
        self._wakes: list[Callable[[], None]] = []
        self._images = Images(engine, site.settings.pull, site.settings.pull_deadline, self._wake)
        self._workers = Workers(WORKERS, "docker")
        self._watcher = ContainerWatch(engine, f"{container_spec.INSTANCE}={site.instance}", self._workers, self._wake)
        self._lock, self._containers = self._watcher.lock, self._watcher.containers
        self._has_network = False

    # What the manager calls

    def prepare(self, options: Mapping[str, Any]) -> str | None:
        """See `Backend.prepare`."""
        if (why := self._images.waits_for(self._site.image_of(options))) is not None or not options.get("mounts"):
            return why
        try:
            shares = mount_conflicts.asked(asked_mounts(self._site, os.path.dirname(self._site.state_dir), options))
        except (SpawnRejectedError, BadInputError):
            return None  # `spawn` will say why
        with self._lock:
            if (why := self._containers.in_the_way(shares)) is not None:
                return why
            for other in self._promised:
                if path := other.endangers(shares) or shares.endangers(other):
                    return f"mount {path} waits for a runner that is about to start"
            self._promised.append(shares)
        return None

    def spawn(self, launch: Launch) -> None:
        """See `Backend.spawn`. The container is created when this returns; it is started in the background."""
        self._watcher.check()
        with self._lock:
            if launch.slot in self._refused or self._containers.in_slot(launch.slot) is not None:
                raise _duplicate(launch.slot)
        image = self._site.image_of(launch.options)
        if why := self._images.refusal(image):
            raise SpawnRejectedError(why)
        try:
            body = container_config(self._site, launch, self._images.python_path(image))
            shares = mount_conflicts.asked(body["HostConfig"]["Mounts"])
            with self._lock:
                why = self._containers.in_the_way(shares)
            asked = list(asked_mounts(self._site, launch.project, launch.options))  # now that nobody can swap any more
        except BadInputError as error:
            raise SpawnRejectedError(str(error)) from error
        if why is None and any(mount not in body["HostConfig"]["Mounts"] for mount in asked):
            why = "what is to be mounted changes at this moment"
        if why is not None:
            self._refuse(launch, why)
            return
        hand_over(launch, self._site.user)
        name = self._site.name(launch.slot)
        try:
            made = self._engine.create(name, body)
        except ConflictError as error:
            self._meet(launch, name, shares, error)
            return
        except RefusedError as error:
            if isinstance(error, MissingError):
                self._images.forget(image)
            elif error.final:
                msg = f"the engine refuses the container: {error}"
                raise SpawnRejectedError(msg) from error
            self._refuse(launch, f"the engine could not create container {name}: {error}")
            return
        self._start_soon(Container(made, name, launch.slot, launch.run, launch.grace, Phase.CREATED, shares), body)

    def observe(self) -> Mapping[Slot, RunnerStatus]:
        """See `Backend.observe`. Answers from what the watcher knows; the first call waits for the first list."""
        self._watcher.check()
        with self._lock:
            self._promised.clear()
            found = {slot: one.status for slot, one in self._containers.by_slot().items()}
            return self._refused | found

    def remove(self, slot: Slot) -> None:
        """See `Backend.remove`."""
        self._watcher.check()
        now = time.monotonic()
        with self._lock:
            self._refused.pop(slot, None)
            one = self._containers.in_slot(slot)
            if one is None or one.busy or now < one.leave_until:
                return
            if one.asked_at is None:
                one.asked_at = now
            signal = "KILL" if now - one.asked_at > one.grace + MARGIN_SECONDS else "TERM"
            if one.status.alive and one.told == signal:
                return
            one.busy = True
        self._workers.submit(self._end, one, signal)

    def confirm_gone(self, slot: Slot) -> None:
        """See `Backend.confirm_gone`. This platform can always tell."""

    def on_change(self, wake: Callable[[], None]) -> None:
        """See `Backend.on_change`."""
        self._wakes.append(wake)

    def last_contact(self) -> float:
        """See `Backend.last_contact`. Each list shows what events have missed."""
        return self._watcher.last_contact

    def close(self) -> None:
        """See `Backend.close`. If the engine answers in time, no container stays created but not started."""
        self._watcher.close()
        self._workers.close(CLOSE_SECONDS)
        self._engine.close()
        self._watcher.join()

    def _wake(self) -> None:
        for wake in self._wakes:
            wake()

    # Starting

    def _refuse(self, launch: Launch, why: str) -> None:
        """Let a run fail to start, on the platform's budget."""
        with self._lock:
            self._refused[launch.slot] = RunnerStatus(
                launch.run, alive=False, finished=True, reason="start-failed", message=why
            )
        self._wake()

    def _meet(self, launch: Launch, name: str, shares: MountSet, conflict: ConflictError) -> None:
        """Find out who has the name, and act on it.

        Raises:
            DuplicateRunnerError: a runner of ours.
            SpawnRejectedError: somebody else, who may keep it for ever.
        """
        try:
            described = self._engine.inspect(name)
        except MissingError:
            raise _duplicate(launch.slot) from conflict  # it has gone this moment
        labels = described["Config"].get("Labels") or {}
        one = from_inspection(described)
        if one is None or labels.get(container_spec.INSTANCE) != self._site.instance:
            whose = labels.get(container_spec.STATE_DIR)
            owner = f"of the state directory {whose}" if whose else "that is not Air-Executor's"
            msg = f"there is a container {name} {owner}; set AIR_NAME_PREFIX for one of the two, or rename the job"
            raise SpawnRejectedError(msg) from conflict
        if one.run == launch.run and one.phase is Phase.CREATED and one.shares.sources == shares.sources:
            self._start_soon(one, None)  # our own request, whose answer was lost
            return
        with self._lock:
            self._containers.add(one)
        if one.run != launch.run:
            raise _duplicate(launch.slot) from conflict

    def _start_soon(self, one: Container, body: Mapping[str, Any] | None) -> None:
        with self._lock:
            one = self._containers.add(one)
            one.starting = one.phase is Phase.CREATED
        self._workers.submit(self._start, one, body)

    def _start(self, one: Container, body: Mapping[str, Any] | None) -> None:
        """Start a container; retry while the engine does not answer, since an unanswered request may have arrived."""
        backoff = 0.25
        network = None if body is None else str(body["HostConfig"]["NetworkMode"])
        repaired = unanswered = False
        while True:
            try:
                if unanswered and self._was_heard(one):
                    return
                if network == self._site.settings.network and not self._has_network:
                    self._engine.ensure_network(self._site.settings.network)
                    self._has_network = True
                self._engine.start(one.id)
            except BackendUnavailableError as error:
                unanswered = True
                self._watcher.fail(str(error))
                if self._watcher.closed.wait(backoff):
                    return  # the next manager goes on from there
                backoff = min(LONGEST_BACKOFF, backoff * 2)
            except MissingError as error:
                if "network" in str(error) and not repaired:
                    self._has_network, repaired = False, True
                    continue
                self._not_started(one, error)
                return
            except RefusedError as error:
                self._not_started(one, error)
                return
            else:
                with self._lock:
                    self._containers.advance(one.id, Phase.RUNNING)
                return

    def _was_heard(self, one: Container) -> bool:
        """Tell whether a start that had no answer came through: what has ended since would be started once more."""
        if self._engine.inspect(one.id)["State"].get("Status") == "created":
            return False
        with self._lock:
            self._containers.advance(one.id, Phase.RUNNING)
        self._watcher.look_at(one)
        return True

    def _not_started(self, one: Container, error: RefusedError) -> None:
        message = f"the engine could not start container {one.name}: {brief(error)}"
        with self._lock:
            one.starting = False
            one.ending = ContainerTermination(reason="start-failed", message=message, permanent=error.final)
        self._wake()

    # Ending

    def _end(self, one: Container, signal: str) -> None:
        """Take the next step towards the end of a container: a signal while it lives, removal afterwards."""
        try:
            if one.status.alive and not one.starting:
                self._signal(one, signal)
            else:
                self._delete(one)
        except BackendUnavailableError as error:
            self._watcher.fail(str(error))
        except RefusedError as error:
            log.warning("container %s cannot be removed: %s", one.name, error)
            one.backoff = min(LONGEST_BACKOFF, one.backoff * 2 or 0.5)
            one.leave_until = time.monotonic() + one.backoff
            self._watcher.relist()
        finally:
            one.busy = False
        self._wake()

    def _signal(self, one: Container, signal: str) -> None:
        try:
            self._engine.kill(one.id, signal)
        except MissingError:
            with self._lock:
                self._containers.drop(one.id)
        except ConflictError as error:
            if "paused" in str(error).lower():
                self._engine.unpause(one.id)
            else:  # it does not run: it has just ended, or is not started yet
                self._watcher.look_at(one)
            return
        one.told = signal

    def _delete(self, one: Container) -> None:
        try:
            self._engine.delete(one.id)
        except MissingError:
            pass
        except ConflictError as error:
            if "in progress" not in str(error):  # it runs: the start that we had given up has come through
                with self._lock:
                    self._containers.advance(one.id, Phase.RUNNING)
                self._watcher.relist()
            return
        with self._lock:
            self._containers.drop(one.id)


def _duplicate(slot: Slot) -> DuplicateRunnerError:
    msg = f"job {slot.job}: slot {slot.number} still has a container"
    return DuplicateRunnerError(msg)
