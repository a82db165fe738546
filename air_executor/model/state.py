"""A job and its tasks as they stand. Each status owns its data, so a finished task without an end cannot exist.

Changed only by `transitions.apply`; read by the planner, the store and whoever shows a job. Times are Unix seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from air_executor.model.usage import Usage

HELD, QUEUED, RUNNING, PAUSED = "held", "queued", "running", "paused"
SUCCEEDED, FAILED, CANCELLED, SKIPPED = "succeeded", "failed", "cancelled", "skipped"
ENDED_PHASES = frozenset({SUCCEEDED, FAILED, CANCELLED})

OK, ERROR, TIMEOUT, OOM, LOST, EVICTED = "ok", "error", "timeout", "oom", "lost", "evicted"
START_FAILED, REJECTED, BUDGET, UPSTREAM, REQUEUE = "start-failed", "rejected", "budget", "upstream", "requeue"

USERS_FAULT = frozenset({ERROR, TIMEOUT, OOM})
"""Reasons that the user's own `retries` cover."""
PLATFORMS_FAULT = frozenset({LOST, EVICTED, START_FAILED})
"""Reasons that have a budget of their own."""

MAX_ATTEMPTS_KEPT = 100
"""Per task; the job's usage counts every run for ever."""


@dataclass(frozen=True, slots=True)
class Queued:
    """Waits for its turn, or until `waits_until`."""

    waits_until: float | None = None
    retrying: bool = False
    """It ran already, and waits for its next run: in a job with one runner it keeps its place."""


@dataclass(frozen=True, slots=True)
class Running:
    """Has an open run."""

    seq: int
    slot: int
    since: float
    stop: str | None = None
    """Why the run is being stopped, once that is decided."""
    stop_message: str | None = None
    """What the platform said of its runner, where that is why."""
    hopeless: bool = False
    """It is being stopped because it can never start, and neither can another."""
    waited: float | None = None
    """Seconds from when the task was ready until the run was decided; None if that is not known."""
    memory_limit: int | None = None
    """Bytes; None if the task names no memory."""


@dataclass(frozen=True, slots=True)
class Done:
    """Ended for good; only a `retry` leaves this, and never from `succeeded`."""

    phase: str
    reason: str
    finished_at: float
    exit_code: int | None = None
    message: str | None = None
    result: Any = None


Status = Queued | Running | Done


@dataclass(frozen=True, slots=True)
class Attempt:
    """One ended run of a task, for the ledger; stages in seconds."""

    seq: int
    slot: int
    spawned_at: float
    start: float
    work: float
    finish: float
    reason: str
    exit_code: int | None = None
    message: str | None = None
    """Why it ended so, where there is more to say than the reason."""
    cpu: float | None = None
    memory: int | None = None
    """Peak, in bytes."""
    memory_limit: int | None = None
    """What this run was allowed, in bytes; None if its task names no memory."""
    cost: float = 0.0
    clock_stepped: bool = False
    waited: float | None = None
    """Seconds from when the task was ready to start until the run was decided, by the manager's clock."""
    backend: str | None = None
    price: Mapping[str, float] | None = None
    """Per hour of this runner, by component, as it was when the run was booked."""
    currency: str | None = None

    @property
    def runner_seconds(self) -> float:
        """How long its runner existed."""
        return self.start + self.work + self.finish

    @property
    def gone_at(self) -> float:
        """When its runner was gone, in Unix seconds."""
        return self.spawned_at + self.runner_seconds


