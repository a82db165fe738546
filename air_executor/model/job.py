"""Jobs and tasks as people write them. Every field is declared here, once.

Job files, the Python API, queued lines, requests, journal, `state.json`, the JSON Schema and the documentation's tables
all follow these declarations. `parsing` reads and writes them; `state` builds a job's state from the same fields.
"""

# No `from __future__ import annotations`: `parsing` and `quick` read the annotations as they stand.

from dataclasses import dataclass, field
from typing import Annotated, Any

from annotated_types import MaxLen

from air_executor.model import types as t
from air_executor.model.caches import CACHE_POOL, Cache
from air_executor.model.keep import Keep
from air_executor.model.memo import Memoize
from air_executor.model.mount import Mount
from air_executor.model.pod_request import PodRequest
from air_executor.model.record import AsWritten, Record
from air_executor.model.refusal import RefusalError
from air_executor.model.service import TaskService
from air_executor.model.types import About, Accepts
from air_executor.model.worktree import Worktree

DEFAULT_POOL = "default"


@dataclass(slots=True, kw_only=True)
class Resources(Record):
    """Resources that a task needs."""

    cpu: Annotated[t.Cpu | None, About('CPUs: 2, 0.5, or "500m".')] = None
    memory: Annotated[t.Memory | None, About('Memory: "512Mi", "2Gi", or a number of bytes.')] = None
    gpu: Annotated[int, *t.whole(0, 1024), About("GPUs.")] = 0
    memory_growth: Annotated[
        int | float, *t.real(1, 16), About("Factor by which `memory` grows for the retry after the task ran out of it.")
    ] = 1
    memory_max: Annotated[t.Memory | None, About("Upper limit for the growth of `memory`.")] = None

    def __post_init__(self) -> None:
        """Check fields that depend on each other."""
        if self.memory is None and (self.memory_growth != 1 or self.memory_max is not None):
            raise RefusalError("is missing: memory_growth and memory_max start from it", ("memory",))
        if isinstance(self.memory, int) and isinstance(self.memory_max, int) and self.memory_max < self.memory:
            raise RefusalError("must not be less than memory", ("memory_max",))


@dataclass(slots=True, kw_only=True)
class Unresolved(Record):
    """Fields of a task that refer to results: they have values once the tasks that it waits for have ended."""

    fields: dict[str, Any]
    """As written; with `for_each` or `matrix` the task becomes several."""
    names: dict[str, Any] = field(default_factory=dict)
    """Values of the other names in them, but for parameters, which the job has."""


def _made_here(value: object) -> object:
    if value is None or isinstance(value, Unresolved):
        return value
    raise RefusalError("is not for job files: write `{{ results.TASK.key }}` in the field itself")


def _only_queued(value: object) -> object:
    if value is None:
        return value
    raise RefusalError('is not for job files: queue `{"job": {...}, "join": true}`')


@dataclass(kw_only=True, init=False, repr=False, eq=False)
class HasDescription:
    """What a job or a task says of itself."""

    __slots__ = ()
    description: Annotated[t.Description | None, About("What it is for, in any number of lines.")] = None


@dataclass(kw_only=True, init=False, repr=False, eq=False)
class HasCommand:
    """The command of a task, or the question that it asks."""

    __slots__ = ()
    command: Annotated[
        t.Command | None,
        About(
            "Command: text runs with `sh -c`, or with the interpreter that its first line `#!…` names. A list is "
            "executed directly, without a shell."
        ),
    ] = None
    approve: Annotated[
        t.Question | None,
        About(
            "Instead of a command: a question to people. The task succeeds when somebody approves it, and fails when "
            "somebody rejects it or its `timeout` passes."
        ),
    ] = None


