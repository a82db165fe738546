"""Jobs and tasks as a user writes them: what is accepted, and the plain dicts that they become.

The Python API, job files, the command line and the lines that running tasks write all pass through these models, so
that one set of rules and messages serves them. Behind them everything works with the normalised dicts of `fields.py`.
No I/O; importing this imports pydantic, so nothing that must start fast does.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from air_executor.core.cycles import find_cycle, show_cycle
from air_executor.model import types as ft
from air_executor.model.fields import (
    DEFAULT_GRACE,
    DEFAULT_MAX_RUNNERS,
    DEFAULT_MAX_TASKS,
    DEFAULT_ON_FAILURE,
    DEFAULT_QUEUE,
    DEFAULT_RETRY_JITTER,
    DEFAULT_WHEN,
    JOB_ALWAYS,
    JOB_DEFAULTS,
    MERGED_FIELDS,
    TASK_DEFAULTS,
)
from air_executor.model.problems import Problem, bad_input, nearest
from air_executor.model.problems import describe as describe_as
from air_executor.model.times import MAX_DURATION

_TASK_ORDER = {name: number for number, name in enumerate(TASK_DEFAULTS)}
_LARGEST_POWER = 305
"""Retries with backoff multiply; a factor of ten to this still is a number."""
_SECRET = re.compile(
    r"TOKEN|PASSW|PASSPHRASE|SECRET|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|AUTH(?!OR)|_PWD$|^PWD_"
)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Mount(_Model):
    """A folder or volume that a task sees in its container."""

    source: ft.Source = Field(description="What to mount: a path of the host, or a volume's name on the platform.")
    target: ft.Target = Field(description="Where the task sees it: an absolute path.")
    read_only: ft.Flag = Field(default=False, description="The task cannot write to it.")


class Resources(_Model):
    """What a task needs of a machine."""

    cpu: ft.Cpu = Field(default=None, description='CPUs: 2, 0.5, or "500m".')
    memory: ft.Memory = Field(default=None, description='Memory: "512Mi", "2Gi", or a number of bytes.')
    gpu: Annotated[int, *ft.whole(0, 1024)] = Field(default=0, description="GPUs.")
    memory_growth: Annotated[float, *ft.real(1, 16)] = Field(
        default=1, description="Factor by which `memory` grows for the next try after the task ran out of it."
    )
    memory_max: ft.Memory = Field(default=None, description="How far `memory` may grow.")

    @model_validator(mode="after")
    def _check_growth(self) -> Self:
        if self.memory is None and (self.memory_growth != 1 or self.memory_max is not None):
            raise _together((["memory"], "is missing: memory_growth and memory_max start from it"))
        if isinstance(self.memory, int) and isinstance(self.memory_max, int) and self.memory_max < self.memory:
            raise _together((["memory_max"], "must not be less than memory"))
        return self


class TaskDefaults(_Model):
    """Fields that all tasks of a job have unless they say otherwise."""

    command: ft.MaybeCommand = Field(
        default=None, description="What to run: text goes to `sh -c`, a list is executed as it is."
    )
    env: ft.Env = Field(
        default_factory=dict, description="Environment variables, stored in clear; secrets have a field."
    )
    secrets: ft.Secrets = Field(
        default_factory=list,
        description="Names of secrets to put into the environment when the task starts; never stored.",
    )
    image: ft.Image = Field(default=None, description="Container image; the backend's default if absent.")
    workdir: ft.Workdir = Field(
        default=None,
        description="Folder to run in: below the project (in a container, the workspace) unless absolute; no `..`.",
    )
    mounts: list[Mount] = Field(default_factory=list, description="What else the task sees in its container.")
    resources: Resources = Field(default=Resources(), description="What the task needs of a machine.")
    network: ft.Network = Field(default=None, description="`none`, `default`, or the name of a network.")
    timeout: ft.PositiveDuration = Field(default=None, description="How long one run may take; then it is stopped.")
    grace: ft.Duration = Field(default=DEFAULT_GRACE, description="Time between TERM and KILL when it is stopped.")
    retries: Annotated[int, *ft.whole(0, 1000)] = Field(
        default=0, description="How often to run it again after an error, a timeout or running out of memory."
    )
    retry_delay: ft.Duration = Field(default=0, description="Time to wait before the first retry.")
    retry_backoff: Annotated[float, *ft.real(1, 100)] = Field(
        default=1, description="Factor by which the delay grows from retry to retry; 2 doubles it each time."
    )
    retry_jitter: Annotated[float, *ft.real(0, 1)] = Field(
        default=DEFAULT_RETRY_JITTER,
        description="Largest share of the delay that chance adds to it, so that retries spread.",
    )
    retry_max_delay: ft.MaybeDuration = Field(default=None, description="The delay, before jitter, grows no further.")
    delay: ft.MaybeDuration = Field(default=None, description="Do not start before this long after it was queued.")
    not_before: ft.Time = Field(default=None, description="Do not start before this time.")
    when: Annotated[str, *ft.one_of("success", "failure", "always")] = Field(
        default=DEFAULT_WHEN, description="On which outcome of what it waits for it runs; the others are for clean-up."
    )
    priority: ft.Priority = Field(default=0, description="Higher starts first among the tasks of the job.")
    labels: ft.Labels = Field(default_factory=dict, description="Names and values for people; they change nothing.")

    @model_validator(mode="after")
    def _check_start(self) -> Self:
        if self.delay is not None and self.not_before is not None:
            raise _together((["delay"], "cannot be used together with not_before"))
        return self

    def explicit(self) -> dict[str, Any]:
        """Return the fields that were given, normalised, those that equal the default included."""
        own = self.__dict__
        names = sorted(self.model_fields_set & _TASK_ORDER.keys(), key=_TASK_ORDER.__getitem__)
        made = {name: own[name] for name in names}
        if "resources" in made:
            made["resources"] = made["resources"].model_dump(exclude_defaults=True)
        if "mounts" in made:
            made["mounts"] = [mount.model_dump(exclude_defaults=True) for mount in made["mounts"]]
        return made

    def normalized(self) -> dict[str, Any]:
        """Return the fields that differ from the default: durations in seconds, sizes in bytes, times as UTC text."""
        return _without_defaults(self.explicit())


class Task(TaskDefaults):
    """One task: a command, and how to run it."""

    id: ft.TaskId = Field(default=None, description="Its name within the job; given by Air-Executor if absent.")
    command: ft.Command = Field(
        description="What to run: text goes to `sh -c`, a list is executed as it is.",
    )
    after: ft.Ids = Field(
        default_factory=list,
        description="Ids of tasks that must have succeeded first, with everything that they queued.",
    )


class Job(_Model):
    """A job: tasks, and how many of them run at once."""

    id: ft.Id = Field(description="The job's name, unique in its state directory.")
    tasks: list[Task] = Field(description="What to run, in order.")
    max_runners: Annotated[int, *ft.whole(1, 10_000)] = Field(
        default=DEFAULT_MAX_RUNNERS, description="How many of its tasks may run at once."
    )
    on_failure: Annotated[str, *ft.one_of("stop", "continue")] = Field(
        default=DEFAULT_ON_FAILURE,
        description="When a task has failed for good: `stop` starts nothing more, `continue` skips only what needs it.",
    )
    queue: ft.Id = Field(default=DEFAULT_QUEUE, description="The named lane whose limit the job shares.")
    priority: ft.Priority = Field(default=0, description="Jobs with a higher one start first.")
    after: ft.Ids = Field(default_factory=list, description="Ids of jobs that must have succeeded first.")
    deadline: ft.PositiveDuration = Field(
        default=None, description="How long the whole job may take from its first start; then it is stopped."
    )
    max_tasks: Annotated[int, *ft.whole(1, 1_000_000)] = Field(
        default=DEFAULT_MAX_TASKS, description="A job whose tasks queue more than this in all fails."
    )
    labels: ft.Labels = Field(default_factory=dict, description="Names and values for people; they change nothing.")
    defaults: TaskDefaults = Field(
        default=TaskDefaults(), description="Fields that all tasks have, queued ones too, unless they say otherwise."
    )

    @model_validator(mode="before")
    @classmethod
    def _give_command(cls, data: Any) -> Any:  # noqa: ANN401 - whatever the user gave
        """Let tasks take their command from `defaults`, before each is asked for one."""
        if not isinstance(data, Mapping):
            return data
        defaults, tasks = data.get("defaults"), data.get("tasks")
        command = defaults.get("command") if isinstance(defaults, Mapping) else getattr(defaults, "command", None)
        if command is None or not isinstance(tasks, list):
            return data
        return {**data, "tasks": [with_command(task, command) for task in tasks]}

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        problems = list(_check_job(self))
        if problems:
            raise _together(*problems)
        return self

    def task_ids(self) -> list[str]:
        """Return the ids of the tasks in order: their own, or `t<n>` by place."""
        return [task.id or f"t{number}" for number, task in enumerate(self.tasks, 1)]

    def normalized(self) -> dict[str, Any]:
        """Return the job's own fields, without id and tasks, as the state keeps them."""
        made = {name: self.__dict__[name] for name in JOB_DEFAULTS}
        made["defaults"] = self.defaults.normalized()
        return {name: value for name, value in made.items() if name in JOB_ALWAYS or value != JOB_DEFAULTS[name]}

    def normalized_tasks(self) -> list[dict[str, Any]]:
        """Return the tasks as the state keeps them: each with its id, the job's defaults merged in."""
        defaults = self.defaults.normalized()
        return [
            {"id": name, **merged(task.explicit(), defaults)}
            for name, task in zip(self.task_ids(), self.tasks, strict=True)
        ]


