"""Jobs and tasks as people write them. Every field is declared here, once.

Job files, the Python API, queued lines, requests, journal, `state.json`, the JSON Schema and the documentation's tables
all follow these declarations. `parsing` reads and writes them; `state` builds a job's state from the same fields.
"""

# No `from __future__ import annotations`: `parsing` and `quick` read the annotations as they stand.

from dataclasses import dataclass, field
from typing import Annotated, Any, Self

from annotated_types import MaxLen

from air_executor.model import types as t
from air_executor.model.checks import RefusalError
from air_executor.model.types import About

DEFAULT_POOL = "default"


class Record:
    """A record that refuses keys which it does not know."""

    __slots__ = ()
    __pydantic_config__ = {"extra": "forbid", "revalidate_instances": "always"}  # noqa: RUF012 - pydantic's own name


class AsWritten(Record):
    """A record that knows which of its fields were given in Python: a value that equals the default counts, too."""

    __slots__ = ("given",)
    given: frozenset[str] | None
    """Names of the fields that were given; None: the record was read from data and is complete."""

    def __new__(cls, *_: object, **given: object) -> Self:
        """Note which fields are given."""
        self = super().__new__(cls)
        self.given = frozenset(given) if given else None
        return self


@dataclass(slots=True, kw_only=True)
class Mount(Record):
    """A folder or volume that a task sees in its container."""

    source: Annotated[t.Source, About("Path on the host, or name of a volume on the platform.")]
    target: Annotated[t.Target, About("Absolute path in the container.")]
    read_only: Annotated[t.Flag, About("Mount without write access.")] = False


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


@dataclass(kw_only=True)
class HasDescription:
    """What a job or a task says of itself."""

    __slots__ = ()
    description: Annotated[t.Description | None, About("What it is for, in any number of lines.")] = None


@dataclass(kw_only=True)
class HasCommand:
    """The command of a task."""

    __slots__ = ()
    command: Annotated[
        t.Command,
        t.OrInDefaults(),
        About(
            "Command: text goes to `sh -c`, or to the interpreter in its first line `#!…`; a list is executed as it is."
        ),
    ]


@dataclass(kw_only=True)
class TaskOptions:
    """What a task and the `defaults` of its job may both say."""

    __slots__ = ()
    env: Annotated[t.Env, About("Environment variables, stored in clear; secrets have a field.")] = field(
        default_factory=dict
    )
    secrets: Annotated[
        t.Secrets, About("Names of secrets to put into the environment when the task starts; never stored.")
    ] = field(default_factory=list)
    image: Annotated[t.Image | None, About("Container image. Default: the backend's.")] = None
    workdir: Annotated[
        t.Workdir | None,
        About("Working directory: below the project (in a container, the workspace) unless absolute; no `..`."),
    ] = None
    mounts: Annotated[list[Mount], MaxLen(100), About("Further mounts in the task's container.")] = field(
        default_factory=list
    )
    resources: Annotated[Resources | None, About("Resources that the task needs.")] = None
    network: Annotated[t.Network | None, About("`none`, `default`, or the name of a network.")] = None
    timeout: Annotated[t.PositiveDuration | None, About("Time limit of one run.")] = None
    grace: Annotated[t.Duration, About("Time between TERM and KILL when a run is stopped.")] = 10
    retries: Annotated[
        int, *t.whole(0, 1000), About("Number of retries after an error, a timeout or running out of memory.")
    ] = 0
    retry_delay: Annotated[t.Duration, About("Delay before the first retry.")] = 0
    retry_backoff: Annotated[
        int | float, *t.real(1, 100), About("Factor by which the delay grows from retry to retry; 2 doubles it.")
    ] = 1
    retry_jitter: Annotated[
        int | float, *t.real(0, 1), About("Largest share of the delay added at random, so that retries spread.")
    ] = 0.1
    retry_max_delay: Annotated[t.Duration | None, About("Upper limit of the delay, before jitter.")] = None
    delay: Annotated[t.Duration | None, About("Earliest start, counted from when the task was queued.")] = None
    not_before: Annotated[t.Time | None, About("Earliest start, as a time.")] = None
    when: Annotated[
        t.When, About("Outcome of what the task waits for on which it runs; the others are for clean-up.")
    ] = "success"
    priority: Annotated[t.Priority, About("Higher starts first among the tasks of the job.")] = 0
    labels: Annotated[t.Labels, About("Names and values for people; they change nothing.")] = field(
        default_factory=dict
    )