@dataclass(kw_only=True, init=False, repr=False, eq=False)
class TaskOptions:
    """What a task and the `defaults` of its job may both say."""

    __slots__ = ()
    env: Annotated[t.Env, About("Environment variables, stored in plain text.")] = field(default_factory=dict)
    secrets: Annotated[
        t.Secrets, About("Names of secrets to put into the environment when the runner starts; never stored.")
    ] = field(default_factory=list)
    image: Annotated[t.Image | None, About("Container image. Default: the backend's.")] = None
    workdir: Annotated[
        t.Workdir | None,
        About(
            "Working directory, relative to the project folder (in a container, to the workspace) or absolute, without "
            "`..`."
        ),
    ] = None
    worktree: Annotated[
        Worktree | None, About("A git worktree of the task's own as working directory, made before its first run.")
    ] = None
    memoize: Annotated[
        Memoize | None,
        About("What its result depends on: an earlier run with the same is not repeated, its result is used again."),
    ] = None
    mounts: Annotated[list[Mount], MaxLen(100), About("Additional mounts of the container.")] = field(
        default_factory=list
    )
    resources: Annotated[Resources | None, About("Resources of the task.")] = None
    pools: Annotated[
        t.Pools,
        About("Pools that the task needs besides that of its job, with weights: it starts when all of them have room."),
    ] = field(default_factory=dict)
    caches: Annotated[
        list[Cache], MaxLen(100), About("Folders that are kept between runs, such as those of package managers.")
    ] = field(default_factory=list)
    services: Annotated[
        list[TaskService],
        MaxLen(20),
        About("Programs beside the task, each in a container of its own, such as a database."),
    ] = field(default_factory=list)
    network: Annotated[
        t.Network | None, About("`none`, `default`, or the name of a network that the operator allows.")
    ] = None
    kubernetes: Annotated[
        PodRequest | None, About("What its pod needs on Kubernetes, as far as the operator allows it.")
    ] = None
    keep: Annotated[
        Keep | None, About("How long its container or pod stays after a failure, to look around in it.")
    ] = None
    timeout: Annotated[t.PositiveDuration | None, About("Time limit for one run.")] = None
    stall_timeout: Annotated[
        t.PositiveDuration | None, About("Maximum time in which one run writes no output and queues nothing.")
    ] = None
    grace: Annotated[t.Duration, About("Time between SIGTERM and SIGKILL when a run is stopped.")] = 10
    retries: Annotated[
        int, *t.whole(0, 1000), About("Maximum number of retries after `error`, `timeout`, `stalled` or `oom`.")
    ] = 0
    retry_delay: Annotated[t.Duration, About("Delay before the first retry.")] = 0
    retry_backoff: Annotated[
        int | float, *t.real(1, 100), About("Factor by which the delay grows with each retry; 2 doubles it.")
    ] = 1
    retry_jitter: Annotated[
        int | float, *t.real(0, 1), About("Maximum random addition to the delay, as a share of it.")
    ] = 0.1
    retry_max_delay: Annotated[t.Duration | None, About("Maximum delay, before jitter.")] = None
    retry_on: Annotated[t.ExitCodes | None, About("Exit codes after which it is retried. Default: all.")] = None
    no_retry_on: Annotated[t.ExitCodes, About("Exit codes after which it is not retried.")] = field(
        default_factory=list
    )
    skip_on: Annotated[
        t.ExitCodes, About("Exit codes that mean: nothing to do. The task is skipped then, and what needs it.")
    ] = field(default_factory=list)
    allow_failure: Annotated[
        t.AllowedFailure,
        About("`true`, or exit codes: the failure counts as success for the job and for what needs the task."),
    ] = False
    again_on: Annotated[
        t.ExitCodes, About("Exit codes that mean: run it again after `again_delay`. No retry is charged.")
    ] = field(default_factory=list)
    again_delay: Annotated[t.Duration, About("Delay before it runs again, unless the task itself gives one.")] = 60
    again_max: Annotated[
        int | None, *t.whole(1, t.MAX_TASKS), About("How often it may run again; after that it fails.")
    ] = None
    again_until: Annotated[
        t.PositiveDuration | None, About("How long after its first run it may still run again; after that it fails.")
    ] = None
    delay: Annotated[t.Duration | None, About("Minimum time between queuing and start.")] = None
    delay_after: Annotated[
        t.Duration | None, About("Minimum time between the end of all that it waits for and its start.")
    ] = None
    not_before: Annotated[
        t.Time | None, About("Earliest start time, such as `2026-01-31T12:00:00Z`; the zone is required.")
    ] = None
    when: Annotated[
        t.When, About("Outcome of the tasks in `after` on which the task runs: `success`, `failure` or `always`.")
    ] = "success"
    priority: Annotated[t.Priority, About("Priority within the job; higher starts first.")] = 0
    labels: Annotated[t.Labels, About("Names and values for people; they have no effect.")] = field(
        default_factory=dict
    )

    @property
    def weights(self) -> dict[str, int]:
        """What it takes of which pools besides that of its job: a cache that is not shared is one with room for one."""
        if not self.caches:
            return self.pools
        return {**self.pools, **{f"{CACHE_POOL}{one.name}": 1 for one in self.caches if not one.shared}}


