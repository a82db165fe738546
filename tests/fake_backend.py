"""A platform in memory that does what the test says: for tests of the manager, and bound by the same contract.

Nothing happens by itself: no threads, no clock, no files. `FakePlatform` is the world, which outlives managers; a test
ends, loses and delays its runners. A `FakeBackend` is one manager's view of it. A test's `on_spawn` writes what a task
would.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from air_executor.backends.base import Launch, RunnerStatus
from air_executor.errors import BackendUnavailableError, DuplicateRunnerError, SpawnRejectedError
from air_executor.model.names import Slot


class Fault(enum.Enum):
    """What the next spawn does instead of working."""

    REJECTED = "rejected"
    NOT_STARTED = "not started, but the caller cannot know"
    STARTED = "started, but the caller cannot know"
    LATE = "started only when the test calls `appear`, and the caller cannot know"


@dataclass(slots=True)
class FakeRunner:
    """One runner, as the platform knows it."""

    launch: Launch
    status: RunnerStatus
    stopping: bool = False
    """Its removal was requested."""


@dataclass(slots=True)
class FakePlatform:
    """The world: one name per slot, and the switches by which a test makes it misbehave."""

    on_spawn: Callable[[Launch], None] | None = None
    """Acts as the task, at the instant its runner starts."""
    silent: bool = False
    """It does not answer."""
    slow_removal: bool = False
    """A removed runner stays until `settle`."""
    keeps_names: bool = False
    """A runner that has ended keeps its name until it is removed, as containers do."""
    keeps: bool = False
    """Runners may stay after a failure."""
    awaited: dict[str, str] = field(default_factory=dict)
    """Images that are not available yet, and why."""
    lagging: bool = False
    """`observe` shows the state at the time this was switched on, or at the last `catch_up`."""
    faults: deque[Fault] = field(default_factory=deque)
    """What the next spawns do, in order."""
    runners: dict[Slot, FakeRunner] = field(default_factory=dict)
    late: deque[Launch] = field(default_factory=deque)
    spawned: list[str] = field(default_factory=list)
    """Run ids of all runners that ever started, in order."""
    shown: dict[Slot, RunnerStatus] = field(default_factory=dict)
    wakes: list[Callable[[], None]] = field(default_factory=list)

    def start(self, launch: Launch) -> None:
        """Start a runner, unless the name is taken.

        Raises:
            DuplicateRunnerError: it is.
        """
        if launch.slot in self.runners:
            msg = f"job {launch.slot.job}: slot {launch.slot.number} has a runner"
            raise DuplicateRunnerError(msg)
        self.runners[launch.slot] = FakeRunner(launch, RunnerStatus(launch.run, alive=True))
        self.spawned.append(launch.run)
        if self.on_spawn is not None:
            self.on_spawn(launch)
        self.wake()

    def appear(self) -> bool:
        """Let the oldest late runner start; false if there was none, or if its name is taken by now."""
        if not self.late:
            return False
        launch = self.late.popleft()
        if launch.slot in self.runners:
            return False
        self.start(launch)
        return True

    def end(self, slot: Slot, exit_code: int = 0, *, reason: str | None = None, lingers: bool = False) -> None:
        """End a runner's first process; with `lingers` another process of it still holds the name.

        Raises:
            KeyError: there is no such runner.
        """
        runner = self.runners[slot]
        if lingers or self.keeps_names:
            finished = not lingers
            runner.status = RunnerStatus(
                runner.launch.run, alive=False, finished=finished, exit_code=exit_code, reason=reason
            )
        else:
            del self.runners[slot]
        self.wake()

    def lose(self, slot: Slot) -> None:
        """Let a runner vanish without a trace, as with a lost node; nothing happens if there is none."""
        self.runners.pop(slot, None)
        self.wake()

    def settle(self) -> None:
        """Finish all requested removals."""
        for slot in [slot for slot, runner in self.runners.items() if runner.stopping]:
            del self.runners[slot]
        self.wake()

    def catch_up(self) -> None:
        """Let `observe` show the current state, even while lagging."""
        self.shown = {slot: runner.status for slot, runner in self.runners.items()}

    def wake(self) -> None:
        """Wake every manager."""
        for wake in tuple(self.wakes):
            wake()

    def answer(self) -> None:
        """Fail while silent.

        Raises:
            BackendUnavailableError: it is silent.
        """
        if self.silent:
            msg = "the fake platform does not answer"
            raise BackendUnavailableError(msg)


class FakeBackend:
    """One manager's view of a `FakePlatform`."""

    name = "fake"
    evicts = False

    def __init__(self, platform: FakePlatform | None = None, *, remote: bool = False) -> None:
        self.platform = platform or FakePlatform()
        self.remote = remote
        self.keeps = self.platform.keeps
        self._wakes: list[Callable[[], None]] = []

    def prepare(self, options: Mapping[str, Any]) -> str | None:
        """See `Backend.prepare`."""
        return self.platform.awaited.get(str(options.get("image")))

    def spawn(self, launch: Launch) -> None:
        """See `Backend.spawn`."""
        platform = self.platform
        platform.answer()
        fault = platform.faults.popleft() if platform.faults else None
        if fault is Fault.REJECTED:
            msg = f"run {launch.run}: the fake platform will never start it"
            raise SpawnRejectedError(msg)
        if fault is Fault.LATE:
            platform.late.append(launch)
        if fault in {None, Fault.STARTED}:
            platform.start(launch)
        if fault is not None:
            msg = f"run {launch.run}: the fake platform broke off while it was being started"
            raise BackendUnavailableError(msg)

    def observe(self) -> Mapping[Slot, RunnerStatus]:
        """See `Backend.observe`."""
        self.platform.answer()
        if not self.platform.lagging:
            self.platform.catch_up()
        return dict(self.platform.shown)

    def remove(self, slot: Slot) -> None:
        """See `Backend.remove`."""
        self.platform.answer()
        runner = self.platform.runners.get(slot)
        if runner is None:
            return
        runner.stopping = True
        if not self.platform.slow_removal:
            self.platform.lose(slot)

    def confirm_gone(self, slot: Slot) -> None:
        """See `Backend.confirm_gone`. This platform can always tell."""

    def on_change(self, wake: Callable[[], None]) -> int | None:
        """See `Backend.on_change`."""
        self._wakes.append(wake)
        self.platform.wakes.append(wake)
        return None

    def last_contact(self) -> None:
        """See `Backend.last_contact`. It always asks the platform itself."""

    def close(self) -> None:
        """See `Backend.close`."""
        for wake in self._wakes:
            self.platform.wakes.remove(wake)
        self._wakes.clear()