def merged(own: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the normalised task that `own` explicit fields and a job's `defaults` make: own values win."""
    if not defaults:
        return _without_defaults(own)
    both = {**defaults, **own}
    for name in MERGED_FIELDS:
        if name in defaults and name in own:
            both[name] = {**defaults[name], **own[name]}
    if own.get("delay") is not None:
        both.pop("not_before", None)
    elif own.get("not_before") is not None:
        both.pop("delay", None)
    return _without_defaults({name: both[name] for name in TASK_DEFAULTS if name in both})


def _without_defaults(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value != TASK_DEFAULTS[name]}


def with_command(task: object, command: object) -> object:
    """Return a task as it was given, with this command if it has none; what is no task stays as it is."""
    return {**task, "command": command} if isinstance(task, Mapping) and "command" not in task else task


# What fields must keep between them


def _together(*problems: Problem) -> PydanticCustomError:
    text = "; ".join(what for _, what in problems)
    return PydanticCustomError("refused_together", "{text}", {"text": text, "problems": list(problems)})


@dataclass(frozen=True, slots=True)
class _Node:
    id: str
    after: Sequence[str]
    when: str
    queued_by: None = None
    phase: str = "queued"


def _check_job(job: Job) -> list[Problem]:
    if not job.tasks:
        return [(["tasks"], "must have at least one task")]
    if len(job.tasks) > job.max_tasks:
        return [(["tasks"], f"are {len(job.tasks)}, more than max_tasks = {job.max_tasks}")]
    problems: list[Problem] = []
    if job.id in job.after:
        problems.append((["after", list(job.after).index(job.id)], "a job cannot wait for itself"))
    nodes: dict[str, _Node] = {}
    place: dict[str, int] = {}
    defaults = job.defaults.normalized()
    for number, (name, task) in enumerate(zip(job.task_ids(), job.tasks, strict=True)):
        if name in nodes:
            problems.append((["tasks", number, "id"], f"{name} is the id of tasks[{place[name]}] too"))
            continue
        fields = merged(task.explicit(), defaults)
        problems += [(["tasks", number, *where], what) for where, what in check_retries(fields)]
        nodes[name] = _Node(name, task.after, fields.get("when", DEFAULT_WHEN))
        place[name] = number
    problems += [
        (["tasks", place[node.id], "after", number], _no_such_task(need, nodes))
        for node in nodes.values()
        for number, need in enumerate(node.after)
        if need not in nodes
    ]
    circle = None if problems else find_cycle({}, list(nodes.values()), None)
    if circle:
        where: list[str | int] = ["tasks", place[circle[0]]]
        after = list(nodes[circle[0]].after)
        where += ["after", after.index(circle[1])] if circle[1] in after else ["when"]
        problems.append((where, f"these tasks would wait for each other for ever: {show_cycle(circle)}"))
    return problems


def _no_such_task(name: str, names: Mapping[str, object]) -> str:
    guess = nearest(name, names)
    return f"no task of this job has the id {name}{f'; did you mean {guess}?' if guess else ''}"


def check_retries(fields: Mapping[str, Any]) -> list[Problem]:
    """Refuse delays that grow beyond what can be written as a time."""
    retries, factor = fields.get("retries", 0), fields.get("retry_backoff", 1)
    if retries == 0 or factor == 1:
        return []
    power = retries * math.log10(factor)
    if power > _LARGEST_POWER:
        return [(["retry_backoff"], f"{factor} to the power of {retries} retries is too large; use less of one")]
    if "retry_max_delay" not in fields and fields.get("retry_delay", 0) * 10**power > MAX_DURATION:
        what = f"is missing: after {retries} retries the delay would have grown to more than a century"
        return [(["retry_max_delay"], what)]
    return []


# For those who read and write jobs


def parse_job(raw: object, name: str | None = None) -> Job:
    """Check a whole job; `name` of the file is for the message.

    Raises:
        BadInputError: it is wrong; one line per problem.
    """
    try:
        return Job.model_validate(raw)
    except ValidationError as error:
        raise bad_input(describe(error), name) from None


def describe(error: ValidationError) -> list[str]:
    """Return one line per problem that validation of a `Job` or a `Task` found."""
    return describe_as(error, Job if error.title == Job.__name__ else Task)


def secret_looking(env: Mapping[str, str]) -> list[str]:
    """Return the names in `env` that look as if their values were secrets, which belong into `secrets`."""
    return [name for name in env if _SECRET.search(name.upper())]


def job_schema() -> dict[str, Any]:
    """Return the JSON Schema of a job file."""
    schema = Job.model_json_schema()
    task = schema["$defs"]["Task"]
    task["properties"] = {name: task["properties"][name] for name in ("id", "command", "after", *TASK_DEFAULTS)}
    del task["required"]  # the command; it may also stand in the defaults
    own = {"properties": {"tasks": {"items": {"required": ["command"]}}}}
    shared = {"properties": {"defaults": {"required": ["command"]}}, "required": ["defaults"]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "anyOf": [own, shared],
        "title": "Air-Executor job",
        "description": "A job file: tasks that run on ephemeral runners.",
    }