@dataclass(kw_only=True, init=False, repr=False, eq=False)
class HasAfter:
    """The tasks that a task waits for, and what must hold of their results."""

    __slots__ = ()
    after: Annotated[t.Ids, About("Ids of tasks that must succeed first, with every task they queued.")] = field(
        default_factory=list
    )
    only_if: Annotated[
        t.OnlyIf | None,
        About("Condition on a result of a task that it waits for, like `{result: discover.count, gt: 0}`."),
    ] = None


@dataclass(kw_only=True, init=False, repr=False, eq=False)
class MayBelong:
    """What a task has of the list that it was made from, or will be made into."""

    __slots__ = ()
    group: Annotated[t.Id | None, About("Name of a group: its tasks are shown as one line.")] = None
    unresolved: Annotated[Unresolved | None, Accepts("fields", before=_made_here)] = None
    joins: Annotated[t.Uid | None, Accepts("a uid", before=_only_queued)] = None
    """Uid of the child job that it stands for, whose id it has: it ends when that job has."""


@dataclass(kw_only=True, init=False, repr=False, eq=False)
class MayHaveId:
    """The id of a task, as far as it was given one."""

    __slots__ = ()
    id: Annotated[t.Id | None, About("Task id, unique in the job. Default: generated.")] = None


@dataclass(slots=True, kw_only=True, repr=False)
class TaskDefaults(TaskOptions, AsWritten):
    """Fields that all tasks of a job have unless they say otherwise."""

    command: Annotated[t.Command | None, About("Command of tasks that have none.")] = None

    def __post_init__(self) -> None:
        """Check fields that depend on each other."""
        _check_start(self)


@dataclass(slots=True, kw_only=True, repr=False)
class Task(MayBelong, HasAfter, TaskOptions, HasDescription, HasCommand, MayHaveId, AsWritten):
    """A task: a command, and how to run it."""

    def __post_init__(self) -> None:
        """Check fields that depend on each other."""
        if self.approve is not None and self.command is not None:
            raise RefusalError("cannot be used together with approve, which runs nothing", ("command",))
        _check_start(self)


def _check_start(task: TaskOptions) -> None:
    if task.delay is not None and task.not_before is not None:
        raise RefusalError("cannot be used together with not_before", ("delay",))
    if len({one.variable for one in task.caches}) < len(task.caches):
        raise RefusalError("two of them have the same name, as far as a variable can tell", ("caches",))
    if len({one.host for one in task.services}) < len(task.services):
        raise RefusalError("two of them have the same name: give them a `name`", ("services",))


@dataclass(slots=True, kw_only=True)
class RunRetention(Record):
    """Which ended runs of a name stay beside its newest one."""

    succeeded: Annotated[int | None, *t.whole(0, 1_000_000), About("Maximum number of runs that succeeded.")] = None
    failed: Annotated[
        int | None, *t.whole(0, 1_000_000), About("Maximum number of runs that failed or were cancelled.")
    ] = None
    age: Annotated[t.PositiveDuration | None, About("Maximum time since a run ended.")] = None


@dataclass(slots=True, kw_only=True)
class NotifyRule(Record):
    """What is told to whom."""

    on: Annotated[t.Occasions, About("Occasions: `failure`, `late`, `recovered`, `success`, `approval`, `budget`.")]
    to: Annotated[t.TargetName, About("Name of a target: `ops` is the URL in the secret `AIR_NOTIFY_OPS`.")]