@dataclass(kw_only=True)
class HasAfter:
    """The tasks that a task waits for."""

    __slots__ = ()
    after: Annotated[t.Ids, About("Ids of tasks that must have succeeded first, with everything that they queued.")] = (
        field(default_factory=list)
    )


@dataclass(kw_only=True)
class MayHaveId:
    """The id of a task, as far as it was given one."""

    __slots__ = ()
    id: Annotated[t.Id | None, About("Id within the job. Default: generated.")] = None


@dataclass(slots=True, kw_only=True)
class TaskDefaults(TaskOptions, AsWritten):
    """Fields that all tasks of a job have unless they say otherwise."""

    command: Annotated[t.Command | None, About("Command of tasks that have none.")] = None

    def __post_init__(self) -> None:
        """Check fields that depend on each other."""
        _check_start(self)


@dataclass(slots=True, kw_only=True)
class Task(HasAfter, TaskOptions, HasDescription, HasCommand, MayHaveId, AsWritten):
    """A task: a command, and how to run it."""

    def __post_init__(self) -> None:
        """Check fields that depend on each other."""
        _check_start(self)


def _check_start(task: TaskOptions) -> None:
    if task.delay is not None and task.not_before is not None:
        raise RefusalError("cannot be used together with not_before", ("delay",))


@dataclass(kw_only=True)
class JobOptions(HasDescription):
    """What a job says beside its id and its tasks."""

    __slots__ = ()
    name: Annotated[
        t.Name | None, About("Name of a job that runs many times, instead of `id`: its runs are `name-1`, `name-2`, ….")
    ] = None
    concurrency: Annotated[
        t.Concurrency,
        About(
            "What happens to a run of a `name` while an earlier one is unfinished: it runs beside it (`allow`), is "
            "refused (`forbid`), waits for its end (`queue`), or cancels it (`replace`)."
        ),
    ] = "allow"
    params: Annotated[
        t.Params, About("Values that every task has as environment variables; a job file declares them here.")
    ] = field(default_factory=dict)
    max_runners: Annotated[int, *t.whole(1, t.MAX_SLOTS), About("Maximum number of its tasks that run at once.")] = 1
    on_failure: Annotated[
        t.OnFailure,
        About("After a task has failed without retries left: `stop` starts no more, `continue` skips what needs it."),
    ] = "stop"
    pool: Annotated[t.Id, About("Pool whose limit the job shares.")] = DEFAULT_POOL
    priority: Annotated[t.Priority, About("Jobs with a higher priority start first.")] = 0
    after: Annotated[t.Ids, About("Ids of jobs that must have succeeded first.")] = field(default_factory=list)
    deadline: Annotated[
        t.PositiveDuration | None, About("Time limit of the whole job, counted from its first start.")
    ] = None
    max_tasks: Annotated[
        int, *t.whole(1, t.MAX_TASKS), About("Maximum number of tasks, queued ones included; with more the job fails.")
    ] = 10_000
    labels: Annotated[t.Labels, About("Names and values for people; they change nothing.")] = field(
        default_factory=dict
    )
    defaults: Annotated[
        TaskDefaults, About("Fields that all tasks have, queued ones too, unless they say otherwise.")
    ] = field(default_factory=TaskDefaults)


@dataclass(kw_only=True)
class HasTasks:
    """The id and the tasks of a job."""

    __slots__ = ()
    id: Annotated[t.Id | None, About("Id of the job, unique in its state directory.")] = None
    tasks: Annotated[list[Task], MaxLen(t.MAX_TASKS), About("Tasks, in the order in which they start.")]


@dataclass(slots=True, kw_only=True)
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


@dataclass(slots=True, kw_only=True)
class JobSpec(JobOptions, Record):
    """What a job said when it was submitted, without its tasks."""

    extra: dict[str, Any] = field(default_factory=dict, init=False, compare=False)
    """Keys that a later version wrote; kept as they are."""


TASK_FIELDS: tuple[str, ...] = tuple(name for name in Task.__dataclass_fields__ if name != "id")
"""Fields of a task as submitted, in their order on the volume."""
JOB_FIELDS: tuple[str, ...] = tuple(JobOptions.__dataclass_fields__)
MERGED_FIELDS = ("env", "labels")
"""Fields that merge key by key with those of the job's `defaults`; any other is the task's own or the default's."""