class TaskState:
    """One task of a job."""

    __slots__ = (
        "after",
        "attempts",
        "charged",
        "cleanup",
        "complete",
        "extra",
        "faults",
        "id",
        "line",
        "open_children",
        "position",
        "queued_by",
        "ready_at",
        "runs",
        "spec",
        "status",
        "tree_failed",
        "tree_ok",
    )

    def __init__(
        self, task: str, spec: Mapping[str, Any], *, position: int, queued_by: str | None, status: Status
    ) -> None:
        self.id = task
        self.spec = spec
        self.position = position
        self.queued_by = queued_by
        self.status = status
        self.runs = 0
        self.charged = 0
        """Retries taken from the user's budget since it was last queued afresh."""
        self.faults = 0
        """The same, from the platform's budget."""
        self.attempts: list[Attempt] = []
        self.ready_at: float | None = None
        """Of a queued task: from when nothing but a free runner is missing; None while it waits for other tasks."""
        self.after: tuple[str, ...] = tuple(spec.get("after", ()))
        self.cleanup = spec.get("when", "success") != "success"
        """It, or what queued it, has `when: failure` or `always`: failures elsewhere do not skip it."""
        self.extra: dict[str, Any] = {}
        """Keys of the state file that this version does not know."""
        # Derived: kept by `progress`, never stored.
        self.open_children = 0
        self.complete = False
        self.tree_ok = True
        self.tree_failed = False
        self.line: str | None = None
        """The task's line in the checkpoint while it is current; the store's cache."""

    @property
    def phase(self) -> str:
        """The phase as users name it."""
        status = self.status
        if isinstance(status, Done):
            return status.phase
        return RUNNING if isinstance(status, Running) else QUEUED

    @property
    def when(self) -> str:
        """On which outcome of what it waits for the task runs."""
        return str(self.spec.get("when", "success"))

    @property
    def priority(self) -> int:
        """Higher starts first."""
        return int(self.spec.get("priority", 0))

    @property
    def place(self) -> tuple[int, int]:
        """Sorts tasks in the order in which they start."""
        return (-self.spec.get("priority", 0), self.position)

    @property
    def result(self) -> Any:  # noqa: ANN401 - any JSON value
        """What it handed over, once it has succeeded."""
        return self.status.result if isinstance(self.status, Done) else None


@dataclass(slots=True)
class JobState:
    """One job."""

    id: str
    uid: str
    spec: Mapping[str, Any]
    """The job's own fields, normalised; tasks are apart."""
    submitted_at: float
    phase: str = QUEUED
    reason: str | None = None
    message: str | None = None
    started_at: float | None = None
    finished_at: float | None = None
    deadline_from: float | None = None
    """From when the job's `deadline` counts."""
    seq: int = 0
    """Number of the newest run; never reused."""
    epoch: int = 0
    version: int = 0
    stop: str | None = None
    """Why nothing new starts: `failed`, `cancelled`, `timeout`, `budget` or `upstream`. Gone after a reopening."""
    after_uids: Mapping[str, str] = field(default_factory=dict)
    """The jobs that this one waits for, by id, with the uids they had when it was submitted."""
    submitted_by: str | None = None
    """Run id of the run that submitted it."""
    usage: Usage = field(default_factory=Usage)
    tasks: dict[str, TaskState] = field(default_factory=dict)
    """In the order of the queue."""
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def max_runners(self) -> int:
        """How many of its tasks may run at once."""
        return int(self.spec.get("max_runners", 1))

    @property
    def queue(self) -> str:
        """The named lane whose limit it shares."""
        return str(self.spec.get("queue", "default"))

    @property
    def priority(self) -> int:
        """Jobs with a higher one start first."""
        return int(self.spec.get("priority", 0))

    @property
    def ended(self) -> bool:
        """Whether nothing is left to do."""
        return self.phase in ENDED_PHASES

    @property
    def deadline_at(self) -> float | None:
        """When its deadline passes, or None."""
        deadline = self.spec.get("deadline")
        return None if deadline is None or self.deadline_from is None else self.deadline_from + float(deadline)

    def spares(self, task: TaskState) -> bool:
        """Tell whether what stops the job leaves this task its chance: it cleans up, and the job's time is not over."""
        return task.cleanup and self.stop in (FAILED, CANCELLED)

    def results(self) -> dict[str, Any]:
        """Return the results of all tasks that have succeeded, by task id."""
        return {
            t.id: t.status.result
            for t in self.tasks.values()
            if isinstance(t.status, Done) and t.status.phase == SUCCEEDED
        }

    def ancestors(self, task: TaskState) -> Iterable[str]:
        """Yield the ids of the task that queued it, of the one that queued that, and so on."""
        parent = task.queued_by
        while parent is not None:
            yield parent
            above = self.tasks.get(parent)
            parent = above.queued_by if above is not None else None