@dataclass(kw_only=True, init=False, repr=False, eq=False)
class JobOptions(HasDescription):
    """What a job says beside its id and its tasks."""

    __slots__ = ()
    name: Annotated[
        t.Name | None,
        About("Name of a job that runs many times, in place of `id`: its runs are `name-1`, `name-2`, …."),
    ] = None
    concurrency: Annotated[
        t.Concurrency,
        About(
            "What happens to a run of a `name` while an earlier run is unfinished: `allow` runs both, `forbid` refuses "
            "the submission, `queue` starts the new run when the earlier ones have ended, and `replace` cancels those "
            "and then starts."
        ),
    ] = "allow"
    params: Annotated[
        t.Params, About("Values that every task has as environment variables; a job file declares them here.")
    ] = field(default_factory=dict)
    max_runners: Annotated[int, *t.whole(1, t.MAX_SLOTS), About("Maximum number of concurrent tasks.")] = 1
    on_failure: Annotated[
        t.OnFailure,
        About(
            "Action when a task has failed and has no retries left: `stop` lets running tasks finish and starts no "
            "more, `continue` skips only the tasks that need the failed one."
        ),
    ] = "stop"
    pool: Annotated[t.Id, About("Pool that limits the job's runners.")] = DEFAULT_POOL
    lock: Annotated[
        t.Id | None, About("Name of a lock that the job holds from its first start to its end; others with it wait.")
    ] = None
    priority: Annotated[t.Priority, About("Priority among jobs; higher starts first.")] = 0
    after: Annotated[t.Ids, About("Ids of jobs that must succeed first.")] = field(default_factory=list)
    deadline: Annotated[
        t.PositiveDuration | None, About("Time limit for the whole job, counted from its first start, pauses included.")
    ] = None
    cleanup_time: Annotated[
        t.Duration,
        About("Maximum time for clean-up tasks after the `deadline` passed, or the job was cancelled a second time."),
    ] = 120
    late_after: Annotated[
        t.PositiveDuration | None,
        About("Time after which an unfinished job is late, counted from its scheduled time, or else its submission."),
    ] = None
    notify: Annotated[list[NotifyRule] | None, MaxLen(20), About("Who is told of what.")] = None
    retention: Annotated[
        RunRetention | None, About("Which ended runs of a `name` stay. The manager archives the others.")
    ] = None
    max_tasks: Annotated[int, *t.whole(1, t.MAX_TASKS), About("Maximum number of tasks, queued ones included.")] = (
        10_000
    )
    budget: Annotated[
        t.Budget,
        About("Maximum usage by name, as its tasks report it, such as `usd`; `runner_seconds` is measured."),
    ] = field(default_factory=dict)
    on_budget: Annotated[
        t.OnBudget,
        About("Action when an amount of the `budget` is used up: `pause` lets running tasks finish, `stop` ends all."),
    ] = "pause"
    labels: Annotated[t.Labels, About("Names and values for people; they have no effect.")] = field(
        default_factory=dict
    )
    defaults: Annotated[TaskDefaults, About("Default values of the tasks' fields, queued tasks included.")] = field(
        default_factory=TaskDefaults
    )


@dataclass(kw_only=True, init=False, repr=False, eq=False)
class HasTasks:
    """The id and the tasks of a job."""

    __slots__ = ()
    id: Annotated[t.Id | None, About("Job id, unique in the state directory.")] = None
    tasks: Annotated[list[Task], MaxLen(t.MAX_TASKS), About("Tasks, in the order in which they start.")]


@dataclass(slots=True, kw_only=True, repr=False)
class Job(JobOptions, HasTasks, AsWritten):
    """A job: tasks, and how many of them run at once."""

    def __post_init__(self) -> None:
        """Check fields that depend on each other."""
        if self.id is None and self.name is None:
            raise RefusalError("is missing; give a name instead if the job runs many times", ("id",))
        if self.id is not None and self.name is not None:
            raise RefusalError("cannot be used together with id, which is for a job that runs once", ("name",))

    @property
    def key(self) -> str:
        """Its id, or its name if it runs many times."""
        return self.id or self.name or ""


@dataclass(slots=True, kw_only=True, repr=False)
class JobSpec(JobOptions, Record):
    """What a job said when it was submitted, without its tasks."""

    extra: dict[str, Any] = field(default_factory=dict, init=False, compare=False)
    """Keys that a later version wrote; kept as they are."""


TASK_FIELDS: tuple[str, ...] = tuple(name for name in Task.__dataclass_fields__ if name != "id")
"""Fields of a task as submitted, in their order on the volume."""
JOB_FIELDS: tuple[str, ...] = tuple(JobOptions.__dataclass_fields__)
MERGED_FIELDS = ("env", "labels")
"""Fields that merge key by key with those of the job's `defaults`; any other is the task's own or the default's."""
