"""The bodies that the HTTP API takes, beside job files and tasks. The command line has the same as options."""

# No `from __future__ import annotations`: `parsing` reads the annotations as they stand.

from dataclasses import dataclass, field
from typing import Annotated, Any

from annotated_types import Len, MaxLen

from air_executor.model import types as t
from air_executor.model.record import Record
from air_executor.model.types import About

_BUDGET = About('Amounts that replace those of the job\'s budget, such as `{"usd": 10}`.')
_TASK = About("Task of the job; without it, the whole job.")


MAX_JOBS = 1000
"""Jobs of one submission."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionOrder(Record):
    """Submit jobs that may wait for each other."""

    jobs: Annotated[list[dict[str, Any]], Len(1, MAX_JOBS), About("Jobs, as in a job file without templates.")]
    replace: Annotated[t.Flag, About("Archive ended jobs of the same ids first.")] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OfJob(Record):
    """A change of a whole job: no fields."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OfTask(Record):
    """A change of a job, or of one of its tasks."""

    task: Annotated[t.Id | None, _TASK] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumption(Record):
    """Resume a paused job."""

    budget: Annotated[t.Budget, _BUDGET] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry(Record):
    """Retry failed, cancelled and skipped tasks of a job, or one of them."""

    task: Annotated[t.Id | None, _TASK] = None
    budget: Annotated[t.Budget, _BUDGET] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerun(Record):
    """Run tasks again in the same job, also those that succeeded."""

    task: Annotated[t.Id | None, About("Task to run again; without it, all tasks of the job.")] = None
    downstream: Annotated[t.Flag, About("Also the tasks that depend on the task.")] = False
    fields: Annotated[dict[str, Any], MaxLen(1000), About("Other values of fields of the task.")] = field(
        default_factory=dict
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval(Record):
    """Approve what a task asks."""

    task: Annotated[t.Id | None, About("Task that asks; without it, the only one that does.")] = None
    values: Annotated[dict[str, t.Text], MaxLen(1000), About("Values for the result of the task.")] = field(
        default_factory=dict
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection(Record):
    """Reject what a task asks."""

    task: Annotated[t.Id | None, About("Task that asks; without it, the only one that does.")] = None
    reason: Annotated[t.Text | None, About("Why; shown with the task.")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillOrder(Record):
    """Create the runs that a schedule would have had."""

    since: Annotated[t.Word, About("First day (in UTC), or time.")]
    until: Annotated[t.Word, About("Last day, which counts, or time, which does not.")]
    max_active: Annotated[int, *t.whole(1, 10_000), About("Maximum number of these runs at once.")] = 1
    newest_first: Annotated[t.Flag, About("Begin with the newest time.")] = False
    retry: Annotated[t.Flag, About("Also retry the runs that failed or were cancelled.")] = False
    dry_run: Annotated[t.Flag, About("Name the runs, and create none.")] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun(Record):
    """Run the job of a schedule now."""

    params: Annotated[dict[str, Any], MaxLen(1000), About("Values of its parameters.")] = field(default_factory=dict)
