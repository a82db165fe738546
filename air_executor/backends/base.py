"""What the manager asks of a platform: to prepare, spawn, observe and remove runners, and a hint when to look.

The manager calls these from its one thread; a backend may use threads of its own but must never call back into the
manager except through `wake`. A backend knows nothing of jobs' states: it starts, lists and removes runners.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from air_executor.model.names import Slot

Requested = Callable[[str, str], None]
"""Is told of each request to a platform: what was asked, and the status of the answer, `none` without one."""


@dataclass(frozen=True, slots=True)
class Launch:
    """All that a backend needs to start one run. Paths are absolute; durations are seconds."""

    slot: Slot
    uid: str
    """The job's uid: with `run`, the runner's identity."""
    run: str
    """Run id, `<uid>-<seq>`."""
    task: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    """What the task gets on top of the platform's own environment: its `env` and the `AIR_*` names without paths."""
    out_dir: str
    """The run's `out/`, the only part of the run directory that the task may write."""
    workspace: str
    bin_dir: str
    project: str
    """The project folder, from which relative paths of a task start."""
    workdir: str | None = None
    """The folder to run in, as the task names it; None where it names none."""
    timeout: float | None = None
    grace: float = 10.0
    secrets: Mapping[str, str] = field(default_factory=dict)
    """Secrets by name, resolved unless the platform resolves them; they exist in memory only."""
    epoch: int = 0
    """Of the manager that starts it."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The task's `image`, `mounts`, `resources` and `network`, as given."""

    def environment(self, out_dir: str, workspace: str) -> dict[str, str]:
        """Return the task's variables, for a runner that sees its `out/` and its workspace at these paths."""
        own = {
            "AIR_QUEUE": f"{out_dir}/queue.jsonl",
            "AIR_RESULT": f"{out_dir}/result.json",
            "AIR_INPUTS": f"{out_dir}/inputs.json",
            "AIR_WORKSPACE": workspace,
            "AIR_SLOT": str(self.slot.number),
        }
        return {**self.env, **own, **self.secrets}


@dataclass(frozen=True, slots=True)
class RunnerStatus:
    """One runner as its platform shows it now. A runner that is not listed is absent: its name is free."""

    run: str | None
    """Run id from the runner's own labels; None where it cannot be told (then it is nobody's of ours)."""
    alive: bool
    """False: its first process is gone, though something may still hold the name."""
    finished: bool = False
    """Nothing of it runs any more, for certain, and only its name is taken: it may be booked before it is removed."""
    exit_code: int | None = None
    reason: str | None = None
    """The platform's own verdict, where it has one: `oom`, `evicted`, `start-failed`.

    Of a runner that is alive: it will never start."""
    permanent: bool = False
    """The same run would end the same way again, so it is not retried."""
    message: str | None = None
    """Of a runner that is alive: what it waits for, if it has not started, or what people should know of it."""
    finished_at: float | None = None
    """When the platform says it ended, Unix seconds; None where it does not say."""


class Backend(Protocol):
    """A platform that can hold at most one runner per slot."""

    name: str
    remote: bool
    """Runners see the volume through another mount, so files may appear late (attribute caches)."""

    evicts: bool
    """Others may tell its runners to stop (a drained node, an engine that is shut down), which is no task's error."""

    def prepare(self, options: Mapping[str, Any]) -> str | None:
        """Get what a start with a task's `Launch.options` needs (an image), without waiting for it.

        Returns None if `spawn` may be called now, or else what the task has to wait for, in words. Asked again each
        cycle; what can never be had is for `spawn` to say.
        """

    def spawn(self, launch: Launch) -> None:
        """Start one runner in `launch.slot`.

        Raises:
            DuplicateRunnerError: the slot's name is taken; nothing was started.
            SpawnRejectedError: it can never start as it stands.
            BackendUnavailableError: unknown; it may or may not have been started.
        """

    def observe(self) -> Mapping[Slot, RunnerStatus]:
        """Return every runner of this state directory. No side effects on runners.

        Raises:
            BackendUnavailableError: the platform does not answer, so nothing may be concluded.
        """

    def remove(self, slot: Slot) -> None:
        """Ask that the slot's runner be stopped if alive (TERM, its grace, KILL) and its name freed.

        Returns at once; idempotent; call it again until `observe` no longer lists the slot.
        """

    def confirm_gone(self, slot: Slot) -> None:
        """Believe an operator that nothing of the slot's runner runs any more, and free its name.

        For platforms that cannot tell where a machine does not answer; any other does nothing. Returns at once.
        """

    def on_change(self, wake: Callable[[], None]) -> int | None:
        """Call `wake` from now on whenever something may have changed. A hint only; it may be lost.

        A backend that has a descriptor for this, readable until `observe` has looked, returns it instead and never
        calls: who sleeps beside it anyway is then woken without a thread in between.
        """

    def last_contact(self) -> float | None:
        """Return when the backend last knew for certain what its platform has, in monotonic seconds.

        None where nothing can be missed, because each `observe` asks the platform itself.
        """

    def close(self) -> None:
        """Release handles and threads. Runners go on."""
