"""What can be done with a job, a task or a schedule from its page: a button each, with its API call and its command.

Pure. The templates render it, `actions.js` sends it. Whether it may be done is for the API to decide: a role here only
says which button is worth pressing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import quote

from air_executor.core.param_values import declared_params
from air_executor.core.retrying import may_retry
from air_executor.core.value_text import value_text
from air_executor.model import state as s
from air_executor.model.callers import OPERATOR, SUBMITTER, Role
from air_executor.model.plain_text import clean
from air_executor.model.problems import InvalidError
from air_executor.model.state import Done, JobState, Queued, Running, TaskState
from air_executor.web.schedule_list import ScheduleEntry

MAX_FIELDS = 50
"""Parameters of a form; beyond, the command line."""
MAX_CHOICES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionField:
    """A value that people give with an action."""

    name: str
    label: str
    kind: str
    """`text`, `number`, `integer`, `date`, `flag`, `choice`, `long` or `pairs` (one `NAME=VALUE` a line)."""
    into: str = ""
    """The field of the body that is a mapping with this one; "": the body itself."""
    option: str = ""
    """How the command line takes it: `--reason`, or `-p` and a name."""
    pair: bool = False
    """The option takes `NAME=VALUE`."""
    hint: str = ""
    required: bool = False
    choices: Sequence[str] = ()
    least: float | None = None
    most: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PageAction:
    """A button."""

    key: str
    label: str
    path: str
    """Of the API, below its version."""
    command: str
    """What does the same on the command line."""
    role: Role = SUBMITTER
    owner: str | None = None
    """Whose job it is: a submitter changes only its own."""
    own_only: bool = True
    """Whether that matters."""
    body: Mapping[str, Any] = field(default_factory=dict)
    warning: str = ""
    """What it destroys or repeats: it is done only once confirmed."""
    about: str = ""
    danger: bool = False
    primary: bool = False
    """Somebody waits for it."""
    fields: Sequence[ActionField] = ()

    @property
    def asks(self) -> bool:
        """Whether a dialog comes before it."""
        return bool(self.warning or self.fields)


SAMPLE = PageAction(
    key="sample",
    label="Run a sample job",
    path="/jobs",
    command="air-executor submit hello -- echo hello",
    body={"id": "hello", "tasks": [{"command": ["echo", "hello"]}]},
    own_only=False,
    primary=True,
)
"""What an empty list offers."""


def job_actions(job: JobState) -> list[PageAction]:
    """Return what can be done with a job as it stands."""

    def make(key: str, label: str, **more: Any) -> PageAction:  # noqa: ANN401 - fields of `PageAction`
        path = f"/jobs/{quote(job.id)}/{key}"
        return PageAction(
            key=key, label=label, path=path, command=f"air-executor {key} {job.id}", owner=job.owner, **more
        )

    found = []
    counts = {phase: sum(task.phase == phase for task in job.tasks.values()) for phase in (s.RUNNING, s.QUEUED)}
    if job.phase == s.PAUSED:
        budget = () if job.over_budget is None else (_more_of(job.over_budget),)
        found.append(make("resume", "Resume", about="New tasks start again." if budget else "", fields=budget))
    elif job.phase in (s.RUNNING, s.QUEUED):
        found.append(make("pause", "Pause"))
    if any(isinstance(task.status, Done) and may_retry(task.status) for task in job.tasks.values()):
        found.append(make("retry", "Retry failed"))
    if job.ended and job.tasks:
        again = f"All {len(job.tasks):,} tasks run again, also those that succeeded, and cost what they cost."
        found.append(make("rerun", "Run again", warning=again))
    if not job.ended:
        running = counts[s.RUNNING]
        lost = f"{running:,} running {_tasks(running)} {'is' if running == 1 else 'are'} stopped" if running else ""
        never = f"{counts[s.QUEUED]:,} queued {_tasks(counts[s.QUEUED])} never {_s('run', counts[s.QUEUED])}"
        warning = "; ".join(part for part in (lost, never if counts[s.QUEUED] else "") if part)
        found.append(make("cancel", "Cancel", warning=f"{warning or 'The job ends'}.", danger=True))
    return found


def _tasks(count: int) -> str:
    return "task" if count == 1 else "tasks"


def _s(verb: str, count: int) -> str:
    return f"{verb}s" if count == 1 else verb


def _more_of(name: str) -> ActionField:
    hint = "In place of the amount that the job has used up."
    return ActionField(
        name=name, label=f"New budget: {name}", kind="number", into="budget", option="--budget", pair=True, hint=hint,
        required=True, least=0,
    )  # fmt: skip


def _of_task(job: JobState, task: TaskState, key: str, label: str, *, option: str = "", **more: Any) -> PageAction:  # noqa: ANN401 - fields of `PageAction`
    path = f"/jobs/{quote(job.id)}/{key}"
    command = f"air-executor {key} {job.id} {option}{task.id}"
    return PageAction(key=key, label=label, path=path, command=command, body={"task": task.id}, owner=job.owner, **more)


def answers(job: JobState, task: TaskState) -> list[PageAction]:
    """Return how people answer what a task asks; nothing if it asks nothing now."""
    if not isinstance(task.status, Queued) or task.approve is None or job.ended:
        return []
    values = ActionField(
        name="values", label="Values for its result", kind="pairs", option="--set",
        hint="Optional; one NAME=VALUE a line. Later tasks find them among their inputs.",
    )  # fmt: skip
    reason = ActionField(name="reason", label="Reason", kind="long", option="--reason", hint="Shown with the task.")
    make = partial(_of_task, job, task, role=OPERATOR, about=task.approve)
    return [
        make("approve", "Approve", fields=(values,), primary=True),
        make("reject", "Reject", fields=(reason,), danger=True),
    ]


def task_actions(job: JobState, task: TaskState) -> list[PageAction]:
    """Return what can be done with a task as it stands."""
    make = partial(_of_task, job, task)
    if task.superseded or job.phase == s.PENDING:
        return []
    status = task.status
    found = answers(job, task)
    if isinstance(status, Done) and status.phase != s.SUCCEEDED:
        found.append(make("retry", "Retry", option="--task "))
    if isinstance(status, Done):
        below = ActionField(
            name="downstream", label="Also the tasks that depend on it", kind="flag", option="--downstream"
        )
        warning = "It runs again in its job. What it queued before is superseded by what it queues now."
        found.append(make("rerun", "Run again", warning=warning, fields=(below,)))
    if isinstance(status, Running):
        found.append(make("cancel", "Cancel", option="--task ", warning="Its runner is stopped.", danger=True))
    elif isinstance(status, Queued):
        found.append(make("cancel", "Cancel", option="--task ", warning="It never runs.", danger=True))
    elif task.id in job.kept:
        warning = "The container or pod that stays after the failure is removed."
        found.append(make("cancel", "Remove the kept runner", option="--task ", warning=warning))
    return found


def schedule_actions(schedule: ScheduleEntry) -> list[PageAction]:
    """Return what can be done with a schedule."""
    path = f"/schedules/{quote(schedule.name)}"

    def make(key: str, label: str, **more: Any) -> PageAction:  # noqa: ANN401 - fields of `PageAction`
        command = f"air-executor schedule {key} {schedule.name}"
        return PageAction(key=key, label=label, path=f"{path}/{key}", command=command, own_only=False, **more)

    fields = _param_fields(schedule.params)
    run = make("run", "Run now", role=SUBMITTER, fields=fields)
    if schedule.on_demand:
        return [run]
    if schedule.paused:
        return [run, make("resume", "Resume schedule", role=OPERATOR)]
    return [run, make("pause", "Pause schedule", role=OPERATOR)]


def _param_fields(params: object) -> list[ActionField]:
    found = []
    try:
        declared = declared_params(params)
    except InvalidError:
        return []  # the API says what is wrong
    for name, param in list(declared.items())[:MAX_FIELDS]:
        kind = {"boolean": "choice", "list": "text", "string": "text"}.get(param.type, str(param.type))
        choices = ["true", "false"] if param.type == "boolean" else [value_text(one) for one in param.choices]
        hints = [param.description, "Items separated by commas." if param.type == "list" else ""]
        if param.default is not None:
            hints.append(f"Default: {value_text(param.default)}")
        found.append(
            ActionField(
                name=name,
                label=name,
                kind="choice" if choices and param.type != "list" and _can_be_listed(choices) else kind,
                into="params",
                option="-p",
                pair=True,
                hint=" ".join(one for one in hints if one),
                required=param.default is None,
                choices=choices,
                least=param.min,
                most=param.max,
            )
        )
    return found


def _can_be_listed(choices: Sequence[str]) -> bool:
    """Tell whether choices are few, short and plain, so that the page shows each as it is."""
    return len(choices) <= MAX_CHOICES and all(len(one) <= MAX_CHOICES and clean(one) == one for one in choices)
