"""The contract between the manager and a platform: prepare, spawn, observe and remove runners, and report changes.

The manager calls these methods from its one thread. A backend may use threads of its own, but calls back into the
manager only through `wake`. A backend knows nothing of job states: it starts, lists and removes runners.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from air_executor.model.names import Slot
from air_executor.model.shebang import SCRIPT
from air_executor.runner import native

Requested = Callable[[str, str], None]
"""Called after each request to a platform with the verb and the status of the answer; `none` without an answer."""

KeepServiceLog = Callable[[Slot, str, str, str, bytes], None]
"""Called from any thread before a service is removed: slot, run id, task id and service name, and what it printed."""

MakeToken = Callable[[Slot, str, str], str]
"""Returns the token of a run without a volume, given its slot, run id and task id."""

NoteEnd = Callable[[Slot, str, str], None]
"""Called when the command of a run without a volume is seen to have ended: slot, run id and task id."""

KILL_MARGIN = 2.0
"""Seconds beyond the grace before a runner is killed: by then it has killed its own command and written the outcome."""


@dataclass(frozen=True, slots=True)
class LaunchWorktree:
    """The git worktree of a task, in place of the project folder."""

    path: str
    prefix: str
    """Path of the project folder in it; empty: its top."""
    repository: str
    """The repository's own folder, `.git`."""
    admin: str
    """The folder in that for this worktree."""
    branch: str


@dataclass(frozen=True, slots=True)
class LaunchCache:
    """A folder that is kept between runs."""

    variable: str
    """Name of the task's variable with its path."""
    name: str
    path: str
    target: str | None
    """Its place in a container, if the task names one."""


@dataclass(frozen=True, slots=True)
class LaunchService:
    """A program that runs beside a task, in a container of its own. Durations are seconds."""

    name: str
    """Unique among those of a task, and a host name."""
    image: str
    argv: tuple[str, ...] | None = None
    """Words for the image's entrypoint; None: the image's own."""
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    """As `Launch.secrets`."""
    ready: tuple[str, ...] | None = None
    """Command that succeeds in its container once it can be used; None: it can be as soon as it runs."""
    ready_timeout: float = 60.0
    """Maximum time until that succeeds."""
    resources: Mapping[str, Any] = field(default_factory=dict)
    """`cpu` in CPUs and `memory` in bytes, as far as it names them."""


@dataclass(frozen=True, slots=True)
class Launch:
    """Everything a backend needs to start one run. Paths are absolute; durations are seconds."""

    slot: Slot
    uid: str
    """The job's uid: with `run`, the runner's identity."""
    run: str
    """Run id, `<uid>-<seq>`."""
    task: str
    argv: tuple[str, ...]
    """The command; with `script`, the interpreter that gets the script's path after these words."""
    env: Mapping[str, str]
    """Variables added to the platform's own environment: the task's `env` and the `AIR_*` names without paths."""
    out_dir: str
    """The run's directory, in which the task may write."""
    workspace: str
    bin_dir: str
    project: str
    """The project folder, to which relative paths of a task refer."""
    machines: Collection[str] = frozenset()
    """Those for which `bin/` has a native runner of this installation. One of another machine is another version's."""
    script: bool = False
    """The command is a script in `out_dir`."""
    worktree: LaunchWorktree | None = None
    caches: Sequence[LaunchCache] = ()
    services: Sequence[LaunchService] = ()
    """They start before the task and end with it."""
    workdir: str | None = None
    """The working directory that the task names, or None."""
    timeout: float | None = None
    grace: float = 10.0
    keep: float = 0.0
    """For how long the runner stays after a failure, where the backend `keeps`."""
    secrets: Mapping[str, str] = field(default_factory=dict)
    """Secrets by name, already resolved unless the platform resolves them; held in memory only."""
    epoch: int = 0
    """Epoch of the manager that starts the run."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The task's `image`, `mounts`, `resources`, `network`, `kubernetes` and `services`, as written; `worktree`: it has
    one."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Those of the user: of the task before those of its job."""

    @property
    def folder(self) -> str:
        """The project folder as the task has it: in its worktree, if it has one."""
        return self.project if self.worktree is None else f"{self.worktree.path}/{self.worktree.prefix}".rstrip("/")

    def environment(self, out_dir: str, workspace: str) -> dict[str, str]:
        """Return the task's variables for a runner that sees its directory and its workspace at these paths."""
        own = {
            "AIR_QUEUE": f"{out_dir}/queue.jsonl",
            "AIR_RESULT": f"{out_dir}/result.json",
            "AIR_INPUTS": f"{out_dir}/inputs.json",
            "AIR_OUTCOMES": f"{out_dir}/outcomes.json",
            "AIR_WORKSPACE": workspace,
            "AIR_SLOT": str(self.slot.number),
            **{cache.variable: cache.path for cache in self.caches},
        }
        return {**self.env, **own, **self.secrets}

    def runner(self, bin_dir: str, machine: str | None) -> list[str]:
        """Return the words that start the runner: the native one if there is one for this machine, else the script.

        Args:
            bin_dir: `bin/` as the runner sees it.
            machine: the runner's architecture as `native.MACHINES` names it, or None if it is not known.
        """
        if machine in self.machines and native.in_folder(self.bin_dir, machine) is not None:
            return [f"{bin_dir}/{machine}/{native.NAME}"]
        return ["sh", f"{bin_dir}/air-runner"]

    def arguments(self, out_dir: str, workdir: str, kind: str) -> list[str]:
        """Return the arguments of the runner, which then starts the task.

        Args:
            out_dir: the run's directory as the runner sees it.
            workdir: the task's working directory.
            kind: a MODE of the runner, see `air-runner.c`.
        """
        script = [f"{out_dir}/{SCRIPT}"] if self.script else []
        timeout = "-" if self.timeout is None else format_seconds(self.timeout)
        return [out_dir, workdir, timeout, format_seconds(self.grace), kind, *self.argv, *script]


def format_seconds(value: float) -> str:
    """Return a duration as the runner parses it."""
    return f"{value:.3f}".rstrip("0").rstrip(".")


class RunnerStatus(NamedTuple):
    """One runner as its platform shows it now. A runner that is not listed is absent: its name is free."""

    run: str | None
    """Run id from the runner's own labels; None if unknown, so that no open run claims it."""
    alive: bool
    """False: its first process has ended, though something may still hold the name."""
    finished: bool = False
    """Certainly nothing of it runs any more and only its name is taken: it may be committed before it is removed."""
    exit_code: int | None = None
    reason: str | None = None
    """The platform's own verdict, if any: `oom`, `evicted`, `start-failed`. On a live runner, why it is to be stopped:
    it will never start, or a service of its task has ended (`error`)."""
    permanent: bool = False
    """The same run would end the same way again, so it is not retried."""
    message: str | None = None
    """On a live runner: why it hasn't started, or a warning for the user."""
    held_by: str | None = None
    """On a runner that has ended: what keeps its name taken, in words."""
    finished_at: float | None = None
    """End time according to the platform, Unix seconds; None if unknown."""
    node_wait: float | None = 0.0
    """For how many seconds it had a name but no node, so that nothing of it existed; None while it has none.

    On a runner that has ended None means that it is not known.
    """
    image: str | None = None
    """The image that it has, with its digest; None if the platform has no images, or does not say."""


class Backend(Protocol):
    """A platform that can hold at most one runner per slot."""

    name: str
    remote: bool
    """Runners see the volume through another mount, so files may appear late (attribute caches)."""

    evicts: bool
    """The platform may stop runners on its own (a drained node, an engine shutdown); that is no task's error."""

    keeps: bool
    """Runners stay after a failure if that is wanted, for people to look around in them."""

    def prepare(self, options: Mapping[str, Any]) -> str | None:
        """Fetch what a start with a task's `Launch.options` needs (an image), without waiting for it.

        Returns None if `spawn` may be called now, else what the task waits for, in words. Called again each cycle.
        What can never be fetched is for `spawn` to reject.
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
        """Request that the slot's runner be stopped if alive (TERM, its grace, KILL) and its name freed.

        Returns at once; idempotent. Call it again until `observe` no longer lists the slot.
        """

    def confirm_gone(self, slot: Slot) -> None:
        """Accept an operator's word that nothing of the slot's runner runs any more, and free its name.

        For platforms that cannot tell while a machine does not answer; others do nothing. Returns at once.
        """

    def on_change(self, wake: Callable[[], None]) -> int | None:
        """Call `wake` from now on whenever something may have changed. A hint only; it may be lost.

        A backend with a descriptor that is readable until the next `observe` returns it instead and never calls
        `wake`: the manager polls it directly, with no thread in between.
        """

    def last_contact(self) -> float | None:
        """Return when the backend last knew for certain what its platform has, in monotonic seconds.

        None where nothing can be missed, because each `observe` asks the platform itself.
        """

    def close(self) -> None:
        """Release handles and threads. Runners keep running."""


EFFECTS = (Backend.prepare, Backend.spawn, Backend.remove, Backend.confirm_gone)
"""What changes a platform. A manager may die before and after each of these; tests do that."""
